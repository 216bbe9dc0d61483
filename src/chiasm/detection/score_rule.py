"""Choice of the score rule: weights of the map, and how the map becomes the score of its part.

Both are chosen on normals that trained no weights, with anomalies of generators that training does
not use.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from chiasm.detection.anomalies.generators import validation_generator
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.detector import Detector
from chiasm.detection.layers.candidates import chosen_evidence, evidence_maps
from chiasm.detection.layers.features import RELATIVE_DISTANCE
from chiasm.detection.layers.image_score import (
    ImageScoreRule,
    Link,
    MapStatistics,
    Term,
    joined_statistics,
    linked,
    map_statistics,
)
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.segment import mask_at, run, to_device
from chiasm.detection.training.synthetic import SyntheticParts
from chiasm.metrics.bootstrap import holm, paired_group_bootstrap
from chiasm.metrics.ranking import auroc, average_precision, nan_loses
from chiasm.runs.console import say
from chiasm.samples import PreparedSample
from chiasm.training.device import device_of, in_chunks
from chiasm.training.progress import Progress

SCORE_RULE = (
    "softplus of (head weight x log-odds + normality weight x {distance}), smoothed, zero away "
    "from the object; the image's score is {image}"
)
RECORD = "score_rule.json"  # in the run's folder
# Shares of the normality weight, in standard deviations of either over normal pixels.
NORMALITY_SHARES = (0.25, 0.5, 1.0, 2.0, 4.0)

_HEAD, _MASK = "head", "mask"

COMMON = "local_mean"
WINDOWS = (0.0, 1 / 96, 1 / 48, 1 / 12)  # beside the common one
SHARES = (0.002, 0.01, 0.05)
LEARNED_TERMS = (Term("local_mean", 1 / 96), Term(), Term("top_share", 0.01))
# Parts of a choice: with anomalies wanted, rounds at most, and the fewest of both kinds.
ANOMALIES, MOST_ROUNDS = 120, 6
FEWEST_TO_CHOOSE, FEWEST_TO_LEARN = 10, 20
LEVEL = 0.05  # chance of leaving the common rule where no other is better
DRAWS = 1000
FOLDS = 5
BATCH = 8  # parts
SECONDS_SHARE = 0.3  # of those that are left of a budget


@torch.no_grad()
def choose_score_rule(detector: AdnasDetector, data: DetectionDataModule) -> float:
    """Choose what the score weighs beside the head, and how much, by pixel AP on held-out normals.

    Candidates are the mean relative distance from the nearest normals and the maps of evidence that
    the source has. The anomalies come from generators that training does not use. Where a search
    has bounded the cost, only what the fusion computes anyway is a candidate: the rule would add
    the rest to it.

    Returns:
        The AP of the chosen rule; without a candidate the head stands alone.
    """
    pieces: dict[str, list[torch.Tensor]] = {}
    detector.eval()
    batches = data.loader("validate")
    progress = Progress("Choosing the score rule", len(batches), unit="batches")
    for batch in progress.over(batches):
        batch = to_device(batch, device_of(detector))
        output = run(detector, batch)
        size = output.logits.shape[-2:]
        inside = cells_inside(batch.foreground, size)[:, None]
        maps = {_HEAD: output.logits[:, 1:] - output.logits[:, :1], _MASK: mask_at(batch, size)}
        for name in _weighable(detector, output.distances, data.config):
            maps[name] = detector.maps.resize(output.distances[name], size)
        for name, value in maps.items():
            pieces.setdefault(name, []).append(value[inside])
    progress.close()
    pixels = {name: torch.cat(values).cpu() for name, values in pieces.items()}
    odds, mask = pixels.pop(_HEAD), pixels.pop(_MASK) > 0
    head = 1.0 / float(odds[~mask].std() + 1e-6)
    best = (average_precision((head * odds).numpy(), mask.numpy()), RELATIVE_DISTANCE, 0.0, 0.0)
    precisions: dict[str, dict[str, float]] = {_HEAD: {"0.0": best[0]}}
    for name, distance in pixels.items():
        scale = 1.0 / float(distance[~mask].std() + 1e-6)
        for share in NORMALITY_SHARES if float(distance.abs().max()) > 0 else ():
            weight = share * scale
            ap = average_precision((head * odds + weight * distance).numpy(), mask.numpy())
            precisions.setdefault(name, {})[str(share)] = ap
            if nan_loses(ap) > nan_loses(best[0]):
                best = ap, name, weight, share
    ap, distance_name, weight, share = best
    detector.set_score_rule(head=head, normality=weight, distance=distance_name)
    chosen = {"distance": distance_name, "share": share} if share else {"distance": None}
    _record(data.config.out, {"chosen": chosen, "pixel_ap": precisions})
    return ap


def _weighable(
    detector: AdnasDetector, distances: Iterable[str], config: DetectionConfig
) -> list[str]:
    """Return the names of the distances that a rule may weigh.

    Args:
        detector: with its fusion.
        distances: that there are; those of evidence that the run did not ask for are left out.
        config: of the run; where it bounds the cost, only what the fusion needs anyway may be read.
    """
    source = detector.frozen_source
    if source is None:
        return []
    kinds = chosen_evidence((*config.evidence, *config.score_evidence), config.modalities)
    asked = {name for kind in kinds for name in evidence_maps(kind, config.modalities)}
    names = [name for name in distances if name == RELATIVE_DISTANCE or name in asked]
    if not config.bounds_cost:
        return names
    units = set(source.units(detector.fusion.required))
    memories = {f"{modality}/memory" for modality in source.memories}

    def needed(name: str) -> set[str]:
        return memories if name == RELATIVE_DISTANCE else set(source.units(frozenset({name})))

    return [name for name in names if needed(name) <= units]


@dataclass(frozen=True, eq=False)
class ImageRuleChoice:
    """A rule of the image's score, and why.

    Attributes:
        rule: the common one, unless another is better beyond chance.
        name: of the rule among the candidates.
        figures: of every candidate, for ``score_rule.json``.
    """

    rule: ImageScoreRule
    name: str
    figures: dict[str, Any]


def score_rule_in_words(detector: AdnasDetector) -> str:
    """Say the rule of the map and of the image's score."""
    distance = detector.score_distance
    distance = f"mean {distance}" if distance == RELATIVE_DISTANCE else distance
    return SCORE_RULE.format(distance=distance, image=detector.image_rule.in_words())


