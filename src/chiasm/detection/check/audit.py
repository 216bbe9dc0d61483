"""Audit a dataset of parts before training: gaps, leaks between splits, and shortcuts."""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.detection.check.findings import (
    calibration_finding,
    cautions,
    chance_in_words,
    distance_cautions,
    in_words,
    side_in_words,
    trivial_ranking,
)
from chiasm.detection.check.part_measures import PartMeasures, measure_part
from chiasm.detection.check.part_statistics import (
    ANOTHER_SIZE,
    PartStatistics,
    statistics_of,
)
from chiasm.detection.preparation.acquisition import Coverage, coverage_of
from chiasm.detection.preparation.distance import median_distance
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.readers.opening import lamp_read
from chiasm.detection.readers.source import SampleRef, SampleSource, remarks_of
from chiasm.detection.readers.splits import shared_files
from chiasm.detection.readers.survey import PARTS_MEASURED, survey_of_source
from chiasm.files.audit_text import (
    Finding,
    NumberTable,
    Range,
    TrivialScore,
    Watching,
    listing,
    read,
    stratified,
    unwatched_stage,
)
from chiasm.files.content_hash import content_hash
from chiasm.files.headers import check_ends
from chiasm.files.readers import without_listing
from chiasm.files.remarks import Remarks
from chiasm.runs.ordered_map import Failure, map_in_order
from chiasm.samples import Problem, RGBDSample

