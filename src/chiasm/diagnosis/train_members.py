"""Train what a late average joins: each member by itself, on the same division of recordings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
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
# How a network sees recordings; a method that learns in one call has its own way.
_SIGHT = ("preset", "inputs", "align", "views", "seconds", "fold", "batch", "learning_rate")


def learn_members(
    network: LateAverage, data: DiagnosisDataModule, train: Callable[..., Any]
) -> DiagnosisDataModule:
    """Train each member in ``members/MODALITY`` of the run and put it in place.

    A member that is there already is not trained again.

    Args:
        network: takes the members over.
        data: of the average; its division is theirs.
        train: trains one, given its settings and its data.

    Returns:
        The data with the picture as the one member sees it, and the series as the other does.

    Raises:
        SplitError: one modality has no recordings to learn from or to validate on.
    """
    form = data.form
    for modality in network.modalities:
        own = _member_bench(data, modality)
        folder = own.config.out / "model"
        say(f"The {modality} by itself: {own.config.model} ...")
        if not (folder / CONTRACT).exists():
            train(own.config, data=own)
        learned, contract = load_model(folder)
        network.replace_member(modality, learned, temperature=contract.temperatures[modality])
        if modality == "image":
            form = replace(form, image_size=own.form.image_size, picture=own.form.picture)
        else:
            form = replace(
                form, scale=own.form.scale, segment=own.form.segment, seconds=own.form.seconds
            )
    return replace(data, form=form)


def _member_bench(data: DiagnosisDataModule, modality: str) -> DiagnosisDataModule:
    config = _member_config(data.config, modality)
    store = data.store

    def own(refs: Iterable[RecordingRef]) -> tuple[RecordingRef, ...]:
        if modality == "image":
            return tuple(ref for ref in refs if store.has_image(ref))
        return tuple(ref for ref in refs if store.counts(ref) is not None)

    split = RecordingSplit(*(own(refs) for refs in data.split.lists().values()))
    if not split.train or not split.validation:
        raise SplitError(f"No recording to learn from, or to validate on, has the {modality}.")
    return data_of_split(config, store, split)


def _member_config(config: DiagnosisConfig, modality: str) -> DiagnosisConfig:
    own = inspect.signature(find_model(config.model).builder).parameters[modality].default
    model = find_model(str(config.options.get(modality, own)))
    known = inspect.signature(model.builder).parameters
    changed: dict[str, Any] = {
        "model": model.name,
        "modalities": (modality,),
        "out": config.out / FOLDER / modality,
        "options": {},
        "image_size": config.pixels if "image_size" in known else None,
        "segment": config.segment if "segment" in known else None,
    }
    if model.fitted:
        changed |= dict.fromkeys(_SIGHT)
    return config.model_copy(update=changed)
