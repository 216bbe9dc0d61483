"""The final round of a search: train each finalist for a short while and evaluate it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from chiasm.fusion.genotype import Genotype
from chiasm.runs.console import say

F = TypeVar("F", bound=Genotype | str)


def final_round(
    finalists: Sequence[F],
    *,
    record: Path,
    lengths: Sequence[int],
    evaluate: Callable[[F, int], dict[str, float]],
) -> list[dict[str, float]]:
    """Return the figures of each finalist; recorded ones are not trained again.

    Args:
        finalists: genotypes, or names of fusions made by hand.
        record: JSON file of finished finalists.
        lengths: training lengths (epochs, steps); records of other lengths are ignored.
        evaluate: trains a finalist, given it and its number, and returns its figures by name.
    """
    records: list[dict[str, Any]] = json.loads(record.read_text()) if record.exists() else []
    scores = []
    for number, fusion in enumerate(finalists):
        # The fusion's cells and the lengths identify a record; its other keys are figures.
        identity = {
            "cells": fusion if isinstance(fusion, str) else json.loads(fusion.to_json())["cells"],
            "steps": list(lengths),
        }
        finished = next((r for r in records if r.items() >= identity.items()), None)
        if finished is None:
            say(f"Final round, {number + 1} of {len(finalists)} ...")
            finished = identity | evaluate(fusion, number)
            records.append(finished)
            record.write_text(json.dumps(records, indent=2) + "\n")
        scores.append({k: float(v) for k, v in finished.items() if k not in identity})
    return scores
