"""What every training of a classifier stands on: store, split, format of the input, loaders."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from chiasm.diagnosis.augmentation.views import ViewSettings, strong_views
from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.preparation.network_inputs import InputFormat
from chiasm.diagnosis.preparation.relative import GROUP
from chiasm.diagnosis.preparation.scales import (
    PictureScale,
    estimate_picture_scale,
    estimate_scale,
    window_length,
)
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.splits import (
    RANDOM,
    RecordingSplit,
    given_split,
    leave_one_out,
    split_recordings,
)
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.training.dataset import Recordings, recording_loader
from chiasm.errors import ConfigurationError, DataError, SplitError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model
from chiasm.runs.model_folder import GENOTYPE
from chiasm.runs.run_folder import open_run_folder

# Pictures from which the scale is estimated.
PICTURES = 100

# Side at which the dots of a picture are found before it is averaged to the network's size.
PICTURE_SIDE = 128


@dataclass(frozen=True, eq=False)
class DiagnosisDataModule:
    """Made once, used by both stages and by whoever compares.

    Attributes:
        config: of the run.
        store: the recordings.
        split: labelled recordings that have something for the network to look at.
        form: what the network takes.
        channels: of the series.
        samples_per_cycle: of the series.
        fusion: of a model whose fusion is chosen: a genotype or the name of a form without one.
    """

    config: DiagnosisConfig
    store: RecordingStore
    split: RecordingSplit
    form: InputFormat
    channels: int
    samples_per_cycle: int
    fusion: Genotype | str | None = None

    def arguments(self) -> dict[str, Any]:
        """The builder's arguments, those of the data among them; of a genotype its file's name."""
        length = 20 * 60 * self.samples_per_cycle
        length -= length % self.form.segment  # positions are made for any length; this is usual
        of_data = {
            "classes": len(self.store.kinds),
            "channels": self.channels,
            "series_length": max(length, self.form.segment),
            "samples_per_cycle": self.samples_per_cycle,
        }
        known = inspect.signature(find_model(self.config.model).builder).parameters
        given = self.config.builder_arguments()
        for name in [name for name in given if name not in known]:
            # What was asked for on purpose is not passed over in silence.
            default = type(self.config).model_fields.get(name)
            if name in self.config.options or (
                default is not None and getattr(self.config, name) != default.default
            ):
                options = sorted(set(known) - set(of_data) - {"modalities", "image_size"})
                raise ConfigurationError(
                    f"{self.config.model} has no option {name!r}; "
                    f"{'there are: ' + ', '.join(options) if options else 'it has none'}."
                )
            del given[name]
        if self.fusion is not None:
            given["fusion"] = GENOTYPE if isinstance(self.fusion, Genotype) else self.fusion
        return given | {name: value for name, value in of_data.items() if name in known}

    def network(self) -> Classifier:
        """A new network; the same for the same seed."""
        torch.manual_seed(self.config.seed)
        arguments = self.arguments()
        if self.fusion is not None:
            arguments["fusion"] = self.fusion
        network: Classifier = find_model(self.config.model).builder(**arguments)
        return network

    def loader(self, purpose: str) -> DataLoader[Any]:
        """Batches of ``contrast`` or ``classify``, or ``contrast_check`` or ``classify_check``.

        The checks are of validation recordings: fixed views for the contrast, plain ones for the
        classes. ``learn_plain`` are the recordings to learn from, plain and in order.
        """
        check = purpose.endswith("_check")
        contrast = purpose.startswith("contrast")
        config = self.config
        views = ViewSettings(
            # Patterns that are rolled to a phase of their own need not be seen at every other.
            phase_unknown=config.phase_unknown and not config.aligned,
            picture_gain=config.picture_gain,
        )
        if config.strong:
            views = strong_views(views)
        dataset = Recordings(
            self.store,
            self.split.validation if check else self.split.train,
            self.form,
            views=views if contrast or purpose == "classify" else None,
            count=2 if contrast else 1,
            seed=3 * self.config.seed + (2 if check else 0 if contrast else 1),
        )
        return recording_loader(
            dataset,
            batch=self.config.batch_size,
            shuffle=not check and purpose != "learn_plain",
            workers=self.config.workers,
        )

    @property
    def groups_by(self) -> str:
        """Kind of group that tells what was trained or tuned on, or ``random``."""
        return group_of(self.config.split_by, (*self.split.train, *self.split.validation))

    def training_groups(self) -> tuple[str, ...]:
        """Short digests of the names of the training groups; empty for a random split."""
        return tuple(sorted(group_digests(self.groups_by, self.split.train)))

    def validation_groups(self) -> tuple[str, ...]:
        """Likewise of the groups that everything was chosen by."""
        return tuple(sorted(group_digests(self.groups_by, self.split.validation)))

    def training_data(self) -> str:
        """SHA-256 over the series and labels of the training recordings."""
        whole = hashlib.sha256()
        for ref in self.split.train:
            counts = self.store.counts(ref)
            whole.update(f"{ref.label}:{None if counts is None else counts.shape}".encode())
            whole.update(b"" if counts is None else counts.data)
        return whole.hexdigest()


def open_data(config: DiagnosisConfig) -> DiagnosisDataModule:
    """Open the data, converted to a store where it is none yet, and divide it."""
    store = open_store(config.data, cache=config.cache)
    split = division(store, [ref for ref in store.refs if ref.label is not None], config)
    if not split.train or not split.validation:
        raise SplitError("Training needs recordings to learn from and others to validate on.")
    return data_of_split(config, store, split)


def data_of_split(
    config: DiagnosisConfig, store: RecordingStore, split: RecordingSplit
) -> DiagnosisDataModule:
    """The data of recordings that are divided."""
    refs = [ref for some in split.lists().values() for ref in some]
    channels, per_cycle = _series_shape(store, refs, config)
    least = math.lcm(config.token, per_cycle) // per_cycle
    every = [store.counts(ref) for ref in split.train] if "series" in config.modalities else []
    form = InputFormat(
        modalities=config.modalities,
        image_size=config.pixels,
        segment=config.token,
        scale=estimate_scale(
            every,
            standardised=config.standardised,
            relative=config.relative,
            cycle=per_cycle if config.aligned or config.folded > 1 else None,
            aligned=config.aligned,
            fold=config.folded,
            least=least,
            excess=_has_excess(config.folded, least, per_cycle),
        ),
        picture=_picture_scale(store, split, config),
        seconds=config.view_seconds,
    )
    return DiagnosisDataModule(config, store, split, form, channels, per_cycle)


def _has_excess(fold: int, least: int, per_cycle: int) -> bool:
    """Whether tokens are whole pairs of cycles that can be cut into groups of neighbours."""
    return fold > 1 and not (fold % 2 or least % 2 or per_cycle % GROUP)


def _picture_scale(
    store: RecordingStore, split: RecordingSplit, config: DiagnosisConfig
) -> PictureScale:
    if not config.standardised or "image" not in config.modalities:
        return PictureScale()
    relative = config.relative and config.picture_gain
    some = split.train[:: max(1, len(split.train) // PICTURES)]
    images = (store.image(ref) for ref in some)
    return estimate_picture_scale(
        images,
        config.pixels,
        relative=relative,
        aligned=config.aligned,
        dots=True,
        side=max(PICTURE_SIDE, config.pixels) if relative else None,
    )


def _series_shape(
    store: RecordingStore, refs: list[RecordingRef], config: DiagnosisConfig
) -> tuple[int, int]:
    """Channels and values to a mains cycle that all series have; raises ``DataError``."""
    shapes = set()
    for ref in refs if "series" in config.modalities else ():
        counts = store.counts(ref)
        if counts is not None:
            shapes.add((counts.shape[0], ref.samples_per_cycle))
            # A series that is too short is found now, not in the middle of an epoch.
            window_length(
                counts.shape[1],
                per_cycle=ref.samples_per_cycle,
                segment=config.token,
                fold=config.folded,
            )
    if len(shapes) > 1:
        raise DataError(
            "Series differ in their channels and values to a mains cycle: "
            f"{', '.join(map(str, sorted(shapes)))}. One model takes one kind: resample some, or "
            "divide the data."
        )
    return next(iter(shapes), (1, 128))


# Settings that say how a run is carried out, not what comes out of it.
_FREE = frozenset({"minutes", "workers", "cache", "out", "windows", "unknown_share"})


def open_folder(config: DiagnosisConfig) -> None:
    """Make the run's folder, or open that of a run to go on with; see ``open_run_folder``."""
    open_run_folder(config, config.out, free=_FREE)


