"""Look at recordings before anything is trained on them: gaps, copies and shortcuts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from chiasm.diagnosis.readers.source import LEFT_OUT, RecordingRef, RecordingSource
from chiasm.errors import DataError
from chiasm.files.audit_text import TrivialScore, listed
from chiasm.metrics.ranking import auroc
from chiasm.samples import RecordingSample

SHORTCUT_AUROC = 0.9

# Training, validation and test need one each.
LEAST_SESSIONS = 3


@dataclass(frozen=True, slots=True)
class ClassShortcut(TrivialScore):
    """How well one number that knows nothing of patterns tells one class from the others.

    Attributes:
        kind: the class that it tells best; ``auroc`` is of that class against all others.
    """

    kind: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit of recordings found.

    Attributes:
        name: the source's name.
        counts: class to kind of grouping to number of groups; ``"recordings"`` counts recordings.
        parts: ``"image and series"``, ``"image"`` or ``"series"`` to number of recordings.
        lengths: cycles of the series to number of recordings.
        problems: what the reader left out or repaired, in sentences.
        unreadable: a sentence for each recording that could not be loaded.
        copies: pairs of recordings with the same content that are not of one session.
        shortcuts: one number each and the class that it tells best, strongest first.
        warnings: what a reader must know before trusting a figure, in sentences.
    """

    name: str
    counts: dict[str, dict[str, int]]
    parts: dict[str, int]
    lengths: dict[str, int]
    problems: tuple[str, ...]
    unreadable: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]
    shortcuts: tuple[ClassShortcut, ...]
    warnings: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether every recording can be read and none is a copy of another session's."""
        absent = any(sentence.endswith(LEFT_OUT) for sentence in self.problems)
        return not (absent or self.unreadable or self.copies)

    def to_json(self) -> str:
        """Return all fields as an indented JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = [f"Audit of {self.name}", "", "Recordings"]
        for kind, found in self.counts.items():
            groups = ", ".join(f"{n} {by}" for by, n in found.items() if by != "recordings")
            lines.append(f"  {kind}: {found['recordings']}" + (f" ({groups})" if groups else ""))
        lines.append("With " + ", ".join(f"{what} ({n})" for what, n in self.parts.items()))
        lengths = ", ".join(f"{length} ({n})" for length, n in self.lengths.items())
        lines.append(f"Mains cycles of the series: {lengths or 'none readable'}")
        lines += listed("Left out or repaired", self.problems)
        lines += listed("Recordings that cannot be read", self.unreadable)
        lines += listed("Copies in other sessions", [f"{a} = {b}" for a, b in self.copies])
        if self.shortcuts:
            lines += ["", "One number against one class, AUROC"]
            lines += [f"  {s.auroc:.3f}  {s.name}, {s.kind}" for s in self.shortcuts]
        if self.warnings:
            lines += ["", "Warnings", *(f"  - {warning}" for warning in self.warnings)]
        return "\n".join(lines) + "\n"


def audit(source: RecordingSource) -> AuditReport:
    """Load every recording of a source once and report what is in it.

    Never raises for a faulty recording: the fault is listed and the audit goes on.
    """
    unreadable: list[str] = []
    parts: Counter[str] = Counter()
    lengths: Counter[str] = Counter()
    first: dict[bytes, RecordingRef] = {}
    copies: list[tuple[str, str]] = []
    rows: list[dict[str, float]] = []
    kinds: list[str] = []
    for ref in source.refs:
        try:
            sample = source.load(ref)
        except DataError as error:
            unreadable.append(str(error))
            continue
        there = [name for name in ("image", "series") if getattr(sample, name) is not None]
        parts[" and ".join(there)] += 1
        if sample.series is not None:
            lengths[f"{sample.series.shape[1] / ref.samples_per_cycle:g}"] += 1
        other = first.setdefault(_content(sample), ref)
        if other is not ref and not _one_session(other, ref):
            copies.append((other.source, ref.source))
        if ref.label is not None:
            rows.append(trivial_numbers(sample, _files(ref)))
            kinds.append(ref.kind)
    counts = _counts(source)
    shortcuts = _shortcuts(rows, kinds)
    return AuditReport(
        name=source.name,
        counts=counts,
        parts=dict(parts.most_common()),
        lengths=dict(lengths.most_common()),
        problems=tuple(source.problems),
        unreadable=tuple(unreadable),
        copies=tuple(copies),
        shortcuts=shortcuts,
        warnings=tuple(_warnings(counts, parts, copies, shortcuts)),
    )


def _content(sample: RecordingSample) -> bytes:
    whole = hashlib.sha256()
    for array in (sample.image, sample.series):
        whole.update(b"" if array is None else np.ascontiguousarray(array).data)
        whole.update(b"|")
    return whole.digest()


def _one_session(a: RecordingRef, b: RecordingRef) -> bool:
    name = a.group.get("session")
    return name is not None and name == b.group.get("session") and a.label == b.label


def _files(ref: RecordingRef) -> dict[str, Path]:
    return {role: Path(path) for role, path in ref.files.items()}


def _counts(source: RecordingSource) -> dict[str, dict[str, int]]:
    groups: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    recordings = Counter(ref.kind or "(unknown)" for ref in source.refs)
    for ref in source.refs:
        for by, name in ref.group.items():
            groups[ref.kind or "(unknown)"][by].add(name)
    return {
        kind: {"recordings": n} | {by: len(names) for by, names in sorted(groups[kind].items())}
        for kind, n in sorted(recordings.items())
    }


def _shortcuts(rows: Sequence[dict[str, float]], kinds: Sequence[str]) -> tuple[ClassShortcut, ...]:
    classes = sorted(set(kinds))
    if len(classes) < 2:
        return ()
    found = []
    for name in sorted(set.intersection(*(set(row) for row in rows))):
        values = [row[name] for row in rows]
        each = [ClassShortcut(name, auroc(values, [int(one == k) for one in kinds]), k)
                for k in classes]  # fmt: skip
        found.append(max(each, key=lambda one: one.strength))
    return tuple(sorted(found, key=lambda one: (-one.strength, one.name)))


def _warnings(
    counts: dict[str, dict[str, int]],
    parts: Counter[str],
    copies: Sequence[tuple[str, str]],
    shortcuts: Sequence[ClassShortcut],
) -> list[str]:
    found = []
    for one in shortcuts:
        if one.strength > SHORTCUT_AUROC:
            side = "larger" if one.auroc > 0.5 else "smaller"
            found.append(
                f"Shortcut: {one.name} alone tells {one.kind} from the rest with AUROC "
                f"{one.strength:.3f} ({side} there)."
            )
    labelled = {kind: n for kind, n in counts.items() if kind != "(unknown)"}
    if len(labelled) < 2:
        found.append("A classifier needs at least two labelled classes.")
    if not all("session" in n for n in labelled.values()):
        found.append(
            "Some recordings name no session, so that copies of one session cannot be kept on one "
            "side of a split: figures will flatter."
        )
    for kind, n in labelled.items():
        if n.get("session", LEAST_SESSIONS) < LEAST_SESSIONS:
            found.append(
                f"{kind} has {n['session']} session{'s' * (n['session'] > 1)}; training, "
                f"validation and test need {LEAST_SESSIONS} at least."
            )
    if copies:
        found.append(f"{len(copies)} recordings are copies of one of another session or class.")
    if len(parts) > 1:
        found.append("Some recordings lack their image or their series.")
    return found


_ROLES = {"series": "size of the series' file", "image": "size of the picture's file"}


def trivial_numbers(
    sample: RecordingSample, files: Mapping[str, Path] | None = None
) -> dict[str, float]:
    """Return the numbers that anyone can read off a recording, those of absent parts left out.

    Amplitudes in the recorder's counts, brightness in [0, 1], files in bytes.
    """
    numbers: dict[str, float] = {}
    if sample.series is not None:
        numbers["mean of the series"] = float(sample.series.mean(dtype=np.float64))
        numbers["maximum of the series"] = float(sample.series.max())
    if sample.image is not None:
        numbers["brightness of the picture"] = float(sample.image.mean(dtype=np.float64))
    for role, name in _ROLES.items():
        path = (files or {}).get(role)
        if path is not None and Path(path).is_file():
            numbers[name] = float(Path(path).stat().st_size)
    return numbers
