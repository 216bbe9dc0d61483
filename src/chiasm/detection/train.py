"""Train a detector from a folder of normal parts, searching for its fusion first."""

from __future__ import annotations

import json
import math
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chiasm.detection.calibrate import keep
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import parameter_count
from chiasm.detection.datamodule import DetectionDataModule, open_run
from chiasm.detection.models.adnas import AdnasDetector, describe_builder
from chiasm.detection.models.cost import cost_of
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.search import CONCATENATION, search, search_or_concatenate, write_genotype
from chiasm.detection.train_baseline import train_baseline
from chiasm.detection.training.segment import SegmentationTraining, mask_at, mean_relative, run
from chiasm.errors import ConfigurationError
from chiasm.fusion.genotype import Genotype, random_genotype
from chiasm.metrics.ranking import average_precision
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.training.trainer import Budget, fit

SCORE_RULE = (
    "softplus of (head weight x log-odds + normality weight x mean relative distance), smoothed, "
    "zero away from the object; the image's score is the largest local mean of the map"
)
FUSIONS = ("search", "best", CONCATENATION, "random")
# Shares of the normality weight, in standard deviations of either over normal pixels.
NORMALITY_SHARES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run left behind.

    Attributes:
        folder: the run's folder; ``folder/model`` is the model.
        genotype: the fusion, where it is a genotype.
        minutes: spent on everything.
        validation_ap: pixel AP on held-out normals with anomalies of other generators; NaN of
            a rival.
    """

    folder: Path
    genotype: Genotype | None
    minutes: float
    validation_ap: float


def train(config: DetectionConfig, *, data: DetectionDataModule | None = None) -> TrainResult:
    """Train a detector and save it; searches first where ``config.fusion`` asks for that.

    A rival goes through its own steps instead. Raises ``ConfigurationError`` for a fusion that is
    neither known by name nor a file.

    A run that was interrupted goes on where it stopped when it is started again with the same
    folder.
    """
    if config.fusion not in FUSIONS and not Path(config.fusion).is_file():
        raise ConfigurationError(
            f"fusion is {', '.join(FUSIONS)} or a genotype's file; {config.fusion!r} is neither."
        )
    data = data or open_run(config)
    if find_model(config.model).baseline:
        train_baseline(data)
        return TrainResult(config.out, None, (time.monotonic() - data.started) / 60, math.nan)
    if config.options:
        raise ConfigurationError(
            f"{config.model} has no options; its settings are those of the run: "
            f"{', '.join(sorted(config.options))} would be passed over."
        )
    fusion: Genotype | str
    found = config.out / "genotype.json"
    if config.fusion in ("search", "best") and found.exists():
        fusion = Genotype.load(found)
    elif config.fusion == "search":
        fusion = search(config, data=data)
    elif config.fusion == "best":
        fusion = search_or_concatenate(config, data=data)
    elif config.fusion == CONCATENATION:
        fusion = CONCATENATION
    elif config.fusion == "random":
        fusion = random_genotype(
            data.pools, nodes=config.nodes, seed=config.seed, operations=config.operations
        )
        write_genotype(fusion, data)
    else:
        fusion = Genotype.load(config.fusion)
        fusion.validate(data.pools)
        write_genotype(fusion, data)
    detector = data.detector(fusion)
    left = data.seconds_left()
    budget = Budget(None if left == float("inf") else 0.9 * max(left, 6.0) / 60)
    module = SegmentationTraining(
        detector,
        budget=budget,
        epochs=config.train_epochs,
        learning_rate=config.learning_rate,
    )
    required = detector.fusion.required
    say("Training the detector ...")
    fit(
        module,
        data.loader("learn", required=required),
        data.loader("validate", required=required),
        folder=config.out,
        name="train",
        epochs=config.train_epochs,
        budget=budget,
    )
    detector.eval()
    ap = choose_score_rule(detector, data)
    genotype = fusion if isinstance(fusion, Genotype) else None
    macs = save(detector, genotype, data)
    minutes = (time.monotonic() - data.started) / 60
    facts = {
        "fit_minutes": round(minutes, 3),
        "validation_ap": ap,
        "rotations": data.rotations,
        "parameters": parameter_count(detector),
        "fit_peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **macs,
    }
    (config.out / "learning.json").write_text(json.dumps(facts, indent=2) + "\n")
    say(f"The model is in {config.out / 'model'} ({minutes:.1f} minutes).")
    return TrainResult(config.out, genotype, minutes, ap)


@torch.no_grad()
def choose_score_rule(detector: AdnasDetector, data: DetectionDataModule) -> float:
    """Weigh the head against the distance from normal by pixel AP on held-out normals.

    The anomalies there come from generators that training does not use. Returns the AP of the
    chosen rule; without a memory of normals the head stands alone.
    """
    outputs = []
    detector.eval()
    for batch in data.loader("validate"):
        output = run(detector, batch)
        odds = output.logits[:, 1:] - output.logits[:, :1]
        if output.relative:
            distance = mean_relative(output, odds.shape[-2:])
        else:
            distance = torch.zeros_like(odds)
        inside = torch.nn.functional.adaptive_max_pool2d(batch.foreground, odds.shape[-2:]) > 0
        mask = mask_at(batch, odds.shape[-2:]) > 0
        outputs.append((odds[inside], distance[inside], mask[inside]))
    odds, distance, mask = (torch.cat(values) for values in zip(*outputs))
    head = 1.0 / float(odds[~mask].std() + 1e-6)
    if not float(distance.abs().max()) > 0:
        detector.set_score_rule(head=head, normality=0.0)
        return average_precision(odds.numpy(), mask.numpy())
    normality = 1.0 / float(distance[~mask].std() + 1e-6)
    trials = {
        share: average_precision((head * odds + share * normality * distance).numpy(), mask.numpy())
        for share in NORMALITY_SHARES
    }
    best = max(trials, key=lambda share: trials[share])
    detector.set_score_rule(head=head, normality=best * normality)
    (data.config.out / "score_rule.json").write_text(
        json.dumps({"chosen": best, "pixel_ap": trials}, indent=2) + "\n"
    )
    return trials[best]


def save(
    detector: AdnasDetector, genotype: Genotype | None, data: DetectionDataModule
) -> dict[str, int]:
    """Prune, calibrate on the calibration normals and write the model's folder.

    Returns the multiply-accumulates of one part before and after pruning.
    """
    config = data.config
    detector.eval()
    example = to_batch(data.calibration[:1], data.scale, modalities=config.modalities)
    whole = cost_of(detector, example)
    detector.prune()
    cost = {"macs_before_pruning": whole.macs, "macs": cost_of(detector, example).macs}
    keep(
        detector,
        data,
        arguments=_arguments(config),
        fusion="genotype" if genotype is not None else CONCATENATION,
        score_rule=SCORE_RULE,
        genotype=genotype,
    )
    return cost


def _arguments(config: DetectionConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {"nodes": config.nodes, "image_size": config.image_size}
    arguments["cells"] = list(config.cells)
    if config.model == "adnas_light":
        arguments["memory_entries"] = config.memory_entries
    return describe_builder(arguments)
