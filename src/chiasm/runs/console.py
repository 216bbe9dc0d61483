"""What is said of the inputs that could not be judged."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from chiasm.errors import DataError
from chiasm.samples import Verdict

_MOST_TOLD = 5

FEW = 5  # verdicts that are told one by one


def tell_unjudged(reasons: Sequence[str], *, judged: int, what: str) -> None:
    """Say why some inputs were not judged.

    Args:
        reasons: a sentence for each of them.
        judged: how many others were.
        what: they are, e.g. ``"parts"``.

    Raises:
        DataError: none was judged, which whoever waits for verdicts must not take for success.
    """
    for reason in reasons[:_MOST_TOLD]:
        say(reason)
    if len(reasons) > _MOST_TOLD:
        say(f"{len(reasons) - _MOST_TOLD} more {what} were not judged.")
    if not judged:
        raise DataError(f"None of the {len(reasons)} {what} could be judged: {_first(reasons)}")


def _first(reasons: Sequence[str]) -> str:
    return reasons[0] if reasons else "there was none."


_console = Console(highlight=False)


def say(text: str) -> None:
    """Print a line for people."""
    _console.print(text, markup=False)


def _reason(verdict: Verdict) -> str:
    named = not verdict.source or verdict.source in verdict.error
    return verdict.error if named else f"{verdict.source}: {verdict.error}"
