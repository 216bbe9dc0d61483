"""Results in order, whatever becomes of a worker, and never many at a time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.runs import ordered_map
from chiasm.runs.ordered_map import Failure, map_in_order


def judged(shared: dict, item: int) -> int:
    """Fail as an input asks for."""
    if item == shared.get("damaged"):
        raise DataError(f"{item} is damaged.")
    if item == shared.get("odd"):
        raise KeyError("pixels")
    if item == shared.get("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    if item == shared.get("deadly once") and not Path(shared["note"]).exists():
        Path(shared["note"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == shared.get("full"):
        raise OSError(28, "No space left on device")
    return item * item


class Unborn:
    """A value that ends the process that is to begin with it."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_and_one_failure_is_one_inputs(workers, tmp_path):
    shared = {"damaged": 7, "odd": 9, "note": str(tmp_path / "note")}
    if workers > 1:  # a process of its own is what protects from these
        shared |= {"deadly": 21, "deadly once": 30}
    found = list(map_in_order(judged, shared, range(50), name=str, workers=workers))
    assert [item for item, _ in found] == list(range(50))
    failures = {item: r.sentence for item, r in found if isinstance(r, Failure)}
    assert failures.pop(7) == "7 is damaged."
    assert "9 could not be read: KeyError" in failures.pop(9)
    if workers > 1:
        assert "21 ends every worker" in failures.pop(21)
    assert not failures
    assert all(r == item * item for item, r in found if not isinstance(r, Failure))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_work(workers):
    with pytest.raises(OSError, match="No space"):
        list(map_in_order(judged, {"full": 5}, range(20), name=str, workers=workers))


def test_inputs_are_taken_no_faster_than_results(monkeypatch):
    monkeypatch.setattr(ordered_map, "BLOCK", 2)
    taken = []

    def items():
        for item in range(200):
            taken.append(item)
            yield item

    ahead = [
        len(taken) - item for item, _ in map_in_order(judged, {}, items(), name=str, workers=2)
    ]
    assert len(ahead) == 200
    assert max(ahead) <= ordered_map.AHEAD * 2 * 2 + 2


def test_workers_that_cannot_begin_are_told():
    with pytest.raises(ArtifactError, match="ended before they had begun"):
        list(map_in_order(judged, Unborn(), range(3), name=str, workers=2))
    with pytest.raises(ConfigurationError, match="0 workers"):
        list(map_in_order(judged, {}, range(3), name=str, workers=0))
