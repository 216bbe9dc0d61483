"""A crew computes the same as one process, however many compute and whichever are lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.runs.crew import ALONE, Crew, gather


@dataclass(frozen=True)
class Task:
    """Squares a number; the first process that has ``killed`` ends, or every one."""

    killed: int = -1
    every_time: bool = False

    def __call__(self, item: tuple[int, str]) -> tuple[int, int]:
        number, folder = item
        print("printed by a worker")
        if number == self.killed:
            mark = Path(folder) / "killed"
            if self.every_time or not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if number == 13:
            raise DataError("13 has no square.")
        return number**2, os.getpid()


@pytest.fixture(scope="module")
def two() -> Iterator[Crew]:
    with gather(2) as crew:
        yield crew


def squares(crew: Crew, count: int, folder: Path, task: Task = Task()) -> dict[int, int]:
    items = [(number, str(folder)) for number in range(count)]
    return {item[0]: result[0] for item, result in crew.compute(task, items)}


@pytest.mark.timeout(120)
def test_two_processes_compute_what_one_does_and_stay(two: Crew, tmp_path: Path, capfd):
    assert squares(two, 9, tmp_path) == squares(ALONE, 9, tmp_path)
    capfd.readouterr()
    items = [(number, "") for number in range(9)]
    computed = list(two.in_order(Task(), items))
    assert [item for item, _ in computed] == items
    processes = {process for _, (_, process) in computed}
    assert len(processes) == 2 and os.getpid() not in processes
    again = {process for _, (_, process) in two.compute(Task(), items)}
    assert again == processes
    assert capfd.readouterr() == ("", "")  # lines of several would mix


@pytest.mark.timeout(120)
def test_items_are_taken_when_a_process_is_free(two: Crew):
    for crew in (ALONE, two):
        taken: list[int] = []

        def items(taken: list[int] = taken) -> Iterator[tuple[int, str]]:
            for number in range(6):
                taken.append(number)
                yield number, ""

        ahead = [len(taken) - done for done, _ in enumerate(crew.compute(Task(), items()))]
        assert max(ahead) <= crew.size


@pytest.mark.timeout(120)
def test_a_lost_process_costs_nothing_but_its_work(two: Crew, tmp_path: Path):
    assert squares(two, 6, tmp_path, Task(killed=3)) == {n: n**2 for n in range(6)}
    with pytest.raises(ArtifactError, match=r"3 worker processes were lost.*--workers"):
        squares(two, 6, tmp_path, Task(killed=3, every_time=True))
    assert squares(two, 3, tmp_path) == {0: 0, 1: 1, 2: 4}  # others have taken their places


@pytest.mark.timeout(120)
def test_what_the_function_raises_is_raised_here(two: Crew, tmp_path: Path):
    for crew in (ALONE, two):
        with pytest.raises(DataError, match="13 has no square"):
            squares(crew, 20, tmp_path)
    assert squares(two, 2, tmp_path) == {0: 0, 1: 1}


def test_a_crew_of_none_is_refused():
    with pytest.raises(ConfigurationError, match="one at least"), gather(0):
        pass


@pytest.mark.parametrize("workers", [None, 1])
def test_one_process_is_this_one(workers):
    with gather(workers) as crew:
        assert crew is ALONE and crew.size == 1


def _visible_cards(number: int) -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")


@pytest.mark.timeout(120)
def test_processes_share_out_the_graphics_cards(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("chiasm.training.device.gpus_of", {"cuda": 2}.get)
    with gather(2, device="cuda") as crew:
        computed = crew.compute(_visible_cards, range(6))
        assert {answer for _, answer in computed} == {"0", "1"}
