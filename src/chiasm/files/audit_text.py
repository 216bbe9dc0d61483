"""Parts of an audit report that both wings share: trivial scores, and lists as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MAX_ENTRIES = 10


@dataclass(frozen=True, slots=True)
class TrivialScore:
    """How well a property that is unrelated to faults separates the classes.

    Attributes:
        name: of the property, e.g. ``"mean brightness"``.
        auroc: in [0, 1], above 0.5 if faulty samples have larger values; 0.5 is no separation.
    """

    name: str
    auroc: float

    @property
    def strength(self) -> float:
        """AUROC of the better direction, in [0.5, 1]."""
        return max(self.auroc, 1 - self.auroc)


def listing(title: str, entries: Sequence[object]) -> list[str]:
    """Return a list as lines for a terminal: title, length and first entries."""
    if not entries:
        return [f"{title}: none"]
    more = [f"  ... and {len(entries) - _MAX_ENTRIES} more"] if len(entries) > _MAX_ENTRIES else []
    return [f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:_MAX_ENTRIES]), *more]
