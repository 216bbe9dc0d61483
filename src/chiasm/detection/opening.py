"""Open the data of a run: read, split and prepare parts, fit memories, store features."""

from __future__ import annotations

import inspect
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter

from chiasm.detection.building import frozen_detector
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.decision import AlarmRule
from chiasm.detection.detector import Detector
from chiasm.detection.hidden_defects import find_hidden_defects, record_hidden_defects
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.preparation.acquisition import AcquisitionObserver
from chiasm.detection.preparation.frame_mask import read_frame_mask
from chiasm.detection.preparation.geometry import estimate_geometry_scale
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.products.data import OfProduct
from chiasm.detection.readers.cache import PreparationCache, SelectedParts
from chiasm.detection.readers.calibration_plan import Promise, few_calibration_warning, plan_split
from chiasm.detection.readers.opening import lamp_read, open_source
from chiasm.detection.readers.source import (
    SENSOR_WORDS,
    DamagedParts,
    SampleRef,
    SampleSource,
    check_sensors,
    remarks_of,
    sensors_of,
)
from chiasm.detection.readers.splits import (
    Split,
    check_disjoint,
    divide_as_published,
    divide_for_search,
    has_validation,
    owners_of,
)
from chiasm.detection.readers.survey import split_objects, survey
from chiasm.detection.rotation import choose_rotations, with_rotations
from chiasm.detection.train_baseline import configured_baseline, pools_scores
from chiasm.detection.training.known_defects import defects_for_head
from chiasm.detection.training.storing import files_hash, say_duration, stored_features
from chiasm.detection.training.tiling import planned_tiles, tiles_of_run
from chiasm.detection.training.time_budget import (
    PartSeconds,
    measure_part,
    parts_in_time,
    rotations_in_time,
    spread_evenly,
)
from chiasm.errors import ConfigurationError, DataError, SplitError
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.left_out import check_left_out, refuse_many
from chiasm.runs.run_folder import open_run_folder, record_data_hash
from chiasm.samples import PreparedSample
from chiasm.training.device import find_device
from chiasm.training.progress import Progress

# Descriptors of 3D alone vary more than those with colours: 4,000 cost 0.06 of validation AP.
GEOMETRY_ENTRIES = 20_000
ANOMALIES_TO_CHOOSE_BY = 20  # parts with a synthetic anomaly, at least, however few parts there are
LEAST_ANOMALIES = 6  # where a budget has no time for as many
VALIDATION_SHARE = 0.1  # of the seconds that are left, for these parts
# Settings that may change when a run is continued; the data are compared by content.
# Another calibration is allowed where the same parts train: "split" of versions without "auto".
CHANGEABLE = frozenset(
    {"out", "data", "minutes", "device", "strict", "search.epochs", "train_epochs", "calibration"}
)


def split_of(config: DetectionConfig, source: SampleSource) -> Split:
    """Divide a source as a run's settings say; every command that needs the split calls this.

    Raises:
        SplitError: the split is unsound.
    """
    return plan_split(
        source,
        Promise(config.false_alarm_rate, config.confidence),
        mode=config.calibration,
        pools_scores=partial(pools_scores, config),
        calibration_share=config.calibration_share,
        shots=config.shots,
        seed=config.seed,
    )


def source_of(config: DetectionConfig) -> SampleSource:
    """Open the data of a run: of a table of several products, the rows of the configured one."""
    source = open_source(config.data, lamp=config.lamp)
    return source if config.product is None else OfProduct(source, config.product)


