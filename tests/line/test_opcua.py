"""Variables of a real OPC UA server in this process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.sync import Server

from chiasm.line.outlets.opcua import OpcUaOutlet, opcua
from chiasm.line.outlets.outlet import Options, OutletAwayError, RefusedRecordError
from line_certificates import write_certificate
from line_records import free_port, record

TYPES = {
    "counter": ua.VariantType.UInt16,
    "code": ua.VariantType.Int16,
    "defective": ua.VariantType.Boolean,
    "decision": ua.VariantType.String,
    "score": ua.VariantType.Float,
    "p_value": ua.VariantType.Double,
    "time": ua.VariantType.DateTime,
    "id": ua.VariantType.String,
    "json": ua.VariantType.String,
    "severity": ua.VariantType.String,
    "severity_code": ua.VariantType.Byte,
    "unknown": ua.VariantType.Boolean,
    "charge": ua.VariantType.Float,
}


class Cell:
    """A server with a variable for each field."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = write_certificate(folder, "server", "urn:line:server")
        self.url = f"opc.tcp://127.0.0.1:{free_port()}"
        self.variables: dict[str, Any] = {}
        self.start()

    def start(self) -> None:
        self.server = Server()
        self.server.set_endpoint(self.url)
        self.server.load_certificate(str(self.certificate))
        self.server.load_private_key(str(self.key))
        policies = ua.SecurityPolicyType
        self.server.set_security_policy(
            [policies.NoSecurity, policies.Basic256Sha256_SignAndEncrypt]
        )
        space = self.server.register_namespace("urn:line")
        folder = self.server.nodes.objects.add_object(space, "Inspection")
        zeros = {ua.VariantType.String: "", ua.VariantType.Boolean: False}
        for name, kind in TYPES.items():
            first = None if kind == ua.VariantType.DateTime else zeros.get(kind, 0)
            identity = ua.NodeId(f"Inspection.{name}", space)
            self.variables[name] = folder.add_variable(identity, name, first, kind)
            self.variables[name].set_writable()
        self.server.start()

    @property
    def nodes(self) -> dict[str, str]:
        return {name: f"ns=2;s=Inspection.{name}" for name in TYPES}

    def value(self, name: str) -> Any:
        return self.variables[name].read_value()

    def outlet(self, **options: Any) -> OpcUaOutlet:
        return OpcUaOutlet(self.url, **{"nodes": self.nodes, "timeout_s": 2.0, **options})


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    made = Cell(tmp_path_factory.mktemp("cell"))
    yield made
    made.server.stop()


def test_the_variables_hold_the_last_verdict_in_their_types(cell: Cell):
    outlet = cell.outlet()
    counter = cell.value("counter")
    outlet.send(record(1, "defective", score=2.5, p_value=None, time=1_700_000_000.0))
    assert cell.value("counter") == counter + 1
    assert (cell.value("decision"), cell.value("code"), cell.value("defective")) == (
        *("defective", 2),
        True,
    )
    assert cell.value("score") == 2.5 and math.isnan(cell.value("p_value"))
    assert cell.value("time").isoformat()[:19] == "2023-11-14T22:13:20"
    assert cell.value("severity") == "" and cell.value("severity_code") == 0
    assert math.isnan(cell.value("charge")) and cell.value("unknown") is False
    outlet.send(record(2, "undecided", severity="high", unknown=True, charge=2.5))
    assert (cell.value("severity"), cell.value("severity_code")) == ("high", 3)
    assert cell.value("charge") == 2.5 and cell.value("unknown") is True
    assert cell.value("counter") == counter + 2 and cell.value("defective") is False
    outlet.close()
    again = cell.outlet()  # the counter goes on
    again.send(record(3))
    again.close()
    assert cell.value("counter") == counter + 3 and cell.value("id") == f"{3:032x}"


def test_a_variable_that_is_not_there_is_said(cell: Cell):
    outlet = cell.outlet(nodes={"decision": "ns=2;s=Inspection.Nothing"})
    with pytest.raises(OutletAwayError, match=r"Inspection\.Nothing \(decision\)"):
        outlet.check()
    outlet.close()


def test_a_variable_of_another_type_takes_no_value(cell: Cell):
    outlet = cell.outlet(nodes={"decision": cell.nodes["score"]})
    with pytest.raises(RefusedRecordError, match="type Float"):
        outlet.send(record(1))
    outlet.close()


def test_nobody_there_is_said():
    nodes = {"decision": "ns=2;s=D"}
    for url in (f"opc.tcp://127.0.0.1:{free_port()}", "opc.tcp://no-such-host.invalid:4840"):
        with pytest.raises(OutletAwayError, match="the connection fails"):
            OpcUaOutlet(url, nodes, timeout_s=1.0).check()


def test_the_connection_may_be_signed_and_encrypted(cell: Cell, tmp_path: Path):
    certificate, key = write_certificate(tmp_path, "client", "urn:freeopcua:client")
    made = opcua(
        Options(
            {
                "url": cell.url,
                "nodes": {"decision": cell.nodes["decision"]},
                "security": {"certificate": str(certificate), "key": str(key)},
            },
            "test",
        )
    )
    made.send(record(1, "undecided"))
    made.close()
    assert cell.value("decision") == "undecided"


def test_a_server_that_stops_is_away_and_comes_back(cell: Cell):
    outlet = cell.outlet()
    outlet.send(record(1))
    cell.server.tloop.post(cell.server.aio_obj.stop())
    with pytest.raises(OutletAwayError):
        outlet.send(record(2))
    with pytest.raises(OutletAwayError, match="the connection fails"):
        outlet.send(record(2))
    cell.server.tloop.post(cell.server.aio_obj.start())
    outlet.send(record(2, "defective"))
    outlet.close()
    assert cell.value("id") == f"{2:032x}"
