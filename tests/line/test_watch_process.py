"""A watch as a process: killed in the middle, and ended by a signal."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from line_records import wait_until
from line_watch import Bench, write_part

TESTS = Path(__file__).parents[1]


class Receiver(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 204
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 204:
            self.server.got.append(row)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_killed_watch_goes_on_and_loses_and_doubles_nothing(
    tmp_path: Path, receiver: Receiver
) -> None:
    bench = Bench.at(tmp_path)
    outlets = tmp_path / "outlets.yaml"
    address = f"http://127.0.0.1:{receiver.server_port}/"
    outlets.write_text(f"outlets: [{{type: webhook, url: '{address}', retry_s: 0.05}}]")
    names = [f"part_{number:03d}" for number in range(40)]
    for name in names[:30]:
        write_part(bench.folder, name)
    receiver.status = 503  # away until after the kill
    command = [
        *(sys.executable, str(TESTS / "line_watch.py")),
        *map(str, (bench.folder, bench.out, bench.model, outlets)),
    ]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with start() as watch:
        wait_until(lambda: len(bench.lines()) > 8, 60)
        watch.kill()
    assert len(bench.lines()) < 30
    receiver.status = 204
    for name in names[30:]:
        write_part(bench.folder, name)
    with start() as watch:
        wait_until(lambda: len(bench.lines()) >= 40, 60)
        watch.send_signal(signal.SIGTERM)
        said = watch.communicate(timeout=30)[0]
        assert watch.returncode == 0
    assert said.splitlines()[-1].startswith(f"{said.count(': good, ')} judged: ")
    with (bench.out / "verdicts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["source"] for row in rows) == names
    order = list(dict.fromkeys(row["id"] for row in receiver.got))
    assert order == [row["id"] for row in rows]  # each at least once, and in order