def open_data(
    config: DetectionConfig,
    *,
    estimate: bool = False,
    split: Split | None = None,
    crew: Crew = ALONE,
    started: float | None = None,
) -> DetectionDataModule:
    """Read, split and prepare the data; fit memories and store features of a frozen source.

    Args:
        config: of the run.
        estimate: whether to say, after the first batch, how long the run will take.
        split: of the data; None makes it as configured.
        crew: processes of the run.
        started: ``time.monotonic()`` from which the minutes count; None is now.

    Raises:
        SplitError: the split is unsound, or too small for a promise with a confidence.
        DataError: too many parts cannot be used, or any with ``config.strict``.
    """
    started = time.monotonic() if started is None else started
    source = source_of(config)
    config = _with_sensors(config, source)
    folds = split is not None  # of a run that has checked its parts
    if split is None:
        for remark in remarks_of(source):
            say(remark)
        split = split_of(config, source)
        if config.objects != "split":  # whose frames have several parts each
            _check_calibration(split, config)
    # A training part among the calibration or test parts would make their figures worthless.
    check_disjoint(split)
    shared = " (the same ones)" if split.crossed else ""
    say(
        f"{source.name}: {len(split.train)} normal parts for training, "
        f"{len(split.calibration)} for calibration{shared}."
    )
    preparation, background = survey(
        source,
        split.train,
        _given_preparation(config, source, split),
        remove_background=config.remove_background,
        watch=_with_progress,
    )
    tiles = None
    if config.tiles is not None:
        frame = _frame_size(source, split.train)
        tiles = planned_tiles(config, preparation, frame=frame)
    if tiles is not None:
        preparation = replace(preparation, size=tiles.side)
    training = split_objects(source, split.train, preparation, _with_progress)
    split = replace(
        split,
        train=training,
        calibration=training
        if split.crossed
        else split_objects(source, split.calibration, preparation, _with_progress),
    )
    if not folds and config.objects == "split":
        _check_calibration(split, config)
    cache = PreparationCache()
    parts: Sequence[PreparedSample] = cache.parts(source, split.train, preparation)
    calibration: Sequence[PreparedSample] = cache.parts(source, split.calibration, preparation)
    frozen, probe = _frozen_detectors(config)
    seconds = PartSeconds(0.0, 0.0)
    if config.minutes is not None:
        left = 60 * config.minutes - (time.monotonic() - started)
        seconds = measure_part(parts, _timed_detector(config, frozen), config)
        count = parts_in_time(len(parts), len(calibration), seconds, seconds_left=left)
        if count < len(parts):
            say(
                f"Warning: in {config.minutes:g} minutes there is time for {count} of "
                f"{len(parts)} training parts; give more minutes to train on all."
            )
            kept = tuple(split.train[i] for i in spread_evenly(len(parts), count))
            split = replace(
                split, train=kept, calibration=kept if split.crossed else split.calibration
            )
            parts = cache.parts(source, split.train, preparation)
            calibration = cache.parts(source, split.calibration, preparation)
    damaged = DamagedParts()
    with Progress("Preparing", len(parts) + len(calibration)) as progress:
        observer = AcquisitionObserver()
        usable = filter(None, progress.over(damaged.usable(split.train, parts)))
        geometry = estimate_geometry_scale(observer.watch(usable), kind=config.geometry)
        for _ in progress.over(damaged.usable(split.calibration, calibration)):
            pass  # read once, so that a damaged file is found now and not after the training
    if not folds:
        used = len(parts) if split.crossed else len(parts) + len(calibration)
        refuse_many([*damaged.problems.values()], total=used, noun="good parts")
        check_left_out(
            [*filter(attrgetter("left_out"), source.problems), *damaged.problems.values()],
            total=len(source.refs) + sum(problem.left_out for problem in source.problems),
            noun="parts",
            strict=config.strict,
            folder=config.out,
        )
    if damaged.problems:
        training_on, calibrating = damaged.kept(split.train), damaged.kept(split.calibration)
        parts = SelectedParts(parts, training_on)
        calibration = SelectedParts(calibration, calibrating)
        split = replace(
            split,
            train=tuple(split.train[i] for i in training_on),
            calibration=tuple(split.calibration[i] for i in calibrating),
        )
        _check_left(split)
    if config.contamination > 0:
        found = find_hidden_defects(
            config,
            parts,
            calibration,
            groups=owners_of([ref.group for ref in split.train]),
            scale=geometry,
        )
        split = replace(split, train=tuple(split.train[i] for i in found.kept))
        parts = SelectedParts(parts, found.kept)
        record_hidden_defects(config.out, found)
    acquisition = observer.acquisition(
        lamp=lamp_read(source.refs, config.lamp),
        lamps=tuple(sorted({ref.lamp for ref in split.train if ref.lamp is not None})),
        background=background,
    )
    if len(source.lamps) > 1:
        lamps = ", ".join(map(str, source.lamps))
        say(f"Parts are read under lamp {acquisition.lamp} of {lamps} (lamp= chooses another).")
    for sentence in acquisition.sentences:
        say(sentence)
    if len(parts) < 2:
        raise SplitError(
            "Only one normal part is left for training; at least two are needed, and fifty are "
            "better.",
            see="too-few-parts",
        )
    groups = [ref.group for ref in split.train]
    outside = config.search.selection == "validation"
    if outside:
        shots, outside = config.shots is not None, has_validation(source)
        searched = divide_as_published(
            groups, config.search.held_out, seed=config.seed, shots=shots, validation=outside
        )
        outside = outside and not shots
    else:
        searched = divide_for_search(groups, config.search.held_out, seed=config.seed)
    owners = owners_of(groups)
    rotations = choose_rotations(
        config,
        parts,
        owners=owners,
        scale=geometry,
        frozen=probe,
        most=None
        if config.minutes is None
        else rotations_in_time(
            len(parts), seconds, seconds_left=60 * config.minutes - (time.monotonic() - started)
        ),
    )
    parts, originals = with_rotations(parts, rotations)
    shown: Collection[int] = range(len(parts))
    if tiles is not None:
        tiled, shown = tiles_of_run(parts, tiles, seed=config.seed)
        parts, originals = tiled, [originals[position] for position in tiled.origins]

    def with_copies(chosen: frozenset[int]) -> list[int]:
        return [i for i, original in enumerate(originals) if original in chosen and i in shown]

    data = DetectionDataModule(
        config=config,
        source=source,
        split=split,
        preparation=preparation,
        geometry=geometry,
        acquisition=acquisition,
        parts=parts,
        training=with_copies(searched.weights | searched.architecture),
        held_out=with_copies(searched.selection),
        weights=with_copies(searched.weights),
        architecture=with_copies(searched.architecture),
        owners=[owners[original] for original in originals],
        calibration=calibration,
        selected_on_calibration=outside,
        training_data=files_hash(split.train),
        started=started,
        defects=defects_for_head(config, cache, preparation, frozen=frozen is not None),
        reserved=len(calibration) * seconds.calibration,
        rotations=rotations,
        tiles=tiles,
        frozen_source=None if frozen is None else frozen.frozen_source,
        crew=crew,
    )
    if find_model(config.model).pools is not None:
        if searched.shared and config.fusion in ("search", "best"):
            say(searched.shared)
        # An anomaly is drawn on every second part.
        costly = (
            2 * ANOMALIES_TO_CHOOSE_BY * seconds.network > VALIDATION_SHARE * data.seconds_left()
        )
        data.selection_rounds = data.synthetic("validate").rounds_with_anomalies(
            LEAST_ANOMALIES if costly else ANOMALIES_TO_CHOOSE_BY
        )
    if data.frozen_source is not None:
        data.stores = stored_features(data, data.frozen_source, estimate=estimate)
    elif estimate and find_model(config.model).pools is not None:
        begun = time.perf_counter()
        batch = next(iter(data.loader("train")))
        say_duration(data, batch, (time.perf_counter() - begun) / len(batch.foreground))
    return data


