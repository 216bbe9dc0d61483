"""The final round of a search: each finalist is trained for a short while and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chiasm.fusion.genotype import Genotype
from chiasm.workflows.console import say


def final_round(
    proposed: Sequence[Genotype],
    *,
    record: Path,
    wanted: Sequence[int],
    metric: str,
    judge: Callable[[Genotype, int], float],
) -> list[float]:
    """The figure of each finalist; finished ones are not trained again.

    Args:
        proposed: the finalists.
        record: JSON file with what is finished.
        wanted: how long finalists are trained; figures of other lengths do not count.
        metric: name of the figure in the record.
        judge: trains a finalist, given it and its number, and returns its figure.
    """
    known: list[dict[str, Any]] = json.loads(record.read_text()) if record.exists() else []
    scores = []
    for number, genotype in enumerate(proposed):
        cells = json.loads(genotype.to_json())["cells"]
        done = [k for k in known if k["cells"] == cells and k["steps"] == list(wanted)]
        if not done:
            say(f"Final round, {number + 1} of {len(proposed)} ...")
            figure = judge(genotype, number)
            known.append({"cells": cells, "steps": list(wanted), metric: figure})
            record.write_text(json.dumps(known, indent=2) + "\n")
            done = known[-1:]
        scores.append(float(done[0][metric]))
    return scores