GIVEN = "given"


def division(
    store: RecordingStore, labelled: Sequence[RecordingRef], config: DiagnosisConfig
) -> RecordingSplit:
    """Divide the recordings that have something for the network to look at.

    Raises ``DataError`` where there are none, or a class that is to be left out does not exist.
    """
    refs = [ref for ref in labelled if has_any(store, ref, config.modalities)]
    if not refs:
        raise DataError(
            f"{config.data} has no labelled recording with {' or '.join(config.modalities)}."
        )
    return _without_classes(divide(refs, config), store.kinds, config.left_out)


def divide(refs: list[RecordingRef], config: DiagnosisConfig) -> RecordingSplit:
    """The split that the settings ask for."""
    if config.split_by == GIVEN:
        return given_split(refs, by=group_of(GIVEN, refs))
    if config.test_group is not None:
        share = config.shares[1] / (config.shares[0] + config.shares[1])
        folds = leave_one_out(
            refs,
            by=config.split_by,
            validation_share=share,
            seed=config.seed,
            only=config.test_group,
        )
        return next(split for _, split in folds)
    return split_recordings(refs, by=config.split_by, shares=config.shares, seed=config.seed)


def _without_classes(
    split: RecordingSplit, kinds: tuple[str, ...], left_out: tuple[str, ...]
) -> RecordingSplit:
    """The split with training and validation recordings of some classes taken away."""
    unknown = sorted(set(left_out) - set(kinds))
    if unknown:
        raise DataError(f"There is no class '{unknown[0]}'; choose from {', '.join(kinds)}.")
    gone = {kinds.index(kind) for kind in left_out}
    return RecordingSplit(
        tuple(ref for ref in split.train if ref.label not in gone),
        tuple(ref for ref in split.validation if ref.label not in gone),
        split.test,
    )


def group_of(split_by: str, refs: Iterable[RecordingRef]) -> str:
    """The kind of group that a split keeps whole; of a given one the session, where all have it."""
    if split_by != GIVEN:
        return split_by
    return "session" if all(ref.group.get("session") for ref in refs) else RANDOM


def group_digests(by: str, refs: Iterable[RecordingRef]) -> set[str]:
    """Short digests of the names of some recordings' groups; nothing for ``random``."""
    if by == RANDOM:
        return set()
    return {digest(f"{by}:{ref.group[by]}") for ref in refs if ref.group.get(by)}


def digest(text: str) -> str:
    """The first 16 hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def has_any(store: RecordingStore, ref: RecordingRef, modalities: Sequence[str]) -> bool:
    """Whether a recording has one of some modalities."""
    return ("image" in modalities and store.has_image(ref)) or (
        "series" in modalities and store.counts(ref) is not None
    )
