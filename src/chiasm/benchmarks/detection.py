"""The suite of a benchmark of parts: methods, categories and printed values."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import chiasm.detection.models.named  # noqa: F401  (importing registers the models)
from chiasm.api import registered
from chiasm.benchmarks.trial import Trial, unlabelled_baselines
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.readers import find_reader

# Label in tables to settings of the run; a baseline without a label is listed by its name.
METHODS: dict[str, dict[str, Any]] = {
    "3D-ADNAS": {"model": "adnas_light"},
    "3D-ADNAS, concatenation": {"model": "adnas_light", "fusion": "concatenation"},
    "3D-ADNAS from scratch": {"model": "adnas_slim"},
    "EasyNet": {"model": "easynet_slim"},
    "BTF": {"model": "btf"},
    "M3DM": {"model": "m3dm"},
    "CFM": {"model": "crossmodal_mapping"},
    "AST": {"model": "ast"},
    "Shape-Guided": {"model": "shape_guided"},
    "pixel Gaussian": {"model": "pixel_gaussian"},
    "brightness": {"model": "brightness", "modalities": ["rgb"]},
    "missing points": {"model": "missing_points", "modalities": ["geometry"]},
    "area": {"model": "area"},
}
METHODS |= {
    baseline.name: {"model": baseline.name}
    for baseline in unlabelled_baselines("detector", {m["model"] for m in METHODS.values()})
}
BOTH = ["rgb", "geometry"]
SENSORS = {"RGB": ["rgb"], "3D": ["geometry"], "RGB + 3D": BOTH}
# Methods that compare the sensors and so refuse a single one.
BOTH_SENSORS = {"CFM"}
TRIVIAL = ("pixel Gaussian", "brightness", "missing points", "area")


@dataclass(frozen=True, slots=True)
class DetectionSuite:
    """The trials to run: methods on categories.

    Attributes:
        categories: name to folder.
        methods: labels of ``METHODS`` or names of models; None takes all of a table.
        seeds: of trials; where few parts are drawn, a seed decides the draw.
        shots: numbers of parts in the tables of few parts.
        settings: of every trial.
        minutes: budget of each trial.
        bank_mb: megabytes of a memory bank, for methods that have one.
    """

    categories: Mapping[str, Path]
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    shots: tuple[int, ...] = (5, 10, 50)
    settings: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    bank_mb: float | None = None

    def selects(self, label: str) -> bool:
        """Return whether a method is selected, by its label or by its model's name."""
        model = METHODS.get(label, {}).get("model")
        return self.methods is None or label in self.methods or model in self.methods

    def folder(self, category: str) -> Path | None:
        """Return the folder of a category by the paper's name; None without such data."""
        return next((p for n, p in self.categories.items() if _plain(n) == _plain(category)), None)

    def trials(self, label: str, folder: Path, **overrides: Any) -> tuple[Trial, ...]:
        """Return one trial for each seed."""
        settings = METHODS[label] | dict(self.settings) | overrides
        if self.minutes is not None:
            settings["minutes"] = self.minutes
        if self.bank_mb is not None and "bank_mb" in _options(settings["model"]):
            settings["options"] = {**settings.get("options", {}), "bank_mb": self.bank_mb}
        return tuple(Trial("detector", folder, settings | {"seed": seed}) for seed in self.seeds)


def _options(model: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(registered(model).builder).parameters


def is_available(label: str) -> bool:
    """Return whether the library has the method; the papers list others, too."""
    return label in METHODS


def categories_under(root: Path, chosen: tuple[str, ...] = ()) -> dict[str, Path]:
    """Return the categories below a folder, or the folder itself if it is one.

    Args:
        root: folder or manifest.
        chosen: names of categories; none takes all.

    Raises:
        DataError: there is no category, or a chosen one does not exist.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist.")
    if _is_category(root) or root.is_file():
        categories = {root.name: root}
    else:
        categories = {p.name: p for p in sorted(root.iterdir()) if _is_category(p)}
    if not categories:
        raise DataError(
            f"{root} holds no category: data that 'chiasm data check' reads were expected, or "
            "folders of these."
        )
    for name in chosen:
        if not any(_plain(name) == _plain(category) for category in categories):
            raise DataError(
                f"There is no category {name!r} in {root}; there are: {', '.join(categories)}."
            )
    selected = [_plain(name) for name in chosen]
    return {n: path for n, path in categories.items() if not selected or _plain(n) in selected}


def check_methods(methods: tuple[str, ...] | None) -> None:
    """Raise ``ConfigurationError`` for an unknown method."""
    names = {**{label: label for label in METHODS}, **{m["model"]: m for m in METHODS.values()}}
    for name in methods or ():
        if name not in names:
            raise ConfigurationError(
                f"There is no method {name!r}; there are: {'; '.join(METHODS)}."
            )


@lru_cache(maxsize=1)
def printed() -> dict[str, dict[str, dict[str, float]]]:
    """Return the values printed in the paper: table to row to column to value, shares of 1."""
    text = resources.files("chiasm.benchmarks").joinpath("printed_3d_adnas.json").read_text()
    content: dict[str, dict[str, dict[str, float]]] = json.loads(text)["tables"]
    return content


def _is_category(folder: Path) -> bool:
    return folder.is_dir() and (
        (folder / "train").is_dir() or find_reader("detection", folder) is not None
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
