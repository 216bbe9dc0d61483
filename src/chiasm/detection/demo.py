"""Demonstration on built-in parts: make them, search, train and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chiasm.detection.config import DetectionConfig
from chiasm.detection.evaluate import evaluate
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train
from chiasm.runs.console import say


def demo(out: Path | str, *, product: str = "flange", minutes: float = 4.5) -> dict[str, Any]:
    """Make parts, train a detector on them and evaluate it.

    Returns the content of ``metrics.json``.

    Args:
        out: folder for data, model and report.
        product: one of ``chiasm.detection.scenes.maker.PRODUCTS``.
        minutes: budget of search and training, without the evaluation.
    """
    folder = Path(out)
    say("Making parts ...")
    make_scenes(
        folder / "data",
        products=(product,),
        train=60,
        validation=40,  # enough to promise a false-alarm rate of 5 %
        test_good=20,
        test_per_defect=5,
    )
    config = DetectionConfig.make(
        data=folder / "data" / product,
        out=folder / "run",
        minutes=minutes,
        rounds=4,
        search={"epochs": 6, "finalists": 4},
        train_epochs=20,
    )
    train(config)
    return evaluate(config.out, data=config.data)
