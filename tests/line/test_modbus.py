"""Registers of a real Modbus/TCP server in this process."""

from __future__ import annotations

import asyncio
import math
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from chiasm.line.delivery import Delivery, OutletSettings
from chiasm.line.outlets import modbus
from chiasm.line.outlets.modbus import ModbusOutlet
from chiasm.line.outlets.outlet import OutletAwayError
from chiasm.samples import Region
from line_records import free_port, record, wait_until

REGISTER, ACKNOWLEDGE, COIL = 100, 120, 10


class Plc:
    """A Modbus server that can be stopped, and a client as a PLC's program sees its registers."""

    def __init__(self) -> None:
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Any = None
        self.start()

    def start(self) -> None:
        coils = SimData(0, count=32, datatype=DataType.BITS, values=0)
        nothing = SimData(0, count=1, datatype=DataType.BITS, values=0)
        holding = SimData(0, count=200, datatype=DataType.REGISTERS, values=0)
        empty = SimData(0, count=1, datatype=DataType.REGISTERS, values=0)
        device = SimDevice(1, simdata=([coils], [nothing], [holding], [empty]))

        async def serve() -> None:
            self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
            await self._server.serve_forever(background=True)

        asyncio.run_coroutine_threadsafe(serve(), self._loop).result(5)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(5)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def registers(self, first: int = REGISTER, count: int = 14) -> list[int]:
        with ModbusTcpClient("127.0.0.1", port=self.port) as client:
            return list(client.read_holding_registers(first, count=count).registers)

    def coils(self) -> list[bool]:
        with ModbusTcpClient("127.0.0.1", port=self.port) as client:
            return list(client.read_coils(COIL, count=4).bits[:4])

    def acknowledge(self, value: int) -> None:
        with ModbusTcpClient("127.0.0.1", port=self.port) as client:
            client.write_register(ACKNOWLEDGE, value)

    def outlet(self, **options: Any) -> ModbusOutlet:
        options = {"register": REGISTER, "timeout_s": 1.0, **options}
        return ModbusOutlet("127.0.0.1", self.port, **options)


@pytest.fixture
def plc() -> Iterator[Plc]:
    made = Plc()
    yield made
    made.close()


def test_the_block_holds_the_last_verdict(plc: Plc):
    outlet = plc.outlet(coil=COIL)
    place = Region((1, 2, 3, 4), (320.4, 70000.0), 9, 5.0, area_mm2=2.5)
    facts = {"time": time.time() - 7, "score": -2.5, "p_value": 0.0125, "regions": (place,)}
    sent = record(0xABCDEF01 << 96, "defective", **facts)
    outlet.send(sent)
    outlet.close()
    block = plc.registers()
    assert block[:3] == [1, 2, 125]
    score, then, identity = struct.unpack(">fII", struct.pack(">6H", *block[3:9]))
    assert (score, identity) == (-2.5, 0xABCDEF01)
    assert 6 <= time.time() - then <= 9 and 6 <= block[9] <= 9
    assert block[10:12] == [320, 65534]
    assert struct.unpack(">f", struct.pack(">2H", *block[12:])) == (2.5,)
    assert plc.coils() == [False, True, False, False]


def test_what_is_not_known_is_told_from_numbers(plc: Plc):
    outlet = plc.outlet(word_order="little")
    outlet.send(record(1, "error", score=None, p_value=None))
    outlet.close()
    block = plc.registers()
    assert block[1:3] == [4, 65535] and block[10:12] == [65535, 65535]
    assert math.isnan(struct.unpack(">f", struct.pack(">2H", block[4], block[3]))[0])


