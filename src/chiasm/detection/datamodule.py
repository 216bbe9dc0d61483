"""Data of a run, made once for search, training and calibration: splits, parts, stored features."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from chiasm.detection.anomalies.generators import (
    AnomalyGenerator,
    training_generator,
    validation_generator,
)
from chiasm.detection.anomalies.textures import TextureSource
from chiasm.detection.building import builder_arguments, pools_of
from chiasm.detection.config import DetectionConfig
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.preparation.tiles import TilePlan
from chiasm.detection.readers.cache import SelectedParts, with_defects
from chiasm.detection.readers.source import SampleSource
from chiasm.detection.readers.splits import (
    Split,
)
from chiasm.detection.training.augmentation import Augmentation
from chiasm.detection.training.feature_store import FEATURES, FeatureStore, stored_loader
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.pools import Pools
from chiasm.registry import find_model
from chiasm.runs.crew import ALONE, Crew
from chiasm.samples import PreparedSample
from chiasm.training.device import (
    Multiplied,
    find_device,
    precision_on,
    prefers_channels_last,
    put,
)

FRESH_BATCH = 8  # parts, at most, of a batch that is not made of stored features


@dataclass(eq=False)
class DetectionDataModule:
    """Splits, prepared parts and stored features of a run.

    Attributes:
        config: of the run.
        source, split: the data.
        preparation, geometry: how a sample becomes the model's input.
        acquisition: how the normals were seen.
        parts: prepared training normals, with their rotated copies; read from disk when used.
        training: indices of the parts that train the weights of detectors.
        held_out: indices of the parts that choose genotype and score rule; they share no group
            with ``training`` where there are several groups.
        weights, architecture: indices of those of ``training`` that train the weights and the
            architecture of a search; disjoint where they can be, see ``divide_for_search``.
        owners: for each part the owner of the descriptors that a memory leaves out for it: the
            first part of its group.
        calibration: prepared normals for the threshold.
        defects: prepared known defects that train the head; none of them is a normal part.
        selected_on_calibration: whether they are the data set's validation split and also choose
            genotype and score rule; ``held_out`` is then empty.
        training_data: hash of the training files.
        started: ``time.monotonic()`` at the start of the run.
        reserved: seconds of the budget that are left to the calibration.
        rotations: at which each part is shown.
        frozen_source: the fitted source of a model with frozen features, else None.
        stores: its stored features by purpose, in files of the run's folder.
        selection_rounds: times that each held-out part is shown to choose by, with other anomalies,
            so that at least ``ANOMALIES_TO_CHOOSE_BY`` have one.
        tiles: in which crops are looked at. ``parts`` are then tiles, ``calibration`` whole crops.
        crew: processes that store features, judge architectures and train finalists.
        time_to_search: whether the budget has time for a search beside a training that learns.
    """

    config: DetectionConfig
    source: SampleSource
    split: Split
    preparation: PreparationSettings
    geometry: GeometryScale
    acquisition: Acquisition
    parts: Sequence[PreparedSample]
    training: list[int]
    held_out: list[int]
    weights: list[int]
    architecture: list[int]
    owners: list[int]
    calibration: Sequence[PreparedSample]
    selected_on_calibration: bool
    training_data: str
    started: float
    reserved: float = 0.0
    rotations: int = 1
    defects: Sequence[PreparedSample] = ()
    frozen_source: NormalityFeatures | None = None
    stores: dict[str, FeatureStore] | None = None
    selection_rounds: int = 1
    tiles: TilePlan | None = None
    crew: Crew = ALONE
    time_to_search: bool = True

    def alone(self) -> DetectionDataModule:
        """Return the data without a crew, as one of its processes gets them."""
        return replace(self, crew=ALONE)

    @property
    def device(self) -> torch.device:
        """The device that computes everything of the run."""
        return find_device(self.config.device)

    @property
    def multiplied(self) -> Multiplied:
        """What the products of a training are computed in."""
        return precision_on(self.device, self.config.precision)

    @property
    def pools(self) -> Pools:
        """The pools of the model, restricted to the configured cells and candidates."""
        return pools_of(self.config)

    def detector(
        self, fusion: Genotype | str, *, device: torch.device | None = None
    ) -> AdnasDetector:
        """Build a detector with new weights; a frozen source is shared, not copied.

        Args:
            fusion: genotype or name of a form.
            device: of the detector; None is the run's. A shared source stays where it is.
        """
        torch.manual_seed(self.config.seed)
        arguments = builder_arguments(self.config) | {"pools": self.pools}
        if self.frozen_source is not None:
            arguments["pretrained"] = False
        detector: AdnasDetector = find_model(self.config.model).builder(fusion, **arguments)
        if self.config.loss is not None:
            detector.loss = self.config.loss
        detector.map_dropout = self.config.map_dropout
        if self.config.checkpointing:
            detector.recompute_activations()
        if self.frozen_source is not None:
            detector.source = self.frozen_source
        elif prefers_channels_last(self.device, self.multiplied):
            # Half of bfloat16's gain in convolutions comes from the layout. ``Module.to`` cannot
            # change it on the tensors without data that a step's memory is counted on.
            for weight in detector.parameters():
                if weight.dim() == 4:
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return put(detector, self.device if device is None else device)

    def loader(self, purpose: str, *, required: frozenset[str] | None = None) -> DataLoader[Any]:
        """Load batches for a purpose.

        Args:
            purpose: ``weights`` or ``architecture`` of a search, ``train`` a finalist, ``final``
                weights, or ``validate``.
            required: names of the maps to load of stored features; None loads all.
        """
        shuffle = purpose != "validate"
        if self.stores is not None:
            store, positions = self.stored(purpose)
            if required is not None:
                store = store.only(required)
            return stored_loader(
                store,
                batch=self.config.batch,
                seed=self.config.seed,
                shuffle=shuffle,
                positions=positions,
                device=self.device,
            )
        return fresh_loader(
            self.synthetic(purpose, rounds=1 if shuffle else self.selection_rounds),
            batch=min(self.config.batch, FRESH_BATCH),
            scale=self.geometry,
            modalities=self.config.modalities,
            shuffle=shuffle,
            device=self.device,
        )

    def stored(self, purpose: str) -> tuple[FeatureStore, list[int] | None]:
        """Return the store for a purpose, and the positions in it; None stands for all of them."""
        assert self.stores is not None
        name = purpose if purpose in self.stores else "final"
        kept, stored = self.indices(purpose), self.indices(name)
        if kept == stored:
            return self.stores[name], None
        # A store holds whole epochs, one after the other.
        count, chosen = len(self.stores[name]), set(kept)
        return self.stores[name], [p for p in range(count) if stored[p % len(stored)] in chosen]

    def kinds(self, purpose: str) -> list[str]:
        """Return the kind of synthetic anomaly of each part of a purpose, "" where it has none.

        The order is that of batches that are not shuffled.
        """
        if self.stores is not None:
            store, positions = self.stored(purpose)
            return [store.kinds[p] for p in (range(len(store)) if positions is None else positions)]
        rounds = 1 if purpose != "validate" else self.selection_rounds
        parts = self.synthetic(purpose, rounds=rounds)
        drawn = (parts[i].part for i in range(len(parts)))
        return [part.kind if part.label == 1 else "" for part in drawn]

    def indices(self, purpose: str) -> list[int]:
        """Return the indices of a purpose's parts."""
        everything = self.config.final_data == "all"
        # Known defects follow the normal parts, and train weights alone.
        known = list(range(len(self.parts), len(self.parts) + len(self.defects)))
        final = sorted({*self.training, *self.held_out}) if everything else self.training
        return {
            "final": [*final, *known],
            "train": [*self.training, *known],
            "weights": [*self.weights, *known],
            "architecture": self.architecture,
            "validate": list(range(len(self.calibration)))
            if self.selected_on_calibration
            else self.held_out,
        }[purpose]

    def synthetic(self, purpose: str, *, rounds: int = 1) -> SyntheticParts:
        """Return a purpose's parts with anomalies; those of ``validate`` are of other generators.

        The architecture is trained on anomalies of the training's generators: of others, the choice
        between genotypes would be made on what they were searched with.
        """
        indices = self.indices(purpose)
        outside = purpose == "validate" and self.selected_on_calibration
        seeds = {"architecture": 1, "validate": 2}
        owners = [*self.owners, *(-1 for _ in self.defects)]  # -1: in no memory
        parts = self.calibration if outside else with_defects(self.parts, self.defects)
        return SyntheticParts(
            SelectedParts(parts, indices),
            numbers=indices,
            generator=validation_generator() if purpose == "validate" else self.training_anomalies,
            seed=self.config.seed * 10 + seeds.get(purpose, 0),
            owners=[-1 if outside else owners[i] for i in indices],
            augmentation=None if purpose in ("architecture", "validate") else self.augmentation,
            rounds=rounds,
        )

    @property
    def augmentation(self) -> Augmentation | None:
        """The augmentation of the parts that weights are trained with; None without any."""
        learns = self.frozen_source is None
        return Augmentation() if learns and self.config.augment else None

    @property
    def training_anomalies(self) -> AnomalyGenerator:
        """The generator of the anomalies that weights are trained with."""
        folder = self.config.textures
        textures = None if folder is None else TextureSource.from_folder(folder)
        if self.config.anomalies == "paper":
            return training_generator(textures, paper=1, geometric=0, appearance=0)
        return training_generator(textures, smallest=self.config.smallest_anomaly)

    def remove_stored(self) -> None:
        """Remove the files of stored features, which a finished run needs no more."""
        self.stores = None
        shutil.rmtree(self.config.out / FEATURES, ignore_errors=True)

    def seconds_left(self) -> float:
        """Return the seconds that are left of the budget until the calibration begins.

        At least 0, so that no share of them is negative; infinite without a budget.
        """
        if self.config.minutes is None:
            return float("inf")
        spent = time.monotonic() - self.started
        return max(60 * self.config.minutes - self.reserved - spent, 0.0)