def _with_sensors(config: DetectionConfig, source: SampleSource) -> DetectionConfig:
    """Return the settings for the modalities: those of the good parts, where none were given."""
    normals = [ref for ref in source.refs if ref.split == "train" and ref.label == 0]
    if "modalities" in config.model_fields_set:
        check_sensors(normals, config.modalities)
    elif present := sensors_of(normals):  # else the split says that there are no good parts
        config = config.model_copy(update={"modalities": present})
    has_memory = "memory_entries" in inspect.signature(find_model(config.model).builder).parameters
    given = "memory_entries" in config.model_fields_set
    if has_memory and not given and config.modalities == ("geometry",):
        config = config.model_copy(update={"memory_entries": GEOMETRY_ENTRIES})
    return config


def _check_left(split: Split) -> None:
    """Refuse a split of which nothing is left beside the parts that cannot be used."""
    for name, refs in (("training", split.train), ("calibration", split.calibration)):
        if not refs:
            raise SplitError(
                f"No good part for {name} can be read; 'chiasm data check' lists why. Mend the "
                "files or record more good parts."
            )


def _given_preparation(
    config: DetectionConfig, source: SampleSource, split: Split
) -> PreparationSettings:
    """Return the preparation as configured, with the region's files read."""
    settings = PreparationSettings(
        size=config.image_size, plane_margin=config.plane_margin, objects=config.objects
    )
    if config.region is None and config.ignore is None:
        return settings
    height, width = _frame_size(source, split.train)
    region, ignore = (
        None if file is None else read_frame_mask(file, height=height, width=width)
        for file in (config.region, config.ignore)
    )
    return replace(settings, region=region, ignore=ignore)