SAMPLE = 1_000  # parts whose pixels a check reads; of larger data a random sample
NAMED = 20  # parts that a finding lists as JSON


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
        read: parts whose pixels were read; of the others names, sizes and the ends of files.
        settings: of a preparation as a training would choose it; None where no part is seen.
        statistics: what a training will see, from a sample of the parts read; or None.
        calibration: how many good parts calibrate, and what they can promise, as a sentence.
        problems: of files and rows that the reader left out.
        unreadable: a sentence for each part that could not be loaded.
        duplicates: (split, file, other split, file) of the same path or content.
        divided_groups: groups with parts in several splits; empty if all parts have one group.
        trivial: AUROC of trivial properties on the test split, strongest first.
        cautions: what limits how far figures on the data can be trusted.
        findings: what a training will see and should not.
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
    read: int
    settings: PreparationSettings | None
    statistics: PartStatistics | None
    calibration: str
    problems: tuple[Problem, ...]
    unreadable: tuple[str, ...]
    duplicates: tuple[tuple[str, str, str, str], ...]
    divided_groups: tuple[str, ...]
    trivial: tuple[TrivialScore, ...]
    cautions: tuple[Finding, ...]
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that limit how far figures on the data can be trusted."""
        return tuple(map(str, self.cautions))

    @property
    def parts(self) -> int:
        """Number of parts that the source lists."""
        return sum(sum(kinds.values()) for kinds in self.counts.values())

    @property
    def sound(self) -> bool:
        """Whether all files are readable and complete, and no file or group is in two splits."""
        leaks = self.duplicates or self.divided_groups
        return not (self.problems or self.unreadable or leaks)

    def to_json(self) -> str:
        """Return all fields as an indented JSON object."""
        fields = asdict(self) | {
            "problems": [str(problem) for problem in self.problems],
            "warnings": self.warnings,
        }
        for finding in fields["findings"]:
            finding["sources"] = finding["sources"][:NAMED]
        if fields["statistics"] is not None:
            del fields["statistics"]["distributions"], fields["statistics"]["findings"]
        return json.dumps(fields, indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = [f"Audit of {self.name}", "", "Parts"]
        for split, kinds in self.counts.items():
            numbers = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
            lines.append(f"  {split}: {sum(kinds.values())} ({numbers})")
        if self.read < self.parts:
            lines.append(
                f"The pixels of {self.read:,} of {self.parts:,} parts were read: a random sample "
                "of every split and kind. Of the others, names and the ends of files were checked "
                "(--sample 0 reads all)."
            )
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
        if self.statistics is not None:
            lines += self.statistics.in_words()
        if self.calibration and all(f.sentence != self.calibration for f in self.findings):
            lines.append(self.calibration)
        lines += listing("Files without a partner", self.problems)
        lines += listing("Parts that cannot be read", self.unreadable)
        pairs = [f"{a} ({s}) = {b} ({t})" for s, a, t, b in self.duplicates]
        lines += listing("Files in two splits", pairs)
        lines += listing("Groups in several splits", self.divided_groups)
        if self.trivial:
            lines += [
                "",
                "Trivial scores on the test split, image-level AUROC in the direction given",
            ]
            lines += [
                f"  {score.strength:.3f}  {score.name}, {side_in_words(score)}"
                f"{chance_in_words(score)}"
                for score in self.trivial
            ]
        if self.warnings or self.findings:
            findings = [*self.warnings, *map(in_words, self.findings)]
            lines += ["", "Warnings", *(f"  - {warning}" for warning in findings)]
        return "\n".join(lines) + "\n"


def audit(
    source: SampleSource,
    *,
    workers: int = 1,
    sample: int = SAMPLE,
    progress: Watching = unwatched_stage,
) -> AuditReport:
    """Check every part of a source, read a sample of them, and report gaps, leaks and shortcuts.

    A faulty sample raises no error: the report lists the fault. Of a sample only its figures are
    kept. The report is the same for any number of workers.

    Args:
        source: of the parts.
        workers: processes that load them.
        sample: parts, about, whose pixels are read, drawn from every split and kind; 0 reads all.
        progress: hands on the samples of a stage, of which it gets name and number.

    Raises:
        ConfigurationError, ArtifactError: as ``map_in_order``.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for ref in source.refs:
        counts[ref.split or "(no split)"][ref.kind or "(unknown)"] += 1
    sizes: Counter[str] = Counter()
    faults: dict[str, str] = {}  # of parts by source
    shares, distances = Range(), Range()
    rows, labels = NumberTable(), array("b")
    readable: list[SampleRef] = []
    notes = Remarks()
    reader = _reader(source, workers)
    strata = [(ref.split, ref.kind) for ref in source.refs]
    drawn = stratified(strata, sample or len(strata))
    chosen = [source.refs[position] for position in drawn]
    examined = map_in_order(_examine, reader, chosen, name=_source, workers=workers)
    for ref, found in progress("Checking", len(chosen), examined):
        if isinstance(found, Failure):
            faults[ref.source] = found.sentence
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
    others = [source.refs[i] for i in sorted({*range(len(strata))} - set(drawn))]
    checked = map_in_order(_check_ends, None, others, name=_source, workers=workers)
    if others:
        for ref, ends in progress("Checking files", len(others), checked):
            if isinstance(ends, Failure):
                faults[ref.source] = ends.sentence
            elif ends is not None:
                sizes[" x ".join(map(str, ends))] += 1
    unreadable = [faults[ref.source] for ref in source.refs if ref.source in faults]
    duplicates = _duplicates(source, unreadable, workers, progress)
    divided = _divided_groups(source.refs)
    trivial = trivial_ranking(rows, labels)
    background, coverage, settings, statistics, faulty = _statistics(
        source, readable, reader, workers, progress
    )
    calibration = calibration_finding(source.refs)
    findings = [] if statistics is None else list(statistics.findings)
    if coverage is not None and coverage.warning:
        faulty = (*faulty, Finding("look", "Masks differ", coverage.warning))
        findings = [finding for finding in findings if finding.title != ANOTHER_SIZE]
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
        read=len(chosen),
        settings=settings,
        statistics=statistics,
        calibration="" if calibration is None else calibration.sentence,
        problems=source.problems,
        unreadable=tuple(unreadable),
        duplicates=duplicates,
        divided_groups=divided,
        trivial=trivial,
        cautions=(
            *(Finding("know", "On reading", remark) for remark in remarks_of(source)),
            *cautions(source.refs, labels, sizes, duplicates, divided, trivial),
            *distance_cautions(distances),
            *faulty,
            *(Finding("know", "On reading", note) for note in notes.in_words()),
        ),
        findings=tuple(
            finding
            for finding in (calibration, *findings)
            if finding is not None and finding.level != "know"
        ),
    )


