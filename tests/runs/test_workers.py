"""Workers of this machine: their threads, their answers and their end."""

from __future__ import annotations

import pytest

from chiasm.runs.workers import threads_each


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
