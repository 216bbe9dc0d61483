"""Evaluate and predict, for both wings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chiasm.api.loading import identity, is_exported, load, load_for_worker, refuse
from chiasm.errors import ConfigurationError

if TYPE_CHECKING:
    from chiasm.runs.tally import Tally
    from chiasm.samples import Diagnosis, Verdict


def evaluate(
    run: Path | str,
    *,
    data: Path | str,
    out: Path | str | None = None,
    lamp: int | Literal["all"] | None = None,
    splits: Sequence[str] = (),
    left_out: Sequence[str] = (),
    device: str = "auto",
    **options: Any,
) -> dict[str, Any]:
    """Score the test split; writes and returns ``metrics.json``, and writes ``report.html``.

    Args:
        run: folder of a run, of a model, or of an exported detector.
        data: folder or manifest.
        out: folder of the report; None is ``report`` in the run's folder, and beside an exported
            one ``RUN_report``.
        lamp: of parts: number of the lamp, for data with several; ``"all"`` takes all of them.
            None takes the lamp that the run saw its parts under.
        splits, left_out: of recordings: the run's settings are trained again on each of these
            splits and without each of these classes, and the figures shown beside the run's.
        device: that predicts: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        options: further arguments of the wing's ``evaluate``.

    Raises:
        ConfigurationError: an argument belongs to the other wing.
        DataError: the data cannot be read, or hold nothing that the model may be tested on.
    """
    options |= {"data": data, "out": out, "device": device}
    exported = is_exported(Path(run))
    kind, _ = identity(Path(run))
    if kind == "classifier":
        if exported:
            raise ConfigurationError(
                f"{run} is an exported classifier, which does not know the recordings that it was "
                "trained on, so that none can be told to be new to it. Evaluate the run that it "
                "was exported from: its scores are the same."
            )
        refuse(run, "classifies recordings", lamp=lamp)
        from chiasm.diagnosis.evaluate import evaluate as evaluate_diagnosis

        return evaluate_diagnosis(run, splits=splits, left_out=left_out, **options)
    refuse(run, "detects defects", splits=splits or None, left_out=left_out or None)
    from chiasm.detection.evaluate import evaluate as evaluate_detection

    if exported:
        options["model"] = load(run, device=device)
    return evaluate_detection(run, lamp=lamp, **options)


def predict(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "verdicts",
    lamp: int | Literal["all"] | None = None,
    xyz: Path | str | None = None,
    series: Path | str | None = None,
    keep_maps: bool = True,
    maps: Literal["none", "npy", "tiff"] = "none",
    masks: bool = False,
    coco: bool = False,
    device: str = "auto",
) -> Sequence[Verdict] | Sequence[Diagnosis]:
    """Predict verdicts of new parts, or diagnoses of new recordings, and write them to ``out``.

    For more of them than one process should judge there is ``predict_shards``.

    Args:
        run: folder of a run, of a model, or one that ``export`` wrote.
        inputs: folder, manifest or one file.
        out: folder for the tables and pictures.
        lamp: of parts: number of the lamp, for data with several; ``"all"`` takes all of them.
            None takes the lamp that the run saw its parts under.
        xyz: of one part: the 3D file that belongs to the RGB file ``inputs``.
        series: of one recording: the series that belongs to the image ``inputs``.
        keep_maps: of parts: whether the verdicts that are returned have their anomaly maps.
        maps: of parts: format of the raw anomaly maps that are written to ``out/maps``.
        masks: of parts: write a mask of the regions of each to ``out/masks``.
        coco: of parts: write the regions of all to ``out/coco.json``, too.
        device: that predicts: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        ConfigurationError: an argument belongs to the other wing.
        DataError: no input could be read.
    """
    kind, _ = identity(Path(run))
    if kind == "classifier":
        of_parts = {"xyz": xyz, "lamp": lamp, **given_files(maps, masks, coco)}
        refuse(run, "classifies recordings", **of_parts)
        from chiasm.diagnosis.predict import predict as predict_diagnosis

        return predict_diagnosis(load(run, device=device), inputs, out=out, series=series)
    refuse(run, "detects defects", series=series)
    from chiasm.detection.predict import predict as predict_detection
    from chiasm.detection.prediction.part_files import PartFiles

    return predict_detection(
        load(run, device=device),
        inputs,
        out=out,
        lamp=lamp,
        xyz=xyz,
        keep_maps=keep_maps,
        files=PartFiles(Path(out), maps, masks, coco),
    )


def predict_shards(
    model: Path | str,
    inputs: Path | str,
    *,
    out: Path | str,
    workers: int | None = None,
    ray: str | None = None,
    heat_maps: Literal["none", "defective", "all"] | None = None,
    lamp: int | Literal["all"] | None = None,
    maps: Literal["none", "npy", "tiff"] = "none",
    masks: bool = False,
    coco: bool = False,
    quiet: bool = False,
    device: str = "auto",
) -> Tally:
    """Predict over any number of parts or recordings in several processes, or on a Ray cluster.

    Writes ``verdicts/part-*.parquet`` and, of parts, ``heat_maps/part-*.parquet`` to ``out``. The
    same call goes on where an earlier one ended; a process that is lost loses nothing.

    Args:
        model: folder of a run, of a model, or one that ``export`` wrote; the latter needs no
            PyTorch.
        inputs: folder or table.
        out: folder for the results; for a cluster one that all its machines share.
        workers: processes at a time. None takes one, and on a cluster all its processors.
        ray: address of a Ray cluster, ``"auto"``, or ``"local"`` for one on this machine; None
            takes processes of this machine.
        heat_maps: of parts: which of them get a heat map; None: those that are defective.
        lamp, maps, masks, coco: as for ``predict``.
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
    folder, place = Path(model), Path(out)
    open_model = partial(load_for_worker, device=device)
    kind, files = identity(folder)
    if kind == "classifier":
        of_parts = {"lamp": lamp, "heat_maps": heat_maps, **given_files(maps, masks, coco)}
        refuse(model, "classifies recordings", **of_parts)
        from chiasm.diagnosis.prediction import job as recordings

        recording_job = recordings.RecordingJob(folder, files, Path(inputs), open_model)
        return recordings.predict_shards(
            recording_job, place, workers=workers, ray=ray, quiet=quiet
        )
    from chiasm.detection.prediction import job as parts
    from chiasm.detection.prediction.part_files import PartFiles

    more = PartFiles(place, maps, masks, coco)
    part_job = parts.PartJob(
        folder, files, Path(inputs), open_model, lamp, heat_maps or "defective", more
    )
    return parts.predict_shards(part_job, place, workers=workers, ray=ray, quiet=quiet)


def given_files(maps: str, masks: bool, coco: bool) -> dict[str, Any]:
    """Return the options on files of parts by name; None where nothing was asked for."""
    return {"maps": None if maps == "none" else maps, "masks": masks or None, "coco": coco or None}
