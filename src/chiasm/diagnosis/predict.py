"""Diagnose new recordings, and write the diagnoses as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from chiasm.diagnosis.prediction.outcomes import columns_of, outcome_of, row_of, say_summary
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.readers.source import RecordingSource, problem_message
from chiasm.errors import ChiasmError
from chiasm.runs.console import MAX_LISTED
from chiasm.runs.tally import Tally
from chiasm.samples import Diagnosis, RecordingSample
from chiasm.training.progress import Progress


class RecordingModel(Protocol):
    """A trained or exported classifier, as predictions use it."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    def predict_all(
        self, samples: Iterable[RecordingSample | tuple[str, RecordingSample | ChiasmError]]
    ) -> Iterator[Diagnosis]:
        """Diagnose many recordings, one after the other."""
        ...


def predict(
    model: RecordingModel,
    inputs: Path | str,
    *,
    out: Path | str = "diagnoses",
    series: Path | str | None = None,
) -> list[Diagnosis]:
    """Diagnose new recordings; writes ``diagnoses.csv`` and ``diagnoses.json`` to ``out``.

    Args:
        model: trained or exported.
        inputs: folder, table, or one picture.
        out: folder for the results.
        series: the series that belongs to a single picture.

    A recording that cannot be read gets a row with ``error``.

    Raises:
        DataError: no recording could be diagnosed.
    """
    source = open_source(inputs, partner=series)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    kinds = model.kinds
    with Progress("Diagnosing", len(source.refs), unit="recordings") as progress:
        diagnoses = list(progress.over(model.predict_all(_loaded(source))))
    remarks = [p.sentence for p in source.problems if not p.left_out]
    diagnoses += [
        Diagnosis(p.source, None, error=problem_message(p)) for p in source.problems if p.left_out
    ]
    tally = Tally(remarks=[(-1, remark) for remark in remarks[:MAX_LISTED]])
    for position, diagnosis in enumerate(diagnoses):
        tally.add(outcome_of(diagnosis, kinds), position)
    rows = [row_of(diagnosis, kinds) for diagnosis in diagnoses]
    (target / "diagnoses.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (target / "diagnoses.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns_of(kinds)))
        writer.writeheader()
        writer.writerows(rows)
    say_summary(tally, target)
    return diagnoses


def _loaded(source: RecordingSource) -> Iterator[tuple[str, RecordingSample | ChiasmError]]:
    for ref in source.refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error
