"""What searching and training both stand on: splits, prepared parts, memories, stored features."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from chiasm.detection.anomalies.generators import training_generator, validation_generator
from chiasm.detection.anomalies.textures import TextureSource
from chiasm.detection.config import DetectionConfig
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.preparation.geometry import GeometryScale, estimate_geometry_scale
from chiasm.detection.preparation.prepare import PreparationSettings, estimate_crop_fraction
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.source import SampleSource
from chiasm.detection.readers.splits import (
    Split,
    check_disjoint,
    make_splits,
    members_by_group,
    set_aside,
)
from chiasm.detection.rotation import at_rotations, frozen_detector, rotations_of
from chiasm.detection.training.fit_memory import fit_memory
from chiasm.detection.training.synthetic import (
    FeatureStore,
    SyntheticParts,
    fresh_loader,
    stored_loader,
)
from chiasm.errors import SplitError
from chiasm.files.content_hash import content_hash
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.pools import Pools
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runs.run_folder import keep_data_hash, open_run_folder
from chiasm.samples import PreparedSample
from chiasm.training.trainer import processor_precision

HELD_OUT_SHARE = 0.2


@dataclass(eq=False)
class DetectionDataModule:
    """Everything that is made once and serves search, training and every comparison.

    Attributes:
        config: of the run.
        source, split: the data.
        settings, scale: preparation.
        learning: prepared normals that weights learn from.
        held_out: prepared normals (of the training split) for architecture and score rule, of
            groups of their own where there are several.
        owners: for each part what a memory leaves out for it: photographs of its group.
        calibration: prepared normals for thresholds alone.
        frozen: the fitted source of a light model, else None.
        stores: stored features by purpose, for a frozen source.
        training_data: hash of the training files.
        started: when the run's clock began, seconds of ``time.monotonic``.
        rotations: at which each part is shown, as ``parts`` then are.
    """

    config: DetectionConfig
    source: SampleSource
    split: Split
    settings: PreparationSettings
    scale: GeometryScale
    parts: list[PreparedSample]
    learning: list[int]
    held_out: list[int]
    owners: list[int]
    calibration: list[PreparedSample]
    training_data: str
    started: float
    rotations: int = 1
    frozen: NormalityFeatures | None = None
    stores: dict[str, FeatureStore] | None = None

    @property
    def pools(self) -> Pools:
        """The pools of the model, restricted to the configured cells."""
        return pools_of(self.config)

    def detector(self, fusion: Genotype | str) -> AdnasDetector:
        """A new detector, weights freshly initialised; a frozen source is shared, not copied."""
        torch.manual_seed(self.config.seed)
        arguments: dict[str, Any] = {
            "modalities": self.config.modalities,
            "cells": self.config.cells,
            "nodes": self.config.nodes,
            "operations": self.config.operations,
            "pools": self.pools,
            "image_size": self.config.image_size,
        }
        if self.frozen is not None:
            arguments["pretrained"] = False
        detector: AdnasDetector = find_model(self.config.model).builder(fusion, **arguments)
        if self.frozen is not None:
            detector.source = self.frozen
        elif processor_precision() != "32-true":
            # Half of bfloat16's gain in convolutions comes from the layout.
            detector = detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return detector

    def loader(self, purpose: str, *, required: frozenset[str] | None = None) -> DataLoader[Any]:
        """Batches for ``learn``, ``architecture`` or ``validate``."""
        shuffle = purpose != "validate"
        if self.stores is not None:
            store = self.stores[purpose]
            if required is not None:
                store = store.only(required)
            return stored_loader(
                store, batch=self.config.batch, seed=self.config.seed, shuffle=shuffle
            )
        return fresh_loader(
            self.synthetic(purpose),
            batch=min(self.config.batch, 8),
            scale=self.scale,
            modalities=self.config.modalities,
            shuffle=shuffle,
        )

    def synthetic(self, purpose: str) -> SyntheticParts:
        """Normal parts with anomalies: training's generators to learn, others for all else."""
        numbers = self.learning if purpose == "learn" else self.held_out
        generator: Any
        if purpose == "learn":
            folder = self.config.textures
            generator = training_generator(
                TextureSource.from_folder(folder) if folder is not None else None
            )
        else:
            generator = validation_generator()
        seed = self.config.seed * 10 + {"learn": 0, "architecture": 1, "validate": 2}[purpose]
        return SyntheticParts(
            [self.parts[i] for i in numbers],
            numbers=numbers,
            generator=generator,
            seed=seed,
            owners=[self.owners[i] for i in numbers],
        )

    def seconds_left(self) -> float:
        """Seconds of the budget that are left; infinite without one."""
        if self.config.minutes is None:
            return float("inf")
        return 60 * self.config.minutes - (time.monotonic() - self.started)


