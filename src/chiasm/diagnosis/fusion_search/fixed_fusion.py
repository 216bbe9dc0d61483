"""Training of a classifier's finalists, and the file of what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.diagnosis.training.classify import ClassTraining
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.warm_start import warm_start
from chiasm.runs.final_round import FinalistTraining
from chiasm.runs.model_folder import GENOTYPE
from chiasm.training.keep_best import KeepBest
from chiasm.training.trainer import Budget, fit


def network_of_all(data: DiagnosisDataModule, form: str) -> FusedClassifier:
    """Build the classifier of all architectures: ``supernet`` or ``one_shot``."""
    network = replace(data, fusion=form).network()
    assert isinstance(network, FusedClassifier)
    return network


@dataclass(frozen=True, eq=False)
class FinalistTrainer:
    """Trains finalists on from where they stopped, in this process or in others.

    Attributes:
        data: of the run.
        relaxed: network whose weights are the start.
    """

    data: DiagnosisDataModule
    relaxed: FusedClassifier

    def __call__(self, training: FinalistTraining[Genotype]) -> dict[str, float]:
        """Return the steps of a finalist and the figures of its best epoch."""
        data = replace(self.data, fusion=training.fusion)
        config = data.config
        network = data.network()
        warm_start(network, self.relaxed)
        budget = Budget(None)  # equal steps for all finalists; the final round counts the time
        module = ClassTraining(
            network,
            budget=budget,
            epochs=training.epochs,
            learning_rate=config.learning_rate,
            modality_dropout=config.modality_dropout,
            seed=config.seed + 1,
        )
        best = KeepBest(network, metric="validation_score", tie="validation_loss")
        fit(
            module,
            data.loader("classify"),
            data.loader("classify_check"),
            folder=config.out,
            name=training.name,
            epochs=training.epochs,
            budget=budget,
            precision="32",
            gradient_clip=1.0,
            callbacks=[best],
        )
        return {
            "steps": module.global_step,
            "validation_score": best.best[0],
            "validation_loss": -best.best[1],
        }


def by_score(figures: Mapping[str, float]) -> tuple[float, float]:
    """Rank by macro-F1, then by cross-entropy."""
    return figures["validation_score"], -figures["validation_loss"]


def write_genotype(genotype: Genotype, config: DiagnosisConfig) -> None:
    """Write the genotype and its drawing to the run's folder."""
    genotype.save(config.out / GENOTYPE)
    draw_genotype(
        genotype,
        path_svg=config.out / "genotype.svg",
        path_png=config.out / "genotype.png",
        head="class",
    )