def set_image_rule(detector: Detector, data: DetectionDataModule, *, held_out: bool) -> None:
    """Set the rule of the image's score as the run's settings say, and record the choice.

    A method with a rule of its own keeps it.

    Args:
        detector: trained, with the weights of its map's rule.
        data: of the run.
        held_out: whether parts were held out from the training, to choose by. Of a method that was
            fitted to all training parts, the calibration normals choose; their p-values can then
            be slightly too small.
    """
    config = data.config
    if config.image_score != "chosen":
        return
    outside = not held_out or data.selected_on_calibration
    indices = data.indices("validate") if held_out else list(range(len(data.calibration)))
    source = data.calibration if outside else data.parts
    # Outside the training no part is in a memory; there, each is its own group.
    owners = [-1 if outside else data.owners[i] for i in indices]
    groups = indices if outside else owners
    parts = [source[i] for i in indices]
    measured = measure_parts(
        detector.eval(),
        parts,
        owners=owners,
        scale=data.geometry,
        modalities=config.modalities,
        seed=config.seed,
        seconds=SECONDS_SHARE * data.seconds_left(),
    )
    if measured is None:
        say(f"{config.model} has an image-level score of its own; image_score=chosen leaves it.")
        return
    statistics, labels, positions = measured
    choice = choose_image_rule(
        statistics,
        labels,
        groups=np.array([groups[position] for position in positions]),
        link=detector.map_link,
        seed=config.seed,
    )
    detector.image_rule = choice.rule
    figures = choice.figures | {"parts": "calibration" if outside else "held out"}
    _record(config.out, {"image_score": figures})
    say(f"The image's score is {choice.rule.in_words()} ({choice.name}).")


