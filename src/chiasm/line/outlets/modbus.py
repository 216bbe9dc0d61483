"""The last verdict in registers of a PLC, by Modbus/TCP."""

from __future__ import annotations

import logging
import math
import struct
import time
from collections.abc import Mapping
from typing import Any, Literal

from chiasm.line.outlets.outlet import Options, OutletAwayError, outlet
from chiasm.line.record import DEFECTIVE, ERROR, GOOD, UNDECIDED, Payload, seconds_of

CODES = {GOOD: 1, DEFECTIVE: 2, UNDECIDED: 3, ERROR: 4}
OTHER = 9  # code of a recording's kind that has none in the options
SEVERITIES = {"low": 1, "medium": 2, "high": 3}
CHARGE_UNITS = {"pC": 1, "uncalibrated": 2}
BLOCKS = {1: 14, 2: 23}  # registers of each version of the block
_UNKNOWN = 65535
_POLL_S = 0.02
_BEAT_S = 1.0

WordOrder = Literal["big", "little"]


class ModbusOutlet:
    """Writes each record to a block of holding registers, and its counter last.

    ======== ==============================================================================
    Register Content
    ======== ==============================================================================
    0        counter, 1 to 65535 and again 1: another value is a new verdict
    1        decision: 1 good, 2 defective, 3 undecided, 4 error, others as ``codes`` says
    2        p-value in ten-thousandths; 65535 without
    3, 4     score, 32-bit float; NaN without
    5, 6     time of the verdict, seconds since 1970, unsigned 32 bits
    7, 8     first 32 bits of the verdict's id, unsigned
    9        age in seconds when it was written; 65535 is that or more
    10, 11   column and row of the first region's centroid, pixels; 65535 without
    12, 13   its area in mm2, 32-bit float; NaN without
    ======== ==============================================================================

    With ``block=2`` these follow, of recordings:

    ======== ==============================================================================
    14       2, the version of the block
    15       severity: 1 low, 2 medium, 3 high; 0 none
    16       1 unknown (like none of the trained classes), 0 known; 65535 without
    17       confidence in ten-thousandths; 65535 without
    18, 19   largest repeatedly occurring charge, 32-bit float; NaN without
    20       its unit: 1 pC, 2 the recorder's own; 0 without
    21, 22   pulses a second, 32-bit float; NaN without
    ======== ==============================================================================

    Args:
        host, port: of the PLC, or of a gateway.
        unit: address behind it.
        register: of the counter, from 0.
        coil: first of four: good, defective, undecided, error; None writes none.
        acknowledge: register into which the PLC copies the counter when it has taken a verdict;
            then no verdict is overwritten before. None writes without.
        heartbeat: register that another number is written to every second, so that the PLC sees
            whether somebody judges; None writes none.
        codes: of kinds of recordings.
        word_order: of numbers in two registers; ``big`` has the high word first.
        block: version of the block: 1 has 14 registers, 2 has 23.
        timeout_s: seconds for an answer, and for an acknowledgement.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        unit: int = 1,
        register: int = 0,
        coil: int | None = None,
        acknowledge: int | None = None,
        heartbeat: int | None = None,
        codes: Mapping[str, int] | None = None,
        word_order: WordOrder = "big",
        block: int = 1,
        timeout_s: float = 3.0,
    ) -> None:
        import pymodbus  # noqa: F401  # a missing library is told before the first verdict

        # What fails is told once by the delivery, and not at every attempt.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

        self._host, self._port, self._unit = host, port, unit
        self._register, self._coil, self._acknowledge = register, coil, acknowledge
        self._heartbeat, self._beat = heartbeat, 0
        self.beat_s: float | None = None if heartbeat is None else _BEAT_S
        self._codes = {**CODES, **(codes or {})}
        self._word_order, self._version, self._timeout = word_order, block, timeout_s
        self._client: Any = None
        self._counter = 0
        self.where = f"the PLC {host}:{port}, unit {unit}"

    def check(self) -> None:
        """Connect, and read the counter, so that a restart does not repeat its value."""
        if self._client is None or not self._client.connected:
            self._connect()
        if self._heartbeat is not None:
            self._beat = self._beat % 65535 + 1
            self._do("write_registers", self._heartbeat, [self._beat])

    def _connect(self) -> None:
        self.close()
        from pymodbus.client import ModbusTcpClient

        client = ModbusTcpClient(self._host, port=self._port, timeout=self._timeout, retries=0)
        try:
            connected = client.connect()
        except OSError as error:
            raise OutletAwayError(f"{self.where} cannot be reached ({error}).") from None
        if not connected:
            client.close()
            raise OutletAwayError(f"{self.where} cannot be reached; check host and port.")
        self._client = client
        self._counter = self._read(self._register)

    def send(self, record: Payload) -> None:
        """Write a record; with ``acknowledge`` wait until the PLC has taken it."""
        self.check()
        if self._acknowledge is not None:
            # One that was written before a restart, or is not taken yet, must not be overwritten.
            self._wait_for_acknowledgement()
        decision = str(record["decision"])
        block = self._block(record)
        counter = self._counter % 65535 + 1
        self._do("write_registers", self._register + 1, block)
        if self._coil is not None:
            coils = [decision == name for name in CODES]
            self._do("write_coils", self._coil, coils)
        self._do("write_registers", self._register, [counter])
        self._counter = counter
        if self._acknowledge is not None:
            self._wait_for_acknowledgement()

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _block(self, record: Payload) -> list[int]:
        p, score = record["p_value"], record["score"]
        then = seconds_of(record)
        place, area = first_region(record)
        age = min(max(0, round(time.time() - then)), _UNKNOWN)
        return [
            self._codes.get(str(record["decision"]), OTHER),
            _UNKNOWN if p is None else round(10_000 * p),
            *self._words(struct.pack(">f", math.nan if score is None else score)),
            *self._words(struct.pack(">I", int(then) & 0xFFFFFFFF)),
            *self._words(bytes.fromhex(str(record["id"])[:8])),
            age,
            *(_UNKNOWN if x is None else min(max(0, round(x)), _UNKNOWN - 1) for x in place),
            *self._words(struct.pack(">f", math.nan if area is None else area)),
            *(self._of_recording(record) if self._version > 1 else ()),
        ]

    def _of_recording(self, record: Payload) -> list[int]:
        """Return the registers that the second version of the block has more."""
        unknown, confidence = record.get("unknown"), record.get("confidence")
        charge, rate = (
            math.nan if record.get(name) is None else float(record[name])
            for name in ("charge", "pulse_rate")
        )
        return [
            self._version,
            SEVERITIES.get(str(record.get("severity")), 0),
            _UNKNOWN if unknown is None else int(unknown),
            _UNKNOWN if confidence is None else round(10_000 * confidence),
            *self._words(struct.pack(">f", charge)),
            CHARGE_UNITS.get(str(record.get("charge_unit")), 0),
            *self._words(struct.pack(">f", rate)),
        ]

    def _words(self, content: bytes) -> tuple[int, int]:
        high, low = struct.unpack(">HH", content)
        return (high, low) if self._word_order == "big" else (low, high)

    def _wait_for_acknowledgement(self) -> None:
        assert self._acknowledge is not None
        end = time.monotonic() + self._timeout
        while True:
            taken = self._read(self._acknowledge)
            if taken == self._counter:
                return
            if time.monotonic() > end:
                raise OutletAwayError(
                    f"{self.where} has not taken the last verdict: register {self._acknowledge} "
                    f"is {taken} and not {self._counter} after {self._timeout:g} s."
                )
            time.sleep(_POLL_S)

    def _read(self, register: int) -> int:
        return int(self._do("read_holding_registers", register, count=1).registers[0])

    def _do(self, what: str, *arguments: Any, **named: Any) -> Any:
        from pymodbus.exceptions import ModbusException

        if self._client is None:
            raise OutletAwayError(f"{self.where} is not connected.")
        try:
            answer = getattr(self._client, what)(*arguments, device_id=self._unit, **named)
        except (ModbusException, OSError, struct.error) as error:
            self.close()
            raise OutletAwayError(f"{self.where} does not answer ({error}).") from None
        if answer.isError():
            self.close()
            raise OutletAwayError(
                f"{self.where} refuses {what.replace('_', ' ')} at {arguments[0]} ({answer}); "
                "check the addresses, and that the PLC lets them be written."
            )
        return answer


def first_region(record: Payload) -> tuple[tuple[float | None, float | None], float | None]:
    """Return the centroid in pixels of a record's first region, and its area in mm²."""
    regions = record.get("regions") or ()
    if not regions:
        return (None, None), None
    x, y = regions[0]["centroid"]
    return (x, y), regions[0]["area_mm2"]


@outlet("modbus")
def modbus(options: Options) -> ModbusOutlet:
    """Build an outlet to a PLC from its options."""
    codes = options.mapping("codes")
    for kind, code in codes.items():
        if not isinstance(code, int) or isinstance(code, bool) or not 5 <= code <= 65535:
            raise options.wrong(f"codes, {kind}", code, "a whole number from 5 to 65535")
    order: WordOrder = "big"
    if options.choice("word_order", "big", ("big", "little")) == "little":
        order = "little"
    # Registers behind the first block may be others' in a PLC that was set up for it.
    block = options.whole("block", 1, low=min(BLOCKS), high=max(BLOCKS))
    return ModbusOutlet(
        options.text("host"),
        options.whole("port", 502, low=1),
        unit=options.whole("unit", 1, high=255),
        register=options.whole("register", None, high=65536 - BLOCKS[block]),
        coil=options.optional_whole("coil", high=65532),
        acknowledge=options.optional_whole("acknowledge"),
        heartbeat=options.optional_whole("heartbeat"),
        codes=codes,
        word_order=order,
        block=block,
        timeout_s=options.number("timeout_s", 3.0, low=0.1, high=600),
    )