def _statistics(
    source: SampleSource,
    readable: Sequence[SampleRef],
    reader: SampleSource,
    workers: int,
    progress: Watching,
) -> tuple[
    str, Coverage | None, PreparationSettings | None, PartStatistics | None, tuple[Finding, ...]
]:
    """Measure a sample of the readable parts as a training with default settings would see them.

    Returns how the part is told from its background, the shares of the frame of good parts,
    settings, statistics, and why there are none.
    """
    background, settings, cautions = survey_of_source(source, readable)
    if settings is None:
        return background, None, None, None, cautions
    drawn = stratified([(ref.split, ref.kind) for ref in readable], PARTS_MEASURED)
    refs = [readable[position] for position in drawn]
    found = map_in_order(_measure, (reader, settings), refs, name=_source, workers=workers)
    measures = [
        measured
        for _, measured in progress("Measuring", len(refs), found)
        if not isinstance(measured, Failure)
    ]
    usual = [m for m in measures if m.split == "train" and m.label == 0]
    usual = usual or [m for m in measures if m.label != 1]
    coverage = coverage_of({m.source: m.share for m in usual if not m.fault})
    return background, coverage, settings, statistics_of(measures, size=settings.size), cautions


def _measure(shared: tuple[Any, PreparationSettings], ref: SampleRef) -> PartMeasures:
    reader, settings = shared
    return measure_part(read(reader.load, ref), settings)


def _check_ends(_: None, ref: SampleRef) -> tuple[int, int] | None:
    """Check the ends of a part's files; return the frame's size where they tell it."""
    sizes = [check_ends(path) for path in dict.fromkeys(ref.files.values())]
    return next((size for size in sizes if size is not None), None)


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


# Only the sensors' files: the size of a mask file depends on the label by design.
_SIZED_ROLES = ("rgb", "xyz", "depth")


def trivial_scores(ref: SampleRef, sample: RGBDSample) -> dict[str, float]:
    """Compute the trivial scores of a sample by name, e.g. its mean brightness.

    Such a score knows nothing of defects, so that a detector must beat it: pixels that are
    labelled defective are left out. Colours and shares are in [0, 1], depth in metres, files in
    bytes; scores of a missing modality are left out.
    """
    scores = {
        f"size of the {role} file": float(ref.files[role].stat().st_size)
        for role in _SIZED_ROLES
        if role in ref.files and Path(ref.files[role]).is_file()
    }
    scores["number of pixels"] = float(sample.valid.size)
    sound = np.ones_like(sample.valid) if sample.mask is None else ~sample.mask
    if not sound.any():
        sound = np.ones_like(sample.valid)
    if sample.rgb is not None:
        colours = sample.rgb[sound]  # (pixels, 3)
        scores["mean brightness"] = float(colours.mean(dtype=np.float64))
        scores["spread of brightness"] = float(colours.mean(axis=1).std(dtype=np.float64))
        channels = colours.mean(axis=0, dtype=np.float64)
        scores |= {f"mean {c}": float(v) for c, v in zip(("red", "green", "blue"), channels)}
    if sample.xyz is not None:
        scores["share of missing points"] = float(1 - sample.valid[sound].mean())
        measured = sample.valid & sound
        if measured.any():
            depth = sample.xyz[..., 2][measured]
            scores["mean depth"] = float(depth.mean(dtype=np.float64))
            scores["spread of depth"] = float(depth.std(dtype=np.float64))
    return scores
