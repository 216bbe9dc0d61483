"""The interface: train, search, evaluate, predict, load, export and demo, for both wings.

Each function finds the wing by the model's name, or by the contract of a trained model, and hands
over to it. Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.registry import RegisteredModel, find_model, searched_models

if TYPE_CHECKING:
    from chiasm.detection.config import DetectionConfig
    from chiasm.detection.predictor import DetectionPredictor
    from chiasm.diagnosis.config import DiagnosisConfig
    from chiasm.diagnosis.predictor import DiagnosisPredictor
    from chiasm.fusion.costs import PieceCosts
    from chiasm.fusion.genotype import Genotype
    from chiasm.runs.crew import Crew
    from chiasm.runs.tally import Tally
    from chiasm.runtime.deployment import Deployment
    from chiasm.runtime.detection import DetectionRuntime
    from chiasm.runtime.diagnosis import DiagnosisRuntime
    from chiasm.samples import Diagnosis, Verdict
    from chiasm.settings import SettingFact

    Config: TypeAlias = DetectionConfig | DiagnosisConfig
    Model: TypeAlias = DetectionPredictor | DiagnosisPredictor | DetectionRuntime | DiagnosisRuntime

DEFAULT_MODEL = "adnas_light"


def train(
    config: Config | None = None,
    *,
    workers: int | None = None,
    ray: str | None = None,
    **settings: Any,
) -> Any:
    """Train a detector or a classifier; ``out/model`` is then the model.

    A run that was interrupted goes on when it is started again with the same folder.

    Args:
        config: settings of the run: a ``DetectionConfig`` or a ``DiagnosisConfig``.
        workers, ray: processes of the search, see ``search``, and of the training after it.
        settings: instead of ``config``, the settings by name: ``data``, ``out``, ``model``, …

    Returns:
        The wing's ``TrainResult``: the run's folder, the minutes and a validation figure.

    Raises:
        ConfigurationError: a setting is wrong.
        DataError: the data cannot be read.
    """
    chosen = _config(config, settings)
    procedure = import_module(f"chiasm.{_wing_of(chosen)}.train").train
    with _crew(chosen, workers, ray) as crew:
        return procedure(chosen, measure=_measure(chosen), crew=crew)


def search(
    config: Config | None = None,
    *,
    workers: int | None = None,
    ray: str | None = None,
    **settings: Any,
) -> Genotype:
    """Search how to fuse both sensors; writes ``genotype.json`` and its drawing to ``out``.

    ``train`` in the same folder goes on from there.

    Args:
        config: settings of the run: a ``DetectionConfig`` or a ``DiagnosisConfig``.
        workers: processes that compute at a time what the search can divide: stored features,
            architectures of a generation, finalists. None is one, and on a cluster as many as it
            has processors, or graphics cards. The result is the same but for rounding.
        ray: address of a Ray cluster, ``"auto"``, or ``"local"`` for one on this machine; None
            takes processes of this machine. Data and run must lie where all machines see them.
        settings: instead of ``config``, the settings by name. A model stands for the searched one
            that fuses its features, for example ``mad_small`` for ``fused_small``.

    Raises:
        ConfigurationError: the model's fusion is not searched, or a setting is wrong.
    """
    if config is None and settings.get("model") is not None:
        name = str(settings["model"]).replace("-", "_")
        fusing = (model.name for model in _models() if model.fuses == name)
        settings["model"] = next(fusing, name)
    chosen = _config(config, settings)
    searched = {model.name for model in searched_models()}
    if chosen.model not in searched:
        raise ConfigurationError(
            f"{chosen.model} has no fusion to search; choose one of {', '.join(sorted(searched))}."
        )
    procedure = import_module(f"chiasm.{_wing_of(chosen)}.search").search
    with _crew(chosen, workers, ray) as crew:
        return procedure(chosen, measure=_measure(chosen), crew=crew)


def _crew(config: Config, workers: int | None, ray: str | None) -> AbstractContextManager[Crew]:
    from chiasm.runs.crew import gather

    config.out.mkdir(parents=True, exist_ok=True)
    seen = (config.data, config.out)  # by all machines of a cluster
    module = f"chiasm.{_wing_of(config)}.train"
    return gather(workers, ray, device=config.device, shared=seen, module=module)


def _measure(config: Config) -> Callable[..., PieceCosts] | None:
    """Return what measures costs, for a search that weighs them; it needs the exported runtime."""
    if not config.search.evolves:
        return None
    from chiasm.deploy.fusion_costs import measure_classifier_costs, measure_costs

    return measure_costs if _wing_of(config) == "detection" else measure_classifier_costs


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
        run: folder of a run or of a model.
        data: folder or manifest.
        out: folder of the report; None is ``report`` in the run's folder.
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
    if wing(run) == "classifier":
        _refuse(run, "classifies recordings", lamp=lamp)
        from chiasm.diagnosis.evaluate import evaluate as evaluate_diagnosis

        return evaluate_diagnosis(run, splits=splits, left_out=left_out, **options)
    _refuse(run, "detects defects", splits=splits or None, left_out=left_out or None)
    from chiasm.detection.evaluate import evaluate as evaluate_detection

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
    device: str = "auto",
) -> Sequence[Verdict] | Sequence[Diagnosis]:
    """Predict verdicts of new parts, or diagnoses of new recordings, and write them to ``out``.

    For more of them than one process should judge there is ``predict_shards``.

    Args:
        run: folder of a run or of a model.
        inputs: folder, manifest or one file.
        out: folder for the tables and pictures.
        lamp: of parts: number of the lamp, for data with several; ``"all"`` takes all of them.
            None takes the lamp that the run saw its parts under.
        xyz: of one part: the 3D file that belongs to the RGB file ``inputs``.
        series: of one recording: the series that belongs to the image ``inputs``.
        keep_maps: of parts: whether the verdicts that are returned have their anomaly maps.
        device: that predicts: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        ConfigurationError: an argument belongs to the other wing.
        DataError: no input could be read.
    """
    if wing(run) == "classifier":
        _refuse(run, "classifies recordings", xyz=xyz, lamp=lamp)
        from chiasm.diagnosis.predict import predict as predict_diagnosis

        return predict_diagnosis(run, inputs, out=out, series=series, device=device)
    _refuse(run, "detects defects", series=series)
    from chiasm.detection.predict import predict as predict_detection

    return predict_detection(
        run, inputs, out=out, lamp=lamp, xyz=xyz, keep_maps=keep_maps, device=device
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
        lamp: as for ``predict``.
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
    open_model = partial(_load_for_worker, device=device)
    kind, files = _identity(folder)
    if kind == "classifier":
        _refuse(model, "classifies recordings", lamp=lamp, heat_maps=heat_maps)
        from chiasm.diagnosis.prediction import job as recordings

        recording_job = recordings.RecordingJob(folder, files, Path(inputs), open_model)
        return recordings.predict_shards(
            recording_job, place, workers=workers, ray=ray, quiet=quiet
        )
    from chiasm.detection.prediction import job as parts

    part_job = parts.PartJob(
        folder, files, Path(inputs), open_model, lamp, heat_maps or "defective"
    )
    return parts.predict_shards(part_job, place, workers=workers, ray=ray, quiet=quiet)


def _identity(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Return the wing of a trained or exported model, and the files that tell it from others."""
    if _is_exported(folder):
        from chiasm.runtime.deployment import DEPLOYMENT, read_deployment

        return read_deployment(folder).wing, (folder / DEPLOYMENT,)
    from chiasm.runs.model_folder import CONTRACT, GENOTYPE, model_folder

    inner = model_folder(folder)
    if not (inner / CONTRACT).is_file():
        raise ArtifactError(
            f"{folder} holds no model: a folder of 'chiasm train' or 'chiasm export' was expected."
        )
    # Early contracts leave the lamp to the settings of the run.
    named = (inner / CONTRACT, inner / GENOTYPE, inner.parent / "config.yaml")
    return wing(folder), tuple(path for path in named if path.is_file())


