"""Store the features of a run's parts with synthetic anomalies; say how long the run will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from chiasm.detection.datamodule import FRESH_BATCH, DetectionDataModule
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.readers.source import SampleRef
from chiasm.detection.training.duration import (
    STORING_SHARE,
    MeasuredSeconds,
    RunSize,
    estimate_in_words,
    reserved_seconds,
    searches_in_time,
    seconds_per_part,
    stage_seconds,
)
from chiasm.detection.training.feature_store import FEATURES, FeatureStore
from chiasm.detection.training.fit_evidence import fit_evidence
from chiasm.detection.training.fit_memory import fit_memory
from chiasm.detection.training.segment import Batch
from chiasm.detection.training.step_memory import check_memory
from chiasm.detection.training.stores import Rounds, make_stores
from chiasm.files.content_hash import content_hash
from chiasm.runs.console import say
from chiasm.training.device import CPU
from chiasm.training.progress import Progress

# Of the minutes that are left, where there is no search: steps teach more than further rounds.
UNSEARCHED_SHARE = 0.25
STORED = ("final", "architecture", "validate")  # purposes of parts with synthetic anomalies


def say_duration(data: DetectionDataModule, batch: Batch, seconds: float) -> None:
    """Say how long the run will take, after ``seconds`` for each part of a first batch."""
    config = data.config
    searched = config.fusion in ("search", "best")
    if data.frozen_source is None:
        largest = "supernet" if searched else "concatenation"
        check_memory(config, partial(data.detector, largest, device=CPU))
    rounds = _rounds(data)
    made = {
        purpose: count * len(data.synthetic(purpose).parts) for purpose, count in rounds.items()
    }
    frozen = data.frozen_source is not None
    size = RunSize(
        training=made["final"],
        held_out=made["validate"],
        made=sum(made.values()) if frozen else 0,
        calibration=len(data.calibration),
        batch=config.batch if frozen else min(config.batch, FRESH_BATCH),
        workers=data.crew.size,
    )

    def _seconds(fusion: str) -> float:
        return seconds_per_part(
            data.detector(fusion),
            batch,
            precision=config.precision,
            accumulate=config.accumulate,
        )

    left = data.seconds_left()
    with torch.random.fork_rng(devices=[]):
        measured = MeasuredSeconds(part=seconds, supernet=0.0, fixed=_seconds("concatenation"))
        if config.minutes is not None:
            data.reserved = reserved_seconds(size, measured)
            left = data.seconds_left()
        if searched and searches_in_time(config, size, measured, seconds_left=left):
            measured = replace(measured, supernet=_seconds("supernet"))
    if searched:
        data.time_to_search = searches_in_time(config, size, measured, seconds_left=left)
    if not data.time_to_search:
        say(
            f"Warning: in {config.minutes:g} minutes there is no time to search a fusion beside a "
            "training that learns. The hand-made concatenation is trained; give more minutes to "
            "search."
        )
        return
    say(
        estimate_in_words(
            stage_seconds(config, size, measured), seconds_left=max(data.seconds_left(), 0.0)
        )
    )


def _rounds(data: DetectionDataModule) -> dict[str, int]:
    """Return the epochs of synthetic anomalies that are stored or shown at once, by purpose."""
    if data.frozen_source is None:
        return dict.fromkeys(STORED, 1) | {"validate": data.selection_rounds}
    # Held-out parts are fewer: more rounds of them make the validation steadier.
    held_out = max(2, data.config.rounds // 2)
    return {
        "final": data.config.rounds,  # and what else trains weights, on some of its parts
        "architecture": held_out,
        "validate": max(held_out, data.selection_rounds),
    }


def stored_features(
    data: DetectionDataModule, source: NormalityFeatures, *, estimate: bool
) -> dict[str, FeatureStore]:
    """Fit memories and evidence of a frozen source and store its features by purpose."""
    config = data.config
    folder = config.out / FEATURES
    folder.mkdir(parents=True, exist_ok=True)
    say("Fitting the memory of normal parts ...")
    with Progress("Remembering", len(data.parts)) as progress:
        fit_memory(
            source,
            data.parts,
            scale=data.geometry,
            seed=config.seed,
            owners=data.owners,
            folder=folder,
            progress=progress,
        )
    fit_evidence(
        source,
        data.parts,
        owners=data.owners,
        # Neither the architecture's parts nor the held-out ones: these judge what was learnt here.
        synthetic=data.synthetic("weights"),
        scale=data.geometry,
        seed=config.seed,
    )
    begun, left = time.monotonic(), data.seconds_left()

    def in_time() -> bool:
        share = STORING_SHARE if data.time_to_search else UNSEARCHED_SHARE
        return time.monotonic() < begun + share * left

    return make_stores(
        source,
        {
            purpose: Rounds(
                data.synthetic(purpose),
                count,
                # With few anomalies to choose by, no round is left out, whatever the time.
                (lambda: True) if purpose == "validate" and data.selection_rounds > 1 else in_time,
            )
            for purpose, count in _rounds(data).items()
        },
        folder=folder,
        # All that decides the features, but for what ``make_stores`` knows itself.
        facts={
            "training data": data.training_data,
            "owners": data.owners,
            "defects": [part.source for part in data.defects],
            "calibration": data.selected_on_calibration and files_hash(data.split.calibration),
            "rotations": data.rotations,
            "preparation": repr(data.preparation),
            "geometry": repr(data.geometry),
            "modalities": config.modalities,
            "textures": str(config.textures),
            "anomalies": (config.anomalies, config.smallest_anomaly),
            "seed": config.seed,
        },
        scale=data.geometry,
        modalities=config.modalities,
        measure=partial(say_duration, data) if estimate else None,
        wanted=lambda purpose: purpose != "architecture" or data.time_to_search,
        crew=data.crew,
    )


def files_hash(refs: Sequence[SampleRef]) -> str:
    """Return a hash of the files of parts."""
    paths = list(dict.fromkeys(path for ref in refs for path in ref.files.values()))
    with Progress("Hashing files", len(paths), unit="files") as progress:
        return content_hash(progress.over(paths))
