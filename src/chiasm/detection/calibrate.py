"""Calibrate a trained detector and write its model folder, with the figures of its training."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from chiasm.detection.contract import DetectionContract, Fusion, save_model
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.detector import Detector
from chiasm.detection.layers.tiled import TiledDetector
from chiasm.detection.models.cost import cost_of
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.distance import distance_range
from chiasm.fusion.genotype import Genotype
from chiasm.metrics import versions
from chiasm.runs.console import say
from chiasm.runs.model_folder import library_versions, parameter_count
from chiasm.training.progress import Progress

BATCH = 8  # parts


def calibrate_and_save(
    detector: Detector,
    data: DetectionDataModule,
    *,
    arguments: dict[str, Any],
    fusion: Fusion,
    score_rule: str,
    genotype: Genotype | None = None,
    figures: dict[str, Any],
    cross: tuple[Sequence[float], int] | None = None,
) -> float:
    """Score the calibration normals; write ``model`` and ``learning.json`` to the run's folder.

    Returns the minutes since the start of the run.

    Args:
        detector: trained; put into evaluation mode.
        data: whose data, preparation and configuration the contract states.
        arguments: from which the builder builds the detector again.
        fusion: how it fuses; ``"none"`` where that is part of the method.
        score_rule: in words.
        genotype: of a searched fusion.
        figures: of the training, for ``learning.json``; minutes, memory, parameters and
            multiply-accumulates are added.
        cross: scores and folds of a cross calibration; None scores the calibration normals.
    """
    config = data.config
    if data.tiles is not None:
        detector = TiledDetector(detector, data.tiles).to(data.device)
    with Progress("Measuring distances", len(data.calibration)) as progress:
        distance = distance_range(progress.over(data.calibration))
    contract = DetectionContract(
        method=config.model,
        arguments=arguments,
        fusion=fusion,
        modalities=config.modalities,
        preparation=data.preparation,
        geometry=data.geometry,
        score_rule=score_rule,
        image_score=detector.image_rule,
        calibration_scores=(),
        false_alarm_rate=config.false_alarm_rate,
        confidence=config.confidence,
        distance=distance,
        acquisition=data.acquisition,
        tiles=data.tiles,
        metric_versions=versions(),
        training_data=data.training_data,
        training_samples=len(data.parts)
        if data.tiles is None
        else len(data.split.train) * data.rotations,
        seed=config.seed,
        backbone_weights=detector.pretrained_weights,
        libraries=library_versions(),
    )
    if cross is None:
        scores: Sequence[float] = _scores(DetectionPredictor(detector, contract, genotype), data)
    else:
        scores = cross[0]
    contract = contract.model_copy(
        update={
            "calibration_scores": tuple(float(s) for s in np.sort(scores)),
            "calibration_folds": 0 if cross is None else cross[1],
        }
    )
    save_model(config.out / "model", detector, contract, genotype)
    example = to_batch(
        data.calibration[:1], data.geometry, modalities=config.modalities, device=data.device
    )
    minutes = (time.monotonic() - data.started) / 60
    figures = {
        "fit_minutes": round(minutes, 3),
        "device": str(data.device),
        "parameters": parameter_count(detector),
        "macs": cost_of(detector, example).macs,
        "fit_peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **figures,
    }
    (config.out / "learning.json").write_text(json.dumps(figures, indent=2) + "\n")
    say(f"The model is in {config.out / 'model'} ({minutes:.1f} minutes).")
    return minutes


def _scores(predictor: DetectionPredictor, data: DetectionDataModule) -> list[float]:
    scores: list[float] = []
    with Progress("Calibrating", len(data.calibration)) as progress:
        for start in range(0, len(data.calibration), BATCH):
            parts = data.calibration[start : start + BATCH]
            scores += predictor.crop_scores(parts)[1].tolist()
            progress.update(len(parts))
    return scores
