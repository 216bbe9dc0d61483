"""Training of a detector with a fixed fusion, of a search's finalists or for good."""

from __future__ import annotations

import math

from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.warm_start import warm_start
from chiasm.runs.data_parallel import DataParallel, fit_in_parallel
from chiasm.training.trainer import Budget


def budget_of(seconds: float) -> Budget:
    """Return a budget of seconds; infinite ones set no limit."""
    return Budget(None if seconds == math.inf else seconds / 60)


def train_fusion(
    fusion: Genotype | str,
    data: DetectionDataModule,
    *,
    name: str,
    epochs: int,
    seconds: float = math.inf,
    purpose: str = "final",
    relaxed: AdnasDetector | None = None,
    parallel: DataParallel | None = None,
) -> SegmentationTraining:
    """Train a detector with a fixed fusion.

    Args:
        fusion: genotype or name of a hand-made fusion.
        data: of the run.
        name: of the stage, for checkpoints and logs.
        epochs: passes over the training data.
        seconds: budget; infinite without one.
        purpose: of the batches, see ``DetectionDataModule.loader``.
        relaxed: detector with a supernet, whose weights are the start; None starts with new ones.
        parallel: processes that train it; None is this one.
    """
    config = data.config
    detector = data.detector(fusion)
    if relaxed is not None:
        warm_start(detector, relaxed)
    required = detector.fusion.required
    budget = budget_of(seconds)
    module = SegmentationTraining(detector, budget=budget, epochs=epochs, **config.optimisation)
    fit_in_parallel(
        module,
        data.loader(purpose, required=required),
        data.loader("validate", required=required),
        parallel=parallel,
        folder=config.out,
        name=name,
        epochs=epochs,
        budget=budget,
        precision=config.precision,
    )
    return module


def train_finalist(
    fusion: Genotype | str,
    data: DetectionDataModule,
    number: int,
    *,
    epochs: int,
    relaxed: AdnasDetector,
) -> dict[str, float]:
    """Train a finalist on from where it stopped; return its steps and its validation AP."""
    module = train_fusion(
        fusion, data, name=finalist_name(number), epochs=epochs, purpose="train", relaxed=relaxed
    )
    return {"steps": module.global_step, "validation_ap": module.validation_ap[-1]}


def finalist_name(number: int) -> str:
    """Return the name of a finalist's stage."""
    return f"final_{number}"


def write_genotype(genotype: Genotype, data: DetectionDataModule) -> None:
    """Write the genotype and its drawing to the run's folder."""
    folder = data.config.out
    genotype.save(folder / "genotype.json")
    draw_genotype(genotype, path_svg=folder / "genotype.svg", path_png=folder / "genotype.png")
