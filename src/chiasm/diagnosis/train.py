"""Train a classifier of recordings: contrast first, then classes, then calibration."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from safetensors.torch import load_file, save_file

from chiasm.diagnosis.batch import moved
from chiasm.diagnosis.calibrate import calibrate_and_save, validation_outputs
from chiasm.diagnosis.classifier import Classifier, FittedClassifier, Labelled
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import GIVEN, DiagnosisDataModule, open_run
from chiasm.diagnosis.fusion_search.evolution import MeasureCosts
from chiasm.diagnosis.procedures.adapt import GENTLE, joined, set_nearest_head, start_weights
from chiasm.diagnosis.procedures.choose import FOLDER as CANDIDATES
from chiasm.diagnosis.procedures.choose import LEARNING, train_one_of
from chiasm.diagnosis.procedures.train_members import FOLDER, train_members
from chiasm.diagnosis.readers.splits import RecordingSplit
from chiasm.diagnosis.search import with_fusion
from chiasm.diagnosis.training.classify import ClassTraining
from chiasm.diagnosis.training.contrast import ContrastTraining
from chiasm.diagnosis.training.known_classes import describe_recordings
from chiasm.diagnosis.unseen import SPLIT, stored_split
from chiasm.errors import ConfigurationError
from chiasm.registry import find_model, models
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.data_parallel import check_device, fit_together, is_several
from chiasm.runs.model_folder import GENOTYPE, parameter_count
from chiasm.settings import Precision
from chiasm.training.device import device_errors, find_device
from chiasm.training.keep_best import KeepBest
from chiasm.training.progress import counted
from chiasm.training.trainer import LOWER, Budget

CLIP = 1.0
LEAST_SHARE = 0.05  # of the minutes, that search and stages have whatever the preparation took

FINISHED = "best.safetensors"

# Files of a run that is continued.
_BEGUN = ("checkpoints", FOLDER, CANDIDATES, GENOTYPE)


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Result of a run.

    Attributes:
        folder: the run's folder; ``folder/model`` is the model.
        minutes: duration of this call.
        validation_f1: macro-F1 of the saved model on the validation recordings.
    """

    folder: Path
    minutes: float
    validation_f1: float


def train(
    config: DiagnosisConfig,
    *,
    data: DiagnosisDataModule | None = None,
    measure: MeasureCosts | None = None,
    crew: Crew = ALONE,
    started: float | None = None,
) -> TrainResult:
    """Train a classifier and save it.

    A run that was interrupted continues when it is started again with the same settings.
    ``minutes`` is the budget of both stages over all calls; a run that exceeds it has saved a
    usable model.

    Args:
        config: of the run.
        data: of the run; None opens them.
        measure: measures what pieces of a classifier cost, for ``search.method=evolution``.
        crew: processes that judge architectures, train finalists and members and, together, the
            stages of a network.
        started: ``time.monotonic()`` from which the minutes count; None is now.

    Raises:
        ConfigurationError: one process fits the model, and several were asked for.
    """
    if is_several(crew):
        if find_model(config.model).fitted:
            raise ConfigurationError(
                f"{config.model} is fitted in one call, in one process; leave out --workers and "
                "--ray. Networks that several processes train: "
                f"{', '.join(m.name for m in models('classifier') if not m.fitted)}."
            )
        check_device(crew, config.device)
    with device_errors(find_device(config.device), remedy=LOWER):
        begun = time.monotonic() if started is None else started
        return _train(config, data=data, measure=measure, crew=crew, started=begun)


def _train(
    config: DiagnosisConfig,
    *,
    data: DiagnosisDataModule | None,
    measure: MeasureCosts | None,
    crew: Crew,
    started: float,
) -> TrainResult:
    data = open_run(config, data=data, crew=crew)
    say(
        f"{data.store.name}: {len(data.split.train)} recordings to learn from, "
        f"{len(data.split.validation)} to validate on, {len(data.split.test)} left for tests "
        f"({_division(config)})."
    )
    write_split(data)
    if find_model(config.model).among:
        return _train_and_choose(data, started)
    described, form = describe_recordings(data), data.form
    data = _within_budget(data, seconds=time.monotonic() - started)
    data = with_fusion(data, measure=measure)
    network = data.network()
    if config.minutes is not None and network.training_procedure == "stages":
        data = _without_checks(network, data)
    data = _PROCEDURES[network.training_procedure](network, data)
    network.eval()
    f1 = calibrate_and_save(network, data, described if data.form == form else None)
    minutes = (time.monotonic() - started) / 60
    facts = {
        "fit_minutes": round(minutes, 3),
        "device": str(data.device),
        "validation_f1": f1,
        "parameters": parameter_count(network),
    }
    (config.out / LEARNING).write_text(json.dumps(facts, indent=2) + "\n")
    say(
        f"Macro-F1 on validation {f1:.3f}. The model is in {config.out / 'model'} "
        f"({minutes:.1f} minutes)."
    )
    return TrainResult(config.out, minutes, f1)


