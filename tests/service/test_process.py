"""The service as a process: it ends in order, and a restart under load loses nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from stub_service import NORMALS, wait_until

HERE = Path(__file__).parent
WAIT = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "gland"
    path.mkdir()
    (path / "deployment.json").write_text(json.dumps({"scores": NORMALS}))
    return path


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket as a supervisor opens it, and its address."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as opened:
        yield opened, f"http://127.0.0.1:{opened.getsockname()[1]}"


def start_service(opened: socket.socket, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a service with the socket, as systemd does."""
    command = [sys.executable, str(HERE / "serve_stub.py"), str(folder), str(log), "x", "0"]
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{opened.fileno()}'
    return subprocess.Popen(
        ["bash", "-c", script, "-", *command],
        pass_fds=[opened.fileno()],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )


def stop(process: subprocess.Popen[bytes]) -> str:
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=WAIT)
    assert process.returncode in (0, -signal.SIGTERM)
    return output.decode()


def logged(log: Path) -> int:
    with closing(sqlite3.connect(log)) as connection:
        return int(connection.execute("SELECT count(*) FROM verdicts").fetchone()[0])


def test_a_restart_under_load_loses_no_request(folder: Path, part, tmp_path: Path):
    log = tmp_path / "log.sqlite"
    with listening() as (opened, address):
        url = f"{address}/v1/models/gland/predict"

        def send(_: int) -> int:
            # A connection each, so that none is idle when the first process ends.
            return httpx.post(url, files=part, timeout=WAIT).status_code

        first = start_service(opened, folder, log)
        with ThreadPoolExecutor(4) as clients:
            sent = [clients.submit(send, number) for number in range(80)]
            wait_until(lambda: sum(answer.done() for answer in sent) >= 20, WAIT)
            output = stop(first)
            done_by_first = sum(answer.done() for answer in sent)
            second = start_service(opened, folder, log)
            statuses = [answer.result() for answer in sent]
        output += stop(second)
    assert statuses == [200] * 80
    assert logged(log) == 80
    assert 20 <= done_by_first < 80
    assert "Traceback" not in output


def test_a_taken_address_is_an_error():
    from chiasm.errors import ConfigurationError
    from chiasm.service.server import listen

    with listening() as (opened, _), pytest.raises(ConfigurationError, match="cannot listen"):
        listen("127.0.0.1", opened.getsockname()[1])
    with pytest.raises(ConfigurationError, match="cannot listen"):
        listen("203.0.113.1", 8000)  # reserved for documentation (RFC 5737)
