"""The server process: a listening socket, the application, and an orderly shutdown."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from typing import Any

import cv2
import uvicorn
from fastapi import FastAPI

from chiasm.errors import ConfigurationError

# The first descriptor that a supervisor passes (sd_listen_fds(3)).
_SYSTEMD_SOCKET = 3
_GRACE = 0.5  # seconds
# Each holds a descriptor, of which a process has 1024 by default.
CONNECTIONS = 512
# Seconds that a thread may hold Python's interpreter: a fifth of the default, because the slowest
# of a hundred answers waits for many such intervals.
_SWITCH_INTERVAL = 0.001


def run(
    app: FastAPI, *, host: str, port: int, seconds: float, connections: int = CONNECTIONS
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the accepted requests.

    Args:
        app: the service.
        host, port: address; unused if a supervisor passes a listening socket.
        seconds: that a request may take to arrive, and again to be answered.
        connections: that may be open; requests on more of them get 503.

    Raises ``ConfigurationError`` if the address is taken or not this machine's.
    """
    listening = systemd_socket() or listen(host, port)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # The processors are busy with other requests: OpenCV's own threads would wait for a free one,
    # and their caller for them.
    cv2.setNumThreads(1)
    server_of(app, seconds=seconds, connections=connections).run(sockets=[listening])


def server_of(app: FastAPI, *, seconds: float, connections: int = CONNECTIONS) -> PatientServer:
    """Return the server that ``run`` runs."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(2 * seconds) + 5,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return PatientServer(config, silence=seconds)


class PatientServer(uvicorn.Server):
    """A server that answers the requests of connections accepted just before its shutdown.

    Args:
        config: of uvicorn.
        silence: seconds after which a connection without a request is closed; uvicorn itself
            closes only those with an earlier answer.
    """

    def __init__(self, config: uvicorn.Config, *, silence: float) -> None:
        super().__init__(config)
        self._silence = silence
        self._silent: dict[tuple[Any, Any], float] = {}

    async def on_tick(self, counter: int) -> bool:
        """Close silent connections; uvicorn calls this ten times a second."""
        if counter % 5 == 0:
            self._close_silent(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and end when all requests are answered."""
        for server in self.servers:
            server.close()
        # A connection is accepted before its request is read; closed between the two, the request
        # would be lost without an answer.
        await asyncio.sleep(_GRACE)
        await super().shutdown(sockets)

    def _close_silent(self, now: float) -> None:
        previous, self._silent = self._silent, {}
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            cycle = connection.cycle  # of the last request
            answering = cycle is not None and not cycle.response_complete
            if answering or connection.timeout_keep_alive_task is not None:
                continue
            since = previous.get((connection, cycle), now)
            if now - since < self._silence:
                self._silent[connection, cycle] = since
            else:
                connection.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; raises ``ConfigurationError`` if that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"The service cannot listen on {host}:{port} ({error.strerror or error}); choose "
            "another --host or --port, or stop the program that uses this one."
        ) from error
    listening.listen(1024)
    listening.set_inheritable(True)
    return listening


def systemd_socket() -> socket.socket | None:
    """Return the socket that systemd opened for this process, or None.

    It stays open while the service restarts, so that clients wait instead of failing.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=_SYSTEMD_SOCKET)


def address_of(host: str, port: int) -> str:
    """Return the address for a browser."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
