"""A prediction whose inputs are text files, for tests of shards; it can be sent to processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chiasm.runs import shards
from chiasm.runs.shard_plan import Item, Listing
from chiasm.runs.shard_worker import judge_shard, open_task
from chiasm.runs.tally import Outcome


@dataclass(frozen=True)
class NumberRef:
    source: str
    files: Mapping[str, Path]


class Killed(BaseException):
    """Stands for a killed process where there is but one."""


def kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raise_killed() -> None:
    raise Killed


def judge_here(patch: pytest.MonkeyPatch) -> list[int]:
    """Have shards judged in this process by one worker; return their numbers as they are begun."""
    begun: list[int] = []

    def run(task, queue, *, workers):
        open_task(task)
        while (following := queue.take()) is not None:
            begun.append(following[0])
            try:
                yield following[0], judge_shard(*following)
            except Killed:
                queue.lose(following[0], "signal 9")

    patch.setattr(shards, "run_locally", run)
    patch.setattr(shards, "call_apart", lambda function, *args, threads: function(*args))
    return begun


@dataclass(frozen=True)
class NumberJob:
    """Judges a file by the number in it, or by each of several with commas between.

    Other contents: ``fault`` is an unexpected error, ``die`` kills the worker, and ``die N`` kills
    it the first N times.
    """

    inputs: Path
    model: Path
    die: Callable[[], None] = kill_process
    option: str = ""
    pictures: bool = False
    noun: str = "numbers"

    @property
    def model_files(self) -> tuple[Path, ...]:
        return (self.model / "model.txt",)

    @property
    def options(self) -> Mapping[str, Any]:
        return {"option": self.option}

    def open_model(self, threads: int) -> Any:
        return (self.model / "model.txt").read_text()

    def listing(self, model: Any) -> Listing:
        files = sorted(self.inputs.glob("*.txt"))
        return Listing([NumberRef(str(path), {"text": path}) for path in files], promise="Sure.")

    def judge(self, model: Any, reader: Any) -> NumberJudge:
        return NumberJudge(model, self.die)


class NumberJudge:
    columns: Mapping[str, str] = {"source": "string", "value": "double", "error": "string"}

    def __init__(self, model: str, die: Callable[[], None]) -> None:
        self.model, self.die = model, die

    def judge(self, item: Item) -> tuple[Outcome, ...]:
        path = Path(item["files"]["text"])
        text = path.read_text()
        if text == "fault":
            raise ValueError("a fault of the program")
        if text.startswith("die"):
            marks = path.with_suffix(".marks")
            before = len(marks.read_text()) if marks.exists() else 0
            if text == "die" or before < int(text.split()[1]):
                marks.write_text("x" * (before + 1))
                self.die()
            text = "0"
        return tuple(self._outcome(item["source"], number) for number in text.split(","))

    def _outcome(self, source: str, text: str) -> Outcome:
        row = {"source": source, "value": float(text), "error": ""}
        return Outcome(row, kinds=("large",) if float(text) > 5 else (), picture=text.encode())

    def failed(self, source: str, sentence: str) -> Outcome:
        row = {"source": source, "value": None, "error": sentence}
        return Outcome(row, failure=sentence)
