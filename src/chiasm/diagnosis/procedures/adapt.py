"""Few recordings of one's own: go on from a model that was trained on others, e.g. simulated ones.

The model's inputs, scales and classes are kept; classes that it does not know are added. A network
goes on with gradient steps, or gets the nearest mean of its embedding as its head; trees and other
methods that are fitted in one call are fitted to both sets of recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from chiasm.diagnosis.batch import moved
from chiasm.diagnosis.classifier import Classifier, Labelled
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import DiagnosisContract, load_model
from chiasm.diagnosis.datamodule import DiagnosisDataModule, open_data
from chiasm.diagnosis.unseen import stored_split
from chiasm.errors import ConfigurationError, DataError
from chiasm.runs.console import say
from chiasm.runs.model_folder import model_folder

# Share of the first training's learning rate: what it learnt is to be kept.
GENTLE = 0.3
_NEVER = -1e4  # logit of a class without any recording


def start_weights(network: Classifier, config: DiagnosisConfig) -> None:
    """Load the weights of the run that ``config.start_from`` names; new classes stay as drawn.

    Raises:
        ConfigurationError: that run has another model.
    """
    base, contract = _base(config)
    own = network.state_dict()
    for name, value in base.state_dict().items():
        if name not in own:
            raise ConfigurationError(
                f"{config.start_from} holds {name}, which {config.model} with these settings has "
                "not; leave out settings of the model's size, or train without --from."
            )
        if own[name].shape == value.shape:
            own[name] = value
        elif own[name].shape[1:] == value.shape[1:] and len(value) == len(contract.kinds):
            own[name] = torch.cat([value.to(own[name].device), own[name][len(value) :]])
        else:
            raise ConfigurationError(
                f"{config.start_from} has {name} of shape {tuple(value.shape)}, and these settings "
                f"make {tuple(own[name].shape)}; keep the settings of that run."
            )
    network.load_state_dict(own)


def _base(config: DiagnosisConfig) -> tuple[Classifier, DiagnosisContract]:
    assert config.start_from is not None
    base, contract = load_model(model_folder(config.start_from))
    if contract.method != config.model:
        raise ConfigurationError(
            f"{config.start_from} holds a model {contract.method}; it cannot go on as "
            f"{config.model}."
        )
    return base, contract


def earlier_recordings(data: DiagnosisDataModule) -> DiagnosisDataModule:
    """Return the recordings that the first model was trained on, in the form of ``data``.

    Raises:
        DataError: they are no longer there, or the run does not say which they were.
    """
    run = data.config.start_from
    assert run is not None
    settings = DiagnosisConfig.make(file=Path(run) / "config.yaml")
    try:
        earlier = open_data(settings)
    except DataError as cause:
        raise DataError(
            f"The recordings of {run} are needed, too, and cannot be opened: {cause} Put them back "
            f"to {settings.data}."
        ) from cause
    store = earlier.store.with_kinds(data.store.kinds)
    split = stored_split(Path(run), store, store.refs, settings.data)
    return replace(data, store=store, split=split or earlier.split)


def joined(
    data: DiagnosisDataModule, own: Labelled, describe: Callable[[DiagnosisDataModule], Labelled]
) -> Labelled:
    """Return own recordings and those of the first training, each set with half of the weight."""
    others = describe(earlier_recordings(data))
    repeats = max(1, round(len(others.labels) / len(own.labels)))
    say(
        f"Fitted to {len(own.labels)} recordings, each counted {repeats} times, and to "
        f"{len(others.labels)} of {data.config.start_from}."
    )
    return Labelled(
        {
            name: torch.cat(
                [values.repeat(repeats, *[1] * (values.ndim - 1)), others.described[name]]
            )
            for name, values in own.described.items()
        },
        torch.cat([own.labels.repeat(repeats), others.labels]),
    )


@torch.no_grad()
def set_nearest_head(network: Classifier, data: DiagnosisDataModule) -> None:
    """Set the head so that the class with the nearest mean of the embedding has the largest logit.

    With ``z`` the embedding and ``m`` the mean of a class, ``-|z - m|^2 / 2 s`` differs from
    the linear ``(z m - |m|^2 / 2) / s`` by what all classes share; ``s`` is the variance within.
    Classes of which there is no recording take the mean of the first training's. The variance is
    the mean over the channels. Source: Snell, Swersky, Zemel, Prototypical networks for few-shot
    learning, NeurIPS 2017.

    Raises:
        ConfigurationError: the model has no linear head on its embedding.
    """
    layer = network.class_layer
    if layer is None:
        raise ConfigurationError(
            f"{data.config.model} has no linear head on its embedding; leave out "
            "adaptation=nearest."
        )
    network.eval()
    embedding, labels = _embedded(network, data)
    means = layer.weight.new_zeros(layer.weight.shape)
    known = torch.zeros(len(means), dtype=torch.bool, device=means.device)
    absent = sorted(set(range(len(means))) - set(labels.tolist()))
    if absent:
        # A store may have classes of which it holds no recording: these are never the nearest.
        earlier = earlier_recordings(data)
        others, other_labels = _embedded(network, earlier)
        taken = [number for number in absent if bool((other_labels == number).any())]
        for number in taken:
            means[number] = others[other_labels == number].mean(dim=0)
        known[taken] = True
        if taken:
            names = ", ".join(data.store.kinds[number] for number in taken)
            say(f"No recording of {names}: the mean is that of the first training.")
    for number in labels.unique().tolist():
        means[number] = embedding[labels == number].mean(dim=0)
        known[number] = True
    within = (embedding - means[labels]).square().mean().clamp(min=1e-6)
    layer.weight.copy_(means / within)
    layer.bias.copy_(torch.where(known, -means.square().sum(dim=1) / (2 * within), _NEVER))


def _embedded(network: Classifier, data: DiagnosisDataModule) -> tuple[Tensor, Tensor]:
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    for (batch,) in data.loader("fit"):
        batch = moved(batch, data.device)
        rows.append(network(batch).pooled.float())
        assert batch.label is not None
        labels.append(batch.label)
    return torch.cat(rows), torch.cat(labels)
