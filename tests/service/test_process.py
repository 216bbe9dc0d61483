"""The service as a process: it ends in order, and a restart under load loses nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from foretold import NORMALS

HERE = Path(__file__).parent
WAIT = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "gland"
    place.mkdir()
    (place / "deployment.json").write_text(json.dumps({"scores": NORMALS}))
    return place


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """A socket as a supervisor opens it, and the address."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as opened:
        yield opened, f"http://127.0.0.1:{opened.getsockname()[1]}"


def started(opened: socket.socket, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """A service that was handed the socket, as by systemd."""
    command = [sys.executable, str(HERE / "serve_foretold.py"), str(folder), str(log), "x", "0"]
    words = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{opened.fileno()}'
    return subprocess.Popen(
        ["bash", "-c", words, "-", *command],
        pass_fds=[opened.fileno()],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )


def ended(process: subprocess.Popen[bytes]) -> str:
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=WAIT)
    assert process.returncode in (0, -signal.SIGTERM)
    return words.decode()


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

        first = started(opened, folder, log)
        with ThreadPoolExecutor(4) as clients:
            sent = [clients.submit(send, number) for number in range(80)]
            while sum(one.done() for one in sent) < 20:
                time.sleep(0.01)
            words = ended(first)
            done_by_first = sum(one.done() for one in sent)
            second = started(opened, folder, log)
            found = [one.result() for one in sent]
        words += ended(second)
    assert found == [200] * 80
    assert logged(log) == 80
    assert 20 <= done_by_first < 80
    assert "Traceback" not in words


def test_a_taken_address_is_a_sentence():
    from chiasm.errors import ConfigurationError
    from chiasm.service.server import listen

    with listening() as (opened, _), pytest.raises(ConfigurationError, match="cannot listen"):
        listen("127.0.0.1", opened.getsockname()[1])
    with pytest.raises(ConfigurationError, match="cannot listen"):
        listen("203.0.113.1", 8000)  # nobody's (RFC 5737)