def pools_of(config: DetectionConfig) -> Pools:
    """The candidate lists of a named model."""
    pools = find_model(config.model).pools
    assert pools is not None
    return pools(config.modalities).only(*config.cells).matching(config.candidates)


def open_data(config: DetectionConfig) -> DetectionDataModule:
    """Read, split and prepare the data; fit memories and store features for a light model."""
    started = time.monotonic()
    source = open_source(config.data, lamp=config.lamp)
    split = make_splits(
        source,
        shots=config.shots,
        calibration_share=config.calibration_share,
        seed=config.seed,
    )
    # A part that was learned from promises nothing about alarms, nor do figures on it.
    check_disjoint(split)
    say(
        f"{source.name}: {len(split.train)} normal parts to learn from, "
        f"{len(split.calibration)} to calibrate with."
    )
    settings = PreparationSettings(
        size=config.image_size,
        remove_background=config.remove_background,
        plane_margin=config.plane_margin,
    )
    some = split.train[:: max(1, len(split.train) // 60)]
    fraction = estimate_crop_fraction((source.load(ref) for ref in some), settings)
    settings = replace(settings, crop_fraction=round(fraction, 4))
    cache = PreparationCache()
    parts = [cache.get(source, ref, settings) for ref in split.train]
    calibration = [cache.get(source, ref, settings) for ref in split.calibration]
    scale = estimate_geometry_scale(parts, kind=config.geometry)

    if len(parts) < 2:
        raise SplitError(
            "Only one normal part is left to learn from; two are the least, and fifty are better."
        )
    groups = [ref.group for ref in split.train]
    held_out = set_aside(groups, HELD_OUT_SHARE, np.random.default_rng(config.seed))
    owners = _owners(groups)
    ours = not find_model(config.model).baseline
    rotations = rotations_of(config, parts, owners=owners, scale=scale) if ours else 1
    parts, sources = at_rotations(parts, rotations)
    held_out = {i for i, own in enumerate(sources) if own in held_out}
    owners = [owners[own] for own in sources]
    data = DetectionDataModule(
        config=config,
        source=source,
        split=split,
        settings=settings,
        scale=scale,
        parts=parts,
        learning=sorted(set(range(len(parts))) - held_out),
        held_out=sorted(held_out),
        owners=owners,
        calibration=calibration,
        training_data=content_hash(path for ref in split.train for path in ref.files.values()),
        started=started,
        rotations=rotations,
    )
    if config.model == "adnas_light":
        _store_features(data)
    return data


def _store_features(data: DetectionDataModule) -> None:
    config = data.config
    source = frozen_detector(config).source
    assert isinstance(source, NormalityFeatures)
    say("Remembering what normal parts look like ...")
    fit_memory(source, data.parts, scale=data.scale, seed=config.seed, owners=data.owners)
    data.frozen = source
    data.stores = {}
    # Held-out parts are fewer: more rounds of them make the validation steadier.
    rounds = {
        "learn": config.rounds,
        "architecture": max(2, config.rounds // 2),
        "validate": max(2, config.rounds // 2),
    }
    deadline = time.monotonic() + 0.5 * data.seconds_left()
    for purpose, epochs in rounds.items():
        keep: Callable[[], bool] = lambda: time.monotonic() < deadline  # noqa: E731
        dataset = data.synthetic(purpose)
        say(f"Making synthetic anomalies ({purpose}): {epochs} rounds of {len(dataset)} parts ...")
        data.stores[purpose] = FeatureStore.build(
            source,
            dataset,
            epochs=range(epochs),
            scale=data.scale,
            modalities=config.modalities,
            keep_going=keep,
        )


def _owners(groups: Sequence[str]) -> list[int]:
    """For each part the first part of its group; with one group for all, the part itself."""
    members = members_by_group(groups)
    if len(members) == 1:
        return list(range(len(groups)))
    first = {number: min(own) for own in members for number in own}
    return [first[number] for number in range(len(groups))]


# What may change when a run goes on; the data are compared by content.
_FREE = frozenset({"out", "data", "minutes", "search_epochs", "train_epochs"})


def open_run(config: DetectionConfig) -> DetectionDataModule:
    """Make the run's folder, keep its settings in it and open the workbench.

    Raises ``ConfigurationError`` where it holds a run with other settings or other parts.
    """
    open_run_folder(config, config.out, free=_FREE)
    data = open_data(config)
    keep_data_hash(config.out, data.training_data)
    return data
