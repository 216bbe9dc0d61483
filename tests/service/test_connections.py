"""Connections: those without a request are closed, and their number is limited."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
from fastapi import FastAPI

from chiasm.service.server import server_of

Connect = Callable[[], socket.socket]
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def serving(*, seconds: float, connections: int) -> Iterator[Connect]:
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    server = server_of(app, seconds=seconds, connections=connections)
    with closing(socket.create_server(("127.0.0.1", 0))) as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield lambda: socket.create_connection(opened.getsockname(), timeout=10)
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def answer(connection: socket.socket) -> bytes:
    connection.sendall(ASK)
    received = b""
    while b"hello" not in received and b"Unavailable" not in received:
        part = connection.recv(4096)
        assert part, received
        received += part
    return received


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: "], ids=["nothing", "half"])
def test_a_connection_without_a_request_is_closed(sent: bytes) -> None:
    with serving(seconds=1.0, connections=10) as connect, closing(connect()) as silent:
        silent.sendall(sent)
        start = time.monotonic()
        assert silent.recv(10) == b""
        assert time.monotonic() - start > 0.5


def test_half_a_second_request_does_not_hold_a_connection_either() -> None:
    with serving(seconds=1.0, connections=10) as connect, closing(connect()) as silent:
        assert b"200" in answer(silent)
        silent.sendall(b"GET / HT")
        assert silent.recv(10) == b""


def test_a_connection_is_kept_between_two_requests() -> None:
    with serving(seconds=0.5, connections=10) as connect, closing(connect()) as active:
        assert b"200" in answer(active)
        with closing(connect()) as silent:
            assert silent.recv(10) == b""  # by then the first has been idle for longer
        assert b"200" in answer(active)


def test_too_many_connections_are_refused() -> None:
    with serving(seconds=10.0, connections=5) as connect, ExitStack() as opened:
        several = [opened.enter_context(closing(connect())) for _ in range(4)]
        for connection in several:
            assert b"200" in answer(connection)
        with closing(connect()) as last:
            assert b"503" in answer(last)
        several[0].close()
        assert b"200" in answer(several[1])
