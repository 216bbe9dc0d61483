"""Audit a dataset of parts before training: gaps, leaks between splits, and shortcuts."""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from chiasm.detection.preparation.acquisition import Coverage
from chiasm.detection.preparation.distance import MAX_RATIO, median_distance
from chiasm.detection.readers.opening import lamp_read
from chiasm.detection.readers.source import SampleRef, SampleSource, remarks_of
from chiasm.detection.readers.splits import shared_files
from chiasm.detection.readers.survey import coverage_of_source
from chiasm.files.audit_text import (
    NumberTable,
    Range,
    TrivialScore,
    Watching,
    listing,
    read,
    unwatched_stage,
)
from chiasm.files.content_hash import content_hash
from chiasm.files.readers import without_listing
from chiasm.files.remarks import Remarks
from chiasm.metrics.ranking import auroc
from chiasm.runs.ordered_map import Failure, map_in_order
from chiasm.samples import Problem, RGBDSample

SHORTCUT_AUROC = 0.8


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The findings of an audit.

    Attributes:
        name: the source's name.
        counts: split to kind to number of parts.
        sizes: ``"height x width"`` to number of parts.
        valid_share: mean and smallest share of measured 3D points, or None for RGB-only data.
        distances: range of the parts' median distances along z in metres, or None.
        lamps: numbers of the lamps that the data have; empty where they name none.
        lamp: that the parts were read under.
        background: how a training would tell the part from its background, as a sentence.
        coverage: shares of the frame that would be looked at, of the normal parts; or None.
        problems: of files and rows that the reader left out.
        unreadable: a sentence for each part that could not be loaded.
        duplicates: (split, file, other split, file) of the same path or content.
        divided_groups: groups with parts in several splits; empty if all parts have one group.
        trivial: AUROC of trivial properties on the test split, strongest first.
        warnings: sentences that limit how far figures on the data can be trusted.
    """

    name: str
    counts: dict[str, dict[str, int]]
    sizes: dict[str, int]
    valid_share: tuple[float, float] | None
    distances: tuple[float, float] | None
    lamps: tuple[int, ...]
    lamp: int | str | None
    background: str
    coverage: Coverage | None
    problems: tuple[Problem, ...]
    unreadable: tuple[str, ...]
    duplicates: tuple[tuple[str, str, str, str], ...]
    divided_groups: tuple[str, ...]
    trivial: tuple[TrivialScore, ...]
    warnings: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether all files are readable and complete, and no file or group is in two splits."""
        leaks = self.duplicates or self.divided_groups
        return not (self.problems or self.unreadable or leaks)

    def to_json(self) -> str:
        """Return all fields as an indented JSON object."""
        fields = asdict(self) | {"problems": [str(problem) for problem in self.problems]}
        return json.dumps(fields, indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = [f"Audit of {self.name}", "", "Parts"]
        for split, kinds in self.counts.items():
            numbers = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
            lines.append(f"  {split}: {sum(kinds.values())} ({numbers})")
        sizes = ", ".join(f"{size} ({number})" for size, number in self.sizes.items())
        lines.append(f"Sizes, height x width: {sizes or 'none readable'}")
        if self.valid_share is not None:
            mean, smallest = self.valid_share
            lines.append(f"Measured 3D points: {mean:.1%} on average, {smallest:.1%} at least")
        if self.distances is not None:
            nearest, farthest = self.distances
            lines.append(f"Distance from the camera by z: {nearest:.3g} to {farthest:.3g} m")
        if self.lamps:
            lines.append(f"Lamps: {', '.join(map(str, self.lamps))}; read here: {self.lamp}")
        if self.background:
            lines.append(self.background)
        if self.coverage is not None:
            lines.append(self.coverage.in_words())
        lines += listing("Files without a partner", self.problems)
        lines += listing("Parts that cannot be read", self.unreadable)
        pairs = [f"{a} ({s}) = {b} ({t})" for s, a, t, b in self.duplicates]
        lines += listing("Files in two splits", pairs)
        lines += listing("Groups in several splits", self.divided_groups)
        if self.trivial:
            lines += ["", "Trivial scores on the test split, image-level AUROC"]
            lines += [f"  {score.auroc:.3f}  {score.name}" for score in self.trivial]
        if self.warnings:
            lines += ["", "Warnings", *(f"  - {warning}" for warning in self.warnings)]
        return "\n".join(lines) + "\n"


def audit(
    source: SampleSource, *, workers: int = 1, progress: Watching = unwatched_stage
) -> AuditReport:
    """Load every sample of a source once and report gaps, leaks and shortcuts.

    A faulty sample raises no error: the report lists the fault. Of a sample only its figures are
    kept. The report is the same for any number of workers.

    Args:
        source: of the parts.
        workers: processes that load them.
        progress: hands on the samples of a stage, of which it gets name and number.

    Raises:
        ConfigurationError, ArtifactError: as ``map_in_order``.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for ref in source.refs:
        counts[ref.split or "(no split)"][ref.kind or "(unknown)"] += 1
    sizes: Counter[str] = Counter()
    unreadable: list[str] = []
    shares, distances = Range(), Range()
    rows, labels = NumberTable(), array("b")
    readable: list[SampleRef] = []
    notes = Remarks()
    examined = map_in_order(
        _examine, _reader(source, workers), source.refs, name=_source, workers=workers
    )
    for ref, found in progress("Checking", len(source.refs), examined):
        if isinstance(found, Failure):
            unreadable.append(found.sentence)
            continue
        readable.append(ref)
        notes.add(found.notes)
        sizes[found.size] += 1
        if found.share is not None:
            shares.add(found.share)
        # NaN if none of the few measured points is on the grid that median_distance reads.
        if found.distance is not None and found.distance > 0:
            distances.add(found.distance)
        if found.numbers is not None and ref.label is not None:
            rows.add(found.numbers)
            labels.append(ref.label)
    duplicates = _duplicates(source, unreadable, workers, progress)
    divided = _divided_groups(source.refs)
    trivial = _trivial(rows, labels)
    background, coverage, faults = coverage_of_source(source, readable)
    return AuditReport(
        name=source.name,
        counts={split: dict(sorted(kinds.items())) for split, kinds in counts.items()},
        sizes=dict(sizes.most_common()),
        valid_share=(shares.mean, shares.smallest) if shares.count else None,
        distances=(distances.smallest, distances.largest) if distances.count else None,
        lamps=source.lamps,
        lamp=lamp_read(source.refs, None),
        background=background,
        coverage=coverage,
        problems=source.problems,
        unreadable=tuple(unreadable),
        duplicates=duplicates,
        divided_groups=divided,
        trivial=trivial,
        warnings=remarks_of(source)
        + tuple(_warnings(source.refs, labels, sizes, duplicates, divided, trivial))
        + tuple(_distance_warnings(distances))
        + faults
        + tuple(notes.in_words()),
    )


@dataclass(frozen=True, slots=True)
class _Examined:
    """What a report needs of one part: nothing that grows with its pixels."""

    size: str
    share: float | None
    distance: float | None
    numbers: dict[str, float] | None
    notes: tuple[str, ...]


def _examine(source: SampleSource, ref: SampleRef) -> _Examined:
    sample = read(source.load, ref)
    return _Examined(
        size=" x ".join(map(str, sample.valid.shape)),
        share=None if sample.xyz is None else float(sample.valid.mean()),
        distance=None if sample.xyz is None else median_distance(sample.xyz),
        numbers=trivial_scores(ref, sample) if ref.split == "test" else None,
        notes=sample.notes,
    )


def _source(ref: SampleRef) -> str:
    return ref.source


def _reader(source: SampleSource, workers: int) -> SampleSource:
    """Return what loads the parts: in other processes, a reader without its listing."""
    reader: SampleSource = source if workers == 1 else without_listing(source)
    return reader


def _duplicates(
    source: SampleSource, unreadable: list[str], workers: int, progress: Watching
) -> tuple[tuple[str, str, str, str], ...]:
    lists: dict[str, list[SampleRef]] = defaultdict(list)
    for ref in source.refs:
        lists[ref.split or "(no split)"].append(ref)

    def hashes(paths: Sequence[str]) -> Iterator[str | None]:
        hashed = map_in_order(_hash, None, paths, name=str, workers=workers)
        for path, found in progress("Comparing splits", len(paths), hashed):
            if isinstance(found, Failure):
                unreadable.append(f"{path} was not compared with other splits. {found.sentence}")
            yield None if isinstance(found, Failure) else found

    return tuple(shared_files(lists, hashes))


def _hash(_: None, path: str) -> str:
    return content_hash([path])


def _divided_groups(refs: tuple[SampleRef, ...]) -> tuple[str, ...]:
    splits: dict[str, set[str]] = defaultdict(set)
    for ref in refs:
        if ref.group:
            splits[ref.group].add(ref.split)
    # A single group is the category, which all splits of a benchmark share.
    if len(splits) < 2:
        return ()
    return tuple(sorted(group for group, members in splits.items() if len(members) > 1))


def _trivial(rows: NumberTable, labels: array[int]) -> tuple[TrivialScore, ...]:
    if len(set(labels)) < 2:
        return ()
    scores = (TrivialScore(name, auroc(values, labels)) for name, values in rows.shared())
    return tuple(sorted(scores, key=lambda score: (-score.strength, score.name)))


def _warnings(
    refs: tuple[SampleRef, ...],
    labels: array[int],
    sizes: Counter[str],
    duplicates: tuple[tuple[str, str, str, str], ...],
    divided: tuple[str, ...],
    trivial: tuple[TrivialScore, ...],
) -> list[str]:
    warnings = []
    for score in trivial:
        if score.strength > SHORTCUT_AUROC:
            side = "larger" if score.auroc > 0.5 else "smaller"
            warnings.append(
                f"Shortcut: {score.name} alone tells good from defective with AUROC "
                f"{score.strength:.3f} ({side} in defective parts)."
            )
    if warnings:
        warnings.append(
            f"So a detector may separate these {labels.count(0)} good and {labels.count(1)} "
            "defective test parts without seeing a defect: remove the background, and trust "
            "pixel-level figures more than image-level ones."
        )
    if not any(ref.split == "train" and ref.label == 0 for ref in refs):
        warnings.append("No good part to train on: the train split has none labelled good.")
    if len(set(labels)) < 2:
        warnings.append(
            "The test split has no readable parts of both classes, so neither shortcuts nor "
            "accuracy can be measured."
        )
    if duplicates:
        warnings.append(
            f"{len(duplicates)} files stand in two splits; figures on them would be worthless."
        )
    if divided:
        warnings.append(
            f"{len(divided)} groups stand in several splits, so parts of one session or batch are "
            "used for training and for testing."
        )
    if len(sizes) > 1:
        warnings.append(f"Parts come in {len(sizes)} image sizes; check that one camera took them.")
    return warnings


def _distance_warnings(distances: Range) -> list[str]:
    if not distances.count or distances.largest <= MAX_RATIO * distances.smallest:
        return []
    return [
        f"Parts lie {distances.smallest:.3g} to {distances.largest:.3g} m from the camera; are "
        "some of them in another unit?"
    ]


# Only the sensors' files: the size of a mask file depends on the label by design.
_SIZED_ROLES = ("rgb", "xyz", "depth")


def trivial_scores(ref: SampleRef, sample: RGBDSample) -> dict[str, float]:
    """Compute the trivial scores of a sample by name, e.g. its mean brightness.

    Such a score knows nothing of defects, so that a detector must beat it. Colours and shares are
    in [0, 1], depth in metres, files in bytes; scores of a missing modality are left out.
    """
    scores = {
        f"size of the {role} file": float(ref.files[role].stat().st_size)
        for role in _SIZED_ROLES
        if role in ref.files and Path(ref.files[role]).is_file()
    }
    scores["number of pixels"] = float(sample.valid.size)
    if sample.rgb is not None:
        scores["mean brightness"] = float(sample.rgb.mean(dtype=np.float64))
        scores["spread of brightness"] = float(sample.rgb.mean(axis=2).std(dtype=np.float64))
        channels = sample.rgb.mean(axis=(0, 1), dtype=np.float64)
        scores |= {f"mean {c}": float(v) for c, v in zip(("red", "green", "blue"), channels)}
    if sample.xyz is not None:
        scores["share of missing points"] = float(1 - sample.valid.mean())
        if sample.valid.any():
            depth = sample.xyz[..., 2][sample.valid]
            scores["mean depth"] = float(depth.mean(dtype=np.float64))
            scores["spread of depth"] = float(depth.std(dtype=np.float64))
    return scores