def _division(config: DiagnosisConfig) -> str:
    """Return the settings of the division as they are given, e.g. ``split_by=session``."""
    if config.split_by == GIVEN or config.test_group is not None:
        return f"split_by={config.split_by}"
    shares = ",".join(f"{share:g}" for share in config.shares)
    return f"split_by={config.split_by} shares={shares}"


def _train_and_choose(data: DiagnosisDataModule, started: float) -> TrainResult:
    """Train several methods, keep the one that validation chooses, and describe the run by it."""
    out = data.config.out
    chosen = train_one_of(data, train, started=started)
    minutes = (time.monotonic() - started) / 60
    facts = json.loads((chosen.config.out / LEARNING).read_text())
    (out / LEARNING).write_text(
        json.dumps(facts | {"fit_minutes": round(minutes, 3)}, indent=2) + "\n"
    )
    say(f"The model is in {out / 'model'} ({minutes:.1f} minutes).")
    return TrainResult(out, minutes, float(facts["validation_f1"]))


def _within_budget(data: DiagnosisDataModule, *, seconds: float) -> DiagnosisDataModule:
    """Return the data with the minutes that their preparation has left to search and stages.

    At least ``LEAST_SHARE`` of the minutes, so that every stage makes some steps.
    """
    minutes = data.config.minutes
    if minutes is None:
        return data
    left = max(minutes - seconds / 60, LEAST_SHARE * minutes)
    return replace(data, config=data.config.model_copy(update={"minutes": left}))


def _without_checks(network: Any, data: DiagnosisDataModule) -> DiagnosisDataModule:
    """Return the data with the minutes that are left to steps, beside those of the checks.

    One pass over the validation recordings is measured here. As many seconds are taken again by
    the calibration, and by the checks that end the two stages.
    """
    begun = time.monotonic()
    network.eval()
    validation_outputs(network, data)
    return _within_budget(data, seconds=3 * (time.monotonic() - begun))


def _train_stages(network: Any, data: DiagnosisDataModule) -> DiagnosisDataModule:
    if data.config.start_from is not None:
        return _adapt(network, data)
    if data.config.pretrain_epochs:
        say("First stage: contrast ...")
        pretrain(network, data)
    say("Second stage: classes ...")
    classify(network, data)
    return data


def _adapt(network: Any, data: DiagnosisDataModule) -> DiagnosisDataModule:
    config = data.config
    start_weights(network, config)
    if config.adaptation == "nearest":
        say(f"Means of the classes, in the embedding of {config.start_from} ...")
        set_nearest_head(network, data)
        return data
    say(f"Going on from {config.start_from} ...")
    slow = config.model_copy(
        update={"learning_rate": GENTLE * config.learning_rate, "pretrain_epochs": 0}
    )
    classify(network, replace(data, config=slow))
    return data


def _train_members(network: Any, data: DiagnosisDataModule) -> DiagnosisDataModule:
    if data.config.start_from is not None:
        raise ConfigurationError(
            f"{data.config.model} trains its members one by one, and cannot go on from a run; "
            "adapt one of its members."
        )
    return train_members(network, data, train)


@torch.no_grad()
def _fit(network: Any, data: DiagnosisDataModule) -> DiagnosisDataModule:
    network.eval()
    say("Describing the recordings ...")
    training = _described(network, data, "fit")
    if data.config.start_from is not None:
        training = joined(data, training, lambda other: _described(network, other, "fit"))
    validation = _described(network, data, "classify_check")
    say("Fitting ...")
    network.fit(training, validation, seed=data.config.seed)
    return data


def _described(classifier: FittedClassifier, data: DiagnosisDataModule, purpose: str) -> Labelled:
    batches: list[dict[str, torch.Tensor]] = []
    labels: list[torch.Tensor] = []
    for (batch,) in counted("Describing", data.loader(purpose), unit="batches"):
        batch = moved(batch, data.device)
        batches.append(classifier.describe(batch))
        assert batch.label is not None
        labels.append(batch.label)
    described = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return Labelled(described, torch.cat(labels))


