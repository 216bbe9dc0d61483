"""Sentences of the audit of parts: what limits trust in figures, what a calibration promises."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from chiasm.detection.config import DetectionConfig
from chiasm.detection.preparation.distance import MAX_RATIO
from chiasm.detection.readers.calibration_plan import (
    FALSE_ALARM_RATE,
    Promise,
    normals_of,
    outlook,
)
from chiasm.detection.readers.source import SampleRef
from chiasm.files.audit_text import Finding, NumberTable, Range, TrivialScore
from chiasm.metrics.permutation import chance_of_separation
from chiasm.metrics.ranking import auroc

SHORTCUT_AUROC = 0.8
BY_CHANCE = 0.05  # above it, chance explains a trivial score
_NAMED = 3


def in_words(finding: Finding) -> str:
    """Return a finding as a sentence for a terminal, with the first files that show it."""
    if not finding.sources:
        return str(finding)
    names = ", ".join(map(short_name, finding.sources[:_NAMED]))
    more = len(finding.sources) - _NAMED
    return f"{finding} ({names}{f' and {more} more' if more > 0 else ''})"


def short_name(source: str) -> str:
    """Return the last folders and the name of a file, which tell parts of one data set apart."""
    return "/".join(Path(source).parts[-4:])


def trivial_ranking(rows: NumberTable, labels: array[int]) -> tuple[TrivialScore, ...]:
    """Return the trivial scores with their AUROC and what chance does, strongest first."""
    if len(set(labels)) < 2:
        return ()
    names, values = zip(*rows.shared(), strict=True)
    chances = chance_of_separation(np.array([np.asarray(v) for v in values]), labels)
    scores = (
        TrivialScore(name, auroc(numbers, labels), float(chance))
        for name, numbers, chance in zip(names, values, chances, strict=True)
    )
    return tuple(sorted(scores, key=lambda score: (-score.strength, score.name)))


def chance_in_words(score: TrivialScore) -> str:
    """Return what chance does, for a score that looks like a shortcut."""
    if score.strength <= SHORTCUT_AUROC or not score.chance > BY_CHANCE:
        return ""
    return f" (as strong by chance in {score.chance:.0%} of such few parts)"


def side_in_words(score: TrivialScore) -> str:
    """Return in which direction a score tells: an AUROC of 0 is one of 1 the other way round."""
    return f"{'larger' if score.auroc >= 0.5 else 'smaller'} in defective parts"


def cautions(
    refs: Sequence[SampleRef],
    labels: array[int],
    sizes: Counter[str],
    duplicates: Sequence[tuple[str, str, str, str]],
    divided: Sequence[str],
    trivial: Sequence[TrivialScore],
) -> Iterator[Finding]:
    """Yield what limits how far figures on the data can be trusted."""
    yield from _shortcuts(labels, trivial)
    if not any(ref.split == "train" and ref.label == 0 for ref in refs):
        yield Finding(
            "wrong",
            "Nothing to train on",
            "No good part to train on: the train split has none labelled good.",
        )
    if len(set(labels)) < 2:
        yield Finding(
            "know",
            "No test with defects",
            "The test split has no readable parts of both classes, so neither shortcuts nor "
            "accuracy can be measured.",
        )
    if duplicates:
        yield Finding(
            "wrong",
            "Files in two splits",
            f"{len(duplicates)} files stand in two splits; figures on them would be worthless.",
        )
    if divided:
        yield Finding(
            "wrong",
            "Groups in two splits",
            f"{len(divided)} groups stand in several splits, so parts of one session or batch are "
            "used for training and for testing.",
        )
    if len(sizes) > 1:
        yield Finding(
            "look",
            "Several image sizes",
            f"Parts come in {len(sizes)} image sizes; check that one camera took them.",
        )


def _shortcuts(labels: array[int], trivial: Sequence[TrivialScore]) -> Iterator[Finding]:
    strong = [score for score in trivial if score.strength > SHORTCUT_AUROC]
    certain = [score for score in strong if not score.chance > BY_CHANCE]
    good, bad = labels.count(0), labels.count(1)
    for score in certain:
        yield Finding(
            "look",
            f"Shortcut: {score.name}",
            f"Shortcut: {score.name} alone tells good from defective with AUROC "
            f"{score.strength:.3f} ({side_in_words(score)}).",
        )
    if certain:
        yield Finding(
            "look",
            "Good parts can be told without a defect",
            f"So a detector may separate these {good} good and {bad} defective test parts without "
            "seeing a defect: remove the background, and trust pixel-level figures more than "
            "image-level ones.",
        )
    elif strong:
        yield Finding(
            "know",
            "Too few test parts to tell a shortcut",
            f"{strong[0].name[0].upper()}{strong[0].name[1:]} alone reaches AUROC "
            f"{strong[0].strength:.3f}, but with {good} good and {bad} defective test parts the "
            f"strongest of {len(trivial)} such numbers does so by chance in "
            f"{strong[0].chance:.0%} of cases: more test parts are needed to tell a shortcut, and "
            "to trust any figure.",
        )


def distance_cautions(distances: Range) -> Iterator[Finding]:
    """Yield a caution where distances look as if they had several units."""
    if distances.count and distances.largest > MAX_RATIO * distances.smallest:
        yield Finding(
            "wrong",
            "Several units of length",
            f"Parts lie {distances.smallest:.3g} to {distances.largest:.3g} m from the camera; are "
            "some of them in another unit?",
        )


def calibration_finding(refs: Sequence[SampleRef]) -> Finding | None:
    """Return how many good parts would calibrate, and which false-alarm rate they can promise.

    None without good parts to train on.
    """
    promise = Promise(FALSE_ALARM_RATE)
    normals, validation = normals_of(refs)
    good = normals + validation
    if normals == 0 or good < 2:
        return None
    if sentence := outlook(refs, promise):
        return Finding("wrong", "Too few good parts for the alarm threshold", sentence)
    share = DetectionConfig.model_fields["calibration_share"].default
    calibrating = validation or max(1, round(share * normals))
    calibrating = max(calibrating, promise.needed)
    return Finding(
        "know",
        "Enough good parts for the alarm threshold",
        f"Calibration: {calibrating} of {good} good parts calibrate and can promise a false-alarm "
        f"rate of {promise.least(calibrating):g} or more; the default is {promise.rate:g}.",
    )
