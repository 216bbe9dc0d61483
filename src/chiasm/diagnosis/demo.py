"""Demonstration on simulated recordings: simulate, train both stages, evaluate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.evaluate import evaluate
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.diagnosis.train import train
from chiasm.runs.console import say


def demo(
    out: Path | str, *, minutes: float = 4.5, count: int = 1000, sessions: int = 200
) -> dict[str, Any]:
    """Train and evaluate on simulated recordings; return the content of ``metrics.json``.

    Args:
        out: folder for data, model and report.
        minutes: budget of both stages, without simulation and evaluation.
        count, sessions: recordings and sessions to simulate; many sessions teach a network more
            than many recordings of few.
    """
    folder = Path(out)
    data = folder / "data"
    say(f"Simulating {count} recordings of {sessions} sessions ...")
    shutil.rmtree(data, ignore_errors=True)
    make_recordings(data, count=count, sessions=sessions, tier="easy")
    config = DiagnosisConfig.make(
        data=data,
        out=folder / "run",
        model="mad_small",
        preset="quick",
        shares=(0.6, 0.1, 0.3),
        pretrain_epochs=4,
        epochs=18,
        minutes=minutes,
        cache=folder / "cache",
        windows=3,
    )
    train(config)
    return evaluate(config.out, data=data)
