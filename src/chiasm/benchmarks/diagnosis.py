"""What someone asks a benchmark of recordings for, and which methods and splits there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from chiasm.benchmarks.trial import Trial
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import find_model, models

OURS, NETWORK, SIMPLE = "ours", "network", "simple"
# Label in tables to family and settings. In the size suite for, "_small" becomes "_base".
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "MAD": (OURS, {"model": "mad_small"}),
    "MAD, image alone": (OURS, {"model": "mad_small", "modalities": ["image"]}),
    "MAD, series alone": (OURS, {"model": "mad_small", "modalities": ["series"]}),
    "MAD, cross-entropy alone": (OURS, {"model": "mad_small", "pretrain_epochs": 0}),
    "MAD without flows": (OURS, {"model": "mad_small", "flow": "identity"}),
    "searched fusion": (OURS, {"model": "fused_small"}),
    "Perceiver IO": (NETWORK, {"model": "perceiver_io_small"}),
    "CMT": (NETWORK, {"model": "cross_modal_transformer_small"}),
    "CFM surrogate": (NETWORK, {"model": "cfm_surrogate_small"}),
    "residual CNN": (SIMPLE, {"model": "residual_cnn_small", "pretrain_epochs": 0}),
    "late average": (SIMPLE, {"model": "late_average", "pretrain_epochs": 0}),
    "histogram, LightGBM": (SIMPLE, {"model": "histogram_lightgbm"}),
    "histogram, logistic": (SIMPLE, {"model": "histogram_logistic"}),
    "HOG, LightGBM": (SIMPLE, {"model": "hog_lightgbm"}),
    "MiniROCKET": (SIMPLE, {"model": "minirocket"}),
}
ALONE = "MAD, cross-entropy alone"
RANDOM, SESSION = "random", "session"
# What says how networks learn is nothing to a method that learns in one call.
_OF_NETWORKS = frozenset(
    (
        *("preset", "image_size", "inputs", "align", "views", "seconds", "fold", "windows"),
        *("pretrain_epochs", "epochs", "patience", "batch", "learning_rate", "flow_weight"),
        *("contrast", "modality_dropout", "phase_unknown", "picture_gain", "precision"),
        *("flow", "gate", "experts", "pool", "segment", "minutes", "fusion", "search"),
    )
)
PRETRAIN, EPOCHS = 50, 100


@dataclass(frozen=True)
class DiagnosisSuite:
    """What is to be run.

    Attributes:
        data: folder of the recordings.
        methods: labels of ``METHODS``, or names of models; None is all of a table.
        splits: ``random``, ``session``, or a kind of group of which each is left out in turn.
        left_out: of these kinds, the groups that are left out; none is every one.
        seeds: of runs; a seed decides the split, too.
        size: of networks, ``small`` or ``base``.
        settings: of every run; those of networks are kept from methods that are none.
        minutes: budget of each run.
        corrupted: recordings that are judged again with each corruption.
    """

    data: Path
    methods: tuple[str, ...] | None = None
    splits: tuple[str, ...] = (SESSION,)
    left_out: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (42,)
    size: str = "small"
    settings: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    corrupted: int = 200

    def __post_init__(self) -> None:
        if self.size not in ("small", "base"):
            raise ConfigurationError(f"size must be 'small' or 'base', not {self.size!r}.")
        labels = list(METHODS)
        known = {*labels, *(own["model"] for _, own in METHODS.values())}
        for name in self.methods or ():
            if name not in known:
                raise ConfigurationError(
                    f"There is no method {name!r} of recordings; there are: {'; '.join(labels)}."
                )
        for split in self.splits:
            self.groups(split)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the methods that were suite for and are there."""
        there = _names()
        found = {label: own["model"] for label, (_, own) in METHODS.items()}
        wanted = self.methods
        return tuple(
            label
            for label, model in found.items()
            if model in there and (wanted is None or label in wanted or model in wanted)
        )

    @cached_property
    def _groups(self) -> dict[str, set[str]]:
        from chiasm.diagnosis.readers.opening import open_source

        found: dict[str, set[str]] = {}
        for ref in open_source(self.data).refs:
            if ref.label is not None:
                for kind, name in ref.group.items():
                    found.setdefault(kind, set()).add(name)
        return found

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes."""
        from chiasm.diagnosis.readers.opening import open_store

        return open_store(self.data).kinds

    def groups(self, split: str) -> tuple[str, ...]:
        """Groups of a kind that are left out in turn; none for a split by shares.

        Raises ``DataError`` where the recordings have no such group.
        """
        if split == RANDOM:
            return ()
        named = sorted(self._groups.get(split, set()) - {""})
        if not named:
            kinds = ", ".join([RANDOM, *sorted(self._groups)])
            raise DataError(f"{self.data} has no groups of kind {split!r}; there are: {kinds}.")
        if split == SESSION:
            return ()
        for group in self.left_out:
            if group not in named:
                raise DataError(f"There is no {split} {group!r}; there are: {', '.join(named)}.")
        return self.left_out or tuple(named)

    def cells(
        self, label: str, split: str = "", evaluation: Mapping[str, Any] | None = None, **more: Any
    ) -> tuple[Trial, ...]:
        """One run for each seed, and of a kind of group for each group that is left out."""
        own = METHODS[label][1]
        suite = dict(self.settings) | more
        size = str(suite.pop("size", self.size))
        split = split or self.splits[0]
        given = own | suite | {"split_by": split}
        sized = own["model"].replace("_small", f"_{size}")
        given["model"] = sized if sized in _names() else own["model"]
        if "pretrain_epochs" in own:
            given["pretrain_epochs"] = own["pretrain_epochs"]
        if label == ALONE:
            # An epoch of contrast costs two views of each recording: as much work in all.
            before = int(suite.get("pretrain_epochs", PRETRAIN))
            given["epochs"] = 2 * before + int(suite.get("epochs", EPOCHS))
        if self.minutes is not None:
            given["minutes"] = self.minutes
        if find_model(given["model"]).fitted:
            given = {name: value for name, value in given.items() if name not in _OF_NETWORKS}
        folds: list[dict[str, Any]] = [{"test_group": g} for g in self.groups(split)] or [{}]
        return tuple(
            Trial("classifier", self.data, given | fold | {"seed": seed}, evaluation or {})
            for seed in self.seeds
            for fold in folds
        )


def _names() -> set[str]:
    import chiasm.diagnosis.models.named  # noqa: F401  (importing registers them)

    return {model.name for model in models("classifier")}


@lru_cache(maxsize=1)
def printed_mad() -> dict[str, dict[str, dict[str, float]]]:
    """Values as printed in the MAD paper: table to row to column to value, shares of 1."""
    text = resources.files("chiasm.benchmarks").joinpath("printed_mad.json").read_text()
    content: dict[str, dict[str, dict[str, float]]] = json.loads(text)["tables"]
    return content
