"""Workers of this machine: their threads, their answers and their end."""

from __future__ import annotations

import os
import signal

import pytest

from chiasm.errors import DataError
from chiasm.runs.workers import Worker, WorkerLost, call_apart, threads_each


@pytest.mark.parametrize(
    ("set_to", "jobs", "expected"),
    [(None, 1, 8), (None, 3, 2), (None, 9, 1), ("2", 1, 2), ("16", 1, 8), ("2", 8, 1), ("x", 2, 4)],
)
def test_runs_share_the_cores_and_heed_what_the_environment_leaves_them(
    monkeypatch, set_to, jobs, expected
):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    if set_to is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", set_to)
    assert threads_each(jobs) == expected


def answer(question: str) -> object:
    if question == "raise":
        raise DataError("no")
    if question == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ[question] if question in os.environ else len(question)


@pytest.mark.timeout(120)
def test_a_worker_answers_raises_and_ends(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    worker = Worker(answer, threads=3)
    worker.send("four")
    assert worker.receive() == 4
    worker.send("OMP_NUM_THREADS")
    assert worker.receive() == "3" and os.environ["OMP_NUM_THREADS"] == "7"
    worker.send("raise")
    with pytest.raises(DataError, match="no"):
        worker.receive()
    worker.send("die")
    with pytest.raises(WorkerLost, match="ended with signal 9"):
        worker.receive()
    worker.close()


@pytest.mark.timeout(120)
def test_what_a_process_apart_raises_is_raised_here():
    with pytest.raises(WorkerLost, match="signal 9"):
        call_apart(answer, "die", threads=1)
