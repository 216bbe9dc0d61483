"""A verdict with its labelled sample, resized to the frame in which figures are computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from chiasm.files.mapped import ArrayFile
from chiasm.samples import BoolArray, FloatArray, RGBDSample, Verdict

FRAME = 256


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSample:
    """A verdict and its sample."""

    verdict: Verdict
    sample: RGBDSample

    @property
    def has_pixel_truth(self) -> bool:
        """Whether the truth of each pixel is known; it is not for a defect without a mask."""
        return self.sample.label == 0 or self.sample.mask is not None


def framed(scored: ScoredSample, *, side: int = FRAME) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return map, mask and foreground with a longer side of ``side`` pixels.

    Scores are resized bilinearly, masks by nearest neighbour, as in the papers.
    """
    anomaly_map = scored.verdict.anomaly_map
    assert anomaly_map is not None
    height, width = anomaly_map.scores.shape
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    mask = scored.sample.mask
    if mask is None:
        mask = np.zeros((height, width), bool)

    def resized(array: BoolArray) -> BoolArray:
        small = cv2.resize(array.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
        return small > 0

    scores = cv2.resize(anomaly_map.scores, size, interpolation=cv2.INTER_LINEAR)
    return scores.astype(np.float32), resized(mask), resized(anomaly_map.foreground)


Frame = tuple[FloatArray, BoolArray, BoolArray]


def framed_all(scored: Iterable[ScoredSample]) -> list[Frame]:
    """Return ``framed`` of each sample, in a temporary file that is mapped."""
    with ArrayFile() as file:
        for sample in scored:
            for array in framed(sample):
                file.append(array)
        arrays = file.mapped()
    return [(arrays[i], arrays[i + 1], arrays[i + 2]) for i in range(0, len(arrays), 3)]


class ScoredFile:
    """Scored samples whose arrays lie in a temporary file: full frames of a test set are large.

    Args:
        folder: on the disk to write to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = ArrayFile(folder)
        self._samples: list[tuple[Verdict, RGBDSample]] = []
        self._count = 0  # arrays

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def append(self, verdict: Verdict, sample: RGBDSample) -> None:
        """Write the arrays of a verdict and its sample."""
        anomaly_map = verdict.anomaly_map
        if anomaly_map is not None:
            anomaly_map = replace(anomaly_map, **self._written(anomaly_map))
        light = replace(verdict, anomaly_map=anomaly_map, parts=())
        self._samples.append((light, replace(sample, **self._written(sample))))

    def samples(self) -> list[ScoredSample]:
        """Return what was appended; arrays are read-only, and read where they are used."""
        arrays = self._file.mapped()
        return [
            ScoredSample(
                verdict
                if verdict.anomaly_map is None
                else replace(verdict, anomaly_map=_with_arrays(verdict.anomaly_map, arrays)),
                _with_arrays(sample, arrays),
            )
            for verdict, sample in self._samples
        ]

    def _written(self, record: Any) -> dict[str, Any]:
        """Write the arrays of a record; return by name where they are."""
        places: dict[str, Any] = {}
        for field in fields(record):
            if isinstance(value := getattr(record, field.name), np.ndarray):
                places[field.name] = _Place(self._count)
                self._count += 1
                self._file.append(value)
        return places


@dataclass(frozen=True, slots=True)
class _Place:
    """Number of an array in the file, in the place of the array itself."""

    number: int


def _with_arrays(record: Any, arrays: list[Any]) -> Any:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(
        record, **{n: arrays[v.number] for n, v in values.items() if isinstance(v, _Place)}
    )
