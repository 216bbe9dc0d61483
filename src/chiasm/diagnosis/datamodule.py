"""Data of a classifier's run: store, split, form of the network's input, and loaders."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from chiasm.diagnosis.augmentation.views import ViewSettings, strong_pictures, strong_views
from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import DiagnosisContract, read_contract
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.recorders import (
    Counts,
    Polarity,
    bins_of,
    channels_of,
    check_polarity,
    recognised_polarity,
)
from chiasm.diagnosis.preparation.scales import (
    PictureScale,
    SeriesScale,
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
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.left_out import check_left_out
from chiasm.runs.model_folder import GENOTYPE, model_folder
from chiasm.runs.run_folder import open_run_folder
from chiasm.training.device import find_device
from chiasm.training.progress import counted

# Pictures from which the scale is estimated.
PICTURES = 100

# Side at which the dots of a picture are found before it is averaged to the network's size.
PICTURE_SIDE = 128

# Training series from which their polarity is told, and at most as many from which the scale of
# series is estimated that are converted for it.
LOOKED_AT, SCALED = 64, 500


@dataclass(frozen=True, eq=False)
class DiagnosisDataModule:
    """The recordings of a run, as all stages of its training take them.

    Attributes:
        config: of the run.
        store: the recordings.
        split: labelled recordings that have one of the network's modalities.
        form: how a recording becomes the network's input.
        fusion: of a model whose fusion is chosen: a genotype or the name of a form without one.
        crew: processes that judge architectures, and train finalists and members.
        earlier_groups: digests of groups that the model to go on from was trained or tuned on.
    """

    config: DiagnosisConfig
    store: RecordingStore
    split: RecordingSplit
    form: RecordingForm
    fusion: Genotype | str | None = None
    crew: Crew = ALONE
    earlier_groups: tuple[str, ...] = ()

    def alone(self) -> DiagnosisDataModule:
        """Return the data without a crew, as one of its processes gets them."""
        return replace(self, crew=ALONE)

    def arguments(self) -> dict[str, Any]:
        """Return the builder's arguments, with those of the data; a genotype as its file's name.

        Raises:
            ConfigurationError: a setting is given that the builder does not take.
        """
        form = self.form
        length = 20 * 60 * form.samples_per_cycle
        length -= length % form.segment  # the usual length; positions are made for any
        of_data = {
            "classes": len(self.store.kinds),
            "channels": form.channels,
            "series_length": max(length, form.segment),
            "samples_per_cycle": form.samples_per_cycle,
        }
        parameters = inspect.signature(find_model(self.config.model).builder).parameters
        arguments = self.config.builder_arguments()
        overrides = self.config.overrides()
        for name in [name for name in arguments if name not in parameters]:
            # A setting that was given on purpose must not be without effect.
            if name in overrides or name in self.config.options:
                options = sorted(set(parameters) - set(of_data) - {"modalities", "image_size"})
                raise ConfigurationError(
                    f"{self.config.model} has no option {name!r}; "
                    f"{'there are: ' + ', '.join(options) if options else 'it has none'}."
                )
            del arguments[name]
        if self.fusion is not None:
            arguments["fusion"] = GENOTYPE if isinstance(self.fusion, Genotype) else self.fusion
        return arguments | {name: value for name, value in of_data.items() if name in parameters}

    @property
    def device(self) -> torch.device:
        """The device that computes everything of the run."""
        return find_device(self.config.device)

    def network(self) -> Classifier:
        """Return a new network on the run's device; the same for the same seed."""
        torch.manual_seed(self.config.seed)
        arguments = self.arguments()
        if self.fusion is not None:
            arguments["fusion"] = self.fusion
        network: Classifier = find_model(self.config.model).builder(**arguments)
        return network.to(self.device)

    def loader(self, purpose: str) -> DataLoader[Any]:
        """Return batches for a purpose.

        Args:
            purpose: ``contrast`` or ``classify`` (random views of the training recordings),
                ``contrast_check`` (fixed views of the validation recordings), ``classify_check``
                (the validation recordings unchanged), or ``fit`` (the training recordings
                unchanged and in order).
        """
        check = purpose.endswith("_check")
        contrast = purpose.startswith("contrast")
        config = self.config
        views = ViewSettings(
            # Patterns that are rolled to a reference phase need no views at other phases.
            phase_unknown=config.phase_unknown and not config.align,
            picture_gain=config.picture_gain,
            shortest=config.shortest_view,
        )
        if config.views == "strong":
            views = strong_views(views)
        elif config.views == "strong_pictures":
            views = strong_pictures(views)
        dataset = Recordings(
            self.store,
            self.split.validation if check else self.split.train,
            self.form,
            modalities=config.modalities,
            views=views if contrast or purpose == "classify" else None,
            count=2 if contrast else 1,
            seed=3 * config.seed + (2 if check else 0 if contrast else 1),
        )
        return recording_loader(
            dataset,
            batch=config.batch,
            shuffle=not check and purpose != "fit",
            workers=config.loading_workers,
            device=self.device,
        )

    @property
    def groups_by(self) -> str:
        """Kind of group that tells which recordings were trained or tuned on, or ``random``."""
        return group_kind(self.config.split_by, (*self.split.train, *self.split.validation))

    def training_groups(self) -> tuple[str, ...]:
        """Return short digests of the training groups' names; empty for a random split."""
        own = group_digests(self.groups_by, self.split.train)
        return tuple(sorted(own | set(self.earlier_groups)))

    def validation_groups(self) -> tuple[str, ...]:
        """Return short digests of the validation groups' names; empty for a random split."""
        return tuple(sorted(group_digests(self.groups_by, self.split.validation)))

    def training_data(self) -> str:
        """Return the SHA-256 over the series and labels of the training recordings."""
        sha256 = hashlib.sha256()
        for ref in self.split.train:
            counts = self.store.counts(ref)
            sha256.update(f"{ref.label}:{None if counts is None else counts.shape}".encode())
            sha256.update(b"" if counts is None else counts.data)
        return sha256.hexdigest()


