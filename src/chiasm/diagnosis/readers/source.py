"""What every reader of partial-discharge recordings offers, and the checks they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from chiasm.errors import DataError
from chiasm.files.images import read_rgb
from chiasm.samples import FloatArray, RecordingSample

# The number of a class is its place here.
KINDS = ("normal", "noise", "surface", "corona", "void")
# How readers end the sentence about a recording that is not among their references.
LEFT_OUT = "The recording is left out."


@dataclass(frozen=True, slots=True)
class RecordingRef:
    """One recording on disk, before its values are read.

    Attributes:
        source: path of its main file (image, or series where there is no image); unique.
        files: ``image`` and ``series`` to path; empty for recordings inside a store.
        frequency: of the mains, Hz.
        samples_per_cycle: values of the series per mains cycle.
        label: number of the class, None where it is unknown.
        kind: the class's name, or ``""``.
        group: what must not be divided between splits, by kind of grouping.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``""``.
        number: of the recording inside a store, else -1.
        extra: what a reader needs to read the files; nothing of it enters the sample.
    """

    source: str
    files: Mapping[str, Path]
    frequency: float = 60.0
    samples_per_cycle: int = 128
    label: int | None = None
    kind: str = ""
    group: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    number: int = -1
    extra: Mapping[str, str] = field(default_factory=dict)


class RecordingSource(Protocol):
    """A readable collection of recordings."""

    @property
    def name(self) -> str:
        """Short name for reports."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        ...

    @property
    def refs(self) -> tuple[RecordingRef, ...]:
        """All recordings, in a stable order."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for whatever was left out or repaired so far; reading can add some."""
        ...

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording; raises ``DataError`` naming the file and what is wrong with it."""
        ...

    def repairs(self, ref: RecordingRef) -> tuple[str, ...]:
        """What was repaired when this source last loaded the recording; also in ``problems``."""
        ...


class Problems:
    """Sentences about a source: those of opening it, then those of each recording, once each."""

    def __init__(self, opening: list[str]) -> None:
        self._opening = tuple(opening)
        self._by_source: dict[str, tuple[str, ...]] = {}

    def note(self, ref: RecordingRef, repairs: list[str]) -> None:
        """Keep what was repaired in loading a recording, in place of what was kept before."""
        if repairs:
            self._by_source[ref.source] = tuple(repairs)
        else:
            self._by_source.pop(ref.source, None)

    def of(self, ref: RecordingRef) -> tuple[str, ...]:
        """What was repaired in a recording."""
        return self._by_source.get(ref.source, ())

    def all(self) -> tuple[str, ...]:
        """Everything, in the order of its discovery."""
        return (*self._opening, *(one for many in self._by_source.values() for one in many))


class FileReader:
    """What readers of files have in common; they set both attributes when they are made.

    Attributes:
        _refs: the recordings that are there.
        _problems: what was left out or repaired.
    """

    _refs: tuple[RecordingRef, ...]
    _problems: Problems

    @property
    def refs(self) -> tuple[RecordingRef, ...]:
        """All recordings whose files exist, in a stable order."""
        return self._refs

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for whatever was left out or repaired so far."""
        return self._problems.all()

    def repairs(self, ref: RecordingRef) -> tuple[str, ...]:
        """What was repaired when the recording was last loaded."""
        return self._problems.of(ref)


def whole_cycle(values_per_second: float, frequency: float, where: str) -> int:
    """Return the values per mains cycle; ``DataError`` where their number is not whole."""
    cycle = round(values_per_second / frequency)
    if cycle < 1 or abs(cycle * frequency - values_per_second) > 1e-6 * values_per_second:
        raise DataError(
            f"{where}: {values_per_second:g} values a second are no multiple of the mains "
            f"frequency, {frequency:g} Hz ({values_per_second / frequency:.6g} values a cycle), so "
            "that phase cannot be told; resample the series."
        )
    return cycle


def read_pattern(path: Path, repairs: list[str], size: tuple[int, int] | None = None) -> FloatArray:
    """Read the picture of a phase-resolved pattern.

    Returns ``(H, W, 3)`` float32 in [0, 1]. A grey picture is repeated to three channels; one of
    another than ``size`` = (height, width) pixels is resampled, by area where it shrinks; both
    are told in ``repairs``. Raises ``DataError`` for a file that cannot be decoded.
    """
    image = read_rgb(path)
    # Equal channels are cheap to see, and only then is it worth decoding again.
    alike = np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(
        image[..., 1], image[..., 2]
    )
    if alike and _is_grey(path):
        repairs.append(f"{path} is grey-scale; its one channel was repeated to three.")
    if size is not None and image.shape[:2] != size:
        height, width = image.shape[:2]
        shrinks = height >= size[0] and width >= size[1]
        image = cv2.resize(
            image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        image = np.clip(image, 0, 1, dtype=np.float32)
        repairs.append(
            f"{path} has {height} x {width} pixels; it was resized to {size[0]} x {size[1]}."
        )
    return image


def recorded_sample(
    ref: RecordingRef,
    *,
    image: FloatArray | None,
    series: FloatArray | None,
    segment: int | None = None,
) -> RecordingSample:
    """Join image and series with what the reference knows: labels and groups, nothing else.

    ``image`` is ``(H, W, 3)``, ``series`` ``(C, T)``, one of them may be None. ``segment`` is the
    smallest number of values that is of use, None for one mains cycle. Raises ``DataError`` for a
    shorter series.
    """
    shortest = segment or ref.samples_per_cycle
    if series is not None and series.shape[1] < shortest:
        what = "one segment" if segment else "one mains cycle"
        raise DataError(
            f"{ref.files.get('series', ref.source)} holds {series.shape[1]} values a channel; "
            f"{what} has {shortest}. Record longer, or leave the recording out."
        )
    return RecordingSample(
        image=image,
        series=series,
        frequency=ref.frequency,
        samples_per_cycle=ref.samples_per_cycle,
        label=ref.label,
        kind=ref.kind,
        group=dict(ref.group),
        split=ref.split,
        source=ref.source,
    )


def _is_grey(path: Path) -> bool:
    content = np.fromfile(path, dtype=np.uint8)
    if content[:4].tobytes() == b"\x89PNG" and content.size > 25:
        return int(content[25]) in (0, 4)  # colour type in the header: grey, grey with alpha
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return pixels is not None and pixels.ndim == 2
