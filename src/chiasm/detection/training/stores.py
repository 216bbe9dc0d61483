"""The stored features of a run: one store for each purpose of its parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.feature_store import FeatureStore, StoredBatch
from chiasm.detection.training.synthetic import SyntheticParts
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.model_folder import library_versions
from chiasm.training.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """Rounds of synthetic anomalies to store.

    Attributes:
        dataset: whose parts are shown to the source.
        count: of rounds.
        in_time: whether another round than the first may go on.
    """

    dataset: SyntheticParts
    count: int
    in_time: Callable[[], bool]


def make_stores(
    source: NormalityFeatures,
    rounds: Mapping[str, Rounds],
    *,
    folder: Path,
    facts: Mapping[str, Any],
    scale: GeometryScale,
    modalities: Sequence[str],
    measure: Callable[[StoredBatch, float], None] | None = None,
    wanted: Callable[[str], bool] = lambda purpose: True,
    crew: Crew = ALONE,
) -> dict[str, FeatureStore]:
    """Store the features of each purpose, or open those that an interrupted run has left.

    Args:
        source: with fitted memories.
        rounds: by purpose.
        folder: of the stores.
        facts: JSON values that decide the parts; the source's weights, and what ``rounds`` says,
            are added.
        scale: of the geometry pictures.
        modalities: that the source reads.
        measure: called once with the first batch and the seconds that each of its parts took.
        wanted: asked before each purpose whether it is still needed.
        crew: computes the features.
    """
    stores: dict[str, FeatureStore] = {}
    for purpose, made in rounds.items():
        if not wanted(purpose):
            continue
        dataset, total = made.dataset, made.count * len(made.dataset)
        say(
            f"Making synthetic anomalies ({purpose}): {made.count} rounds of {len(dataset)} "
            "parts ..."
        )
        key = _key({**facts, **_facts(made)}, source)
        with Progress(f"Making ({purpose})", total) as progress:
            stores[purpose] = FeatureStore.build(
                source,
                dataset,
                # Two runs that share a folder by mistake do not replace each other's files.
                folder=folder / f"{purpose}-{key[:16]}",
                key=key,
                epochs=range(made.count),
                scale=scale,
                modalities=modalities,
                keep_going=made.in_time,
                progress=progress,
                measure=measure if not stores else None,
                crew=crew,
            )
    return stores


def _facts(made: Rounds) -> dict[str, Any]:
    return {
        "parts": list(made.dataset.numbers),
        "generator": made.dataset.generator.name,
        "rounds": made.count,
        "libraries": library_versions(),
    }


def _key(facts: Mapping[str, Any], source: NormalityFeatures) -> str:
    """Return a hash of all that decides the stored features of a purpose."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in source.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
