"""The records that travel between rooms: frozen, with shapes and units in the docstrings.

Axis order is ``(H, W, C)`` for numpy records of one sample and ``(N, C, H, W)`` for batches.
Distances are metres. A missing 3D point is ``xyz == 0`` and ``valid == False``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from chiasm import display
from chiasm.discharge import DischargeSource, MeasuringSystem, Pulses, Quantities, Severity

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Problem:
    """What a reader found wrong with one of its inputs.

    Attributes:
        source: path of the file, or of the table and its row.
        sentence: what is wrong, what was expected and how to mend it.
        left_out: whether the sample is left out; else it is used as it is.
    """

    source: str
    sentence: str
    left_out: bool

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True, eq=False)
class RGBDSample:
    """One part as the sensors saw it; what every reader yields.

    Attributes:
        rgb: ``(H, W, 3)`` float32 in [0, 1], or None for 3D-only data.
        xyz: ``(H, W, 3)`` float32, metres in the camera frame, 0 where missing; None for RGB-only.
        valid: ``(H, W)`` bool, True where a 3D point was measured (all True for RGB-only data).
        mask: ``(H, W)`` bool, True on defective pixels; None where nobody labelled pixels.
        label: 0 good, 1 defective, None unknown.
        kind: ``"good"`` or the kind of defect, e.g. ``"cut"``.
        group: what must not be divided between splits (category, session, batch).
        split: ``"train"``, ``"validation"``, ``"test"`` or ``""``.
        source: path of the RGB file (of the 3D file where there is no RGB).
        notes: what was assumed when it was read, a sentence each.
        product: of which it is, for models of several; "" where nothing names it.
    """

    rgb: FloatArray | None
    xyz: FloatArray | None
    valid: BoolArray
    mask: BoolArray | None = None
    label: int | None = None
    kind: str = ""
    group: str = ""
    split: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()
    product: str = ""


@dataclass(frozen=True, slots=True)
class CropBox:
    """Where a square crop lies in the frame that it was cut from.

    Attributes:
        top, left: pixel of the crop's corner in the frame; may be negative (padding).
        side: pixels of the square in the frame.
        height, width: pixels of the frame.
    """

    top: int
    left: int
    side: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSample:
    """A part after background removal and square crop, S x S pixels; what networks are fed from.

    Attributes:
        rgb: ``(S, S, 3)`` float32 in [0, 1], 0 outside ``foreground``; None for 3D-only data.
        xyz: ``(S, S, 3)`` float32 metres, 0 where missing; None for RGB-only data.
        height: ``(S, S)`` float32, metres above the support plane, 0 where not ``valid``; None for
            RGB-only data.
        normals: ``(S, S, 3)`` float32 unit normals, towards the camera, 0 where unknown.
        depth: ``(S, S)`` float32 in [0, 1], min-max of z over valid object points.
        valid: ``(S, S)`` bool, a 3D point of the object was measured here.
        foreground: ``(S, S)`` bool, the pixel is of the object (holes in 3D filled).
        mask: ``(S, S)`` bool or None.
        box: where the crop lies in the original frame.
        plane: ``(a, b, c, d)`` of the support plane with unit normal towards the camera, so that
            ``height = a x + b y + c z + d``; None for RGB-only data.
        label, kind, group, split, source: as in ``RGBDSample``.
        notes: remarks for the verdict, such as 'no support plane was found'.
    """

    rgb: FloatArray | None
    xyz: FloatArray | None
    height: FloatArray | None
    normals: FloatArray | None
    depth: FloatArray | None
    valid: BoolArray
    foreground: BoolArray
    mask: BoolArray | None
    box: CropBox
    plane: tuple[float, float, float, float] | None = None
    label: int | None = None
    kind: str = ""
    group: str = ""
    split: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class RGBDBatch:
    """What a detector takes.

    Attributes:
        rgb: ``(N, 3, S, S)`` float32 in [0, 1], or None.
        geometry: ``(N, 3, S, S)`` float32: height above the plane, slope in x, slope in y, each
            scaled by the constants in the model's contract; or None.
        foreground: ``(N, 1, S, S)`` float32, 1 on the object.
        mask: ``(N, 1, S, S)`` float32, 1 on defective pixels; None at prediction.
        index: ``(N,)`` int64, the sample's number in its dataset (-1: none). Lets a memory of
            normals leave out the sample itself.
        xyz: ``(N, 3, S, S)`` float32 metres in the camera frame, 0 where missing; None without
            geometry.
        valid: ``(N, 1, S, S)`` float32, 1 where a 3D point of the object was measured; None
            without geometry.
        clean_rgb, clean_geometry: as ``rgb`` and ``geometry``, of the same parts without their
            synthetic anomalies; None at prediction. A reconstruction is compared with these.
    """

    rgb: Tensor | None
    geometry: Tensor | None
    foreground: Tensor
    mask: Tensor | None = None
    index: Tensor | None = None
    xyz: Tensor | None = None
    valid: Tensor | None = None
    clean_rgb: Tensor | None = None
    clean_geometry: Tensor | None = None

    def pin_memory(self) -> RGBDBatch:
        """Return the batch in memory from which a GPU copies while it computes."""
        return _pinned(self)


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyMap:
    """Scores of one part in its original frame.

    Attributes:
        scores: ``(H, W)`` float32, larger is more anomalous, 0 outside the object.
        foreground: ``(H, W)`` bool, the object.
        image_score: the whole part's raw score.
        source: path of the file that it is about.
        plane: ``(a, b, c, d)`` of the support plane, as in ``PreparedSample``; None without 3D.
    """

    scores: FloatArray
    foreground: BoolArray
    image_score: float
    source: str = ""
    plane: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A place on a part that its verdict is about: connected pixels of high scores.

    Attributes:
        box: ``(left, top, width, height)`` in pixels of the frame.
        centroid: ``(x, y)`` in pixels of the frame; the centre of the first pixel is (0, 0).
        pixels: their number.
        peak: largest score.
        centroid_mm: ``(x, y, z)``, median of its points in the camera frame; None without 3D.
        area_mm2: as seen along the normal of the support plane (along the optical axis where there
            is none), holes in the 3D data included; None without 3D.
        height_mm: median height of its points above the support plane; None without 3D.
        relief_mm: height of its points over the object's about it, median from median: above 0 of a
            bump, below 0 of a dent; None without 3D.
    """

    box: tuple[int, int, int, int]
    centroid: tuple[float, float]
    pixels: int
    peak: float
    centroid_mm: tuple[float, float, float] | None = None
    area_mm2: float | None = None
    height_mm: float | None = None
    relief_mm: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is said about one part. Raw score, calibrated p-value and decision are kept apart.

    Attributes:
        source: path of the file that it is about.
        score: raw image-level score; comparable only within one model.
        p_value: conformal p-value in (0, 1] against the calibration normals; small is suspicious.
        defective: the decision at the model's false-alarm rate; None where nothing was decided.
        anomaly_map: the pixel scores; None where the part could not be read.
        error: a sentence saying what was wrong with the input, or "".
        notes: remarks such as 'no support plane found'.
        threshold: score above which the model calls a part defective; None where it has none.
        regions: places of the alarm, the highest peak first; () of a good part.
        pixel_threshold: score that all pixels of a region exceed; None of a good part.
        parts: of a frame that is split, the verdict on each of its parts; else empty.
        product: of which the part is, for a model of several; else "".
    """

    source: str
    score: float
    p_value: float
    defective: bool | None
    anomaly_map: AnomalyMap | None = None
    error: str = ""
    notes: tuple[str, ...] = field(default=())
    threshold: float | None = None
    regions: tuple[Region, ...] = field(default=())
    pixel_threshold: float | None = None
    parts: tuple[Verdict, ...] = ()
    product: str = ""

    def plot(self) -> Figure:
        """Draw the anomaly map with the decision and its regions; needs matplotlib."""
        return display.verdict_figure(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the map, as JSON can hold it: NaN is None, tuples are lists."""
        return display.plain(self, without="anomaly_map")

    def save(self, path: Path | str) -> Path:
        """Write the verdict to a file; returns its path.

        Args:
            path: its suffix chooses what is written: ``.json`` the content of ``to_dict``;
                ``.npy`` or ``.tiff`` the raw map, float32; ``.png``, ``.svg``, ``.pdf`` or ``.jpg``
                the plot.

        Raises:
            ConfigurationError: there is no such suffix.
            DataError: the part could not be judged, so that there is no map.
        """
        scores = None if self.anomaly_map is None else self.anomaly_map.scores
        return display.save(self, Path(path), scores=scores)

    def _repr_html_(self) -> str:
        return display.verdict_html(self)


