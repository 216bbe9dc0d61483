"""Evaluate a classifier on recordings it has never seen, and diagnose new ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.diagnosis.evaluate import _MOST_TOLD
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.readers.source import RecordingSource, problem_message
from chiasm.errors import ChiasmError
from chiasm.runs.console import FEW, say, tell_unjudged
from chiasm.samples import Diagnosis, RecordingSample


def predict(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "diagnoses",
    series: Path | str | None = None,
) -> list[Diagnosis]:
    """Diagnose new recordings; writes ``diagnoses.csv`` and ``diagnoses.json`` to ``out``.

    Args:
        run: a run's or a model's folder.
        inputs: folder, table, or one picture (then ``series`` names its series).
        out: folder for the results.
        series: the series that belongs to a single picture.

    A recording that cannot be read gets a row with ``error``; the others go on.

    Raises:
        DataError: not one recording could be diagnosed.
    """
    diagnoser = DiagnosisPredictor.load(run)
    source = open_source(inputs, partner=series)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    diagnoses = list(diagnoser.predict_all(_loaded(source)))
    remarks = [p.sentence for p in source.problems if not p.left_out]
    diagnoses += [
        Diagnosis(p.source, None, error=problem_message(p)) for p in source.problems if p.left_out
    ]
    rows = [_row(one, diagnoser.contract.kinds) for one in diagnoses]
    (target / "diagnoses.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (target / "diagnoses.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    unknown = sum(one.kind == "unknown" for one in diagnoses)
    failures = [f"{one.error}" for one in diagnoses if one.error]
    for remark in remarks[:_MOST_TOLD]:
        say(remark)
    say(
        f"{len(diagnoses)} recordings: {unknown} unknown, {len(failures)} not diagnosed. "
        f"See {target}."
    )
    for one in diagnoses if len(diagnoses) <= FEW else ():
        if one.kind is not None:
            say(f"{one.source}: {one.kind} ({_opinions(one)})")
    tell_unjudged(failures, judged=len(diagnoses) - len(failures), what="recordings")
    return diagnoses


def _opinions(one: Diagnosis) -> str:
    """The likeliest classes in words."""
    order = sorted(one.probabilities, key=lambda kind: -one.probabilities[kind])
    likely = ", ".join(f"{kind} {one.probabilities[kind]:.0%}" for kind in order[:2])
    return f"{likely}; uncertainty {one.uncertainty:.0%}"


def _loaded(source: RecordingSource) -> Iterator[tuple[str, RecordingSample | ChiasmError]]:
    for ref in source.refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error


def _row(one: Diagnosis, kinds: Sequence[str]) -> dict[str, Any]:
    def known(x: float) -> float | None:
        return None if np.isnan(x) else round(x, 5)

    return {
        "source": one.source,
        "kind": one.kind,
        **{f"p_{kind}": known(one.probabilities.get(kind, float("nan"))) for kind in kinds},
        "uncertainty": known(one.uncertainty),
        "conflict": known(one.conflict),
        "notes": "; ".join(one.notes),
        "error": one.error,
    }
