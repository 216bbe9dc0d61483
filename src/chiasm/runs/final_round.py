"""The final round of a search: each finalist is trained for a short while and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from chiasm.fusion.genotype import Genotype
from chiasm.runs.console import say

F = TypeVar("F", bound=Genotype | str)


def final_round(
    proposed: Sequence[F],
    *,
    record: Path,
    wanted: Sequence[int],
    judge: Callable[[F, int], dict[str, float]],
) -> list[dict[str, float]]:
    """The figures of each finalist; finished ones are not trained again.

    Args:
        proposed: the finalists: genotypes, or names of fusions made by hand.
        record: JSON file with what is finished.
        wanted: how long finalists are trained; figures of other lengths do not count.
        judge: trains a finalist, given it and its number, and returns its figures by name.
    """
    known: list[dict[str, Any]] = json.loads(record.read_text()) if record.exists() else []
    scores = []
    for number, fusion in enumerate(proposed):
        cells = fusion if isinstance(fusion, str) else json.loads(fusion.to_json())["cells"]
        done = [k for k in known if k["cells"] == cells and k["steps"] == list(wanted)]
        if not done:
            say(f"Final round, {number + 1} of {len(proposed)} ...")
            figures = judge(fusion, number)
            known.append({"cells": cells, "steps": list(wanted), **figures})
            record.write_text(json.dumps(known, indent=2) + "\n")
            done = known[-1:]
        scores.append({k: float(v) for k, v in done[0].items() if k not in ("cells", "steps")})
    return scores
