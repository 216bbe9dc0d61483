"""Diagnose new recordings, and write the diagnoses as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

from chiasm.diagnosis.prediction.outcomes import (
    columns_of,
    outcome_of,
    record_of,
    row_of,
    say_summary,
    with_remarks,
)
from chiasm.diagnosis.prediction.pictures import MANY, PatternPictures, cost_of_pictures
from chiasm.diagnosis.quantities.assessment import measured
from chiasm.diagnosis.quantities.severity import SeverityLevels, levels_for, rated
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.readers.source import RecordingSource, problem_message
from chiasm.errors import ChiasmError, ConfigurationError, DataError
from chiasm.runs.console import MAX_LISTED, say
from chiasm.runs.tally import Tally
from chiasm.samples import Diagnosis, RecordingSample
from chiasm.training.progress import Progress


class RecordingModel(Protocol):
    """A trained or exported classifier, as predictions use it."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    def __call__(self, image: Any = None, series: Any = None, **options: Any) -> Diagnosis:
        """Diagnose one recording."""
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
    recorder: Sequence[str] = (),
    severity: Path | str | None = None,
    pictures: bool = True,
) -> list[Diagnosis]:
    """Diagnose new recordings; writes ``diagnoses.csv`` and ``diagnoses.json`` to ``out``.

    Args:
        model: trained or exported.
        inputs: folder, table, or one picture.
        out: folder for the results.
        series: the series that belongs to a single picture.
        recorder: ``NAME=VALUE`` each, what the recorder's files do not say.
        severity: YAML file of levels; None takes ``severity.yaml`` beside the inputs, or the
            default levels.
        pictures: draw the pattern of each recording, and mark the phases that speak for its class.

    A recording that cannot be read gets a row with ``error``.

    Raises:
        DataError: no recording could be diagnosed.
    """
    source = open_source(inputs, partner=series, recorder=recorder)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    levels = levels_for(inputs, severity)
    drawn = PatternPictures(target / "patterns", model) if pictures else None
    if pictures and len(source.refs) >= MANY:
        say(cost_of_pictures(len(source.refs)))
    read: list[tuple[str, ...]] = []
    with Progress("Diagnosing", len(source.refs), unit="recordings") as progress:
        diagnoses = [
            _diagnosed(model, item, levels, drawn) for item in progress.over(_loaded(source, read))
        ]
    remarks = [p.sentence for p in source.problems if not p.left_out]
    lost = [
        Diagnosis(p.source, None, error=problem_message(p)) for p in source.problems if p.left_out
    ]
    read += [()] * len(lost)
    _write([*diagnoses, *lost], model.kinds, target, remarks=remarks, read=read)
    return [*map(with_remarks, [*diagnoses, *lost], read)]


def predict_recordings(
    model: RecordingModel, recordings: Iterable[Any], *, out: Path | str | None = None
) -> list[Diagnosis]:
    """Diagnose recordings that a caller hands over, in their order.

    A recording that cannot be read or diagnosed gets a diagnosis with ``error``.

    Args:
        model: trained or exported.
        recordings: each a sample; a path, an array ``(H, W, 3)`` or a picture of the PRPD; a pair
            of image and series, either of them None, a path or an array; or the arguments of a
            model's call by name.
        out: folder for the tables as ``predict`` writes them; None writes nothing.

    Raises:
        DataError: there is an ``out``, and no recording could be diagnosed.
    """
    count = len(recordings) if isinstance(recordings, Sized) else 0
    diagnoses = []
    with Progress("Diagnosing", count, unit="recordings") as progress:
        for number, recording in enumerate(progress.over(recordings), start=1):
            diagnoses.append(_diagnosis_of(model, recording, number))
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        _write(diagnoses, model.kinds, Path(out), remarks=())
    return diagnoses


def _diagnosis_of(model: RecordingModel, recording: Any, number: int) -> Diagnosis:
    if isinstance(recording, RecordingSample):
        source = recording.source or f"recording {number}"
        return next(model.predict_all([(source, recording)]))
    named: dict[str, Any] = {"image": recording, "series": None}
    if isinstance(recording, Mapping):
        named |= {"image": None, **recording}
    elif isinstance(recording, tuple | list):
        named |= dict(zip(("image", "series"), recording))
    paths = (named.get(role) for role in ("image", "series"))
    file = next((str(path) for path in paths if isinstance(path, Path | str)), "")
    named["source"] = source = named.get("source") or file or f"recording {number}"
    try:
        if isinstance(recording, tuple | list) and len(recording) != 2:
            raise DataError(
                f"{source} is a sequence of {len(recording)}; a recording is a pair of image and "
                "series, an array (H, W, 3), a path, or a mapping of a call's arguments."
            )
        return model(**named)
    except ChiasmError as error:
        return Diagnosis(source, None, error=str(error))
    except TypeError as error:
        raise ConfigurationError(
            f"{source} names an argument that there is not ({error}); a recording has image, "
            "series, frequency, samples_per_cycle, charge and source."
        ) from error


def _write(
    diagnoses: Sequence[Diagnosis],
    kinds: Sequence[str],
    folder: Path,
    *,
    remarks: Sequence[str],
    read: Sequence[tuple[str, ...]] = (),
) -> None:
    """Write the tables of diagnoses, and print their summary.

    ``remarks`` are printed; ``read`` has those on each recording, which are notes of its row.
    """
    tally = Tally(remarks=[(-1, remark) for remark in remarks[:MAX_LISTED]])
    for position, diagnosis in enumerate(diagnoses):
        tally.add(outcome_of(diagnosis, kinds), position)
    noted = [*map(with_remarks, diagnoses, read)] if read else diagnoses
    rows = [row_of(diagnosis, kinds) for diagnosis in noted]
    records = [record_of(diagnosis, kinds) for diagnosis in noted]
    (folder / "diagnoses.json").write_text(json.dumps(records, indent=2) + "\n")
    with (folder / "diagnoses.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns_of(kinds)))
        writer.writeheader()
        writer.writerows(rows)
    say_summary(tally, folder)


def _diagnosed(
    model: RecordingModel,
    item: tuple[str, RecordingSample | ChiasmError],
    levels: SeverityLevels | None,
    drawn: PatternPictures | None,
) -> Diagnosis:
    """Return the diagnosis of a recording, or its error; the picture is written."""
    diagnosis = next(model.predict_all([item]))
    if isinstance(item[1], RecordingSample):
        diagnosis = rated(measured(diagnosis, item[1]), levels)
    if drawn is not None and isinstance(item[1], RecordingSample) and not diagnosis.error:
        drawn.write(item[1], diagnosis)
    return diagnosis


def _loaded(
    source: RecordingSource, read: list[tuple[str, ...]]
) -> Iterator[tuple[str, RecordingSample | ChiasmError]]:
    """Yield the recordings; ``read`` gets what was assumed of each."""
    for ref in source.refs:
        recording: RecordingSample | ChiasmError
        try:
            recording = source.load(ref)
        except ChiasmError as error:
            recording = error
        assumed = source.repairs(ref) if isinstance(recording, RecordingSample) else ()
        read.append(tuple(p.sentence for p in assumed if not p.left_out))
        yield ref.source, recording