def _frame_size(source: SampleSource, refs: Sequence[SampleRef]) -> tuple[int, int]:
    """Return height and width of the first frame that can be read; raise what is wrong if none."""
    for ref in refs[:-1]:
        with suppress(DataError, OSError):
            height, width = source.load(ref).valid.shape
            return height, width
    height, width = source.load(refs[-1]).valid.shape
    return height, width


def _check_calibration(split: Split, config: DetectionConfig) -> None:
    """Say where a split cannot promise the rate; refuse it where a confidence is asked for.

    Before the training, which would be in vain.
    """
    if config.confidence is not None:
        scores = range(len(split.calibration))
        AlarmRule(scores, config.false_alarm_rate, config.confidence).require()
    promise = Promise(config.false_alarm_rate, config.confidence)
    plannable = config.calibration == "auto" and config.objects != "split" and not config.shots
    warning = few_calibration_warning(split, promise, plannable=plannable)
    if warning and config.defects is None:
        say(f"Warning: {warning}")


def _frozen_detectors(
    config: DetectionConfig,
) -> tuple[AdnasDetector | None, AdnasDetector | None]:
    """Build the model's detector with frozen features, and that which rotations are tried with.

    Raises ``ConfigurationError`` for augmented copies of parts that a memory compares with.
    """
    model = find_model(config.model)
    frozen = frozen_detector(config) if model.pools is not None else None
    if frozen is not None and config.augment:
        raise ConfigurationError(
            f"{config.model} compares parts with a memory of the normal parts as they are; "
            "leave out augment=true. Parts that may lie at any angle: rotate=true."
        )
    if not model.baseline:
        return frozen, frozen
    # It gets the copies that the default detector gets.
    default = type(config).model_fields["model"].default
    return frozen, frozen_detector(config.model_copy(update={"model": default}))


def _timed_detector(config: DetectionConfig, frozen: AdnasDetector | None) -> Detector | None:
    """Return the detector whose frozen features take time; None where all features learn."""
    if find_model(config.model).pools is not None:
        return frozen
    return configured_baseline(config)[0].to(find_device(config.device))


def _with_progress(stage: str, refs: Sequence[SampleRef]) -> Iterator[SampleRef]:
    with Progress(stage, len(refs)) as progress:
        yield from progress.over(refs)


def open_run(
    config: DetectionConfig,
    *,
    estimate: bool = True,
    crew: Crew = ALONE,
    started: float | None = None,
) -> DetectionDataModule:
    """Make the run's folder, write its settings there and open the data.

    Raises ``ConfigurationError`` where it holds a run with other settings or other parts.
    """
    config = _with_sensors(config, source_of(config))
    if len(config.modalities) == 1:
        say(f"Training looks at {SENSOR_WORDS[config.modalities[0]]} alone.")
    open_run_folder(config, config.out, free=CHANGEABLE)
    data = open_data(config, estimate=estimate, crew=crew, started=started)
    record_data_hash(config.out, data.training_data)
    return data
