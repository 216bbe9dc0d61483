"""Diagnose new recordings, and write the diagnoses as a table."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.readers.source import RecordingSource, problem_message
from chiasm.errors import ChiasmError
from chiasm.runs.console import MAX_LISTED, report_failures, say
from chiasm.samples import Diagnosis, RecordingSample


def predict(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "diagnoses",
    series: Path | str | None = None,
    device: str = "auto",
) -> list[Diagnosis]:
    """Diagnose new recordings; writes ``diagnoses.csv`` and ``diagnoses.json`` to ``out``.

    Args:
        run: folder of a run or of a model.
        inputs: folder, table, or one picture.
        out: folder for the results.
        series: the series that belongs to a single picture.
        device: that predicts, see ``find_device``.

    A recording that cannot be read gets a row with ``error``.

    Raises:
        DataError: no recording could be diagnosed.
    """
    model = DiagnosisPredictor.load(run, device=device)
    source = open_source(inputs, partner=series)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    diagnoses = list(model.predict_all(_loaded(source)))
    remarks = [p.sentence for p in source.problems if not p.left_out]
    diagnoses += [
        Diagnosis(p.source, None, error=problem_message(p)) for p in source.problems if p.left_out
    ]
    rows = [_row(diagnosis, model.contract.kinds) for diagnosis in diagnoses]
    (target / "diagnoses.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (target / "diagnoses.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    unknown = sum(diagnosis.kind == "unknown" for diagnosis in diagnoses)
    failures = [diagnosis.error for diagnosis in diagnoses if diagnosis.error]
    for remark in remarks[:MAX_LISTED]:
        say(remark)
    say(
        f"{len(diagnoses)} recordings: {unknown} unknown, {len(failures)} not diagnosed. "
        f"See {target}."
    )
    for diagnosis in diagnoses if len(diagnoses) <= MAX_LISTED else ():
        if diagnosis.kind is not None:
            say(f"{diagnosis.source}: {diagnosis.kind} ({_likeliest(diagnosis)})")
    report_failures(failures, succeeded=len(diagnoses) - len(failures), noun="recordings")
    return diagnoses


def _likeliest(diagnosis: Diagnosis) -> str:
    """Return the two likeliest classes and the uncertainty as text."""
    order = sorted(diagnosis.probabilities.items(), key=lambda item: -item[1])
    likely = ", ".join(f"{kind} {probability:.0%}" for kind, probability in order[:2])
    return f"{likely}; uncertainty {diagnosis.uncertainty:.0%}"


def _loaded(source: RecordingSource) -> Iterator[tuple[str, RecordingSample | ChiasmError]]:
    for ref in source.refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error


def _row(diagnosis: Diagnosis, kinds: Sequence[str]) -> dict[str, Any]:
    def rounded(x: float) -> float | None:
        return None if math.isnan(x) else round(x, 5)

    probabilities = diagnosis.probabilities
    return {
        "source": diagnosis.source,
        "kind": diagnosis.kind,
        **{f"p_{kind}": rounded(probabilities.get(kind, math.nan)) for kind in kinds},
        "uncertainty": rounded(diagnosis.uncertainty),
        "conflict": rounded(diagnosis.conflict),
        "notes": "; ".join(diagnosis.notes),
        "error": diagnosis.error,
    }
