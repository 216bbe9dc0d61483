"""Cross calibration: every normal is scored by a model that was trained without it.

Where normals are few, none need be held out of the training for the threshold. Decision 18 says
what is promised then, and what was measured.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import read_contract
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.opening import open_data
from chiasm.detection.readers.splits import Split, divide_into_folds
from chiasm.detection.train_baseline import configured_baseline
from chiasm.errors import ConfigurationError
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runs.model_folder import CONTRACT

FOLDS = "folds"  # folder of the folds' runs in the run's folder

Train = Callable[..., Any]  # of ``detection.train.train``, which calls this


def check_refits(config: DetectionConfig) -> None:
    """Refuse a cross calibration of a model whose fits have no common scale of scores.

    Raises ``ConfigurationError``.
    """
    if config.calibration != "cross":
        return
    model = find_model(config.model)
    # A searched detector learns at least its fusion and its head.
    if model.pools is not None or not configured_baseline(config)[0].refits_agree:
        raise ConfigurationError(
            f"{config.model} cannot be calibrated with calibration=cross: it learns by gradient "
            "steps, so that each fold's model has scores of a scale of its own, and a threshold on "
            "all of them promises nothing of one more model. Use calibration=split, or a baseline "
            "of statistics and memories alone, such as btf."
        )


def cross_scores(data: DetectionDataModule, *, train: Train) -> tuple[list[float], int] | None:
    """Score each training normal by a model that was trained on the other folds.

    The models are fitted in the same way as the final one, on the parts of all folds but one. An
    interrupted run keeps the folds that are complete.

    Args:
        data: of the run, of whose training parts all calibrate.
        train: trains a configured detector on data and saves it.

    Returns:
        The scores and the number of folds; None where the run's calibration normals are held out.

    Raises:
        SplitError: there are too few parts for two folds.
    """
    config = data.config
    if not data.split.crossed:
        return None
    folds = divide_into_folds(
        [ref.group for ref in data.split.train], config.calibration_folds, seed=config.seed
    )
    say(
        f"Cross calibration: the detector is trained {len(folds)} more times, each time without "
        f"{min(map(len, folds))} to {max(map(len, folds))} of {len(data.split.train)} parts."
    )
    scores: list[float] = []
    for number, fold in enumerate(folds):
        folder = config.out / FOLDS / str(number)
        if not (folder / "model" / CONTRACT).is_file():
            share = data.seconds_left() / (len(folds) - number + 1)  # one is the final training's
            _train_without(data, fold, folder, seconds=share, train=train)
        scores += read_contract(folder / "model").calibration_scores
    return scores, len(folds)


def remove_folds(config: DetectionConfig) -> None:
    """Remove the models of the folds, which a finished run needs no more."""
    shutil.rmtree(config.out / FOLDS, ignore_errors=True)


def _train_without(
    data: DetectionDataModule,
    fold: list[int],
    folder: Path,
    *,
    seconds: float,
    train: Train,
) -> None:
    refs, left_out = data.split.train, set(fold)
    split = Split(
        train=tuple(ref for i, ref in enumerate(refs) if i not in left_out),
        calibration=tuple(refs[i] for i in fold),
        test=(),
    )
    config = data.config.model_copy(
        update={
            "out": folder,
            "calibration": "split",
            "rotate": data.rotations > 1,
            "minutes": None if seconds == math.inf else max(seconds, 0.0) / 60,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    part = open_data(config, split=split)
    train(config, data=part)
    part.remove_stored()
