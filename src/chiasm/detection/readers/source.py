"""The protocol of all readers: references to samples, and a method that loads one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from chiasm.samples import Problem, RGBDSample

Lamp = int | Literal["all"]  # a lamp's number, or all lamps of data with several


@dataclass(frozen=True, slots=True)
class SampleRef:
    """One sample on disk, before its pixels are read.

    Attributes:
        source: path of its main file (RGB, or 3D where there is no RGB); unique in its source.
        files: role (``rgb``, ``xyz``, ``depth``, ``mask``, ``normals`` ...) to path.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``""``.
        label: 0 good, 1 defective, None unknown.
        kind: ``"good"`` or the kind of defect.
        group: category, session or batch that must stay in one split.
        lamp: number of the lamp in data that has several, else None.
        part: number of the object in its frame, from 1, where frames are split; else None.
        extra: other facts by name, e.g. columns of a table that the reader does not use.
    """

    source: str
    files: Mapping[str, Path]
    split: str = ""
    label: int | None = None
    kind: str = ""
    group: str = ""
    lamp: int | None = None
    part: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


class SampleSource(Protocol):
    """A readable collection of samples."""

    @property
    def name(self) -> str:
        """Short name for reports, e.g. the category."""
        ...

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All usable samples, in a stable order."""
        ...

    @property
    def lamps(self) -> tuple[int, ...]:
        """Numbers of the lamps that the data have, also of those not read; () of unnamed ones."""
        ...

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Faults of files or rows that ``refs`` leaves out."""
        ...

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        ...
