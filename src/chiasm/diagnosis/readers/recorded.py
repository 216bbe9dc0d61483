"""What a file of a recorder holds, and what it does not say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.pulses import Pulses, pattern_of, pattern_picture, series_of
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.errors import DataError
from chiasm.samples import FloatArray

Layout = Literal["", "rows", "channels", "pulses", "pattern", "waveform"]
LAYOUTS: tuple[Layout, ...] = ("rows", "channels", "pulses", "pattern", "waveform")
RECORDER_SUFFIXES = frozenset(
    {".csv", ".txt", ".tsv", ".asc", ".dat", ".npy", ".npz", ".mat", ".xml"}
)
RAW_SUFFIXES = frozenset({".bin", ".raw", ".i16", ".f32"})
RAW_TYPES = {"int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4"} | {
    "float32": "<f4",
    "float64": "<f8",
    "int16be": ">i2",
    "int32be": ">i4",
    "float32be": ">f4",
}

# Words of column names, in the languages of instruments.
COLUMN_WORDS: Mapping[str, tuple[str, ...]] = {
    "phase": ("phase", "phi", "angle", "winkel", "fase", "grad", "deg", "°"),
    "time": ("time", "zeit", "tiempo", "temps", "tempo", "sec", "t"),
    "count": ("count", "number", "quantity", "anzahl", "n"),
    "amplitude": (
        *("charge", "amplitude", "ampl", "magnitude", "voltage", "level", "signal", "value"),
        *("ladung", "spannung", "carga", "tension", "pc", "nc", "mv", "dbm", "volt"),
        *("ch", "channel", "kanal", "q", "a", "u", "v"),
    ),
}


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """What a recorder's files do not say of themselves.

    Attributes:
        frequency: of the mains, Hz.
        samples_per_cycle: of a series without times; None is ``CYCLE``.
        sample_rate: values a second of a series without times.
        layout: what a table is, where its content does not tell: ``rows`` that follow each other
            in time, ``channels``, ``pulses``, ``pattern`` or ``waveform`` (time and value).
        columns: names of the columns of a table without them: time, phase, amplitude, count, or
            ``-`` for one that is not used.
        raw_type: of files of bare numbers, see ``RAW_TYPES``; ``header_bytes`` before them.
        variable: of a .mat or .npz file with several arrays.
    """

    frequency: float = 60.0
    samples_per_cycle: int | None = None
    sample_rate: float | None = None
    layout: Layout = ""
    columns: tuple[str, ...] = ()
    raw_type: str = ""
    header_bytes: int = 0
    variable: str = ""

    def __post_init__(self) -> None:
        """Refuse a name that is none.

        Raises:
            DataError: of a layout, a column or a type.
        """
        if self.layout and self.layout not in LAYOUTS:
            raise DataError(f"The layout is '{self.layout}'; {', '.join(LAYOUTS)} were expected.")
        for name in self.columns:
            if name not in (*COLUMN_WORDS, "-"):
                raise DataError(
                    f"A column is called '{name}'; {', '.join(COLUMN_WORDS)} or - were expected."
                )
        if self.raw_type and self.raw_type not in RAW_TYPES:
            raise DataError(f"The type is '{self.raw_type}'; choose from {', '.join(RAW_TYPES)}.")


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What one file holds.

    Attributes:
        series: ``(C, T)`` float32, or None.
        image: picture of the pattern ``(H, W, 3)``, or None.
        frequency, samples_per_cycle: of the series.
        remarks: sentences on what was assumed or changed.
        group: what the file says of its session.
    """

    series: FloatArray | None
    image: FloatArray | None
    frequency: float
    samples_per_cycle: int = CYCLE
    remarks: tuple[str, ...] = ()
    group: Mapping[str, str] = field(default_factory=dict)


_LARGEST = float(np.finfo(np.float32).max)


def of_pulses(pulses: Pulses, settings: RecorderSettings) -> Recorded:
    """Return a list or a pattern of pulses as series, if it has times, and picture."""
    series = None
    if pulses.time is not None and pulses.count is None:
        series = series_of(pulses, frequency=settings.frequency)
    picture = pattern_picture(pattern_of(pulses))
    return Recorded(series, picture, settings.frequency)


def check_finite(values: NDArray[np.float64], where: str) -> None:
    """Refuse what is no finite float32; ``DataError`` names file and row of ``(R, C)`` values."""
    rows = np.atleast_2d(values)
    if (np.abs(rows) <= _LARGEST).all():  # of NaN that is false, too
        return
    row, column = np.argwhere(~(np.abs(rows) <= _LARGEST))[0]
    value = rows[row, column]
    held = "is empty or holds NaN" if np.isnan(value) else f"holds {value:g}"
    raise DataError(
        f"{where}, row {row + 1}, column {column + 1} {held}; a finite number was expected."
    )


def remarked(recorded: Recorded, remarks: tuple[str, ...]) -> Recorded:
    """Return what a file holds with further remarks."""
    return replace(recorded, remarks=(*recorded.remarks, *remarks))
