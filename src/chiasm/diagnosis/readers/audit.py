"""Audit recordings before training: gaps, copies and shortcuts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from chiasm.diagnosis.readers.source import RecordingRef, RecordingSource
from chiasm.files.audit_text import (
    Finding,
    NumberTable,
    TrivialScore,
    Watching,
    listing,
    read,
    unwatched_stage,
)
from chiasm.files.readers import without_listing
from chiasm.metrics.permutation import chance_of_separation
from chiasm.metrics.ranking import auroc
from chiasm.runs.ordered_map import Failure, map_in_order
from chiasm.samples import Problem, RecordingSample

SHORTCUT_AUROC = 0.9
BY_CHANCE = 0.05  # above it, chance explains a shortcut

# One each for training, validation and test.
MINIMUM_SESSIONS = 3


@dataclass(frozen=True, slots=True)
class ClassShortcut(TrivialScore):
    """How well one number that ignores the pattern separates one class from the others.

    Attributes:
        kind: the class that it separates best; ``auroc`` is of that class against all others.
    """

    kind: str = ""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of an audit of recordings.

    Attributes:
        name: the source's name.
        counts: class to kind of grouping to number of groups; ``"recordings"`` counts recordings.
        parts: ``"image and series"``, ``"image"`` or ``"series"`` to number of recordings.
        lengths: cycles of the series to number of recordings.
        problems: what the reader left out or repaired.
        unreadable: a sentence for each recording that could not be loaded.
        copies: pairs of recordings with the same content that are not of one session.
        shortcuts: each number with the class that it separates best, strongest first.
        cautions: what makes figures of these recordings unreliable.
        distributions: numbers of the recordings by title, for plots.
    """

    name: str
    counts: dict[str, dict[str, int]]
    parts: dict[str, int]
    lengths: dict[str, int]
    problems: tuple[Problem, ...]
    unreadable: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]
    shortcuts: tuple[ClassShortcut, ...]
    cautions: tuple[Finding, ...]
    distributions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what makes figures of these recordings unreliable."""
        return tuple(map(str, self.cautions))

    @property
    def recordings(self) -> int:
        """Number of recordings that the source lists."""
        return sum(counts["recordings"] for counts in self.counts.values())

    @property
    def sound(self) -> bool:
        """Whether every recording can be read and none is a copy of another session's."""
        left_out = any(problem.left_out for problem in self.problems)
        return not (left_out or self.unreadable or self.copies)

    def problem_lists(self) -> dict[str, list[str]]:
        """Return the sentences of the problems below their titles; both may be empty."""
        return {
            "Left out": [p.sentence for p in self.problems if p.left_out],
            "Assumed or repaired": [p.sentence for p in self.problems if not p.left_out],
        }

    def to_json(self) -> str:
        """Return all fields as an indented JSON object."""
        fields = asdict(self) | {"warnings": self.warnings}
        del fields["distributions"]
        return json.dumps(fields, indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = [f"Audit of {self.name}", "", "Recordings"]
        for kind, counts in self.counts.items():
            groups = ", ".join(f"{n} {by}" for by, n in counts.items() if by != "recordings")
            lines.append(f"  {kind}: {counts['recordings']}" + (f" ({groups})" if groups else ""))
        lines.append("With " + ", ".join(f"{parts} ({n})" for parts, n in self.parts.items()))
        lengths = ", ".join(f"{length} ({n})" for length, n in self.lengths.items())
        lines.append(f"Mains cycles of the series: {lengths or 'no series'}")
        for title, problems in self.problem_lists().items():
            lines += listing(title, problems)
        lines += listing("Recordings that cannot be read", self.unreadable)
        lines += listing("Copies in other sessions", [f"{a} = {b}" for a, b in self.copies])
        if self.shortcuts:
            lines += ["", "AUROC of one number for one class"]
            lines += [
                f"  {s.auroc:.3f}  {s.name}, {s.kind}{_chance_in_words(s)}" for s in self.shortcuts
            ]
        if self.warnings:
            lines += ["", "Warnings", *(f"  - {warning}" for warning in self.warnings)]
        return "\n".join(lines) + "\n"


def audit(
    source: RecordingSource, *, workers: int = 1, progress: Watching = unwatched_stage
) -> AuditReport:
    """Load every recording of a source once and return the report.

    A faulty recording raises nothing: the report lists its fault. Of a recording only its figures
    are kept. The report is the same for any number of workers.

    Args:
        source: of the recordings.
        workers: processes that load them; a converted store is read by this one.
        progress: hands on the recordings of a stage, of which it gets name and number.

    Raises:
        ConfigurationError, ArtifactError: as ``map_in_order``.
    """
    unreadable: list[str] = []
    parts: Counter[str] = Counter()
    lengths: Counter[str] = Counter()
    first: dict[bytes, int] = {}
    copies: list[tuple[str, str]] = []
    repairs: list[Problem] = []
    rows, kinds = NumberTable(), []
    sessions: list[str] = []
    reader: RecordingSource | None = source
    if workers > 1 and (reader := without_listing(source)) is None:
        reader, workers = source, 1  # it loads by its index, and needs no parsing
    examined = map_in_order(_examine, reader, source.refs, name=_source, workers=workers)
    watched = progress("Checking", len(source.refs), examined)
    for number, (ref, found) in enumerate(watched):
        if isinstance(found, Failure):
            unreadable.append(found.sentence)
            continue
        parts[found.parts] += 1
        if found.cycles:
            lengths[found.cycles] += 1
        repairs += found.repairs
        other = source.refs[first.setdefault(found.content, number)]
        if other is not ref and not _same_session(other, ref):
            copies.append((other.source, ref.source))
        if ref.label is not None:
            rows.add(found.numbers)
            kinds.append(ref.kind)
            sessions.append(ref.group.get("session") or ref.source)
    counts = _counts(source)
    shortcuts = _shortcuts(rows, kinds, sessions)
    return AuditReport(
        name=source.name,
        counts=counts,
        parts=dict(parts.most_common()),
        lengths=dict(lengths.most_common()),
        problems=tuple(dict.fromkeys((*source.problems, *repairs))),
        unreadable=tuple(unreadable),
        copies=tuple(copies),
        shortcuts=shortcuts,
        cautions=tuple(_cautions(counts, parts, copies, shortcuts)),
        distributions={name: tuple(values) for name, values in rows.shared() if "file" not in name},
    )


@dataclass(frozen=True, slots=True)
class _Examined:
    """What a report needs of one recording."""

    parts: str
    cycles: str
    content: bytes
    numbers: dict[str, float]
    repairs: tuple[Problem, ...]


def _examine(source: RecordingSource, ref: RecordingRef) -> _Examined:
    sample = read(source.load, ref)
    present = [name for name in ("image", "series") if getattr(sample, name) is not None]
    cycles = ""
    if sample.series is not None:
        cycles = f"{sample.series.shape[1] / sample.samples_per_cycle:g}"
    return _Examined(
        parts=" and ".join(present),
        cycles=cycles,
        content=_content(sample),
        numbers=trivial_numbers(sample, _files(ref)),
        repairs=source.repairs(ref),
    )


def _source(ref: RecordingRef) -> str:
    return ref.source


def _content(sample: RecordingSample) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in (sample.image, sample.series):
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
        digest.update(b"|")
    return digest.digest()


def _same_session(a: RecordingRef, b: RecordingRef) -> bool:
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


def _shortcuts(
    rows: NumberTable, kinds: Sequence[str], sessions: Sequence[str]
) -> tuple[ClassShortcut, ...]:
    classes, class_of = np.unique(np.asarray(kinds, dtype=object), return_inverse=True)
    if len(classes) < 2:
        return ()
    shortcuts = []
    table = dict(sorted(rows.shared()))
    chances = _chances(table, class_of, sessions)
    for position, (name, values) in enumerate(table.items()):
        by_class = [
            ClassShortcut(
                name,
                auroc(values, class_of == number),
                float(min(1.0, len(classes) * chances[number][position])),
                kind,
            )
            for number, kind in enumerate(classes)
        ]
        shortcuts.append(max(by_class, key=lambda shortcut: shortcut.strength))
    return tuple(sorted(shortcuts, key=lambda shortcut: (-shortcut.strength, shortcut.name)))


def _chances(
    table: Mapping[str, Sequence[float]], class_of: np.ndarray, sessions: Sequence[str]
) -> list[np.ndarray]:
    """Return for each class the chance of each number's separation, with sessions as the units.

    Recordings of one session are near copies, so that a session counts once, with its medians.
    """
    units: dict[tuple[int, str], list[int]] = defaultdict(list)
    for position, (label, session) in enumerate(zip(class_of, sessions, strict=True)):
        units[int(label), session].append(position)
    medians = np.array(
        [
            [np.median([values[position] for position in unit]) for unit in units.values()]
            for values in table.values()
        ]
    ).reshape(len(table), len(units))
    labels = np.array([label for label, _ in units])
    return [chance_of_separation(medians, labels == k) for k in range(int(class_of.max()) + 1)]


def _chance_in_words(shortcut: ClassShortcut) -> str:
    if shortcut.strength <= SHORTCUT_AUROC or not shortcut.chance > BY_CHANCE:
        return ""
    return f" (as strong by chance in {shortcut.chance:.0%} of cases with so few sessions)"


def _cautions(
    counts: dict[str, dict[str, int]],
    parts: Counter[str],
    copies: Sequence[tuple[str, str]],
    shortcuts: Sequence[ClassShortcut],
) -> Iterator[Finding]:
    """Yield what makes figures of these recordings unreliable."""
    for shortcut in shortcuts:
        if shortcut.strength <= SHORTCUT_AUROC:
            continue
        if shortcut.chance > BY_CHANCE:
            yield Finding(
                "know",
                "Too few sessions to tell a shortcut",
                f"{shortcut.name[0].upper()}{shortcut.name[1:]} alone separates {shortcut.kind} "
                f"with AUROC {shortcut.strength:.3f}, but with so few sessions chance does as much "
                f"in {shortcut.chance:.0%} of cases.",
                "Record more sessions of each class.",
            )
        else:
            side = "larger" if shortcut.auroc > 0.5 else "smaller"
            yield Finding(
                "look",
                f"Shortcut: {shortcut.name}",
                f"Shortcut: {shortcut.name} alone separates {shortcut.kind} from the other classes "
                f"with AUROC {shortcut.strength:.3f} ({side} for {shortcut.kind}).",
                "Find out whether another recorder, gain or file format came with that class.",
            )
    labelled = {kind: n for kind, n in counts.items() if kind != "(unknown)"}
    if not labelled:
        yield Finding(
            "know",
            "No class is named",
            "No recording names its class: these can be diagnosed, but no classifier can be "
            "trained or evaluated on them.",
            "To train, put the files of each fault into a folder of its name, or name it in the "
            "column 'kind' of a table.",
        )
    elif len(labelled) < 2:
        yield Finding(
            "wrong",
            "Too few classes",
            f"A classifier needs at least two labelled classes; here is {next(iter(labelled))} "
            "alone.",
        )
    if not all("session" in n for n in labelled.values()):
        yield Finding(
            "look",
            "Recordings without a session",
            "Some recordings name no session, so that near copies can stand on both sides of a "
            "split: figures will be too good.",
            "Put the files of each session into a folder of its own below that of the class, or "
            "name it in the column 'session' of a table. Without sessions, training needs "
            "split_by=random.",
        )
    for kind, n in labelled.items():
        if n.get("session", MINIMUM_SESSIONS) < MINIMUM_SESSIONS:
            yield Finding(
                "wrong",
                f"Few sessions of {kind}",
                f"{kind} has {n['session']} session{'s' * (n['session'] > 1)}; training, "
                f"validation and test need {MINIMUM_SESSIONS} at least.",
                f"Record more sessions, or train without this class: left_out={kind}.",
            )
    if copies:
        yield Finding(
            "wrong",
            "Copies",
            f"{len(copies)} recordings are copies of a recording of another session or class.",
            "Keep one of each pair.",
        )
    if len(parts) > 1:
        yield Finding(
            "know",
            "Recordings of one sensor",
            "Some recordings lack their image or their series.",
        )


_ROLES = {"series": "size of the series' file", "image": "size of the picture's file"}


def trivial_numbers(
    sample: RecordingSample, files: Mapping[str, Path] | None = None
) -> dict[str, float]:
    """Return the trivial numbers of the modalities that a recording has.

    Amplitudes are in the recorder's counts, brightness in [0, 1], file sizes in bytes.
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
