"""Look at a dataset before anything is trained on it: gaps, leaks and shortcuts."""

from __future__ import annotations

from dataclasses import dataclass

_LISTED = 10


@dataclass(frozen=True, slots=True)
class TrivialScore:
    """How well a property that knows nothing of defects separates the test parts.

    Attributes:
        name: what was measured, e.g. ``"mean brightness"``.
        auroc: in [0, 1], larger where defective parts have larger values; 0.5 is no separation.
    """

    name: str
    auroc: float

    @property
    def strength(self) -> float:
        """The AUROC of the better direction, in [0.5, 1]."""
        return max(self.auroc, 1 - self.auroc)


def listed(title: str, entries: tuple[str, ...] | list[str]) -> list[str]:
    """Lines of a list for a terminal: its title, its length and its first entries."""
    if not entries:
        return [f"{title}: none"]
    more = [f"  ... and {len(entries) - _LISTED} more"] if len(entries) > _LISTED else []
    return [f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:_LISTED]), *more]
