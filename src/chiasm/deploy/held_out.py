"""The parts that an export is proven on: a run's own, prepared as they were for training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from chiasm.config import RunConfig
from chiasm.data.anomalies.generators import synthesise, validation_generator
from chiasm.data.cache import PreparationCache
from chiasm.data.distance import usual_distance
from chiasm.data.opening import open_source
from chiasm.data.point_cloud import PreparationSettings
from chiasm.data.splits import make_splits
from chiasm.errors import ArtifactError
from chiasm.samples import PreparedSample

# Parts with synthetic anomalies that are aimed at, and rounds over the calibration normals.
ANOMALIES, MOST_ROUNDS = 40, 4
# Training normals that a quantisation sees.
QUANTISED_ON = 24


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Prepared parts by purpose; none of them is of the test split.

    Attributes:
        data: the source's name.
        learned: some training normals, for a quantisation, which so leaves the calibration clean.
        calibration: every calibration normal.
        anomalous: calibration normals with synthetic anomalies of the validation's generators.
        distance: metres from the camera, least and most of the calibration parts' medians; None
            without 3D.
    """

    data: str
    learned: list[PreparedSample]
    calibration: list[PreparedSample]
    anomalous: list[PreparedSample]
    distance: tuple[float, float] | None


def held_out_parts(
    run: Path, settings: PreparationSettings, *, data: Path | None = None
) -> HeldOut:
    """Prepare the parts of a run's split again.

    Args:
        run: the run's folder, with its ``config.yaml``.
        settings: of the model's contract.
        data: where the data lie now; None takes the place that the run names.

    Raises:
        ArtifactError: the run has no configuration, so that its split is not known.
        DataError: the data are not where they were.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ArtifactError(
            f"{run} has no config.yaml, so that its calibration parts are not known and nothing "
            "can be proven on them. Name the run's folder, not the model's."
        )
    config = RunConfig.make(file=path)
    source = open_source(data or config.data, light=config.light)
    split = make_splits(
        source, shots=config.shots, calibration_share=config.calibration_share, seed=config.seed
    )
    cache = PreparationCache()
    step = max(1, len(split.train) // QUANTISED_ON)
    learned = [cache.get(source, ref, settings) for ref in split.train[::step][:QUANTISED_ON]]
    calibration = [cache.get(source, ref, settings) for ref in split.calibration]
    return HeldOut(
        data=source.name,
        learned=learned,
        calibration=calibration,
        anomalous=_with_anomalies(calibration, seed=config.seed),
        distance=usual_distance(calibration),
    )


def _with_anomalies(parts: list[PreparedSample], *, seed: int) -> list[PreparedSample]:
    generator = validation_generator(probability=1.0)
    rounds = min(MOST_ROUNDS, math.ceil(ANOMALIES / len(parts)))
    made = [
        synthesise(part, generator, seed=seed, epoch=epoch, index=index)
        for epoch in range(rounds)
        for index, part in enumerate(parts)
    ]
    return [part for part in made if part.label == 1][:ANOMALIES]
