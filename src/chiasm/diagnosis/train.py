"""Train a classifier of discharges: contrast first, then classes, then calibration."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from safetensors.torch import load_file, save_file

from chiasm.diagnosis.calibrate import save
from chiasm.diagnosis.classifier import Classifier, FittedClassifier, Labelled
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import DiagnosisDataModule, open_data, open_folder
from chiasm.diagnosis.models.late_average import LateAverage
from chiasm.diagnosis.search import with_fusion
from chiasm.diagnosis.train_members import FOLDER, learn_members
from chiasm.diagnosis.training.classify import ClassTraining
from chiasm.diagnosis.training.contrast import ContrastTraining
from chiasm.diagnosis.training.dataset import BatchOrder
from chiasm.diagnosis.unseen import SPLIT, own_division
from chiasm.errors import ConfigurationError
from chiasm.runs.console import say
from chiasm.runs.model_folder import GENOTYPE, parameter_count
from chiasm.training.keep_best import KeepBest
from chiasm.training.trainer import LAST, Budget, best_precision, fit

CLIP = 1.0

FINISHED = "best.safetensors"

# What a run that goes on takes over from before.
_BEGUN = ("checkpoints", FOLDER, GENOTYPE)


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run left behind.

    Attributes:
        folder: the run's folder; ``folder/model`` is the model.
        minutes: spent on everything, this time.
        validation_f1: macro-F1 of the saved model on the validation recordings.
    """

    folder: Path
    minutes: float
    validation_f1: float


def train(config: DiagnosisConfig, *, data: DiagnosisDataModule | None = None) -> TrainResult:
    """Train a classifier and save it.

    A run that was interrupted goes on where it stopped when it is started again with the same
    settings. ``minutes`` counts both stages, over all resumed runs; a run that it ends has saved
    a usable model.
    """
    started = time.monotonic()
    open_folder(config)
    data = data or open_data(config)
    say(
        f"{data.store.name}: {len(data.split.train)} recordings to learn from, "
        f"{len(data.split.validation)} to validate on, {len(data.split.test)} left for tests."
    )
    write_split(data)
    data = with_fusion(data)
    network = data.network()
    if isinstance(network, LateAverage):
        data = learn_members(network, data, train)
    elif isinstance(network, FittedClassifier):
        fit_simple(network, data)
    else:
        if config.pretrain_epochs:
            say("First stage: contrast ...")
            pretrain(network, data)
        say("Second stage: classes ...")
        classify(network, data)
    network.cpu().eval()
    f1 = save(network, data)
    minutes = (time.monotonic() - started) / 60
    facts = {
        "fit_minutes": round(minutes, 3),
        "validation_f1": f1,
        "parameters": parameter_count(network),
    }
    (config.out / "learning.json").write_text(json.dumps(facts, indent=2) + "\n")
    say(
        f"Macro-F1 on validation {f1:.3f}. The model is in {config.out / 'model'} "
        f"({minutes:.1f} minutes)."
    )
    return TrainResult(config.out, minutes, f1)


def pretrain(network: Classifier, data: DiagnosisDataModule) -> None:
    """First stage; leaves the weights with the least contrast on held-out recordings."""
    config = data.config
    budget = Budget(config.minutes and config.minutes * contrast_share(config))
    module = ContrastTraining(
        network,
        budget=budget,
        epochs=config.pretrain_epochs,
        learning_rate=config.rate,
        flow_weight=config.flow_weight if config.flow == "coupling" else 0.0,
        modality_dropout=config.dropout,
        parts=config.contrasted,
        seed=config.seed,
    )
    best = KeepBest(network, metric="validation_contrast", mode="min")
    _stage("contrast", module, best, data, budget, config.pretrain_epochs)


def classify(network: Classifier, data: DiagnosisDataModule) -> None:
    """Second stage; leaves the weights with the best macro-F1 on held-out recordings.

    Where modalities are dropped, the mean of that with all of them and with each one alone.
    """
    config = data.config
    share = 1 - contrast_share(config)
    budget = Budget(config.minutes and config.minutes * share)
    module = ClassTraining(
        network,
        budget=budget,
        epochs=config.epochs,
        learning_rate=config.rate,
        modality_dropout=config.dropout,
        smoothing=config.smoothed,
        seed=config.seed + 1,
    )
    best = KeepBest(
        network, metric="validation_score", tie="validation_loss", patience=config.patience
    )
    _stage("classify", module, best, data, budget, config.epochs)


