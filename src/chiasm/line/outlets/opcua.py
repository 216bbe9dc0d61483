"""The last verdict in variables of an OPC UA server."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from chiasm.line.outlets.modbus import CODES, OTHER, SEVERITIES, first_region
from chiasm.line.outlets.outlet import Options, OutletAwayError, RefusedRecordError, outlet, shown
from chiasm.line.record import DEFECTIVE, GOOD, Payload

FIELDS = (
    *("counter", "code", "good", "defective", "decision", "score", "p_value", "threshold"),
    *(
        "x",
        "y",
        "area_mm2",
        "id",
        "time",
        "source",
        "station",
        "model",
        "model_hash",
        "product",
        "error",
        "notes",
        "json",
    ),
    # Of recordings:
    *("confidence", "unknown", "severity", "severity_code", "charge", "charge_unit"),
    "pulse_rate",
)
_OF_RECORDINGS = ("confidence", "severity", "charge", "charge_unit", "pulse_rate")
_WHOLE = ("SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64")
_POLICIES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")


class OpcUaOutlet:
    """Writes fields of each record to variables, and the counter last.

    ``good`` and ``defective`` are both false of a part that was not decided on. ``x``, ``y`` and
    ``area_mm2`` are of the first region: column and row of its centroid, and its area. ``json`` is
    the whole record as text. Of recordings, ``severity_code`` is 1 low, 2 medium, 3 high and 0
    without, and ``unknown`` is false of parts, too. Numbers that are not known are NaN.

    Args:
        url: of the server, ``opc.tcp://HOST:PORT/...``.
        nodes: field to the id of its variable, e.g. ``ns=2;s=Inspection.Decision``.
        user, password: of the server; "" is anonymous.
        security: ``POLICY,MODE,CERTIFICATE,KEY[,SERVER CERTIFICATE]`` as asyncua reads it, or "".
        timeout_s: seconds for an answer.
    """

    beat_s: float | None = None

    def __init__(
        self,
        url: str,
        nodes: Mapping[str, str],
        *,
        user: str = "",
        password: str = "",
        security: str = "",
        timeout_s: float = 4.0,
    ) -> None:
        import asyncua.sync  # noqa: F401  # a missing library is told before the first verdict

        # What fails is told once by the delivery, and not at every attempt.
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)

        self._url, self._names = url, dict(nodes)
        self._user, self._password, self._security = user, password, security
        self._timeout = timeout_s
        self._client: Any = None
        self._nodes: dict[str, tuple[Any, Any]] = {}  # field to node and type
        self._counter = 0
        self.where = f"the OPC UA server {shown(url)}"

    def check(self) -> None:
        """Connect, find the variables with their types, and read the counter."""
        if self._client is not None:
            return
        from asyncua.sync import Client

        client = Client(self._url, timeout=self._timeout, sync_wrapper_timeout=3 * self._timeout)
        if self._user:
            client.set_user(self._user)
            client.set_password(self._password)
        name = "the connection"
        try:
            if self._security:
                client.set_security_string(self._security)
            client.connect()
            self._client = client
            for field, identity in self._names.items():
                name = f"the variable {identity} ({field})"
                node = client.get_node(identity)
                self._nodes[field] = node, node.read_data_type_as_variant_type()
            if "counter" in self._nodes:
                name = "the counter"
                self._counter = int(self._nodes["counter"][0].read_value() or 0)
        except Exception as error:  # asyncua raises errors of many families
            self.close(client)
            raise OutletAwayError(
                f"{self.where} cannot be used: {name} fails ({_reason(error)})."
            ) from None

    def send(self, record: Payload) -> None:
        """Write a record."""
        self.check()
        values = {**record, **_facts(record)}
        counter = (self._counter + 1) % 65536 or 1
        fields = [field for field in self._nodes if field != "counter"]
        try:
            self._write({field: values[field] for field in fields})
            if "counter" in self._nodes:
                self._write({"counter": counter})
        except _ImpossibleValueError as error:
            raise RefusedRecordError(f"{self.where}: {error}") from None
        except Exception as error:
            self.close()
            raise OutletAwayError(f"{self.where} takes no value ({_reason(error)}).") from None
        self._counter = counter

    def close(self, client: Any = None) -> None:
        """End the session."""
        client = client or self._client
        self._client = None
        self._nodes = {}
        if client is None:
            return
        try:
            client.disconnect()
        except Exception:
            # The server is gone; the library's thread is ended all the same.
            with suppress(Exception):
                client.tloop.stop()

    def _write(self, values: Mapping[str, Any]) -> None:
        from asyncua import ua

        nodes, typed = [], []
        for field, value in values.items():
            node, kind = self._nodes[field]
            nodes.append(node)
            # Without times: some PLCs refuse a value that brings its own.
            typed.append(ua.DataValue(ua.Variant(_as(kind.name, field, value), kind)))
        self._client.write_values(nodes, typed)


class _ImpossibleValueError(Exception):
    """A field that the type of its variable cannot hold."""


def _facts(record: Payload) -> dict[str, Any]:
    decision = record["decision"]
    place, area = first_region(record)
    return {
        "code": CODES.get(str(decision), OTHER),
        "good": decision == GOOD,
        "defective": decision == DEFECTIVE,
        **dict(zip(("x", "y"), place)),
        "area_mm2": area,
        "notes": " ".join(record["notes"]),
        "product": record.get("product", ""),  # of earlier versions there is none
        **{name: record.get(name) for name in _OF_RECORDINGS},
        "unknown": bool(record.get("unknown")),
        "severity_code": SEVERITIES.get(str(record.get("severity")), 0),
        "json": json.dumps(record),
    }


def _as(kind: str, field: str, value: Any) -> Any:
    """Return a value as a variable of a type holds it."""
    if kind == "String":
        return "" if value is None else str(value)
    if kind in ("Float", "Double") and (value is None or isinstance(value, int | float)):
        return math.nan if value is None else float(value)
    if kind == "Boolean" and isinstance(value, bool):
        return value
    if kind in _WHOLE and isinstance(value, int):
        return int(value)
    if kind == "DateTime" and field == "time":
        return datetime.fromisoformat(value).replace(tzinfo=None)  # UTC, as asyncua takes it
    raise _ImpossibleValueError(
        f"{field} is {value!r}, which a variable of type {kind} cannot hold; map it to a variable "
        "of another type."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, (TimeoutError, concurrent.futures.TimeoutError)):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


@outlet("opcua")
def opcua(options: Options) -> OpcUaOutlet:
    """Build an outlet to an OPC UA server from its options."""
    url = options.text("url")
    if not url.startswith("opc.tcp://"):
        raise options.wrong("url", url, "opc.tcp://HOST:PORT")
    nodes = options.mapping("nodes")
    for field, identity in nodes.items():
        if field not in FIELDS:
            raise options.wrong("nodes", field, f"fields among {', '.join(FIELDS)}")
        if not isinstance(identity, str) or "=" not in identity:
            raise options.wrong(f"nodes, {field}", identity, "a node's id such as 'ns=2;s=Name'")
    if not {"decision", "code", "json", "good", "defective"} & nodes.keys():
        raise options.wrong("nodes", nodes, "a variable for the decision, e.g. decision or code")
    return OpcUaOutlet(
        url,
        nodes,
        user=options.text("user", "") or options.secret("user"),
        password=options.secret("password"),
        security=_security(options.section("security")),
        timeout_s=options.number("timeout_s", 4.0, low=0.1, high=600),
    )


def _security(options: Options | None) -> str:
    if options is None:
        return ""
    words = [
        options.choice("policy", "Basic256Sha256", _POLICIES),
        options.choice("mode", "SignAndEncrypt", ("Sign", "SignAndEncrypt")),
        options.file("certificate"),
        options.file("key"),
        options.file("server_certificate", ""),
    ]
    options.end()
    for word in filter(None, words[2:]):
        if "," in word or Path(word).suffix.lower() not in (".pem", ".der"):
            raise options.wrong(
                "certificate or key", word, "a .pem or .der file without a comma in its path"
            )
    return ",".join(word for word in words if word)
