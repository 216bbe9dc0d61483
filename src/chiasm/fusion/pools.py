"""The search space of the fusion: lists of candidate features, early, middle and late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from chiasm.errors import ConfigurationError

CELLS = ("early", "middle", "late")

CROSS = "cross"  # the modality of features that are computed from every sensor


def cell_output(cell: str) -> str:
    """Return the name of a cell's output as a candidate of later cells, e.g. ``"cell:early"``."""
    return f"cell:{cell}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A feature that may be fused.

    Attributes:
        name: unique within its pool, e.g. ``"rgb/E1"``; the same name in two pools is one feature.
        channels: of its map.
        stride: pixels of the input per pixel of its map.
        modality: its sensor, or ``"cross"`` of a feature that is computed from every sensor.
        parts: the maps of a joined candidate; empty for a single map.
    """

    name: str
    channels: int
    stride: int
    modality: str
    parts: tuple[Candidate, ...] = ()

    @property
    def maps(self) -> tuple[Candidate, ...]:
        """The maps that a feature source computes for this candidate."""
        return self.parts or (self,)


def joined(name: str, *parts: Candidate) -> Candidate:
    """Join several maps of one modality to a candidate at the resolution of the finest."""
    return Candidate(
        name,
        channels=sum(part.channels for part in parts),
        stride=min(part.stride for part in parts),
        modality=parts[0].modality,
        parts=parts,
    )


@dataclass(frozen=True, slots=True)
class Pools:
    """Candidates per cell; an empty pool means that its cell is absent.

    The early cell's output joins the middle and late pools, the middle cell's the late pool; the
    last present cell feeds the head.

    Raises:
        ConfigurationError: no candidates at all, or one name twice in a pool.

    References:
        3D-ADNAS, Figure 3: early, middle and late fusion modules.
    """

    early: tuple[Candidate, ...] = ()
    middle: tuple[Candidate, ...] = ()
    late: tuple[Candidate, ...] = ()

    def __post_init__(self) -> None:
        if not self.present:
            raise ConfigurationError("All three pools are empty: there is nothing to fuse.")
        for cell in CELLS:
            names = [c.name for c in self.features_of(cell)]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ConfigurationError(
                    f"The {cell} pool names {', '.join(sorted(twice))} more than once."
                )

    def features_of(self, cell: str) -> tuple[Candidate, ...]:
        """Return the features in a cell's pool, without outputs of earlier cells."""
        pool: tuple[Candidate, ...] = getattr(self, cell)
        return pool

    @property
    def present(self) -> tuple[str, ...]:
        """Cells that have a pool, in order."""
        return tuple(cell for cell in CELLS if self.features_of(cell))

    def candidates(self, cell: str) -> tuple[str, ...]:
        """Return the names of a cell's candidates: its features, then outputs of earlier cells."""
        earlier = self.present[: self.present.index(cell)]
        return tuple(c.name for c in self.features_of(cell)) + tuple(
            cell_output(e) for e in earlier
        )

    def joinable(self, cell: str) -> tuple[str, ...]:
        """Return the names of what a cell without nodes may join: maps, and earlier outputs."""
        earlier = self.present[: self.present.index(cell)]
        return (*self.maps(), *(cell_output(e) for e in earlier))

    @property
    def features(self) -> dict[str, Candidate]:
        """All features by name."""
        return {c.name: c for cell in self.present for c in self.features_of(cell)}

    @property
    def sensors(self) -> frozenset[str]:
        """The sensors that have any candidate of their own."""
        return frozenset(c.modality for c in self.features.values()) - {CROSS}

    def maps(self, names: Iterable[str] | None = None) -> dict[str, Candidate]:
        """Return by name the maps that a source computes for some candidates, or for all."""
        features = self.features
        every = {m.name: m for name in features for m in features[name].maps}
        if names is None:
            return every
        # A map may be joined though it is no candidate by itself.
        known = every | features
        return {m.name: m for name in names for m in known[name].maps}

    def only(self, *cells: str) -> Pools:
        """Return the pools of some cells only: the rows of the paper's Table 4."""
        return replace(self, **{cell: () for cell in CELLS if cell not in cells})

    def matching(self, patterns: Iterable[str]) -> Pools:
        """Return the pools of the features whose names match a pattern, e.g. ``"*/f8"``.

        Raises:
            ConfigurationError: no feature matches.
        """
        globs = tuple(patterns)

        def matches(candidate: Candidate) -> bool:
            return any(fnmatch(candidate.name, glob) for glob in globs)

        return Pools(**{cell: tuple(filter(matches, self.features_of(cell))) for cell in CELLS})