# By ``Classifier.training_procedure``; each trains the network in place.
_PROCEDURES = {"stages": _train_stages, "fit": _fit, "members": _train_members}


def pretrain(network: Classifier, data: DiagnosisDataModule) -> None:
    """Run the first stage; keeps the weights with the least contrast on validation recordings."""
    config = data.config
    budget = Budget(None if config.minutes is None else config.minutes * contrast_share(config))
    module = ContrastTraining(
        network,
        budget=budget,
        epochs=config.pretrain_epochs,
        learning_rate=config.learning_rate,
        flow_weight=config.flow_weight if config.flow == "coupling" else 0.0,
        modality_dropout=config.modality_dropout,
        parts=config.contrast,
        seed=config.seed,
    )
    best = KeepBest(network, metric="validation_contrast", mode="min")
    _stage("contrast", module, best, data, budget, config.pretrain_epochs)


def classify(network: Classifier, data: DiagnosisDataModule) -> None:
    """Run the second stage; keeps the weights with the best macro-F1 on validation recordings.

    With modality dropout, that is the mean with all modalities and with each one alone.
    """
    config = data.config
    share = 1 - contrast_share(config)
    budget = Budget(None if config.minutes is None else config.minutes * share)
    module = ClassTraining(
        network,
        budget=budget,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        modality_dropout=config.modality_dropout,
        smoothing=config.smoothing,
        seed=config.seed + 1,
    )
    best = KeepBest(
        network, metric="validation_score", tie="validation_loss", patience=config.patience
    )
    _stage("classify", module, best, data, budget, config.epochs)


def contrast_share(config: DiagnosisConfig) -> float:
    """Return the first stage's share of the budget; its epochs take two views a recording."""
    first = 2 * config.pretrain_epochs
    return first / (first + config.epochs)


def precision_of(config: DiagnosisConfig) -> Precision:
    """Return the precision of training; small networks train in float32 but on a GPU.

    Measured on a processor that multiplies bfloat16: a step of ``mad_small`` takes 1.12 times as
    long as in float32, because its products are small and the casts between them cost time.
    """
    if config.precision != "auto":
        return config.precision
    large = find_model(config.model).size == "base"
    return "auto" if large or find_device(config.device).type == "cuda" else "32"


def _stage(
    name: str,
    module: LightningModule,
    best: KeepBest,
    data: DiagnosisDataModule,
    budget: Budget,
    epochs: int,
) -> None:
    """Run a stage unless it is finished; a finished stage has its best weights in a file."""
    config = data.config
    finished = config.out / "checkpoints" / name / FINISHED
    if not finished.exists():
        fit_together(
            module,
            data.loader(name),
            data.loader(f"{name}_check"),
            crew=data.crew,
            needed=(data.store.path,),
            folder=config.out,
            name=name,
            epochs=epochs,
            budget=budget,
            precision=precision_of(config),
            gradient_clip=CLIP,
            callbacks=[best],
        )
        if budget.ended_in is not None and budget.ended_in < epochs:
            say(
                f"The minutes ended this stage in epoch {budget.ended_in} of {epochs}; with more "
                "of them, or with none given, it learns longer."
            )
        best.restore()
        part = finished.with_suffix(".part")
        save_file(
            {name: value.cpu().contiguous() for name, value in best.network.state_dict().items()},
            part,
        )
        part.replace(finished)
    best.network.load_state_dict(load_file(finished))


def write_split(data: DiagnosisDataModule) -> None:
    """Write ``split.json``: the sources of the three lists.

    Raises:
        ConfigurationError: the run began with other lists. Recordings that were added or removed
            since move others between the lists, and training recordings would pass as unseen.
    """
    out, split = data.config.out, data.split
    if (out / SPLIT).exists() and any((out / name).exists() for name in _BEGUN):
        before = stored_split(out, data.store, data.store.refs, data.config.data)
        if before is None or _sources(before) != _sources(split):
            raise ConfigurationError(
                f"{out} holds a run that began when there were other recordings, and they fall "
                "into other lists now. Give another folder, or delete this one, to train on these."
            )
    lists = {name: [r.source for r in refs] for name, refs in split.lists().items()}
    (out / SPLIT).write_text(json.dumps(lists, indent=1) + "\n")


def _sources(split: RecordingSplit) -> list[set[str]]:
    return [{ref.source for ref in refs} for refs in split.lists().values()]