# Settings that may differ when a run is continued: they do not change its result.
_FREE = frozenset(
    {
        *("minutes", "loading_workers", "device", "cache", "out", "strict", "windows"),
        *("unknown_by", "unknown_share"),
    }
)

GIVEN = "given"


def open_run(
    config: DiagnosisConfig, *, data: DiagnosisDataModule | None = None, crew: Crew = ALONE
) -> DiagnosisDataModule:
    """Make the run's folder, or open that of a run to continue, and open its data.

    Args:
        config: of the run.
        data: if they are open already.
        crew: processes of the run.

    Raises:
        ConfigurationError: the folder holds a run with other settings.
    """
    open_run_folder(config, config.out, free=_FREE)
    return data or replace(open_data(config), crew=crew)


def open_data(config: DiagnosisConfig) -> DiagnosisDataModule:
    """Open the recordings, converted to a store if they are none, and divide them.

    Raises:
        SplitError: there are no training or no validation recordings.
        DataError: too many recordings cannot be read, or any with ``config.strict``.
    """
    store = open_store(config.data, cache=config.cache)
    earlier = None
    if config.start_from is not None:
        earlier = read_contract(model_folder(config.start_from))
        # The first model's classes keep their numbers; others follow.
        store = store.with_kinds(tuple(dict.fromkeys((*earlier.kinds, *store.kinds))))
    left_out = [problem for problem in store.problems if problem.left_out]
    check_left_out(
        left_out,
        total=len(store.refs) + len(left_out),
        noun="recordings",
        strict=config.strict,
        folder=config.out,
    )
    split = division(store, [ref for ref in store.refs if ref.label is not None], config)
    if not split.train or not split.validation:
        raise SplitError("Training needs recordings to learn from and others to validate on.")
    data = data_of_split(config, store, split)
    return data if earlier is None else _in_form_of(earlier, data)


