"""Evaluate and predict, for both wings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack, cast, overload

from chiasm.api.loading import identity, is_exported, load, load_for_worker, refuse
from chiasm.detection.products.models import folder_of_product, read_products
from chiasm.errors import ConfigurationError
from chiasm.runs.extras import names_extra

if TYPE_CHECKING:
    from chiasm.api.loading import Model
    from chiasm.detection.predictor import DetectionPredictor
    from chiasm.diagnosis.predictor import DiagnosisPredictor
    from chiasm.diagnosis.trend import TrendReport
    from chiasm.runs.tally import Tally
    from chiasm.runtime.detection import DetectionRuntime
    from chiasm.runtime.diagnosis import DiagnosisRuntime
    from chiasm.samples import Diagnosis, Verdict

    Inputs: TypeAlias = Path | str | Iterable[Any]


class PredictionOptions(TypedDict, total=False):
    """Keywords of ``predict``; what they mean is said there."""

    out: Path | str | None
    lamp: int | Literal["all"] | None
    xyz: Path | str | None
    series: Path | str | None
    recorder: Sequence[str]
    severity: Path | str | None
    pictures: bool
    keep_maps: bool
    maps: Literal["none", "npy", "tiff"]
    masks: bool
    coco: bool
    product: str | None
    device: str


@names_extra
def evaluate(
    run: Path | str,
    *,
    data: Path | str,
    out: Path | str | None = None,
    lamp: int | Literal["all"] | None = None,
    product: str | None = None,
    splits: Sequence[str] = (),
    left_out: Sequence[str] = (),
    device: str = "auto",
    **options: Any,
) -> dict[str, Any]:
    """Score the test split; writes and returns ``metrics.json``, and writes ``report.html``.

    Args:
        run: folder of a run, of a model, or one that ``export`` wrote.
        data: folder or manifest.
        out: folder of the report; None is ``report`` in the run's folder, and beside an exported
            one ``RUN_report``.
        lamp: of parts: number of the lamp, for data with several; ``"all"`` takes all of them.
            None takes the lamp that the run saw its parts under.
        product: of a model of several, the one that is evaluated alone; None evaluates each on its
            own test parts.
        splits, left_out: of recordings: the run's settings are trained again on each of these
            splits and without each of these classes, and the figures shown beside the run's.
        device: that predicts: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        options: further arguments of the wing's ``evaluate``.

    Raises:
        ConfigurationError: an argument belongs to the other wing.
        DataError: the data cannot be read, or hold nothing that the model may be tested on.
    """
    options |= {"data": data, "out": out, "device": device}
    run = folder_of_product(Path(run), product)
    exported = is_exported(Path(run))
    kind, _ = identity(Path(run))
    if kind == "classifier":
        if exported:
            from chiasm.deploy.exported_classifier import ExportedClassifier

            options["model"] = ExportedClassifier(
                cast("DiagnosisRuntime", load(run, device=device))
            )
        refuse(run, "classifies recordings", lamp=lamp)
        from chiasm.diagnosis.evaluate import evaluate as evaluate_diagnosis

        return evaluate_diagnosis(run, splits=splits, left_out=left_out, **options)
    refuse(run, "detects defects", splits=splits or None, left_out=left_out or None)
    if read_products(run):
        from chiasm.detection.products.evaluation import evaluate_products

        options |= {"data": Path(data), "model": load(run, device=options.pop("device"))}
        return evaluate_products(run, lamp=lamp, **options)
    from chiasm.detection.evaluate import evaluate as evaluate_detection

    if exported:
        options["model"] = load(run, device=device)
    return evaluate_detection(run, lamp=lamp, **options)


@overload
def predict(
    model: DetectionPredictor | DetectionRuntime,
    inputs: Inputs,
    **options: Unpack[PredictionOptions],
) -> list[Verdict]: ...
@overload
def predict(
    model: DiagnosisPredictor | DiagnosisRuntime,
    inputs: Inputs,
    **options: Unpack[PredictionOptions],
) -> list[Diagnosis]: ...
@overload
def predict(
    model: Path | str, inputs: Inputs, **options: Unpack[PredictionOptions]
) -> list[Verdict] | list[Diagnosis]: ...
@names_extra
def predict(
    model: Path | str | Model,
    inputs: Inputs,
    *,
    out: Path | str | None = None,
    lamp: int | Literal["all"] | None = None,
    xyz: Path | str | None = None,
    series: Path | str | None = None,
    recorder: Sequence[str] = (),
    severity: Path | str | None = None,
    pictures: bool = True,
    keep_maps: bool = True,
    maps: Literal["none", "npy", "tiff"] = "none",
    masks: bool = False,
    coco: bool = False,
    product: str | None = None,
    device: str = "auto",
) -> list[Verdict] | list[Diagnosis]:
    """Predict verdicts on new parts, or diagnoses of new recordings.

    What cannot be read or judged gets a verdict or diagnosis with ``error``. For more inputs than
    one process should judge there is ``predict_shards``.

    Args:
        model: that ``load`` returned; or folder of a run, of a model, or one that ``export`` wrote.
        inputs: a folder, a table or one file; or a list of parts or recordings. One of a list is a
            path, an array ``(H, W, 3)`` or a picture of RGB (of the PRPD); a pair ``(rgb, xyz)`` or
            ``(image, series)`` of these; the arguments of a call by name; or a reader's sample.
        out: folder for tables and pictures. None is ``verdicts`` for a folder, a table or a file,
            and writes nothing for a list.
        lamp: of parts: number of the lamp, for data with several; ``"all"`` takes all of them.
            None takes the lamp that the run saw its parts under.
        xyz: of one part: the 3D file that belongs to the RGB file ``inputs``.
        series: of one recording: the series that belongs to the image ``inputs``.
        recorder: of recordings: ``NAME=VALUE`` each, what the recorder's files do not say, e.g.
            ``"frequency=50"``; may stand in ``recorder.yaml`` beside them.
        severity: of recordings: YAML file of the levels of severity; None takes ``severity.yaml``
            beside them, or the defaults.
        pictures: of recordings: draw the pattern of each to ``out/patterns``.
        keep_maps: of parts: whether the verdicts that are returned have their anomaly maps.
        maps: of parts: format of the raw anomaly maps that are written to ``out/maps``.
        masks: of parts: write a mask of the regions of each to ``out/masks``.
        coco: of parts: write the regions of all to ``out/coco.json``, too.
        product: of a model of several products, that of which all these parts are; None leaves it
            to the parts: their folder, a column of the table, or their looks where they are clear.
        device: that predicts: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Returns:
        A verdict or diagnosis for each input, in their order; of a frame that the model splits, one
        for each of its parts.

    Raises:
        ConfigurationError: an argument belongs to the other wing, or to a folder of inputs.
        DataError: results are written, and no input could be judged.
    """
    name = str(model) if isinstance(model, Path | str) else type(model).__name__
    opened: Any = model
    if isinstance(model, Path | str):
        identity(Path(model))  # says what is wrong with a folder that holds no model
        opened = load(model, product=product, device=device)
    elif product is not None:
        raise ConfigurationError(
            f"A loaded model takes no product={product!r}; load it alone: load(folder, "
            f"product={product!r})."
        )
    of_parts = {"xyz": xyz, "lamp": lamp, **_given_files(maps, masks, coco)}
    one_path = isinstance(inputs, Path | str)
    if not one_path:
        of_files = {"series": series, "recorder": recorder or None, "severity": severity}
        _check_list(inputs, lamp=lamp, xyz=xyz, **of_files)
    place = Path("verdicts") if out is None and one_path else None if out is None else Path(out)
    if place is None and (given := [n for n, x in _given_files(maps, masks, coco).items() if x]):
        raise ConfigurationError(f"There is no folder for {' and '.join(given)}; give out=FOLDER.")
    if opened.wing == "classifier":
        refuse(name, "classifies recordings", **of_parts)
        from chiasm.diagnosis import predict as recordings

        if not isinstance(inputs, Path | str):
            return recordings.predict_recordings(opened, inputs, out=place)
        assert place is not None
        return recordings.predict(
            opened,
            inputs,
            out=place,
            series=series,
            recorder=recorder,
            severity=severity,
            pictures=pictures,
        )
    refuse(name, "detects defects", series=series, recorder=recorder or None, severity=severity)
    from chiasm.detection import predict as parts
    from chiasm.detection.prediction.part_files import PartFiles

    files = None if place is None else PartFiles(place, maps, masks, coco)
    if not isinstance(inputs, Path | str):
        return parts.predict_parts(opened, inputs, out=place, keep_maps=keep_maps, files=files)
    assert place is not None
    return parts.predict(
        opened, inputs, out=place, lamp=lamp, xyz=xyz, keep_maps=keep_maps, files=files
    )


def _check_list(inputs: Any, **of_folders: Any) -> None:
    """Refuse one array in place of a list, and arguments of folders and files."""
    if hasattr(inputs, "shape") or hasattr(inputs, "mode") or isinstance(inputs, Mapping):
        raise ConfigurationError(
            "inputs is one part or recording; give a list of them, or call the model itself: "
            "model(rgb, xyz) or model(image, series)."
        )
    given = [name for name, value in of_folders.items() if value is not None]
    if given:
        raise ConfigurationError(
            f"A list of inputs takes no {' and no '.join(given)}, which are for a folder or a "
            "file; give a pair (rgb, xyz) or (image, series) in the list."
        )


@names_extra
def predict_shards(
    model: Path | str,
    inputs: Path | str,
    *,
    out: Path | str,
    workers: int | None = None,
    ray: str | None = None,
    heat_maps: Literal["none", "defective", "all"] | None = None,
    lamp: int | Literal["all"] | None = None,
    recorder: Sequence[str] = (),
    severity: Path | str | None = None,
    pictures: bool = True,
    maps: Literal["none", "npy", "tiff"] = "none",
    masks: bool = False,
    coco: bool = False,
    product: str | None = None,
    quiet: bool = False,
    device: str = "auto",
) -> Tally:
    """Predict over any number of parts or recordings in several processes, or on a Ray cluster.

    Writes ``verdicts/part-*.parquet`` and, of parts, ``heat_maps/part-*.parquet``, of recordings
    ``patterns/*.png`` to ``out``. The same call goes on where an earlier one ended; a process that
    is lost loses nothing.

    Args:
        model: folder of a run, of a model, or one that ``export`` wrote; the latter needs no
            PyTorch.
        inputs: folder or table.
        out: folder for the results; for a cluster one that all its machines share.
        workers: processes at a time. None takes one, and on a cluster all its processors.
        ray: address of a Ray cluster, ``"auto"``, or ``"local"`` for one on this machine; None
            takes processes of this machine.
        heat_maps: of parts: which of them get a heat map; None: those that are defective.
        lamp, recorder, severity, pictures, maps, masks, coco, product: as for ``predict``.
        quiet: print no progress.
        device: on which each worker predicts; see ``load``.

    Returns:
        The counts of what became of the inputs.

    Raises:
        ConfigurationError: an argument belongs to the other wing, ``out`` holds another prediction,
            or a machine lacks something that the others have.
        ArtifactError: the model cannot be read, or the results not be written.
        DataError: no input could be judged.
    """
    folder, place = folder_of_product(Path(model), product), Path(out)
    open_model = partial(load_for_worker, device=device)
    kind, files = identity(folder)
    if kind == "classifier":
        of_parts = {"lamp": lamp, "heat_maps": heat_maps, **_given_files(maps, masks, coco)}
        refuse(model, "classifies recordings", **of_parts)
        from chiasm.diagnosis.prediction import job as recordings

        recording_job = recordings.RecordingJob(
            folder,
            files,
            Path(inputs),
            open_model,
            recorder=tuple(recorder),
            severity=None if severity is None else Path(severity),
            patterns=place / "patterns" if pictures else None,
        )
        return recordings.predict_shards(
            recording_job, place, workers=workers, ray=ray, quiet=quiet
        )
    refuse(model, "detects defects", recorder=tuple(recorder) or None, severity=severity)
    from chiasm.detection.prediction import job as parts
    from chiasm.detection.prediction.part_files import PartFiles

    more = PartFiles(place, maps, masks, coco)
    part_job = parts.PartJob(
        folder, files, Path(inputs), open_model, lamp, heat_maps or "defective", more
    )
    return parts.predict_shards(part_job, place, workers=workers, ray=ray, quiet=quiet)


def _given_files(maps: str, masks: bool, coco: bool) -> dict[str, Any]:
    """Return the options on files of parts by name; None where nothing was asked for."""
    return {"maps": None if maps == "none" else maps, "masks": masks or None, "coco": coco or None}


@names_extra
def trend(
    model: Path | str | Model,
    inputs: Path | str,
    *,
    out: Path | str = "trend",
    asset: str | None = None,
    time: str | None = None,
    per_day: bool = False,
    since: str | None = None,
    false_alarm_rate: float = 0.05,
    persistence: int = 3,
    severity: Path | str | None = None,
    recorder: Sequence[str] = (),
    device: str = "auto",
) -> TrendReport:
    """Judge the recordings of assets in the order of time, and raise alarms on changes.

    Writes ``trend.json``, ``trend.csv`` and ``trend.html`` to ``out``.

    Args:
        model: that ``load`` returned; or folder of a run, of a model, or one that ``export`` wrote.
        inputs: a folder or a table of recordings.
        out: folder of the results.
        asset: column of the table or field of the instrument that names the asset, or ``"folder"``.
        time: column or field of the time; ``"name"``, ``"file"`` or ``"order"``. None takes what
            most recordings have.
        per_day: take one value a day of each asset and recorder.
        since: date; earlier alarms do not count.
        false_alarm_rate: share of assets without change that may ever raise an alarm.
        persistence: recordings in a row, at least, of another class or severity.
        severity: YAML file of levels.
        recorder: ``NAME=VALUE`` each, what the recorder's files do not say.
        device: that predicts, see ``load``.

    Raises:
        ConfigurationError: the model is one of parts, or an option is wrong.
        DataError: no recording could be judged, none has a time, or a column is not there.
    """
    from chiasm.diagnosis.monitoring.alarms import AlarmRule
    from chiasm.diagnosis.monitoring.times import time_of_text
    from chiasm.diagnosis.trend import trend as trend_of_recordings

    opened: Any = model
    if isinstance(model, Path | str):
        identity(Path(model))
        opened = load(model, device=device)
    if opened.wing != "classifier":
        raise ConfigurationError(
            "The trend is of recordings, and this model judges parts; give a run of 'chiasm train' "
            "on recordings."
        )
    moment = None if since is None else time_of_text(since)
    if since is not None and moment is None:
        raise ConfigurationError(f"since is '{since}'; a date such as 2024-05-31 was expected.")
    return trend_of_recordings(
        opened,
        inputs,
        out=out,
        asset=asset,
        time=time,
        rule=AlarmRule(false_alarm_rate, persistence),
        per_day=per_day,
        since=moment,
        severity=severity,
        recorder=recorder,
    )
