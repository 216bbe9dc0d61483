"""Training of a detector with a fixed fusion, of a search's finalists or for good."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.warm_start import warm_start
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.data_parallel import fit_together
from chiasm.runs.final_round import FinalistTraining
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
) -> SegmentationTraining:
    """Train a detector with a fixed fusion; where it trains its features, the crew does together.

    Args:
        fusion: genotype or name of a hand-made fusion.
        data: of the run.
        name: of the stage, for checkpoints and logs.
        epochs: passes over the training data.
        seconds: budget; infinite without one.
        purpose: of the batches, see ``DetectionDataModule.loader``.
        relaxed: detector with a supernet, whose weights are the start; None starts with new ones.
    """
    config = data.config
    detector = data.detector(fusion)
    if relaxed is not None:
        warm_start(detector, relaxed)
    required = detector.fusion.required
    budget = budget_of(seconds)
    module = SegmentationTraining(detector, budget=budget, epochs=epochs, **config.optimisation)
    fit_together(
        module,
        data.loader(purpose, required=required),
        data.loader("validate", required=required),
        crew=crew_of(data),
        folder=config.out,
        name=name,
        epochs=epochs,
        budget=budget,
        precision=config.precision,
    )
    return module


def crew_of(data: DetectionDataModule) -> Crew:
    """Return the processes that train a network together: one, where its features are stored.

    A step on these takes less time than an exchange between processes.
    """
    return data.crew if data.frozen_source is None else ALONE


@dataclass(frozen=True, eq=False)
class FinalistTrainer:
    """Trains finalists on from where they stopped, in this process or in others.

    Attributes:
        data: of the run.
        relaxed: detector whose weights are the start.
    """

    data: DetectionDataModule
    relaxed: AdnasDetector

    def __call__(self, training: FinalistTraining[Genotype | str]) -> dict[str, float]:
        """Return the steps of a finalist and its validation AP."""
        module = train_fusion(
            training.fusion,
            self.data,
            name=training.name,
            epochs=training.epochs,
            purpose="train",
            relaxed=self.relaxed,
        )
        return {"steps": module.global_step, "validation_ap": module.validation_ap[-1]}


def write_genotype(genotype: Genotype, data: DetectionDataModule) -> None:
    """Write the genotype and its drawing to the run's folder."""
    folder = data.config.out
    genotype.save(folder / "genotype.json")
    draw_genotype(genotype, path_svg=folder / "genotype.svg", path_png=folder / "genotype.png")
