"""Call one function for many inputs in worker processes; results come in the inputs' order.

One bad input costs its own result: what its function raises, and even a decoder that crashes the
process, becomes a ``Failure`` of that input alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError
from chiasm.runs.workers import GUARD, Worker, WorkerLost, first_answers, threads_each

BLOCK = 8  # inputs that a worker gets at a time
AHEAD = 4  # blocks for each worker that may be ready before an earlier one
STARTS = 3  # workers that may be lost before they have begun
LOSSES = 2  # workers that an input, asked for alone, may cost

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input has no result, as a sentence."""

    sentence: str


@dataclass(slots=True)
class _Block(Generic[Item]):
    start: int
    items: list[Item]
    losses: int = 0


def map_in_order(
    function: Callable[[Any, Item], Result],
    shared: Any,
    items: Iterable[Item],
    *,
    name: Callable[[Item], str],
    workers: int = 1,
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Yield each input with its result, in their order; a bounded number is at work or ready.

    Args:
        function: of module level; called with ``shared`` and an input. Its ``OSError`` ends the
            whole work, because disks are full for all; whatever else it raises is a failure.
        shared: the same for all inputs; each worker gets it once, pickled.
        items: the inputs.
        name: what messages call an input.
        workers: processes; 1 is this one.

    Raises:
        ConfigurationError: there are fewer workers than one.
        ArtifactError: workers are lost before they have begun.
        OSError: of the function.
    """
    if workers < 1:
        raise ConfigurationError(f"{workers} workers were asked for; one at least is needed.")
    if workers == 1:
        for item in items:
            yield item, _attempt(function, shared, item, name(item))
        return
    yield from _mapped_by_workers(function, shared, items, name=name, workers=workers)


def _mapped_by_workers(
    function: Callable[[Any, Item], Result],
    shared: Any,
    items: Iterable[Item],
    *,
    name: Callable[[Item], str],
    workers: int,
) -> Generator[tuple[Item, Result | Failure], None, None]:
    waiting = iter(items)
    again: deque[_Block[Item]] = deque()  # of lost workers, and the first that are wanted
    ready: dict[int, tuple[Item, Result | Failure]] = {}
    at_work: dict[Connection, tuple[Worker, _Block[Item] | None]] = {}  # None: it begins
    idle: list[Worker] = []
    taken = given = unborn = 0
    exhausted = False
    threads = threads_each(workers)

    def start() -> None:
        worker = Worker(_serve_items, threads=threads)
        worker.send(function, shared)
        at_work[worker.connection] = worker, None

    def following() -> _Block[Item] | None:
        nonlocal taken, exhausted
        if again:
            return again.popleft()
        if taken - given >= AHEAD * workers * BLOCK:
            return None
        block = _Block(taken, list(islice(waiting, BLOCK)))
        taken += len(block.items)
        exhausted = not block.items
        return None if exhausted else block

    try:
        for _ in range(workers):
            start()
        while True:
            while idle and (block := following()) is not None:
                worker = idle.pop()
                worker.send(None, [(item, name(item)) for item in block.items])
                at_work[worker.connection] = worker, block
            if given == taken and exhausted:
                return
            for worker, block in first_answers(at_work):
                del at_work[worker.connection]
                try:
                    results = worker.receive()
                except WorkerLost as lost:
                    worker.close()
                    if block is None:
                        unborn += 1
                        _check_born(unborn, workers, lost)
                    elif block.losses >= LOSSES and len(block.items) == 1:
                        item = block.items[0]
                        ready[block.start] = item, _lost(name(item), lost)
                    else:  # one by one, to find which input it was
                        again.extendleft(
                            _Block(block.start + place, [item], block.losses + 1)
                            for place, item in reversed(list(enumerate(block.items)))
                        )
                    start()
                    continue
                except BaseException:
                    worker.close(kill=True)
                    raise
                idle.append(worker)
                if block is None:
                    unborn = 0
                    continue
                for place, pair in enumerate(zip(block.items, results, strict=True)):
                    ready[block.start + place] = pair
            while given in ready:
                yield ready.pop(given)
                given += 1
    finally:
        for worker, _ in at_work.values():
            worker.close(kill=True)
        for worker in idle:
            worker.close()


def _check_born(unborn: int, workers: int, lost: WorkerLost) -> None:
    if unborn >= STARTS:
        raise ArtifactError(
            f"{unborn} workers ended before they had begun. {lost} Is there enough memory for "
            f"{workers} of them? {GUARD}"
        ) from lost


def _lost(name: str, lost: WorkerLost) -> Failure:
    return Failure(f"{name} ends every worker process that reads it. {lost} Replace the file.")


def _attempt(
    function: Callable[[Any, Item], Result], shared: Any, item: Item, name: str
) -> Result | Failure:
    try:
        return function(shared, item)
    except ChiasmError as error:
        return Failure(str(error))
    except OSError:
        raise
    except Exception as error:  # one input must not end the work on all others
        return Failure(
            f"{name} could not be read: {type(error).__name__}: {error}. This was not expected; "
            "please report it."
        )


# Of this process: the function and what all of its calls share.
_given: tuple[Callable[[Any, Any], Any], Any] | None = None


def _serve_items(function: Callable[[Any, Any], Any] | None, content: Any) -> Any:
    """Remember function and shared value, or return the results of a block; for ``Worker``."""
    global _given
    if function is not None:
        _given = function, content
        return None
    assert _given is not None
    return [_attempt(*_given, item, name) for item, name in content]
