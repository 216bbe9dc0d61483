"""A watch as a process: killed in the middle, and ended by a signal."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from line_receiver import Receiver
from line_records import wait_until
from line_watch import Bench, write_part

TESTS = Path(__file__).parents[1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def test_a_killed_watch_goes_on_and_loses_and_doubles_nothing(
    tmp_path: Path, receiver: Receiver
) -> None:
    bench = Bench.at(tmp_path)
    outlets = tmp_path / "outlets.yaml"
    outlets.write_text(f"outlets: [{{type: webhook, url: '{receiver.url}', retry_s: 0.05}}]")
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
