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
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from nginx_proxy import NginxProxy, free_port
from postgres_server import PostgresServer
from stub_service import NORMALS, wait_until

from chiasm.service.log.verdict_log import VerdictLog

HERE = Path(__file__).parent
WAIT = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "gland"
    path.mkdir()
    (path / "deployment.json").write_text(json.dumps({"scores": NORMALS}))
    return path


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """What is done at the end of a test, whatever its result."""
    with ExitStack() as stack:
        yield stack


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


def test_services_behind_a_proxy_lose_nothing_when_one_is_killed(
    folder: Path, part, tmp_path: Path, postgres: PostgresServer, ending: ExitStack
):
    log = postgres.new_log()
    ports = [free_port() for _ in range(3)]
    proxy = NginxProxy(tmp_path, ports)
    ending.callback(proxy.stop)
    services = []
    for port in ports:
        arguments = [folder, log, "127.0.0.1", port, tmp_path / "spool"]
        command = [sys.executable, HERE / "serve_stub.py", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
        services.append(subprocess.Popen([*map(str, command)], env=environment))
        ending.callback(services[-1].wait)
        ending.callback(services[-1].kill)
    wait_until(proxy.answers, WAIT)
    for port in ports:
        wait_until(lambda port=port: is_ready(port), WAIT)

    def send(number: int) -> tuple[int, str]:
        url = f"http://127.0.0.1:{proxy.port}/v1/models/gland/predict"
        answer = httpx.post(url, files=part, data={"source": f"part {number}"}, timeout=WAIT)
        return answer.status_code, answer.json().get("id", "")

    with ThreadPoolExecutor(4) as clients:
        sent = [clients.submit(send, number) for number in range(90)]
        wait_until(lambda: sum(answer.done() for answer in sent) >= 20, WAIT)
        services[0].kill()
        wait_until(lambda: sum(answer.done() for answer in sent) >= 40, WAIT)
        postgres.kill()  # and the verdicts go on
        wait_until(lambda: sum(answer.done() for answer in sent) >= 60, WAIT)
        services[1].kill()
        answers = [answer.result() for answer in sent]
    assert {status for status, _ in answers} == {200}
    picture = f"http://127.0.0.1:{proxy.port}/v1/verdicts/{answers[-1][1]}/map.npy"
    assert httpx.get(picture).status_code == 200
    postgres.start()
    reader = VerdictLog(log)
    wait_until(lambda: reader.find(limit=1)[1] == 90, WAIT)
    rows = reader.find(limit=1000)[0]
    assert sorted(row["id"] for row in rows) == sorted(name for _, name in answers)
    assert sorted(row["source"] for row in rows) == sorted(f"part {n}" for n in range(90))
    assert len({row["station"] for row in rows}) == 3
    reader.close()
    services[2].terminate()
    assert services[2].wait(WAIT) in (0, -signal.SIGTERM)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_taken_address_is_an_error():
    from chiasm.errors import ConfigurationError
    from chiasm.service.server import listen

    with listening() as (opened, _), pytest.raises(ConfigurationError, match="cannot listen"):
        listen("127.0.0.1", opened.getsockname()[1])
    with pytest.raises(ConfigurationError, match="cannot listen"):
        listen("203.0.113.1", 8000)  # reserved for documentation (RFC 5737)
