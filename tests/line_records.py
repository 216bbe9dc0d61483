"""Records for tests, as they are sent."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from chiasm.line.record import LineRecord


def record(number: int, decision: str = "good", **fields: Any) -> dict[str, Any]:
    """Return the payload of a part by number."""
    return LineRecord(
        **{
            "id": f"{number:032x}",
            "time": time.time(),
            "source": f"part_{number}",
            "decision": decision,
            "score": 1.5,
            "p_value": 0.25,
            **fields,
        }
    ).payload()


def numbers(records: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of records."""
    return [int(entry["id"], 16) for entry in records]


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