@dataclass(frozen=True, slots=True, eq=False)
class RecordingSample:
    """One recording of partial discharge; what every reader of that wing yields.

    Attributes:
        image: ``(H, W, 3)`` float32 in [0, 1], phase-resolved pattern (PRPD), or None.
        series: ``(C, T)`` float32, pulse amplitudes in the recorder's own counts, sampled at a
            whole number of values per mains cycle, C channels; or None.
        frequency: of the mains, Hz.
        samples_per_cycle: values of the series per mains cycle.
        label: number of the class, or None where it is unknown.
        kind: the class's name, or "".
        group: what must not be divided between splits, by kind of grouping, e.g.
            ``{"session": "230910_195222", "equipment": "ACSR-OC", "insulator": "solid"}``.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``""``.
        source: path of the image (of the series where there is no image).
        pulses: single ones, where the recorder lists them; else None, and they are in the series.
        system: what is known of the instrument.
    """

    image: FloatArray | None
    series: FloatArray | None
    frequency: float = 60.0
    samples_per_cycle: int = 128
    label: int | None = None
    kind: str = ""
    group: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    source: str = ""
    pulses: Pulses | None = None
    system: MeasuringSystem = field(default_factory=MeasuringSystem)


@dataclass(frozen=True, slots=True, eq=False)
class RecordingBatch:
    """What a classifier takes.

    Attributes:
        image: ``(N, 3, H, W)`` float32 in [0, 1]; None where the whole batch has no image.
        series: ``(N, C, T)`` float32, divided by the contract's scale; None likewise.
        label: ``(N,)`` int64; None at prediction.
    """

    image: Tensor | None
    series: Tensor | None
    label: Tensor | None = None

    def pin_memory(self) -> RecordingBatch:
        """Return the batch in memory from which a GPU copies while it computes."""
        return _pinned(self)


