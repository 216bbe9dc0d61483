"""Which recordings are of which asset, and when each was made."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chiasm.diagnosis.monitoring.times import (
    is_ambiguous,
    time_in_name,
    time_of_text,
    unset_clocks,
)
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.errors import DataError

FOLDER, NAME, FILE, ORDER = "folder", "name", "file", "order"
ASSET_COLUMNS = ("asset", "equipment", "transformer", "apparatus")
TIME_COLUMNS = ("time", "datetime", "timestamp", "recorded", "measured", "date")
# Columns and fields of instruments that tell how was measured.
RECORDER_FIELDS = (
    *("recorder", "instrument", "device_name", "sensor", "antenna", "channel", "unit"),
    *("gain", "bandwidth", "preamplifier", "linear_amplifier", "meas_mode", "tuned_mhz"),
)
_NO_ASSET = frozenset({"image", "series"})
_HEAD = 4096  # bytes
_FIELD = re.compile(r"<([a-z_]{2,30})>([^<\n]{1,80})</")
_RENAMED = {"frequency": "tuned_mhz", "date": "instrument_date", "time": "instrument_time"}
_LISTED = 3


@dataclass(frozen=True, slots=True)
class Listed:
    """A recording with its asset and its time.

    Attributes:
        ref: of the recording.
        asset: name of the asset.
        time: seconds since 1970, or None where the order counts.
        facts: columns of the table and fields of the instrument, by name.
    """

    ref: RecordingRef
    asset: str
    time: float | None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """All recordings of a trend.

    Attributes:
        recordings: those whose time is known.
        notes: what was assumed, a sentence each.
    """

    recordings: tuple[Listed, ...]
    notes: tuple[str, ...] = ()


def list_assets(
    refs: Sequence[RecordingRef], root: Path, *, asset: str | None = None, time: str | None = None
) -> Listing:
    """Find the asset and the time of each recording.

    Args:
        refs: of the recordings.
        root: folder or table that they were found in.
        asset: a column of the table, a field of the instrument, or ``"folder"``, the first folder
            below the root. None takes a column called asset or equipment, else the folder.
        time: a column or a field; ``"name"``, a date in the file's name; ``"file"``, the time of
            the file; ``"order"``, none. None takes the first of column, instrument and name that
            most recordings have.

    Raises:
        DataError: there is no such column, no recording has a time, or a date has two meanings.
    """
    facts = [_facts(ref) for ref in refs]
    notes: list[str] = []
    names = _assets(refs, facts, root, asset, notes)
    times = _times(refs, facts, time, notes)
    known = [
        Listed(ref, name, moment, fact)
        for ref, name, moment, fact in zip(refs, names, times, facts, strict=True)
        if moment is not None or time == ORDER
    ]
    return Listing(tuple(known), tuple(notes))


def recorder_of(facts: Mapping[str, str]) -> str:
    """Return what a table or an instrument says of how was measured, in words."""
    return ", ".join(f"{name} {facts[name]}" for name in RECORDER_FIELDS if facts.get(name))


def _facts(ref: RecordingRef) -> dict[str, str]:
    """Return what is said of a recording: fields of its instrument, columns of its table."""
    facts: dict[str, str] = {}
    file = ref.files.get("series")
    if file is not None and file.suffix.lower() == ".xml":
        try:
            with file.open("rb") as stream:
                head = stream.read(_HEAD).decode("utf-8", "replace")
        except OSError:
            head = ""  # reading it will say so
        facts = {_RENAMED.get(name, name): value.strip() for name, value in _FIELD.findall(head)}
    return {**facts, **ref.group}


def _assets(
    refs: Sequence[RecordingRef],
    facts: Sequence[Mapping[str, str]],
    root: Path,
    asset: str | None,
    notes: list[str],
) -> list[str]:
    base = root if root.is_dir() else root.parent
    if asset is None:
        counts = Counter(name for fact in facts for name in ASSET_COLUMNS if fact.get(name))
        asset = next((name for name in ASSET_COLUMNS if counts[name] == len(refs)), FOLDER)
    elif asset != FOLDER:
        asset = asset.strip().lower()
        _check_name(asset, facts, "asset", (FOLDER,))
    if asset == FOLDER:
        return [_folder(Path(ref.source), base) for ref in refs]
    absent = [ref.source for ref, fact in zip(refs, facts, strict=True) if not fact.get(asset)]
    if absent:
        notes.append(
            f"{_recordings(len(absent))} no {asset} and count as one asset without a name; the "
            f"first: {absent[0]}."
        )
    return [fact.get(asset) or f"(no {asset})" for fact in facts]


def _folder(path: Path, base: Path) -> str:
    """Return the first folder below the base that is no folder of a modality."""
    relative = Path(os.path.relpath(path.parent, base))
    parts = [part for part in relative.parts if part not in _NO_ASSET and part != os.pardir]
    return parts[0] if parts else base.resolve().name


def _times(
    refs: Sequence[RecordingRef],
    facts: Sequence[Mapping[str, str]],
    time: str | None,
    notes: list[str],
) -> list[float | None]:
    if time == ORDER:
        notes.append(
            "The recordings are taken in the order of the table, or of the files' names; slopes "
            "are from one recording to the next."
        )
        return [None] * len(refs)
    if time == FILE:
        notes.append(
            "The time of a recording is that of its file's last change, which is another one after "
            "it was copied or edited."
        )
        return [_changed(ref) for ref in refs]
    if time == NAME:
        said, times = "a date in the file's name", [_named(ref) for ref in refs]
    elif time is not None:
        name = time.strip().lower()
        _check_name(name, facts, "time", (NAME, FILE, ORDER))
        said, times = f"the column {name}", [_told(fact, name) for fact in facts]
    else:
        said, times = _best(refs, facts)
    known = [moment for moment in times if moment is not None]
    if not known:
        raise DataError(
            f"No recording says when it was made; the first is {refs[0].source}. Give the column "
            "of the time (--time COLUMN), put a date such as 2024-05-31_14-30 into the files' "
            "names, or take the time of the files (--time file) or their order (--time order)."
        )
    notes.append(f"The time of a recording is {said}, in UTC where no zone is given.")
    missing = [ref.source for ref, moment in zip(refs, times, strict=True) if moment is None]
    if missing:
        listed = ", ".join(missing[:_LISTED]) + (" and more" if len(missing) > _LISTED else "")
        notes.append(f"{_recordings(len(missing))} no time and left out: {listed}.")
    unset = unset_clocks(known)
    if unset:
        notes.append(
            f"{unset} of the recordings are of a day on which clocks begin that were never set "
            "(such as 2000-01-01): their order to the others is not to be trusted."
        )
    return times


def _best(
    refs: Sequence[RecordingRef], facts: Sequence[Mapping[str, str]]
) -> tuple[str, list[float | None]]:
    """Return the source of times that most recordings have, in words, and the times."""
    candidates = [
        ("the columns date and time", [_joined(fact, "date", "time") for fact in facts]),
        *((f"the column {name}", [_told(fact, name) for fact in facts]) for name in TIME_COLUMNS),
        (
            "that of the instrument",
            [_joined(fact, "instrument_date", "instrument_time") for fact in facts],
        ),
        ("a date in the file's name", [_named(ref) for ref in refs]),
        ("a date in the name of the session", [_session(fact) for fact in facts]),
    ]
    return max(candidates, key=lambda one: sum(moment is not None for moment in one[1]))


def _told(facts: Mapping[str, str], name: str) -> float | None:
    text = facts.get(name, "")
    if is_ambiguous(text):
        raise DataError(
            f"The time '{text}' can mean two days; write dates as 2024-05-31 or 31.05.2024."
        )
    return time_of_text(text) if text else None


def _joined(facts: Mapping[str, str], day: str, clock: str) -> float | None:
    if not facts.get(day) or not facts.get(clock):
        return None
    return time_of_text(f"{facts[day]} {facts[clock]}")


def _session(facts: Mapping[str, str]) -> float | None:
    return time_in_name(facts.get("session", ""))


def _named(ref: RecordingRef) -> float | None:
    return time_in_name(Path(ref.source).stem)


def _changed(ref: RecordingRef) -> float | None:
    try:
        return Path(ref.source).stat().st_mtime
    except OSError:
        return None


def _check_name(
    name: str, facts: Sequence[Mapping[str, str]], what: str, words: Sequence[str]
) -> None:
    names = sorted({known for fact in facts for known in fact})
    if name not in names:
        raise DataError(
            f"No recording has a column or field '{name}' for the {what}; there are "
            f"{', '.join(names) or 'none'}. Also possible: {', '.join(words)}."
        )


def _recordings(count: int) -> str:
    return "1 recording has" if count == 1 else f"{count} recordings have"