def _load_exported(folder: Path, device: str, *, threads: int | None = None) -> Model:
    from chiasm.runtime import load as load_exported

    if device not in ("auto", "cpu"):
        raise ConfigurationError(
            f"{folder} holds an exported model, which runs on the processor; leave out "
            f"device={device}, or load the run that it was exported from."
        )
    return load_exported(folder, threads=threads)


def _load_for_worker(folder: Path, threads: int, *, device: str) -> Model:
    """Load a model with a share of the processors, on a device."""
    if _is_exported(folder):
        return _load_exported(folder, device, threads=threads)
    import torch

    torch.set_num_threads(threads)
    return load(folder, device=device)


def load(folder: Path | str, *, device: str = "auto") -> Model:
    """Load a trained or an exported model as a function.

    ``model(rgb, xyz)`` returns a ``Verdict``, ``model(image, series)`` a ``Diagnosis``; every model
    has ``predict(sample)`` and ``predict_all(samples)``, too.

    Args:
        folder: of a run, of a model, or one that ``export`` wrote.
        device: that predicts: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. An exported model
            runs on the processor.

    Raises:
        ConfigurationError: there is no such device, or an exported model cannot run on it.
        ArtifactError: a file is missing, damaged or of another version.
    """
    if _is_exported(Path(folder)):
        return _load_exported(Path(folder), device)
    if wing(folder) == "classifier":
        from chiasm.diagnosis.predictor import DiagnosisPredictor

        _models()
        return DiagnosisPredictor.load(folder, device=device)
    from chiasm.detection.predictor import DetectionPredictor

    return DetectionPredictor.load(folder, device=device)


def export(run: Path | str, out: Path | str, **options: Any) -> Deployment:
    """Export a run as a folder that runs without PyTorch, and prove that its scores are the same.

    Args:
        run: folder of a run.
        out: folder to write.
        options: ``to`` (``"openvino"`` or ``"onnx"``), ``precision`` (``"fp32"``, ``"bf16"``,
            ``"int8"``), ``data`` (where the run's data lie now), ``memory_entries`` and
            ``search_channels`` (of a memory of normals: smaller is faster).

    Raises:
        ArtifactError: the exported model would differ from the run by more than allowed.
        ConfigurationError: the method has no graph, or an option is wrong.
    """
    from chiasm.deploy.export import export as write

    _models()
    return write(Path(run), Path(out), **options)