def choose_image_rule(
    statistics: MapStatistics,
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.int64],
    link: Link,
    seed: int = 0,
) -> ImageRuleChoice:
    """Choose the rule with the best image AUROC, the common one unless another is beyond chance.

    Parts are drawn again with replacement, each with its anomalies. A rule replaces the common one
    where its gain has a p-value of at most 0.05, adjusted for the number of rules. The learned rule
    is judged on parts that its weights were not fitted to.

    Args:
        statistics: of ``(N,)`` maps, of all terms of ``candidate_terms`` and the quartiles.
        labels: ``(N,)``, 1 with an anomaly.
        groups: ``(N,)`` number of the normal part, or of its group, that each was made from.
        link: of the maps, see ``Detector.map_link``.
        seed: of the draws.
    """
    good, anomalous = labels == 0, labels == 1
    counts = {"good": int(good.sum()), "anomalous": int(anomalous.sum())}
    common = ImageScoreRule()
    if min(len(np.unique(groups[chosen])) for chosen in (good, anomalous)) < FEWEST_TO_CHOOSE:
        reason = f"fewer than {FEWEST_TO_CHOOSE} parts to choose by"
        return ImageRuleChoice(common, COMMON, {"chosen": COMMON, "why": reason, **counts})
    rules = _candidates(statistics, good, link=link)
    scores = {name: statistics.score(rule).double().cpu().numpy() for name, rule in rules.items()}
    learned, why = _learned(statistics, labels, groups=groups, link=link)
    if learned is not None:
        rules["learned"], scores["learned"] = learned
    aurocs = {name: auroc(values, labels) for name, values in scores.items()}
    others = [name for name in rules if name != COMMON]

    def figure(values: NDArray[np.float64]) -> Any:
        return lambda numbers: auroc(values[numbers], labels[numbers])

    gains = {
        name: paired_group_bootstrap(
            figure(scores[name]), figure(scores[COMMON]), groups, draws=DRAWS, seed=seed
        )
        for name in others
    }
    adjusted = dict(zip(others, holm([gains[name].p_value for name in others]), strict=True))
    better = [n for n in others if gains[n].difference > 0 and adjusted[n] <= LEVEL]
    chosen = max(better, key=lambda name: gains[name].difference, default=COMMON)
    table = {
        name: {"auroc": aurocs[name], "rule": asdict(rules[name])}
        | ({"gain": list(gains[name][:3]), "p_value": adjusted[name]} if name in gains else {})
        for name in rules
    }
    figures = {"chosen": chosen, **counts, "rules": table} | ({"learned": why} if why else {})
    return ImageRuleChoice(rules[chosen], chosen, figures)


def candidate_terms() -> tuple[Term, ...]:
    """Return the statistics of all candidate rules."""
    windows = (Term(), *(Term("local_mean", window) for window in WINDOWS))
    return (*windows, *(Term("top_share", share) for share in SHARES), *LEARNED_TERMS)


def _candidates(
    statistics: MapStatistics, good: NDArray[np.bool_], *, link: Link
) -> dict[str, ImageScoreRule]:
    """Return the rules by name; the levels of usual parts are medians over the good ones."""
    rules = {COMMON: ImageScoreRule()}
    for window in WINDOWS:
        name = f"local_mean 1/{round(1 / window)}" if window else "largest pixel"
        rules[name] = ImageScoreRule((Term("local_mean", window),))
    for share in SHARES:
        rules[f"top_share {share:.1%}"] = ImageScoreRule((Term("top_share", share),))
    level, spread = usual_levels(statistics, good, link=link)
    for name, term in ((COMMON, Term()), ("top_share 1.0%", Term("top_share", 0.01))):
        relative = ImageScoreRule(
            (term,), link=link, background=1.0, usual_background=level, usual_spread=None
        )
        rules[f"{name} - background"] = relative
        if spread > 0:
            rules[f"{name} / spread"] = replace(relative, usual_spread=spread)
    return rules


def usual_levels(
    statistics: MapStatistics, good: NDArray[np.bool_], *, link: Link
) -> tuple[float, float]:
    """Return the medians over good parts of a part's level and spread, under a link."""
    assert statistics.quartiles is not None
    quartiles = linked(statistics.quartiles[torch.from_numpy(good)], link)
    lower, middle, upper = quartiles.unbind(dim=1)
    return float(middle.median()), float((upper - lower).median())


def _learned(
    statistics: MapStatistics,
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.int64],
    link: Link,
) -> tuple[tuple[ImageScoreRule, NDArray[np.float64]] | None, str]:
    """Fit a weighted sum of few statistics, and score each part by weights of other parts.

    Returns the rule of all parts with these scores, or None and why there is none.
    """
    numbers = np.unique(groups)
    of_classes = [len(np.unique(groups[labels == label])) for label in (0, 1)]
    if min(of_classes) < FEWEST_TO_LEARN:
        return None, f"not fitted: fewer than {FEWEST_TO_LEARN} parts"
    scores = np.zeros(len(labels))
    for fold in range(FOLDS):
        tested = np.isin(groups, numbers[fold::FOLDS])
        rule = _fitted_rule(statistics, labels, ~tested, link=link)
        if rule is None:
            return None, "not fitted: in a fold, no peak counted against the background"
        scores[tested] = statistics.score(rule).double().cpu().numpy()[tested]
    rule = _fitted_rule(statistics, labels, np.ones(len(labels), bool), link=link)
    if rule is None:
        return None, "not fitted: no peak counted against the background"
    return (rule, scores), ""


