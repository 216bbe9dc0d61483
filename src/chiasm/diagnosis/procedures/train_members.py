"""Train the members of a late average, each by itself on the same division of recordings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import load_model
from chiasm.diagnosis.datamodule import DiagnosisDataModule, data_of_split
from chiasm.diagnosis.models.late_average import LateAverage
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.splits import RecordingSplit
from chiasm.errors import SplitError
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runs.model_folder import CONTRACT

FOLDER = "members"
# Settings of inputs and steps that a fitted method does not take over from the average.
OF_NETWORKS = (
    *("preset", "inputs", "align", "views", "shortest_view", "seconds", "fold", "series_tokens"),
    *("batch", "learning_rate"),
)


def train_members(
    network: LateAverage, data: DiagnosisDataModule, train: Callable[..., Any]
) -> DiagnosisDataModule:
    """Train each member in ``members/MODALITY`` of the run, and load it into the average.

    A member that is trained already is not trained again.

    Args:
        network: the average.
        data: of the average; its division is the members'.
        train: trains one member, given its settings and its data.

    Returns:
        The data, with pictures and series in the form of the member that takes them.

    Raises:
        SplitError: no training or no validation recording has one of the modalities.
    """
    form = data.form
    members = {modality: _member_data(data, modality) for modality in network.modalities}
    missing = [
        member
        for member in members.values()
        if not (member.config.out / "model" / CONTRACT).exists()
    ]
    for member in missing:
        say(f"Training {', '.join(member.config.modalities)} alone: {member.config.model} ...")
    for _ in data.crew.compute(partial(_train_member, train), missing):
        pass
    for modality, member in members.items():
        folder = member.config.out / "model"
        trained, contract = load_model(folder)
        trained.to(network.device)
        network.replace_member(modality, trained, temperature=contract.temperatures[modality])
        source = member.form
        if modality == "image":
            form = replace(form, image_size=source.image_size, picture=source.picture)
        else:
            form = replace(
                form, series=source.series, segment=source.segment, seconds=source.seconds
            )
    return replace(data, form=form)


def _train_member(train: Callable[..., Any], member: DiagnosisDataModule) -> None:
    train(member.config, data=member)


def _member_data(data: DiagnosisDataModule, modality: str) -> DiagnosisDataModule:
    store = data.store

    def with_modality(refs: Iterable[RecordingRef]) -> tuple[RecordingRef, ...]:
        if modality == "image":
            return tuple(ref for ref in refs if store.has_image(ref))
        return tuple(ref for ref in refs if store.counts(ref) is not None)

    split = RecordingSplit(*(with_modality(refs) for refs in data.split.lists().values()))
    if not split.train or not split.validation:
        raise SplitError(f"No recording to learn from, or to validate on, has the {modality}.")
    return data_of_split(_member_config(data.config, modality), store, split)


def _member_config(config: DiagnosisConfig, modality: str) -> DiagnosisConfig:
    default = inspect.signature(find_model(config.model).builder).parameters[modality].default
    model = find_model(str(config.options.get(modality, default)))
    parameters = inspect.signature(model.builder).parameters
    settings = config.overrides()
    left_out = {"image_size", "segment"} - set(parameters)
    if model.fitted:
        left_out |= set(OF_NETWORKS)
    if "image_size" in parameters:
        settings["image_size"] = config.image_size
    settings |= {
        "model": model.name,
        "modalities": (modality,),
        "out": config.out / FOLDER / modality,
        "options": {},
    }
    return DiagnosisConfig.make(**{k: v for k, v in settings.items() if k not in left_out})
