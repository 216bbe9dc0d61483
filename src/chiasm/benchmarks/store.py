"""Results of trials on disk: one JSON file each, written atomically."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from chiasm.benchmarks.trial import Trial

Status = Literal["done", "crashed", "out of memory"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a trial.

    Attributes:
        status: how the trial ended.
        metrics: content of the run's ``metrics.json``, with ``speed`` (see ``measure``).
        error: a sentence; "" if it is done.
        code: fingerprint of the code that ran it.
        weights: name of the published weights it used; "" for none.
    """

    status: Status
    metrics: dict[str, Any]
    error: str = ""
    code: str = ""
    weights: str = ""


class ResultStore:
    """A folder with the result and the run of each trial, by the trial's key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run_folder(self, trial: Trial) -> Path:
        """Return the folder of checkpoints and model; trials with the same training share it."""
        return self.folder / trial.training.key / "run"

    def report_folder(self, trial: Trial) -> Path:
        """Return the folder of the evaluation; further arguments of ``evaluate`` have another."""
        name = f"report_{trial.key}" if trial.evaluation else "report"
        return self.run_folder(trial) / name

    def read(self, trial: Trial) -> Result | None:
        """Return the stored result, of any version of the code; None if none can be read."""
        try:
            content = json.loads((self.folder / trial.key / "result.json").read_text())
            return Result(**content["result"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, trial: Trial, result: Result) -> None:
        """Store a result."""
        folder = self.folder / trial.key
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "trial": trial.description(),
            "result": asdict(result),
        }
        temporary = folder / f".result.{os.getpid()}"
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(folder / "result.json")

    def prepare(self, trial: Trial, code: str) -> None:
        """Make the folders of a trial; empty them if another version of the code made them."""
        folder = self.folder / trial.training.key
        fingerprint = folder / "code"
        if fingerprint.exists() and fingerprint.read_text() != code:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fingerprint.write_text(code)
        (self.folder / trial.key).mkdir(exist_ok=True)
