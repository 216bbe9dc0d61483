"""Results of cells on disk: one JSON file each, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chiasm.benchmarks.trial import Trial

Status = Literal["done", "crashed", "out of memory"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a cell.

    Attributes:
        status: how it ended.
        metrics: content of the run's ``metrics.json``, with ``speed`` (see ``measure``).
        error: a sentence, where it did not end well.
        code: fingerprint of the code that made it.
        weights: published weights that it used, in words; "" for none.
    """

    status: Status
    metrics: dict[str, Any]
    error: str = ""
    code: str = ""
    weights: str = ""


class ResultStore:
    """A folder of results by the cell's key, and the run's folder of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run_folder(self, cell: Trial) -> Path:
        """Where the cell's run keeps checkpoints and model: cells that learn alike share it."""
        return self.folder / cell.learned.key / "run"

    def report_folder(self, cell: Trial) -> Path:
        """Where the cell's evaluation is: one that was asked for more has a folder of its own."""
        name = f"report_{cell.key}" if cell.evaluation else "report"
        return self.run_folder(cell) / name

    def read(self, cell: Trial) -> Result | None:
        """The stored result, whatever code made it; None where there is none that can be read."""
        try:
            content = json.loads((self.folder / cell.key / "result.json").read_text())
            return Result(**content["result"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, cell: Trial, result: Result) -> None:
        """Keep a result."""
        place = self.folder / cell.key
        place.mkdir(parents=True, exist_ok=True)
        content = {
            "cell": cell.described(),
            "result": {name: getattr(result, name) for name in Result.__dataclass_fields__},
        }
        fresh = place / f".result.{os.getpid()}"
        fresh.write_text(json.dumps(content, indent=1) + "\n")
        fresh.replace(place / "result.json")

    def prepare(self, cell: Trial, code: str) -> None:
        """Empty the run's folder where other code began it; keep it where this code did."""
        place = self.folder / cell.learned.key
        begun = place / "code"
        if begun.exists() and begun.read_text() != code:
            shutil.rmtree(place)
        place.mkdir(parents=True, exist_ok=True)
        begun.write_text(code)
        (self.folder / cell.key).mkdir(exist_ok=True)
