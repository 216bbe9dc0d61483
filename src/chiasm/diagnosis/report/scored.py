"""The outputs of a classifier for labelled recordings, as arrays and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.metrics.calibration import softmax

Array = NDArray[np.floating]
Labels = NDArray[np.int64]
Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRecordings:
    """Scored recordings of one test list; N recordings, K classes.

    Attributes:
        logits: ``(N, K)``, before temperature.
        labels: ``(N,)``, numbers of the true classes.
        kinds: names of the K classes.
        groups: kind of grouping, e.g. ``"session"``, to ``(N,)`` names of groups.
        sources: N paths, for the gallery.
        embeddings: ``(N, D)`` joint embeddings, or None.
        modality_logits: modality to ``(N, K)`` logits with that modality alone.
        before: modality to ``(N, D)`` mean of its tokens before the flow.
        after: the same after the flow.
        flow_nll: ``(N,)`` negative log-likelihood under the flow, or None.
        uncertainty: ``(N,)`` in [0, 1], or None.
        conflict: ``(N,)`` in [0, 1] between the modalities, NaN with one modality, or None.
        distance: ``(N,)`` from the nearest trained class, as a share of the model's limit, or None
            of a model that keeps none.
        unknown: ``(N,)`` whether the diagnosis is 'unknown', or None where it was not asked.
        temperature: divisor of the logits, fitted on validation recordings.
        temperatures: ``(N,)`` by recording, if they depend on its modalities; None takes
            ``temperature`` for all.
        lacking: modality to the number of recordings without it.

    Raises:
        DataError: lengths or shapes disagree, or a label is no class.
    """

    logits: Array
    labels: Labels
    kinds: tuple[str, ...]
    groups: Mapping[str, Names] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    embeddings: Array | None = None
    modality_logits: Mapping[str, Array] = field(default_factory=dict)
    before: Mapping[str, Array] = field(default_factory=dict)
    after: Mapping[str, Array] = field(default_factory=dict)
    flow_nll: Array | None = None
    uncertainty: Array | None = None
    conflict: Array | None = None
    distance: Array | None = None
    unknown: NDArray[np.bool_] | None = None
    temperature: float = 1.0
    temperatures: Array | None = None
    lacking: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, classes = len(self.labels), len(self.kinds)
        logits = {"logits": self.logits} | {
            f"logits of the {name} alone": array for name, array in self.modality_logits.items()
        }
        for name, array in logits.items():
            if np.shape(array) != (count, classes):
                raise DataError(
                    f"{name} have shape {np.shape(array)}; ({count}, {classes}) was expected for "
                    f"{count} labels and {classes} classes."
                )
        columns = {
            "sources": self.sources or None,
            "embeddings": self.embeddings,
            "flow_nll": self.flow_nll,
            "uncertainty": self.uncertainty,
            "conflict": self.conflict,
            "distance": self.distance,
            "unknown": self.unknown,
            "temperatures": self.temperatures,
            **{f"groups by {name}": names for name, names in self.groups.items()},
            **{f"{name} before the flow": array for name, array in self.before.items()},
            **{f"{name} after the flow": array for name, array in self.after.items()},
        }
        for name, column in columns.items():
            if column is not None and len(column) != count:
                raise DataError(f"{name}: {len(column)} entries for {count} recordings.")
        if np.any((self.labels < 0) | (self.labels >= classes)):
            raise DataError(f"A label is none of the classes 0 to {classes - 1}.")
        for value in (self.temperature, *(() if self.temperatures is None else self.temperatures)):
            if not value > 0:
                raise DataError(f"A temperature is above 0, not {value}.")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def probabilities(self) -> Array:
        """``(N, K)`` calibrated: softmax of the logits divided by the temperature."""
        if self.temperatures is not None:
            return softmax(self.logits / self.temperatures[:, None])  # (N, K) by (N, 1)
        return softmax(self.logits, temperature=self.temperature)

    @property
    def guesses(self) -> Labels:
        """``(N,)`` numbers of the most probable classes."""
        return np.argmax(self.logits, axis=1).astype(np.int64)

    def group_names(self, by: str) -> list[str]:
        """Return N names of the groups that the bootstrap draws as a whole.

        Groups of kind ``by``; without them, as with a random split, sessions, whose recordings
        depend on each other; else single recordings.
        """
        unit = next((name for name in (by, "session") if name in self.groups), None)
        if unit is None:
            return [str(number) for number in range(len(self))]
        return [str(name) for name in self.groups[unit]]
