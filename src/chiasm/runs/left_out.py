"""Samples that cannot be read are left out of a run: all are listed at once, counted and recorded.

A few damaged files do not stop a training. Many mean that the data are not what they should be, so
that their list ends the run. ``docs/decisions/0036`` says why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from chiasm.errors import DataError
from chiasm.runs.console import MAX_LISTED, say
from chiasm.samples import Problem

LEFT_OUT = "left_out.json"  # in a run's folder
MOST = 0.1  # of the samples, that may be left out; one always may
_NAMED = 30  # problems that an error lists


def check_left_out(
    problems: Sequence[Problem],
    *,
    total: int,
    noun: str,
    strict: bool = False,
    folder: Path | None = None,
) -> None:
    """Say which samples are left out, and record them; or refuse to go on without so many.

    Args:
        problems: of the samples that are left out.
        total: samples that there are, those left out among them.
        noun: what they are, e.g. ``"parts"``.
        strict: refuse to leave out any.
        folder: of the run, where they are recorded; None records nothing.

    Raises:
        DataError: more than ``MOST`` are left out, or any with ``strict``; it lists them.
    """
    record = None if folder is None else folder / LEFT_OUT
    refuse_many(problems, total=total, noun=noun, strict=strict)
    if not problems:
        if record is not None:  # of an earlier attempt, since when they were mended
            record.unlink(missing_ok=True)
        return
    count = len(problems)
    say(f"{count} of {total} {noun} cannot be used and are left out (--strict stops instead):")
    for problem in problems[:MAX_LISTED]:
        say(f"  {problem}")
    if count > MAX_LISTED:
        where = "'chiasm data check' lists all" if record is None else f"{record} lists all"
        say(f"  ... and {count - MAX_LISTED} more; {where}.")
    if record is not None:
        record.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"source": p.source, "sentence": p.sentence} for p in problems]
        content = {"total": total, "noun": noun, "left_out": rows}
        record.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def refuse_many(
    problems: Sequence[Problem], *, total: int, noun: str, strict: bool = False
) -> None:
    """Refuse to go on without more than ``MOST`` of the samples, or without any if ``strict``.

    Arguments and errors as of ``check_left_out``.
    """
    count = len(problems)
    if not count or not (strict or count > max(1, MOST * total)):
        return
    why = (
        "--strict leaves out none: mend or remove these files."
        if strict
        else f"more than {MOST:.0%}: the data are not what they should be. Mend or remove these "
        "files."
    )
    lines = [f"  {problem}" for problem in problems[:_NAMED]]
    if count > _NAMED:
        lines.append(f"  ... and {count - _NAMED} more ('chiasm data check' lists all)")
    raise DataError(
        "\n".join([f"{count} of {total} {noun} cannot be used; {why}", *lines]), see="damaged-files"
    )


def left_out_note(folder: Path) -> str | None:
    """Return the note of a report on the samples that a run left out; None without any."""
    path = folder / LEFT_OUT
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    rows = content["left_out"]
    return (
        f"{len(rows)} of {content['total']} {content['noun']} could not be used and were left out "
        f"of training and calibration ({LEFT_OUT} lists all). The first: {rows[0]['sentence']}"
    )