def _in_form_of(earlier: DiagnosisContract, data: DiagnosisDataModule) -> DiagnosisDataModule:
    """Return data in the form of the inputs of an earlier model, and the groups that it has seen.

    Raises:
        DataError: series are of another polarity, or have other channels.
    """
    form = earlier.recording
    refs = data.split.train
    for ref in refs[:: max(1, len(refs) // LOOKED_AT)] if "series" in earlier.modalities else ():
        counts = data.store.counts(ref)
        if counts is None:
            continue
        if counts.shape[0] != form.recorded_channels:
            raise DataError(
                f"{ref.source} has {counts.shape[0]} channels, and the model of "
                f"{data.config.start_from} takes {form.recorded_channels}."
            )
        check_polarity(np.asarray(counts, np.float32), form.polarity, ref.source)
    seen = {*earlier.split.training_groups, *(earlier.split.validation_groups or ())}
    return replace(data, form=form, earlier_groups=tuple(sorted(seen)))


def data_of_split(
    config: DiagnosisConfig, store: RecordingStore, split: RecordingSplit
) -> DiagnosisDataModule:
    """Return the data of recordings that are divided; scales are of the training recordings."""
    cycle = config.cycle_values
    polarity, channels = _recorder(config, store, split)
    least = math.lcm(config.segment, cycle) // cycle
    form = RecordingForm(
        image_size=config.image_size,
        channels=channels,
        samples_per_cycle=cycle,
        segment=config.segment,
        series=SeriesScale(),
        picture=_picture_scale(store, split, config),
        seconds=config.seconds or None,
        windows=config.windows,
        polarity=polarity,
        phase=config.phase,
    )
    scale = estimate_scale(
        _magnitudes(store, split, form) if "series" in config.modalities else (),
        standardised=config.inputs != "plain",
        relative=config.inputs == "relative",
        cycle=cycle if config.align or config.fold > 1 else None,
        aligned=config.align,
        fold=config.fold,
        least=least,
        excess=config.counts_excess,
    )
    return DiagnosisDataModule(config, store, split, replace(form, series=scale))


def _recorder(
    config: DiagnosisConfig, store: RecordingStore, split: RecordingSplit
) -> tuple[Polarity, int]:
    """Return how the series are written, and the channels of their magnitudes.

    Raises:
        DataError: series differ in their channels, or one is shorter than a token.
    """
    refs = [ref for refs in split.lists().values() for ref in refs]
    series = [(ref, store.counts(ref)) for ref in refs] if "series" in config.modalities else []
    shapes = {counts.shape[0] for _, counts in series if counts is not None}
    if len(shapes) > 1:
        raise DataError(
            f"Series have {' and '.join(map(str, sorted(shapes)))} channels. One model takes one "
            "kind: leave some channels out, or divide the data."
        )
    for ref, counts in series:
        if counts is not None:  # too short is said now, not in the middle of an epoch
            window_length(
                bins_of(
                    counts.shape[1], per_cycle=ref.samples_per_cycle, cycle=config.cycle_values
                ),
                per_cycle=config.cycle_values,
                segment=config.segment,
                fold=config.fold,
            )
    training = [c for c in map(store.counts, split.train) if c is not None] if shapes else []
    polarity: Polarity = "unipolar"
    if config.polarity != "auto":
        polarity = config.polarity
    elif found := recognised_polarity(training[:: max(1, len(training) // LOOKED_AT)]):
        polarity = found
    return polarity, channels_of(polarity, next(iter(shapes), 1))


def _magnitudes(store: RecordingStore, split: RecordingSplit, form: RecordingForm) -> list[Counts]:
    """Return training series as the network's form has them; of other forms an even selection.

    Series that are in that form already are not copied: they are memory maps.
    """
    refs = [ref for ref in split.train if store.counts(ref) is not None]
    same = form.polarity == "unipolar"
    if not (same and all(ref.samples_per_cycle == form.samples_per_cycle for ref in refs)):
        refs = refs[:: max(1, len(refs) // SCALED)]
    magnitudes = []
    for ref in counted("Measuring series", refs, unit="recordings"):
        counts = store.counts(ref)
        if counts is not None:
            magnitudes.append(form.magnitudes(counts, ref.samples_per_cycle))
    return magnitudes


def _picture_scale(
    store: RecordingStore, split: RecordingSplit, config: DiagnosisConfig
) -> PictureScale:
    if config.inputs == "plain" or "image" not in config.modalities:
        return PictureScale()
    relative = config.inputs == "relative" and config.picture_gain
    refs = split.train[:: max(1, len(split.train) // PICTURES)]
    return estimate_picture_scale(
        (store.image(ref) for ref in counted("Measuring pictures", refs, unit="pictures")),
        config.image_size,
        relative=relative,
        aligned=config.align,
        dots=True,
        side=max(PICTURE_SIDE, config.image_size) if relative else None,
    )


def division(
    store: RecordingStore, labelled: Sequence[RecordingRef], config: DiagnosisConfig
) -> RecordingSplit:
    """Divide the recordings that have one of the network's modalities.

    Raises:
        DataError: there are none, or a class that is to be left out does not exist.
    """
    refs = [ref for ref in labelled if has_any(store, ref, config.modalities)]
    if not refs:
        raise DataError(
            f"{config.data} has no labelled recording with {' or '.join(config.modalities)}. To "
            "train, put the files of each fault into a folder of its name, or name it in the "
            "column 'kind' of a table; modalities=image or series says what a model looks at."
        )
    try:
        split = _divided(refs, config)
    except SplitError:
        if not config.left_out:
            raise
        # A class that is left out needs no sessions of its own on both sides.
        split = _divided([ref for ref in refs if ref.kind not in config.left_out], config)
    return _without_classes(split, store.kinds, config.left_out)


def _divided(refs: list[RecordingRef], config: DiagnosisConfig) -> RecordingSplit:
    if config.split_by == GIVEN:
        return given_split(refs, by=group_kind(GIVEN, refs))
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
    """Return the split without the training and validation recordings of some classes."""
    unknown = sorted(set(left_out) - set(kinds))
    if unknown:
        raise DataError(f"There is no class '{unknown[0]}'; choose from {', '.join(kinds)}.")
    labels = {kinds.index(kind) for kind in left_out}
    return RecordingSplit(
        tuple(ref for ref in split.train if ref.label not in labels),
        tuple(ref for ref in split.validation if ref.label not in labels),
        split.test,
    )


def group_kind(split_by: str, refs: Iterable[RecordingRef]) -> str:
    """Return the kind of group that a split keeps whole.

    For a given split that is the session, or ``random`` if a recording has none.
    """
    if split_by != GIVEN:
        return split_by
    return "session" if all(ref.group.get("session") for ref in refs) else RANDOM


def group_digests(kind: str, refs: Iterable[RecordingRef]) -> set[str]:
    """Return short digests of the names of some recordings' groups; none for ``random``."""
    if kind == RANDOM:
        return set()
    return {digest(f"{kind}:{ref.group[kind]}") for ref in refs if ref.group.get(kind)}


def digest(text: str) -> str:
    """Return the first 16 hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def has_any(store: RecordingStore, ref: RecordingRef, modalities: Sequence[str]) -> bool:
    """Return whether a recording has one of some modalities."""
    return ("image" in modalities and store.has_image(ref)) or (
        "series" in modalities and store.counts(ref) is not None
    )