def test_the_second_block_adds_what_a_recording_says_and_the_first_stays(plc: Plc):
    facts = {"confidence": 0.875, "unknown": True, "severity": "high", "charge": 230.5}
    sent = record(1, "unknown", **facts, charge_unit="pC", pulse_rate=6.0)
    old = {name: value for name, value in sent.items() if name not in (*facts, "charge_unit")}
    firsts = []
    for entry, block in ((sent, 1), (sent, 2), (old, 2)):
        outlet = plc.outlet(block=block)
        outlet.send({**entry, "time": "2023-11-14T22:13:20.000Z"})
        outlet.close()
        values = plc.registers(count=23)
        firsts.append(values[1:9])
        if block == 1:
            assert values[14:] == [0] * 9  # registers behind the first block are others'
            continue
        (charge,) = struct.unpack(">f", struct.pack(">2H", *values[18:20]))
        if entry is sent:
            assert values[14:18] == [2, 3, 1, 8750] and values[20] == 1 and charge == 230.5
            assert struct.unpack(">f", struct.pack(">2H", *values[21:])) == (6.0,)
        else:  # sent before an update
            assert values[14:18] == [2, 0, 65535, 65535] and values[20] == 0 and math.isnan(charge)
    assert firsts[0] == firsts[1] == firsts[2]


def test_the_counter_goes_on_after_a_restart(plc: Plc):
    for number, expected in ((1, 1), (2, 2)):
        outlet = plc.outlet()
        outlet.send(record(number))
        outlet.close()
        assert plc.registers(count=1) == [expected]
    with ModbusTcpClient("127.0.0.1", port=plc.port) as client:
        client.write_register(REGISTER, 65535)
    outlet = plc.outlet()
    outlet.send(record(3))  # never 0, which is no verdict yet
    outlet.close()
    assert plc.registers(count=1) == [1]


def test_kinds_of_recordings_have_codes(plc: Plc):
    outlet = plc.outlet(codes={"corona": 20})
    for kind, code in (("corona", 20), ("void", 9)):
        outlet.send(record(1, kind))
        assert plc.registers(count=2)[1] == code
    outlet.close()


def test_with_acknowledgement_no_verdict_is_overwritten(plc: Plc):
    outlet = plc.outlet(acknowledge=ACKNOWLEDGE, timeout_s=0.2)
    with pytest.raises(OutletAwayError, match="has not taken the last verdict"):
        outlet.send(record(1, "defective"))
    with pytest.raises(OutletAwayError, match="has not taken"):
        outlet.send(record(2))
    assert plc.registers(count=2) == [1, 2]  # still the first
    plc.acknowledge(1)
    taking = threading.Thread(
        target=lambda: (wait_until(lambda: plc.registers(count=1) == [2]), plc.acknowledge(2))
    )
    taking.start()
    outlet.send(record(2))
    taking.join()
    outlet.close()
    assert plc.registers(count=2) == [2, 1]


def test_a_plc_that_closes_the_connection_is_away_and_comes_back(plc: Plc):
    outlet = plc.outlet()
    outlet.send(record(1))
    plc.stop()
    with pytest.raises(OutletAwayError):
        outlet.send(record(2))
    with pytest.raises(OutletAwayError, match="cannot be reached"):
        outlet.check()
    plc.start()
    outlet.send(record(2, "defective"))
    outlet.close()
    assert plc.registers(count=2) == [1, 2]


def test_addresses_that_the_plc_does_not_have_are_said(plc: Plc):
    with pytest.raises(OutletAwayError, match="check the addresses"):
        plc.outlet(register=5000).check()
    with pytest.raises(OutletAwayError, match="write coils at 60000"):
        plc.outlet(coil=60000).send(record(1))


def test_the_heartbeat_goes_on_without_verdicts_and_comes_back(
    plc: Plc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(modbus, "_BEAT_S", 0.01)
    lines: list[str] = []
    settings = OutletSettings(plc.outlet(heartbeat=ACKNOWLEDGE), retry_s=0.02)
    delivery = Delivery({"plc": settings}, tmp_path, tell=lines.append)
    wait_until(lambda: plc.registers(ACKNOWLEDGE, 1)[0] > 2)
    plc.stop()
    wait_until(lambda: lines)  # noticed before the next verdict
    plc.start()
    wait_until(lambda: plc.registers(ACKNOWLEDGE, 1)[0] > 2)
    delivery.put(record(1))
    delivery.close()
    assert plc.registers(count=2) == [1, 1] and "is back" in lines[-1]
