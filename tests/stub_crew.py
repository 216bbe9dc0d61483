"""A crew whose processes are this one, and a function for the tasks of a real one."""

from __future__ import annotations

import os
import pickle
import signal
from itertools import islice
from pathlib import Path

from chiasm.errors import DataError
from chiasm.runs.crew import Crew


class InTwos(Crew):
    """Computes two items at a time, the second one first.

    Args:
        pickled: whether the function is sent, as to another process.
    """

    size = 2

    def __init__(self, *, pickled: bool = True) -> None:
        self.pickled = pickled
        self.computed = 0

    def compute(self, function, items):
        """Yield each item with its result."""
        waiting = iter(items)
        function = pickle.loads(pickle.dumps(function)) if self.pickled else function
        while block := list(islice(waiting, 2)):
            for item in reversed(block):
                self.computed += 1
                yield item, function(item)


def squared(item: tuple[int, str]) -> tuple[int, str, int]:
    """Square a number, in a process that is lost once where it is asked to be."""
    number, mark = item
    if mark and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number < 0:
        raise DataError(f"{number} is negative.")
    return number**2, str(Path.cwd()), os.getpid()
