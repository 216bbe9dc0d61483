"""What every reader offers: cheap references to samples, and a way to load each one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chiasm.samples import RGBDSample


@dataclass(frozen=True, slots=True)
class SampleRef:
    """One sample on disk, before its pixels are read.

    Attributes:
        source: path of its main file (RGB, or 3D where there is no RGB); unique in its source.
        files: role (``rgb``, ``xyz``, ``depth``, ``mask``, ``normals`` ...) to path.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``""``.
        label: 0 good, 1 defective, None unknown.
        kind: ``"good"`` or the kind of defect.
        group: what must not be divided between splits.
        lamp: number of the lamp in data that has several, else None.
    """

    source: str
    files: Mapping[str, Path]
    split: str = ""
    label: int | None = None
    kind: str = ""
    group: str = ""
    lamp: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


class SampleSource(Protocol):
    """A readable collection of samples."""

    @property
    def name(self) -> str:
        """Short name for reports, e.g. the category."""
        ...

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All samples, in a stable order."""
        ...

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and what is wrong with it."""
        ...
