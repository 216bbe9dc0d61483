"""What someone asks a benchmark for, and which data there are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from chiasm.benchmarks.trial import Trial
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import models

# Label in tables to the settings of a run.
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
SENSORS = {"RGB": ["rgb"], "3D": ["geometry"], "RGB + 3D": ["rgb", "geometry"]}
# These tell one sensor from the other, or look at one by themselves.
BOTH_SENSORS = {"CFM"}
TRIVIAL = ("pixel Gaussian", "brightness", "missing points", "area")


@dataclass(frozen=True, slots=True)
class DetectionSuite:
    """What is to be run.

    Attributes:
        categories: name to folder.
        methods: labels of ``METHODS``; None is all of a table.
        seeds: of runs, or of draws where few parts are drawn.
        shots: numbers of parts for the tables of few parts.
        settings: of every run.
        minutes: budget of each run.
        bank_mb: of methods that have a memory bank.
    """

    categories: Mapping[str, Path]
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    shots: tuple[int, ...] = (5, 10, 50)
    settings: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    bank_mb: float | None = None

    def wants(self, label: str) -> bool:
        """Whether a method was suite for, by its label or by its model's name."""
        own = METHODS.get(label, {}).get("model")
        return self.methods is None or label in self.methods or own in self.methods

    def folder(self, category: str) -> Path | None:
        """Folder of a category by the paper's name; None where it is not there."""
        return next((p for n, p in self.categories.items() if _plain(n) == _plain(category)), None)

    def cells(self, label: str, folder: Path, **more: Any) -> tuple[Trial, ...]:
        """One run for each seed."""
        settings = METHODS[label] | dict(self.settings) | more
        if self.minutes is not None:
            settings["minutes"] = self.minutes
        if self.bank_mb is not None and settings["model"] in ("btf", "m3dm", "shape_guided"):
            settings["options"] = {**settings.get("options", {}), "bank_mb": self.bank_mb}
        return tuple(Trial("detector", folder, settings | {"seed": seed}) for seed in self.seeds)


def built(label: str) -> bool:
    """Whether a method of that label is there to be run."""
    there = {model.name for model in models()}
    return label in METHODS and METHODS[label]["model"] in there


def categories_under(root: Path, chosen: tuple[str, ...] = ()) -> dict[str, Path]:
    """Categories below a folder, or the folder itself where it is one.

    Raises ``DataError`` where there is none, or one that was chosen is not there.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist.")
    found = {p.name: p for p in sorted(root.iterdir()) if _is_category(p)} if root.is_dir() else {}
    if _is_category(root) or root.is_file():
        found = {root.name: root}
    if not found:
        raise DataError(
            f"{root} holds no category: a folder with 'train' (MVTec 3D-AD, Eyecandies) or a "
            "manifest was expected, or folders of these."
        )
    for name in chosen:
        if not any(_plain(name) == _plain(one) for one in found):
            raise DataError(
                f"There is no category {name!r} in {root}; there are: {', '.join(found)}."
            )
    wanted = [_plain(name) for name in chosen]
    return {name: path for name, path in found.items() if not wanted or _plain(name) in wanted}


def check_methods(methods: tuple[str, ...] | None) -> None:
    """Raise ``ConfigurationError`` for a method that there is not."""
    known = {**{label: label for label in METHODS}, **{m["model"]: m for m in METHODS.values()}}
    for name in methods or ():
        if name not in known:
            labels = "; ".join(label for label in METHODS if built(label))
            raise ConfigurationError(
                f"There is no method {name!r}; there are, with semicolons between: {labels}."
            )


@lru_cache(maxsize=1)
def printed() -> dict[str, dict[str, dict[str, float]]]:
    """Values as printed in the paper: table to row to column to value, shares of 1."""
    text = resources.files("chiasm.benchmarks").joinpath("printed_3d_adnas.json").read_text()
    content: dict[str, dict[str, dict[str, float]]] = json.loads(text)["tables"]
    return content


def _is_category(folder: Path) -> bool:
    return folder.is_dir() and (folder / "train").is_dir()


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
