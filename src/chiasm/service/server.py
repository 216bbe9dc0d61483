"""The process: a listening socket, a service behind it, and an orderly end."""

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

# The first descriptor that a supervisor hands over (sd_listen_fds(3)).
_FIRST_HANDED_OVER = 3
_HEAR_OUT = 0.5  # seconds
# Each holds a descriptor, of which a process has 1024 where nobody asks for more.
CONNECTIONS = 512
# Seconds that a thread may keep Python's interpreter from others: five times shorter than usual,
# for the slowest of a hundred answers waits for many turns.
_LONGEST_TURN = 0.001


def run(
    app: FastAPI, *, host: str, port: int, seconds: float, connections: int = CONNECTIONS
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted.

    Args:
        app: the service.
        host, port: address; of no meaning where a supervisor hands over a listening socket.
        seconds: that a request may take to arrive and again to be judged.
        connections: that may be open; requests on more of them get 503.

    Raises ``ConfigurationError`` where the address is taken or not this machine's.
    """
    listening = handed_over() or listen(host, port)
    sys.setswitchinterval(_LONGEST_TURN)
    # The processors have other parts to judge: OpenCV's own threads would wait for one, and whoever
    # shares its work with them waits for them.
    cv2.setNumThreads(1)
    server_of(app, seconds=seconds, connections=connections).run(sockets=[listening])


def server_of(app: FastAPI, *, seconds: float, connections: int = CONNECTIONS) -> PatientServer:
    """The server that ``run`` runs."""
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
    """A server that hears out whoever was let in just before it ends.

    Args:
        config: of uvicorn.
        silence: seconds after which a connection is closed whose request has not begun: uvicorn
            itself ends only those that were answered before.
    """

    def __init__(self, config: uvicorn.Config, *, silence: float) -> None:
        super().__init__(config)
        self._silence = silence
        self._silent: dict[tuple[Any, Any], float] = {}

    async def on_tick(self, counter: int) -> bool:
        """What is done ten times a second."""
        if counter % 5 == 0:
            self._close_silent(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and end when all are answered."""
        for server in self.servers:
            server.close()
        # A connection is accepted before its request is read; closed between the two, it would
        # be lost without an answer.
        await asyncio.sleep(_HEAR_OUT)
        await super().shutdown(sockets)

    def _close_silent(self, now: float) -> None:
        seen, self._silent = self._silent, {}
        for one in list(self.server_state.connections):
            connection: Any = one
            cycle = connection.cycle  # of the request that was read last
            answering = cycle is not None and not cycle.response_complete
            if answering or connection.timeout_keep_alive_task is not None:
                continue
            since = seen.get((connection, cycle), now)
            if now - since < self._silence:
                self._silent[connection, cycle] = since
            else:
                connection.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; raises ``ConfigurationError`` in a sentence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"The service cannot listen on {host}:{port} ({error.strerror or error}); choose "
            "another --host or --port, or end what runs there."
        ) from error
    listening.listen(1024)
    listening.set_inheritable(True)
    return listening


def handed_over() -> socket.socket | None:
    """The socket that systemd opened for this process, or None.

    It stays open while the service restarts, and whoever connects then waits instead of failing.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=_FIRST_HANDED_OVER)


def address_of(host: str, port: int) -> str:
    """Where to point a browser."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
