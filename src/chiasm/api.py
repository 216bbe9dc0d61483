"""The verbs, for either wing: which one a model or some settings belong to is found out here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import chiasm.detection.models.named  # noqa: F401  (importing registers the models)
from chiasm.detection.config import DetectionConfig
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.errors import ConfigurationError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model
from chiasm.runs.model_folder import CONTRACT, model_folder, wing_of
from chiasm.settings import SettingFact, setting_facts

SEARCHED_AS = {"mad_small": "fused_small"}  # the model that fuses another one's features


def settings(
    *, file: Path | None = None, overrides: Sequence[str] = (), **values: Any
) -> DetectionConfig | DiagnosisConfig:
    """Settings of a run, for the wing that the named model belongs to.

    Args:
        file: YAML file.
        overrides: ``key=value``.
        values: settings; None leaves one out.

    Raises:
        ConfigurationError: naming each setting that is wrong, and why.
    """
    name = _named(file, overrides, values.get("model"))
    if name is not None and find_model(name).wing == "classifier":
        given = {key: value for key, value in values.items() if value is not None}
        return DiagnosisConfig.make(file=file, overrides=overrides, **given)
    return DetectionConfig.make(file=file, overrides=overrides, **values)


def facts_of(model: str) -> tuple[tuple[SettingFact, ...], tuple[str, ...]]:
    """The settings of a model's runs, and the names of the options of its own.

    Raises:
        ConfigurationError: there is no such model.
    """
    found = find_model(model)
    of_runs = DiagnosisConfig if found.wing == "classifier" else DetectionConfig
    facts = setting_facts(of_runs)
    if not found.baseline and found.wing == "detector":
        return facts, ()
    own = inspect.signature(found.builder).parameters
    taken = {fact.name for fact in facts} | {"pretrained"}
    return facts, tuple(name for name in own if name not in taken)


def search(*, model: str | None = None, **given: Any) -> Genotype:
    """Search the fusion of a detector, or of a classifier's features.

    ``mad_small`` stands for ``fused_small``, which fuses its features; a dash is an underscore.
    Other keywords are those of ``settings``.

    Raises:
        ConfigurationError: the model's fusion is not searched, or a setting is wrong.
    """
    name = None if model is None else model.replace("-", "_")
    config = settings(model=SEARCHED_AS.get(name or "", name), **given)
    if isinstance(config, DiagnosisConfig):
        from chiasm.diagnosis.search import search as search_diagnosis

        return search_diagnosis(config)
    if find_model(config.model).baseline:
        raise ConfigurationError(
            f"{config.model} has no fusion to search; choose adnas_light, adnas_slim or "
            "adnas_paper, or fused_small for recordings."
        )
    from chiasm.detection.search import search as search_parts

    return search_parts(config)


def train(config: DetectionConfig | DiagnosisConfig) -> Any:
    """Train what the settings describe: a detector (``TrainResult``) or a classifier."""
    if isinstance(config, DiagnosisConfig):
        from chiasm.diagnosis.train import train as train_diagnosis

        return train_diagnosis(config)
    from chiasm.detection.train import train as train_detector

    return train_detector(config)


def evaluate(
    run: Path | str,
    *,
    data: Path | str,
    out: Path | str | None = None,
    lamp: int | None = None,
    splits: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Judge the test split; returns the content of ``metrics.json``.

    ``splits`` and ``left_out`` are for classifiers: the run's settings are trained again on each
    of these splits and without each of these classes, and the figures shown beside the run's.
    """
    if wing(run) == "classifier":
        from chiasm.diagnosis.evaluate import evaluate as evaluate_diagnosis

        return evaluate_diagnosis(run, data=data, out=out, splits=splits, left_out=left_out)
    if splits or left_out:
        raise ConfigurationError("Other splits and classes left out are for classifiers.")
    from chiasm.detection.evaluate import evaluate as evaluate_detector

    return evaluate_detector(run, data=data, out=out, lamp=lamp)


def predict(
    run: Path | str,
    inputs: Path | str,
    *,
    out: Path | str = "verdicts",
    lamp: int | None = None,
    xyz: Path | str | None = None,
    series: Path | str | None = None,
) -> Sequence[Any]:
    """Judge new parts, or diagnose new recordings; returns verdicts or diagnoses.

    ``xyz`` and ``lamp`` are of parts alone, ``series`` of recordings.
    """
    if wing(run) == "classifier":
        if xyz is not None or lamp is not None:
            raise ConfigurationError(
                f"{run} diagnoses recordings, which have neither 3D points nor lamps."
            )
        from chiasm.diagnosis.predict import predict as predict_diagnosis

        return predict_diagnosis(run, inputs, out=out, series=series)
    if series is not None:
        raise ConfigurationError(f"{run} judges parts, which have no series.")
    from chiasm.detection.predict import predict as predict_detector

    return predict_detector(run, inputs, out=out, lamp=lamp, xyz=xyz)


def load(folder: Path | str) -> Any:
    """A trained model as a function: a ``DetectionPredictor`` or ``DiagnosisPredictor``."""
    if wing(folder) == "classifier":
        from chiasm.diagnosis.predictor import DiagnosisPredictor

        return DiagnosisPredictor.load(folder)
    from chiasm.detection.predictor import DetectionPredictor

    return DetectionPredictor.load(folder)


def wing(folder: Path | str) -> str:
    """``"detector"`` or ``"classifier"``; the former where there is no contract to tell."""
    try:
        return wing_of(json.loads((model_folder(folder) / CONTRACT).read_text()))
    except (OSError, json.JSONDecodeError):
        return "detector"  # which then says what is wrong with the folder


def _named(file: Path | None, overrides: Sequence[str], model: str | None) -> str | None:
    """The model's name from wherever it is given."""
    given = [o.partition("=")[2] for o in overrides if o.partition("=")[0].strip() == "model"]
    if model is not None or given:
        return model or given[-1]
    try:
        content = yaml.safe_load(file.read_text()) if file is not None else {}
    except (OSError, yaml.YAMLError):
        return None  # told in words when the settings are made
    name = content.get("model") if isinstance(content, dict) else None
    return None if name is None else str(name)
