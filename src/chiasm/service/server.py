"""The process: a listening socket, a service behind it, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import socket

import uvicorn
from fastapi import FastAPI

from chiasm.errors import ConfigurationError

# The first descriptor that a supervisor hands over (sd_listen_fds(3)).
_FIRST_HANDED_OVER = 3
_HEAR_OUT = 0.5  # seconds


def run(app: FastAPI, *, host: str, port: int, seconds: float) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted.

    Args:
        app: the service.
        host, port: address; of no meaning where a supervisor hands over a listening socket.
        seconds: that a request may take to arrive and again to be judged.

    Raises ``ConfigurationError`` where the address is taken or not this machine's.
    """
    listening = handed_over() or listen(host, port)
    server = _PatientServer(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(2 * seconds) + 5,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )
    server.run(sockets=[listening])


class _PatientServer(uvicorn.Server):
    """A server that hears out whoever was let in just before it ends."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        # A connection is accepted before its request is read; closed between the two, it would
        # be lost without an answer.
        await asyncio.sleep(_HEAR_OUT)
        await super().shutdown(sockets)


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
