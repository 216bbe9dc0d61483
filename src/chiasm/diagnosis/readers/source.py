"""The protocol of a reader of partial-discharge recordings, and the checks that readers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from chiasm.errors import DataError
from chiasm.files.images import read_rgb
from chiasm.samples import FloatArray, Problem, RecordingSample

# A class's position is its label.
KINDS = ("normal", "noise", "surface", "corona", "void")
_LEFT_OUT = " The recording is left out."


@dataclass(frozen=True, slots=True)
class RecordingRef:
    """A reference to one recording on disk; its values are not read yet.

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
        """Names of the classes, in the order of their labels."""
        ...

    @property
    def refs(self) -> tuple[RecordingRef, ...]:
        """All recordings that can be loaded, in a stable order."""
        ...

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out or repaired so far; loading a recording can add repairs."""
        ...

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording; raise ``DataError`` that names the file and its fault."""
        ...

    def repairs(self, ref: RecordingRef) -> tuple[Problem, ...]:
        """Return what the last ``load`` of the recording repaired; ``problems`` has it too."""
        ...


SHORTER_THAN_A_CYCLE = (
    "Signals that are shorter by their nature have no phase: name no sample_rate for them and "
    "train with phase=none, which folds nothing; figures a second then mean nothing."
)


class ProblemLog:
    """Problems of a source: those of opening it, then the repairs of each loaded recording."""

    def __init__(self, opening: Sequence[Problem]) -> None:
        self._opening = tuple(opening)
        self._repairs: dict[str, tuple[Problem, ...]] = {}

    def set_repairs(self, ref: RecordingRef, sentences: Sequence[str]) -> None:
        """Replace the repairs of a recording, so that loading it twice does not repeat them."""
        self._repairs[ref.source] = tuple(Problem(ref.source, s, left_out=False) for s in sentences)

    def repairs(self, ref: RecordingRef) -> tuple[Problem, ...]:
        """Return the repairs of a recording."""
        return self._repairs.get(ref.source, ())

    def cleared(self) -> ProblemLog:
        """Return a log that has none of the problems."""
        return ProblemLog(())

    def all(self) -> tuple[Problem, ...]:
        """Return all problems in the order of their discovery."""
        return (*self._opening, *chain.from_iterable(self._repairs.values()))


def problem_message(problem: Problem) -> str:
    """Return the problem's sentence, followed by a second one if the recording is left out."""
    return problem.sentence + _LEFT_OUT * problem.left_out


def problem_from_message(message: str, source: str = "") -> Problem:
    """Return the problem of a message that ``problem_message`` wrote."""
    sentence = message.removesuffix(_LEFT_OUT)
    return Problem(source, sentence, left_out=sentence != message)


def whole_samples_per_cycle(values_per_second: float, frequency: float, where: str) -> int:
    """Return the values per mains cycle; raise ``DataError`` if their number is not whole."""
    cycle = round(values_per_second / frequency)
    if cycle < 1 or abs(cycle * frequency - values_per_second) > 1e-6 * values_per_second:
        raise DataError(
            f"{where}: {values_per_second:g} values a second are no multiple of the mains "
            f"frequency, {frequency:g} Hz ({values_per_second / frequency:.6g} values a cycle), so "
            "the phase cannot be computed; resample the series."
        )
    return cycle


def read_pattern(path: Path, repairs: list[str], size: tuple[int, int] | None = None) -> FloatArray:
    """Read the picture of a phase-resolved pattern.

    Returns ``(H, W, 3)`` float32 in [0, 1]. A grey picture is repeated to three channels. A
    picture that does not have ``size`` = (height, width) pixels is resampled, by area if it
    shrinks. ``repairs`` gets a sentence for each. Raises ``DataError`` for a file that cannot be
    decoded.
    """
    image = read_rgb(path)
    # Comparing channels is cheap; the file is decoded again only if they are equal.
    equal_channels = np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(
        image[..., 1], image[..., 2]
    )
    if equal_channels and _is_grey(path):
        repairs.append(f"{path} is grey-scale; its one channel was repeated to three.")
    if size is not None and image.shape[:2] != size:
        height, width = image.shape[:2]
        shrinks = height >= size[0] and width >= size[1]
        resized = cv2.resize(
            image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        image = np.clip(resized, 0, 1, dtype=np.float32)
        repairs.append(
            f"{path} has {height} x {width} pixels; it was resized to {size[0]} x {size[1]}."
        )
    return image


def sample_from_ref(
    ref: RecordingRef,
    *,
    image: FloatArray | None,
    series: FloatArray | None,
    segment: int | None = None,
) -> RecordingSample:
    """Join image ``(H, W, 3)`` and series ``(C, T)`` with the labels and groups of the reference.

    One of the arrays may be None. ``segment`` is the minimum number of values, None for one mains
    cycle. Raises ``DataError`` for a shorter series.
    """
    minimum = segment or ref.samples_per_cycle
    if series is not None and series.shape[1] < minimum:
        unit = "one segment" if segment else "one mains cycle"
        shorter = "" if segment else f" {SHORTER_THAN_A_CYCLE}"
        raise DataError(
            f"{ref.files.get('series', ref.source)} holds {series.shape[1]} values a channel; "
            f"{unit} has {minimum}. Record longer, or leave the recording out.{shorter}",
            see="shorter-than-a-cycle",
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
