"""Train a detector from a folder of normal parts, searching its fusion first."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from chiasm.detection.building import builder_arguments
from chiasm.detection.calibrate import calibrate_and_save
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import read_contract
from chiasm.detection.cross_calibration import check_refits, cross_scores, remove_folds
from chiasm.detection.datamodule import DetectionDataModule, open_run
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.models.cost import cost_of
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.search import (
    CONCATENATION,
    search,
    search_or_concatenate,
    train_fusion,
    write_genotype,
)
from chiasm.detection.train_baseline import train_baseline
from chiasm.detection.training.segment import mask_at, mean_relative, run
from chiasm.errors import ConfigurationError
from chiasm.fusion.finalists import random_architecture
from chiasm.fusion.genotype import Genotype
from chiasm.metrics.ranking import average_precision, nan_loses
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.training.progress import Progress
from chiasm.training.trainer import precision_here

SCORE_RULE = (
    "softplus of (head weight x log-odds + normality weight x mean relative distance), smoothed, "
    "zero away from the object; the image's score is the largest local mean of the map"
)
FUSIONS = ("search", "best", CONCATENATION, "random")
# Shares of the normality weight, in standard deviations of either over normal pixels.
NORMALITY_SHARES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
# Of the seconds that are left; calibration takes the rest.
TRAINING_SHARE, LEAST_SECONDS = 0.9, 6.0


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Result of a run.

    Attributes:
        folder: the run's folder; ``folder/model`` is the model.
        genotype: of a fusion that has one.
        minutes: of the whole run.
        validation_ap: pixel AP on held-out normals with anomalies of other generators; NaN of
            a baseline.
    """

    folder: Path
    genotype: Genotype | None
    minutes: float
    validation_ap: float


def train(config: DetectionConfig, *, data: DetectionDataModule | None = None) -> TrainResult:
    """Train a detector and save it; search its fusion first where ``config.fusion`` asks for that.

    A baseline is trained in its own steps. An interrupted run continues where it stopped when it
    is started again with the same folder.

    Raises:
        ConfigurationError: the fusion is neither a known name nor a file, there are options for
            a model that has none, or the model cannot be calibrated as configured.
    """
    if config.fusion not in FUSIONS and not Path(config.fusion).is_file():
        raise ConfigurationError(
            f"fusion is {', '.join(FUSIONS)} or a genotype's file; {config.fusion!r} is neither."
        )
    check_refits(config)  # before any search or training
    if data is None:
        data = open_run(config)
        result = train(config, data=data)
        # An interrupted run keeps them, and reads them when it is resumed.
        data.remove_stored()
        remove_folds(config)
        say(read_contract(config.out / "model").alarm_rule.promise)
        return result
    if find_model(config.model).pools is None:
        cross = cross_scores(data, fusion=CONCATENATION, train=train)
        minutes = train_baseline(data, seconds=_training_seconds(data), cross=cross)
        return TrainResult(config.out, None, minutes, math.nan)
    if config.options:
        raise ConfigurationError(
            f"{config.model} has no options; its settings are those of the run. Remove "
            f"{', '.join(sorted(config.options))} from options."
        )
    fusion = _fusion_of(config, data)
    cross = cross_scores(
        data,
        fusion=fusion if isinstance(fusion, str) else str(config.out / "genotype.json"),
        train=train,
    )
    say("Training the detector ...")
    module = train_fusion(
        fusion, data, name="train", epochs=config.train_epochs, seconds=_training_seconds(data)
    )
    detector = module.detector.eval()
    validation_ap = choose_score_rule(detector, data)
    example = to_batch(data.calibration[:1], data.geometry, modalities=config.modalities)
    figures = {
        "validation_ap": validation_ap,
        "rotations": data.rotations,
        "steps": module.global_step,
        "final_data": config.final_data,
        "selection": "validation" if data.selected_on_calibration else "held_out",
        "precision": precision_here(config.precision),
        "macs_before_pruning": cost_of(detector, example).macs,
    }
    detector.prune()
    genotype = fusion if isinstance(fusion, Genotype) else None
    minutes = calibrate_and_save(
        detector,
        data,
        arguments={
            name: value
            for name, value in builder_arguments(config).items()
            if name not in ("modalities", "operations")  # a field of the contract; the genotype's
        },
        fusion="genotype" if genotype is not None else CONCATENATION,
        score_rule=SCORE_RULE,
        genotype=genotype,
        figures=figures,
        cross=cross,
    )
    return TrainResult(config.out, genotype, minutes, validation_ap)


def _training_seconds(data: DetectionDataModule) -> float:
    return TRAINING_SHARE * max(data.seconds_left(), LEAST_SECONDS)


def _fusion_of(config: DetectionConfig, data: DetectionDataModule) -> Genotype | str:
    """Return the configured fusion: searched, drawn or read, and written to the run's folder."""
    searched = config.out / "genotype.json"
    if config.fusion in ("search", "best") and searched.exists():
        return Genotype.load(searched)
    if config.fusion == "search":
        return search(config, data=data)
    if config.fusion == "best":
        return search_or_concatenate(config, data=data)
    if config.fusion == CONCATENATION:
        return CONCATENATION
    if config.fusion == "random":
        genotype = random_architecture(
            data.pools, nodes=config.nodes, seed=config.seed, operations=config.operations
        )
    else:
        genotype = Genotype.load(config.fusion)
        genotype.validate(data.pools)
    write_genotype(genotype, data)
    return genotype


@torch.no_grad()
def choose_score_rule(detector: AdnasDetector, data: DetectionDataModule) -> float:
    """Choose the weight of the distance from normal by pixel AP on held-out normals.

    Their anomalies come from generators that training does not use. Returns the AP of the chosen
    rule; without a memory of normals the head stands alone.
    """
    pieces = []
    detector.eval()
    batches = data.loader("validate")
    progress = Progress("Choosing the score rule", len(batches), unit="batches")
    for batch in progress.over(batches):
        output = run(detector, batch)
        odds = output.logits[:, 1:] - output.logits[:, :1]
        if output.relative:
            distance = mean_relative(output, odds.shape[-2:])
        else:
            distance = torch.zeros_like(odds)
        inside = torch.nn.functional.adaptive_max_pool2d(batch.foreground, odds.shape[-2:]) > 0
        mask = mask_at(batch, odds.shape[-2:]) > 0
        pieces.append((odds[inside], distance[inside], mask[inside]))
    progress.close()
    odds, distance, mask = (torch.cat(values).cpu() for values in zip(*pieces))
    head = 1.0 / float(odds[~mask].std() + 1e-6)
    if not float(distance.abs().max()) > 0:
        detector.set_score_rule(head=head, normality=0.0)
        return average_precision(odds.numpy(), mask.numpy())
    normality = 1.0 / float(distance[~mask].std() + 1e-6)
    precisions = {
        share: average_precision((head * odds + share * normality * distance).numpy(), mask.numpy())
        for share in NORMALITY_SHARES
    }
    best = max(precisions, key=lambda share: nan_loses(precisions[share]))
    detector.set_score_rule(head=head, normality=best * normality)
    (data.config.out / "score_rule.json").write_text(
        json.dumps({"chosen": best, "pixel_ap": precisions}, indent=2) + "\n"
    )
    return precisions[best]