@dataclass(frozen=True, slots=True, eq=False)
class Diagnosis:
    """What is said about one recording.

    Attributes:
        source: path of the recording.
        kind: the class decided for; ``"unknown"`` where the recording is like none of the trained
            classes, or the evidence is too weak; None on error.
        probabilities: class name to calibrated probability; they sum to 1.
        opinions: modality to its own class probabilities, where that modality was present.
        uncertainty: of the combined opinion, in [0, 1].
        conflict: mass that the modalities put on different classes, in [0, 1]; NaN with one alone.
        error: a sentence saying what was wrong with the input, or "".
        notes: remarks, e.g. 'the series was absent'.
        quantities: charges and rates of its pulses; None without a series.
        severity: of its pulses, whatever the class; None where nothing tells it.
        sources: where several are active at once, each with its class; else ().
        distance: of the recording from the trained classes; NaN of models that keep none.
        distance_limit: of the distance, above which the recording is 'unknown'.
        nearest_kind: the trained class that is nearest by that distance, or "".
    """

    source: str
    kind: str | None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    opinions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    uncertainty: float = float("nan")
    conflict: float = float("nan")
    error: str = ""
    notes: tuple[str, ...] = field(default=())
    quantities: Quantities | None = None
    severity: Severity | None = None
    sources: tuple[DischargeSource, ...] = ()
    distance: float = float("nan")
    distance_limit: float = float("nan")
    nearest_kind: str = ""

    def plot(self) -> Figure:
        """Draw the probabilities of the classes; needs matplotlib."""
        return display.diagnosis_figure(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as JSON can hold it: NaN is None, tuples are lists."""
        return display.plain(self)

    def save(self, path: Path | str) -> Path:
        """Write the diagnosis to a file; returns its path.

        Args:
            path: its suffix chooses what is written: ``.json`` the content of ``to_dict``;
                ``.png``, ``.svg``, ``.pdf`` or ``.jpg`` the plot.

        Raises:
            ConfigurationError: there is no such suffix.
        """
        return display.save(self, Path(path))

    def _repr_html_(self) -> str:
        return display.diagnosis_html(self)


Batch = TypeVar("Batch", RGBDBatch, RecordingBatch)


def _pinned(batch: Batch) -> Batch:
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{n: t.pin_memory() for n, t in tensors.items() if t is not None})
