"""Evaluate a classifier on recordings it has never seen, and diagnose new ones."""

from __future__ import annotations

import csv
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.data.discharge.corruptions import CORRUPTIONS, Corruption, partners
from chiasm.data.discharge.opening import open_as_store, open_discharges
from chiasm.data.discharge.simulator import MARKER
from chiasm.data.discharge.source import DischargeRef, DischargeSource
from chiasm.data.discharge.splits import RANDOM
from chiasm.data.discharge.store import DischargeStore
from chiasm.data.discharge.trivial_numbers import trivial_numbers
from chiasm.diagnoser import Diagnoser
from chiasm.discharge_config import DiagnosisConfig
from chiasm.errors import ChiasmError, DataError, SplitError
from chiasm.evaluation.diagnosis.figures import evaluate_recordings
from chiasm.evaluation.diagnosis.predictions import (
    CORRUPTED,
    PREDICTIONS,
    stacked,
    write_predictions,
)
from chiasm.evaluation.diagnosis.report import write_diagnosis_report
from chiasm.evaluation.diagnosis.trivial import TrivialRival
from chiasm.model_folder import parameter_count
from chiasm.samples import Diagnosis, DischargeSample
from chiasm.workflows.beside import beside
from chiasm.workflows.console import say
from chiasm.workflows.recording_bench import digest, divide
from chiasm.workflows.score_recordings import score_recordings

MOST_CORRUPTED = 40
MOST_TIMED = 40