def contrast_share(config: DiagnosisConfig) -> float:
    """Share of the budget for the first stage, whose epochs cost two views of each recording."""
    first = 2 * config.pretrain_epochs
    return first / (first + config.epochs)


def precision_of(config: DiagnosisConfig) -> str:
    """The precision asked for; on a processor small networks gain nothing from bfloat16.

    Measured on one that multiplies it: a step of ``mad_small`` takes 1.12 times as long as in
    float32, for its products are small and the casts between them are not free.
    """
    if config.precision != "auto":
        return config.precision
    worth_it = config.size == "base" or torch.cuda.is_available()
    return best_precision() if worth_it else "32-true"


def _stage(
    name: str,
    module: LightningModule,
    best: KeepBest,
    data: DiagnosisDataModule,
    budget: Budget,
    epochs: int,
) -> None:
    """Fit, unless it has been done; a finished stage leaves its best weights in a file."""
    config = data.config
    finished = config.out / "checkpoints" / name / FINISHED
    if not finished.exists():
        loader = data.loader(name)
        last = finished.parent / LAST
        if last.exists():
            # Other processes make the first batches before the trainer tells them the epoch.
            saved = torch.load(last, map_location="cpu", mmap=True, weights_only=True)
            order = loader.sampler
            assert isinstance(order, BatchOrder)
            order.set_epoch(saved["epoch"] + 1)
        fit(
            module,
            loader,
            data.loader(f"{name}_check"),
            folder=config.out,
            name=name,
            epochs=epochs,
            budget=budget,
            precision=precision_of(config),
            gradient_clip=CLIP,
            callbacks=[best],
        )
        best.restore()
        fresh = finished.with_suffix(".part")
        save_file(
            {name: value.cpu().contiguous() for name, value in best.network.state_dict().items()},
            fresh,
        )
        fresh.replace(finished)
    best.network.cpu().load_state_dict(load_file(finished))


def write_split(data: DiagnosisDataModule) -> None:
    """Write ``split.json``: the sources of the three lists.

    Raises ``ConfigurationError`` where a run that would go on began with other lists: recordings
    that came or went since move others, and what was learned from would pass as never seen.
    """
    out, split = data.config.out, data.split
    if (out / SPLIT).exists() and any((out / name).exists() for name in _BEGUN):
        before = own_division(out, data.store, data.store.refs, data.config.data)
        same = before is not None and all(
            {ref.source for ref in now} == {ref.source for ref in then}
            for now, then in zip(split.lists().values(), before.lists().values())
        )
    else:
        same = True
    if not same:
        raise ConfigurationError(
            f"{out} holds a run that began when there were other recordings, and they fall into "
            "other lists now. Give another folder, or delete this one, to train on these."
        )
    lists = {name: [r.source for r in refs] for name, refs in split.lists().items()}
    (out / SPLIT).write_text(json.dumps(lists, indent=1) + "\n")


@torch.no_grad()
def fit_simple(classifier: FittedClassifier, data: DiagnosisDataModule) -> None:
    """Describe the recordings to learn from and to validate on, each as it is, and fit."""
    classifier.eval()
    say("Describing the recordings ...")
    learning = _described(classifier, data, "learn_plain")
    validation = _described(classifier, data, "classify_check")
    say("Fitting ...")
    classifier.fit(learning, validation, seed=data.config.seed)


def _described(classifier: FittedClassifier, data: DiagnosisDataModule, purpose: str) -> Labelled:
    described: list[dict[str, torch.Tensor]] = []
    labels: list[torch.Tensor] = []
    for (batch,) in data.loader(purpose):
        described.append(classifier.describe(batch))
        labels.append(batch.label)
    joined = {name: torch.cat([one[name] for one in described]) for name in described[0]}
    return Labelled(joined, torch.cat(labels))
