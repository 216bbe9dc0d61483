"""Calibrate a trained detector and keep it: the model's folder of a run, of any detector."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from chiasm.detection.contract import DetectionContract, Preparation, library_versions, save_model
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.detector import Detector
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.distance import usual_distance
from chiasm.fusion.genotype import Genotype
from chiasm.metrics import VERSIONS

CALIBRATED_AT_ONCE = 8


def keep(
    detector: Detector,
    data: DetectionDataModule,
    *,
    arguments: dict[str, Any],
    fusion: Literal["genotype", "concatenation", "none"],
    score_rule: str,
    genotype: Genotype | None = None,
) -> None:
    """Score the calibration normals and write ``model`` below the run's folder.

    Args:
        detector: trained; put into evaluation mode.
        data: whose data, preparation and configuration the contract states.
        arguments: with which the builder builds it again.
        fusion: how it fuses; ``"none"`` where that is part of the method.
        score_rule: in words.
        genotype: of a searched fusion.
    """
    config = data.config
    contract = DetectionContract(
        method=config.model,
        arguments=arguments,
        fusion=fusion,
        modalities=config.modalities,
        preparation=Preparation(
            size=data.settings.size,
            remove_background=data.settings.remove_background,
            plane_distance=data.settings.plane_distance,
            plane_margin=data.settings.plane_margin,
            crop_fraction=data.settings.crop_fraction,
            geometry_kind=data.scale.kind,
            geometry_height=data.scale.height,
            geometry_smoothing=data.scale.smoothing,
        ),
        score_rule=score_rule,
        calibration_scores=(),
        false_alarm_rate=config.false_alarm_rate,
        distance=usual_distance(data.calibration),
        metric_versions=dict(VERSIONS),
        training_data=data.training_data,
        training_samples=len(data.parts),
        seed=config.seed,
        backbone_weights=detector.pretrained_weights,
        libraries=library_versions(),
    )
    predictor = DetectionPredictor(detector.eval(), contract, genotype)
    scores: list[float] = []
    for start in range(0, len(data.calibration), CALIBRATED_AT_ONCE):
        some = data.calibration[start : start + CALIBRATED_AT_ONCE]
        scores += predictor.crop_scores(some)[1].tolist()
    contract = contract.model_copy(
        update={"calibration_scores": tuple(float(s) for s in np.sort(scores))}
    )
    save_model(config.out / "model", detector, contract, genotype)
