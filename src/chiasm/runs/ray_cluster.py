"""A connection to a Ray cluster, for benchmarks and predictions alike."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from chiasm.errors import ChiasmError, ConfigurationError

LOCAL = "local"
SECONDS = 10.0  # for a machine to answer at the address of a cluster
# A connection of HTTP/2, which Ray speaks, begins with the client's preface and settings, and the
# server's settings (RFC 9113, section 3.4).
_SETTINGS = b"\x04"  # type of a frame, after three bytes of its length
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0" * 5
_ADDRESS = re.compile(r"(?:ray://)?\[?(?P<host>[^\[\]/]+?)\]?:(?P<port>\d+)")


@contextmanager
def ray_cluster(address: str, *, cpus: int | None = None) -> Iterator[Any]:
    """Connect to a cluster, and yield the module ``ray``; an existing connection is kept.

    Args:
        address: of the cluster, ``HOST:PORT`` or ``ray://HOST:PORT``; ``"auto"`` finds the one that
            this machine belongs to, ``"local"`` starts one on this machine.
        cpus: processors of a cluster on this machine; None takes all.

    Raises:
        ConfigurationError: Ray is not installed, nothing answers at the address, or the cluster has
            another version of Ray or Python.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError("--ray needs Ray: pip install 'chiasm[cluster]'.") from error
    # Ray's workers have a low priority by default, which would distort measured times.
    os.environ.setdefault("RAY_worker_niceness", "0")
    started = not ray.is_initialized()
    if started:
        _connect(ray, address, cpus)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def error_of_task(error: Any) -> Exception:
    """Return what a task of Ray raised, as an error for people."""
    cause = error.cause
    if isinstance(cause, (ChiasmError, OSError)):
        return cause
    text = str(error)
    if "ModuleNotFoundError" in text or "failed to import" in text:
        cause = text.strip().splitlines()[-1]
        return ConfigurationError(
            f"A worker of the Ray cluster lacks a library: {cause}. Install chiasm with the same "
            "extras on all machines."
        )
    return error if cause is None else cause


def ray_resources(ray: Any) -> list[Mapping[str, float]]:
    """Return what each machine of a cluster has: ``CPU``, ``GPU`` and others, by name."""
    return [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]


def processors_each(machines: Sequence[Mapping[str, float]], workers: int) -> int:
    """Return the most processors that each of some workers can have at once; 0 if not even one.

    Args:
        machines: of ``ray_resources``; a worker is on one of them.
        workers: at work at once.

    Example:
        >>> processors_each([{"CPU": 16.0}, {"CPU": 8.0}], 3)
        8
    """
    free = [int(machine.get("CPU", 0)) for machine in machines]
    for processors in range(max(free, default=0), 0, -1):
        if sum(count // processors for count in free) >= workers:
            return processors
    return 0


def _connect(ray: Any, address: str, cpus: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False}
    if address == LOCAL:
        ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", num_cpus=cpus, **options)
        return
    _check_answers(address)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray's errors of connecting have no common base class
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = (lines or [type(error).__name__])[0]
        if "version" in cause.lower():
            raise ConfigurationError(
                f"The Ray cluster at {address} has another version of Ray or Python than this "
                f"machine: {' '.join(lines)[:400]} Install the same versions on all machines."
            ) from error
        raise ConfigurationError(_refusal(address, cause)) from error


def _check_answers(address: str) -> None:
    """Refuse an address where no server of Ray's protocol answers; Ray itself tries for minutes."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        if address != "auto":
            raise ConfigurationError(
                f"{address!r} is no address of a Ray cluster: HOST:PORT, ray://HOST:PORT, 'auto' "
                "or 'local' was expected."
            )
        return
    try:
        place = match["host"], int(match["port"])
        with socket.create_connection(place, timeout=SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # a greeting in clear would not be answered
            connection.sendall(_GREETING)
            answer = connection.recv(4)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(_refusal(address, str(error))) from error
    if answer[3:] != _SETTINGS:
        raise ConfigurationError(_refusal(address, "what listens there is no Ray cluster"))


def _refusal(address: str, cause: str) -> str:
    return (
        f"No Ray cluster answers at {address} ({cause}). Start one with 'ray start --head' and "
        "name the address that it prints, or leave out --ray and give --workers to use this "
        "machine alone."
    )
