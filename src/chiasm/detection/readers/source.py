"""The protocol of all readers: references to samples, a method that loads one, and the damaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import PreparedSample, Problem, RGBDSample

Modality = Literal["rgb", "geometry"]
Lamp = int | Literal["all"]  # a lamp's number, or all lamps of data with several

SENSOR_WORDS = {"rgb": "colours", "geometry": "3D points"}
# Files that hold what a modality is made of.
_ROLES: dict[Modality, frozenset[str]] = {
    "rgb": frozenset({"rgb"}),
    "geometry": frozenset({"xyz", "depth"}),
}


def remarks_of(source: Any) -> tuple[str, ...]:
    """Return what a reader assumed of its data, a sentence each; () of readers without any."""
    return tuple(getattr(source, "remarks", ()))


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


def sensors_of(refs: Sequence[SampleRef]) -> tuple[Modality, ...]:
    """Return the modalities that all parts have; () without parts.

    Raises:
        ConfigurationError: some parts have a sensor that others lack.
    """
    present = tuple(m for m in _ROLES if len(_lacking(refs, m)) < len(refs))
    for modality in present:
        if lacking := _lacking(refs, modality):
            other = "geometry" if modality == "rgb" else "rgb"
            raise ConfigurationError(
                f"{len(lacking)} of {len(refs)} good training parts have no "
                f"{SENSOR_WORDS[modality]}, such as {lacking[0].source}. Add what is missing, "
                f"leave these parts out, or train on {SENSOR_WORDS[other]} alone "
                f"(modalities={other})."
            )
    return present


def check_sensors(refs: Sequence[SampleRef], modalities: Sequence[Modality]) -> None:
    """Raise ``ConfigurationError`` if parts lack a sensor that a training is to look at."""
    for modality in modalities:
        if lacking := _lacking(refs, modality):
            raise ConfigurationError(
                f"{len(lacking)} of {len(refs)} good training parts have no "
                f"{SENSOR_WORDS[modality]}, such as {lacking[0].source}, and modalities="
                f"{','.join(modalities)} asks for them. Add what is missing, or leave modalities "
                "out to train on what all parts have."
            )


def _lacking(refs: Sequence[SampleRef], modality: Modality) -> list[SampleRef]:
    return [ref for ref in refs if not _ROLES[modality] & ref.files.keys()]


@dataclass(eq=False)
class DamagedParts:
    """The parts of a run that cannot be used, found in passing.

    Attributes:
        problems: by the part's source, in the order in which they were found.
    """

    problems: dict[str, Problem] = field(default_factory=dict)

    def usable(
        self, refs: Sequence[SampleRef], parts: Sequence[PreparedSample]
    ) -> Iterator[PreparedSample | None]:
        """Yield each part, and None in the place of one that cannot be used.

        Args:
            refs: of the parts.
            parts: which are read when they are used.
        """
        for number, ref in enumerate(refs):
            try:
                yield parts[number]
            except (DataError, OSError) as error:
                sentence = str(error)
                if ref.source not in sentence:
                    sentence = f"{ref.source}: {sentence}"
                self.problems[ref.source] = Problem(ref.source, sentence, left_out=True)
                yield None

    def kept(self, refs: Sequence[SampleRef]) -> list[int]:
        """Return the positions of the parts that can be used."""
        return [number for number, ref in enumerate(refs) if ref.source not in self.problems]
