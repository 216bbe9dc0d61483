"""Lines for people on the console, and the report of inputs that failed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from chiasm.errors import DataError
from chiasm.samples import Verdict
from chiasm.training.progress import volume

MAX_LISTED = 5  # verdicts or remarks that are printed one by one

_console = Console(highlight=False)
_STARTED = time.monotonic()


def say(text: str) -> None:
    """Print a line for people, unless the process is quiet; if it is verbose, with the time."""
    if volume() == "quiet":
        return
    if volume() == "verbose":
        text = f"[{time.monotonic() - _STARTED:.1f} s] {text}"
    # A terminal wraps lines itself; a log's lines stay whole, and the names of files in them.
    _console.print(text, markup=False, soft_wrap=True)


def report_failures(
    reasons: Sequence[str], *, succeeded: int, noun: str, failed: int | None = None
) -> None:
    """Print why some inputs have no verdict.

    Args:
        reasons: a sentence for each failed input, or for the first of them.
        succeeded: number of inputs with a verdict.
        noun: what the inputs are, e.g. ``"parts"``.
        failed: number of failed inputs; None takes that of the reasons.

    Raises:
        DataError: no input has a verdict, so that a script does not take this for success.
    """
    failed = len(reasons) if failed is None else failed
    for reason in reasons[:MAX_LISTED]:
        say(reason)
    if failed > MAX_LISTED:
        say(f"{failed - MAX_LISTED} more {noun} were not evaluated.")
    if not succeeded:
        first = reasons[0] if reasons else "there was none."
        raise DataError(f"None of the {failed} {noun} could be evaluated: {first}")


def failure_reason(verdict: Verdict) -> str:
    """Return a failed verdict's error, preceded by its source unless the error names it."""
    if not verdict.source or verdict.source in verdict.error:
        return verdict.error
    return f"{verdict.source}: {verdict.error}"