def _fitted_rule(
    statistics: MapStatistics, labels: NDArray[np.int64], used: NDArray[np.bool_], *, link: Link
) -> ImageScoreRule | None:
    """Fit a logistic regression; its weights are scaled to a sum of 1, the unit of the map."""
    assert statistics.quartiles is not None
    columns = [statistics.peaks[t.statistic, t.size] for t in LEARNED_TERMS]
    columns.append(statistics.quartiles[:, 1])
    table = linked(torch.stack(columns, dim=1), link).double().cpu().numpy()[used]
    deviation = table.std(axis=0) + 1e-9
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit((table - table.mean(axis=0)) / deviation, labels[used])
    weights = model.coef_[0] / deviation
    total = float(weights[:-1].sum())
    if not total > 0:
        return None
    level, _ = usual_levels(statistics, used & (labels == 0), link=link)
    terms = tuple(replace(t, weight=float(w / total)) for t, w in zip(LEARNED_TERMS, weights))
    background = float(-weights[-1] / total)
    return ImageScoreRule(terms, link=link, background=background, usual_background=level)


@torch.no_grad()
def measure_parts(
    detector: Detector,
    parts: Sequence[PreparedSample],
    *,
    owners: Sequence[int],
    scale: GeometryScale,
    modalities: Sequence[str],
    seed: int,
    seconds: float = math.inf,
) -> tuple[MapStatistics, NDArray[np.int64], list[int]] | None:
    """Measure the maps of good parts, and of the same with anomalies of the validation.

    Args:
        detector: trained.
        parts: prepared normals that it was not trained on.
        owners: of the parts, whose descriptors a memory leaves out; -1 for none.
        scale: of the geometry pictures.
        modalities: that the detector reads.
        seed: of the run.
        seconds: after which no round of anomalies but the first is begun.

    Returns:
        Statistics, labels and the positions of the parts; None of a method with its own rule.
    """
    rounds = min(MOST_ROUNDS, -(-ANOMALIES // len(parts)))
    synthetic = SyntheticParts(
        parts,
        numbers=range(len(parts)),
        generator=validation_generator(probability=1.0),
        seed=seed * 10 + 3,  # not those that chose the epoch and the map's weights
    )
    deadline = time.monotonic() + seconds
    pieces: list[MapStatistics] = []
    labels: list[int] = []
    positions: list[int] = []
    with Progress("Choosing the image's score", len(parts) * (1 + rounds)) as progress:
        for epoch in range(-1, rounds):  # the parts themselves, then rounds of anomalies
            if epoch > 0 and time.monotonic() > deadline:
                break
            for start in range(0, len(parts), BATCH):
                numbers = range(start, min(start + BATCH, len(parts)))
                progress.update(len(numbers))
                shown = [parts[i] if epoch < 0 else synthetic.at(epoch, i)[0] for i in numbers]
                kept = [i for i, part in zip(numbers, shown) if epoch < 0 or part.label == 1]
                if not kept:
                    continue
                measure = partial(
                    _statistics,
                    detector,
                    [shown[i - start] for i in kept],
                    [owners[i] for i in kept],
                    scale=scale,
                    modalities=modalities,
                )
                for found in in_chunks(measure, len(kept), len(kept)):
                    if found is None:
                        return None
                    pieces.append(found)
                labels += [int(epoch >= 0)] * len(kept)
                positions += kept
    return joined_statistics(pieces).cpu(), np.array(labels), positions


def _statistics(
    detector: Detector,
    parts: Sequence[PreparedSample],
    owners: Sequence[int],
    chosen: slice,
    *,
    scale: GeometryScale,
    modalities: Sequence[str],
) -> MapStatistics | None:
    """Measure the maps of chosen parts; None of a method with its own rule."""
    batch = to_batch(
        parts[chosen],
        scale,
        modalities=modalities,
        indices=owners[chosen],
        device=device_of(detector),
    )
    output = detector(batch)
    if detector.published_scores(output) is not None:
        return None
    return map_statistics(
        detector.scores(output, batch.foreground),
        batch.foreground,
        terms=candidate_terms(),
        background=True,
        operations=detector.maps,
    )


def _record(folder: Path, figures: dict[str, Any]) -> None:
    """Add figures to the run's record of its score rule."""
    path = folder / RECORD
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | figures, indent=2) + "\n")