def evaluate_classifier(
    run: Path | str,
    *,
    data: Path | str,
    out: Path | str | None = None,
    most_corrupted: int = MOST_CORRUPTED,
    splits: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Diagnose the recordings that training left for tests; writes figures and a report.

    Args:
        run: a run's or a model's folder.
        data: where the recordings lie; those of groups that were trained on are left out.
        out: folder for the report; None takes ``report`` in the run's folder.
        most_corrupted: so many of them are diagnosed again with each corruption; 0 for none.
        splits, left_out: see ``beside``: what is trained again, to be shown beside the run.

    Returns:
        The content of ``metrics.json``.
    """
    folder = Path(run)
    target = Path(out) if out is not None else folder / "report"
    diagnoser = Diagnoser.load(folder)
    store = open_as_store(data)
    train, test = _lists(folder, diagnoser, store, data)
    say(f"{store.name}: diagnosing {len(test)} recordings of groups it has not seen ...")
    scored = score_recordings(diagnoser, store, test)
    seconds = _latencies(diagnoser, store, _spread(test, MOST_TIMED))
    some = _spread(test, most_corrupted)
    corruptions = {
        name: score_recordings(
            diagnoser, store, some, change=_with_others(store, some, change), alone=False
        )
        for name, change in CORRUPTIONS.items()
        if some
    }
    others, open_set = beside(run, splits=splits, left_out=left_out)
    learning = folder / "learning.json"
    cost = json.loads(learning.read_text()) if learning.exists() else {}
    cost |= {
        "seconds_per_recording_p50": round(float(np.median(seconds)), 4),
        "seconds_per_recording_p95": round(float(np.quantile(seconds, 0.95)), 4),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "parameters": parameter_count(diagnoser.network),
    }
    metrics = evaluate_recordings(
        scored,
        by=diagnoser.contract.split.by,
        cost=cost,
        splits=others,
        corruptions=corruptions,
        open_set=open_set,
        trivial=_trivial(store, train, test),
        simulated=(Path(data) / MARKER).is_file(),
    )
    page = write_diagnosis_report(
        target,
        metrics=metrics,
        scored=scored,
        title=f"{store.name}: {diagnoser.contract.method}",
        repeat=f"chiasm evaluate {folder} --data {data}",
        load=lambda place: store.load(test[place]),
        run=folder,
    )
    write_predictions(target / PREDICTIONS, scored)
    if corruptions:
        write_predictions(target / CORRUPTED, stacked(list(corruptions.items())))
    found = metrics["recording"]["macro_f1"]
    say(f"macro-F1 {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})")
    say(f"The report is {page}.")
    return metrics


def _lists(
    folder: Path, diagnoser: Diagnoser, store: DischargeStore, data: Path | str
) -> tuple[list[DischargeRef], list[DischargeRef]]:
    """Training and test recordings of a run, or of other data all that it was not trained on."""
    labelled = [ref for ref in store.refs if ref.label is not None]
    settings = folder / "config.yaml"
    if settings.exists():
        config = DiagnosisConfig.make(file=settings)
        if config.data.resolve() == Path(data).resolve():
            split = divide(labelled, config)
            gone = {store.kinds.index(kind) for kind in config.left_out}
            return (
                [ref for ref in split.train if ref.label not in gone],
                [ref for ref in split.test if ref.label not in gone],
            )
    described = diagnoser.contract.split
    if described.by == RANDOM:
        raise SplitError(
            "The model was trained on a random split, so that sessions cannot be told apart from "
            "those it has seen; evaluate it on the data and in the folder that it was trained in."
        )
    seen = set(described.training_groups)
    test = [
        ref
        for ref in labelled
        if digest(f"{described.by}:{ref.group.get(described.by, '')}") not in seen
    ]
    if not test:
        raise DataError(f"{data} has no labelled recording of a group that it was not trained on.")
    return [], test


def _latencies(
    diagnoser: Diagnoser, store: DischargeStore, refs: Sequence[DischargeRef]
) -> list[float]:
    """Seconds from a decoded recording to its diagnosis."""
    seconds = []
    for ref in refs:
        sample = store.load(ref)
        start = time.perf_counter()
        diagnoser.diagnose(sample)
        seconds.append(time.perf_counter() - start)
    return seconds


def _with_others(
    store: DischargeStore, refs: Sequence[DischargeRef], change: Corruption
) -> Callable[[DischargeSample], DischargeSample]:
    """The corruption of each recording in turn, with the one whose picture it might be given."""
    places = iter(partners(np.array([ref.label for ref in refs])))

    def changed(sample: DischargeSample) -> DischargeSample:
        return change(sample, store.load(refs[next(places)]))

    return changed


def _spread(refs: Sequence[DischargeRef], most: int) -> list[DischargeRef]:
    """At most so many, of all classes alike, spread over the list."""
    if most <= 0:
        return []
    by_class: dict[int, list[DischargeRef]] = {}
    for ref in refs:
        by_class.setdefault(int(ref.label or 0), []).append(ref)
    each = max(1, most // len(by_class))
    return [r for own in by_class.values() for r in own[:: max(1, len(own) // each)][:each]]


def _trivial(
    store: DischargeStore, train: Sequence[DischargeRef], test: Sequence[DischargeRef]
) -> dict[str, TrivialRival] | None:
    if not train:
        return None
    numbers = {
        name: [trivial_numbers(store.load(ref), _files(ref)) for ref in refs]
        for name, refs in (("train", train), ("test", test))
    }
    shared = set.intersection(*(set(one) for rows in numbers.values() for one in rows))
    labels = np.array([ref.label for ref in train], np.int64)
    return {
        name: TrivialRival(
            np.array([one[name] for one in numbers["train"]]),
            labels,
            np.array([one[name] for one in numbers["test"]]),
        )
        for name in sorted(shared)
    }


def _files(ref: DischargeRef) -> dict[str, Path]:
    """Where the recording came from, if that is still there."""
    image = Path(ref.source)
    return dict(ref.files) or {"image": image, "series": image.with_suffix(".csv")}


def diagnose_recordings(
    run: Path | str, inputs: Path | str, *, out: Path | str = "diagnoses"
) -> list[Diagnosis]:
    """Diagnose new recordings; writes ``diagnoses.csv`` and ``diagnoses.json`` to ``out``.

    A recording that cannot be read gets a row with ``error``; the others go on.
    """
    diagnoser = Diagnoser.load(run)
    source = open_discharges(inputs)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    diagnoses = list(diagnoser.diagnose_all(_loaded(source)))
    rows = [_row(one, diagnoser.contract.kinds) for one in diagnoses]
    rows += [_row(Diagnosis(p, None, error=p), diagnoser.contract.kinds) for p in source.problems]
    (target / "diagnoses.json").write_text(json.dumps(rows, indent=2) + "\n")
    with (target / "diagnoses.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    unknown = sum(one.kind == "unknown" for one in diagnoses)
    failed = sum(bool(one.error) for one in diagnoses)
    say(f"{len(diagnoses)} recordings: {unknown} unknown, {failed} not diagnosed. See {target}.")
    return diagnoses


def _loaded(source: DischargeSource) -> Iterator[tuple[str, DischargeSample | ChiasmError]]:
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