def demo(
    out: Path | str, *, wing: Literal["detection", "diagnosis"] = "detection", **options: Any
) -> dict[str, Any]:
    """Make data, train and evaluate; returns the content of ``metrics.json``.

    Args:
        out: folder for data, run and report.
        wing: ``"detection"`` renders parts, ``"diagnosis"`` simulates recordings.
        options: ``minutes`` of both; ``product`` of parts; ``count`` and ``sessions`` of
            recordings.
    """
    _models()
    if wing not in ("detection", "diagnosis"):
        raise ConfigurationError(f"There is no wing {wing!r}; there are: detection, diagnosis.")
    return import_module(f"chiasm.{wing}.demo").demo(out, **options)


def make_config(
    *, file: Path | None = None, overrides: Sequence[str] = (), **values: Any
) -> Config:
    """Return the settings of a run, of the wing that the named model belongs to.

    Args:
        file: YAML file.
        overrides: ``key=value``.
        values: settings by name; None leaves one out.

    Raises:
        ConfigurationError: a setting is wrong; names each of them.
    """
    values = {name: value for name, value in values.items() if value is not None}
    name = _named_model(file, overrides, values.get("model"))
    configuration = _configuration(registered(name or DEFAULT_MODEL))
    return configuration.make(file=file, overrides=overrides, **values)


def facts_of(model: str) -> tuple[tuple[SettingFact, ...], tuple[str, ...]]:
    """Return the settings of a model's runs, and the names of the options of its builder.

    Options are the arguments that a run fills in neither from its settings nor from the data.

    Raises:
        ConfigurationError: there is no such model.
    """
    from chiasm.diagnosis.config import FROM_DATA
    from chiasm.settings import setting_facts

    entry = registered(model)
    facts = setting_facts(_configuration(entry))
    if entry.pools is not None and entry.wing == "detector":
        return facts, ()
    parameters = inspect.signature(entry.builder).parameters
    taken = {fact.name for fact in facts} | FROM_DATA | {"pretrained"}
    return facts, tuple(name for name in parameters if name not in taken)


def presets_of(model: str) -> dict[str, str]:
    """Return the presets of a model's runs by name, as YAML.

    Raises:
        ConfigurationError: there is no such model.
    """
    entry = registered(model)
    return _configuration(entry).presets(entry)


def _configuration(entry: RegisteredModel) -> type[DetectionConfig] | type[DiagnosisConfig]:
    """Return the class of the settings of a model's runs."""
    if entry.wing == "classifier":
        from chiasm.diagnosis.config import DiagnosisConfig

        return DiagnosisConfig
    from chiasm.detection.config import DetectionConfig

    return DetectionConfig


def registered(name: str) -> RegisteredModel:
    """Return the registered model of that name; ``ConfigurationError`` lists those that exist."""
    _models()
    return find_model(name)


def wing(folder: Path | str) -> str:
    """Return ``"detector"`` or ``"classifier"``; the former where no contract tells."""
    from chiasm.runs.model_folder import CONTRACT, model_folder, wing_of

    try:
        return wing_of(json.loads((model_folder(folder) / CONTRACT).read_text()))
    except (OSError, json.JSONDecodeError):
        return "detector"  # whose loading then says what is wrong with the folder


def _models() -> tuple[RegisteredModel, ...]:
    """Import the models of both wings, which registers them, and return them."""
    import chiasm.detection.models.named
    import chiasm.diagnosis.models.named  # noqa: F401
    from chiasm.registry import models

    return models()


def _config(config: Config | None, settings: dict[str, Any]) -> Any:
    if config is None:
        return make_config(**settings)
    if settings:
        raise ConfigurationError(
            f"Give either a configuration or settings by name, not both: {', '.join(settings)}."
        )
    _models()
    return config


def _wing_of(config: Config) -> str:
    return "diagnosis" if registered(config.model).wing == "classifier" else "detection"


def _is_exported(folder: Path) -> bool:
    from chiasm.runtime.deployment import DEPLOYMENT

    return (folder / DEPLOYMENT).is_file()


def _refuse(run: Path | str, does: str, **arguments: Any) -> None:
    """Raise ``ConfigurationError`` for arguments that belong to the other wing."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigurationError(
            f"{run} {does}; {' and '.join(given)} are for models of the other kind. Leave them out."
        )


def _named_model(file: Path | None, overrides: Sequence[str], model: str | None) -> str | None:
    """Return the name of the model from wherever it is given."""
    import yaml

    given = [o.partition("=")[2] for o in overrides if o.partition("=")[0].strip() == "model"]
    if model is not None or given:
        return model or given[-1]
    try:
        content = yaml.safe_load(file.read_text()) if file is not None else {}
    except (OSError, yaml.YAMLError):
        return None  # the settings raise the error when they are made
    name = content.get("model") if isinstance(content, dict) else None
    return None if name is None else str(name)
