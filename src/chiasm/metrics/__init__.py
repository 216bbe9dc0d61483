"""Figures as pure functions of arrays; import them from the files of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from chiasm.registry import import_modules

MetricFunction = TypeVar("MetricFunction", bound=Callable[..., Any])
_METRICS: dict[str, tuple[Callable[..., Any], int]] = {}


def metric(version: int = 1) -> Callable[[MetricFunction], MetricFunction]:
    """Register a figure with the version of its definition.

    The version is raised when the same input would give another figure.
    """

    def remember(function: MetricFunction) -> MetricFunction:
        _METRICS[function.__name__] = (function, version)
        return function

    return remember


def metrics() -> dict[str, Callable[..., Any]]:
    """Return all figures by name."""
    import_modules("chiasm.metrics")
    return {name: function for name, (function, _) in sorted(_METRICS.items())}


def versions() -> dict[str, int]:
    """Return the version of each figure, as contracts carry it.

    Contracts of earlier versions also name figures that no longer exist.
    """
    return {name: _METRICS[name][1] for name in metrics()}
