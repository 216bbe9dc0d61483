"""The suite of a benchmark of recordings: methods, splits and printed values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import chiasm.diagnosis.models.named  # noqa: F401  (importing registers the models)
from chiasm.api import registered
from chiasm.benchmarks.trial import Trial, unlabelled_baselines
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import models

OURS, NETWORK, SIMPLE = "ours", "network", "simple"
# Label in tables to family and settings; a baseline without a label is listed by its name. The
# suite's size replaces "_small" in names.
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
    "excess, extra-trees": (SIMPLE, {"model": "excess_trees"}),
}
METHODS |= {
    baseline.name: (SIMPLE if baseline.fitted else NETWORK, {"model": baseline.name})
    for baseline in unlabelled_baselines("classifier", {m["model"] for _, m in METHODS.values()})
}
ALONE = "MAD, cross-entropy alone"
TREES = "excess, extra-trees"  # the strongest simple rival, which stands in every table
RANDOM, SESSION = "random", "session"
# Settings of networks, which methods that are fitted in one call do not have.
_NETWORK_SETTINGS = frozenset(
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
    """The trials to run: methods on splits of recordings.

    Attributes:
        data: folder of the recordings.
        methods: labels of ``METHODS`` or names of models; None takes all of a table.
        splits: ``random``, ``session``, or a kind of group of which each is left out in turn.
        left_out: the groups of these kinds that are left out; none takes each.
        seeds: of trials; a seed also decides the split.
        size: of networks, ``small`` or ``base``.
        settings: of every trial; settings of networks are not passed to other methods.
        minutes: budget of each trial.
        corrupted: number of recordings evaluated with each corruption.
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
        names = {*METHODS, *(settings["model"] for _, settings in METHODS.values())}
        for name in self.methods or ():
            if name not in names:
                raise ConfigurationError(
                    f"There is no method {name!r} of recordings; there are: {'; '.join(METHODS)}."
                )
        for split in self.splits:
            self.groups(split)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of the selected methods."""
        return tuple(
            label
            for label, (_, settings) in METHODS.items()
            if self.methods is None or {label, settings["model"]} & set(self.methods)
        )

    @cached_property
    def _groups(self) -> dict[str, set[str]]:
        from chiasm.diagnosis.readers.opening import open_source

        groups: dict[str, set[str]] = {}
        for ref in open_source(self.data).refs:
            if ref.label is not None:
                for kind, name in ref.group.items():
                    groups.setdefault(kind, set()).add(name)
        return groups

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        from chiasm.diagnosis.readers.opening import open_store

        return open_store(self.data).kinds

    def groups(self, split: str) -> tuple[str, ...]:
        """Return the groups that are left out in turn; none for a split by shares.

        Raises:
            DataError: the recordings have no such group.
        """
        if split == RANDOM:
            return ()
        names = sorted(self._groups.get(split, set()) - {""})
        if not names:
            kinds = ", ".join([RANDOM, *sorted(self._groups)])
            raise DataError(f"{self.data} has no groups of kind {split!r}; there are: {kinds}.")
        if split == SESSION:
            return ()
        for group in self.left_out:
            if group not in names:
                raise DataError(f"There is no {split} {group!r}; there are: {', '.join(names)}.")
        return self.left_out or tuple(names)

    def trials(
        self,
        label: str,
        split: str = "",
        evaluation: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> tuple[Trial, ...]:
        """Return one trial for each seed and each group that is left out."""
        method = METHODS[label][1]
        common = dict(self.settings) | overrides
        size = str(common.pop("size", self.size))
        split = split or self.splits[0]
        settings = method | common | {"split_by": split}
        names = {model.name for model in models("classifier")}
        sized = method["model"].replace("_small", f"_{size}")
        settings["model"] = sized if sized in names else method["model"]
        if "pretrain_epochs" in method:
            settings["pretrain_epochs"] = method["pretrain_epochs"]
        if label == ALONE:
            # An epoch of contrast costs two views of each recording: the total work is equal.
            contrast_epochs = int(common.get("pretrain_epochs", PRETRAIN))
            settings["epochs"] = 2 * contrast_epochs + int(common.get("epochs", EPOCHS))
        if self.minutes is not None:
            settings["minutes"] = self.minutes
        if registered(settings["model"]).fitted:
            settings = {k: value for k, value in settings.items() if k not in _NETWORK_SETTINGS}
        folds: list[dict[str, Any]] = [{"test_group": g} for g in self.groups(split)] or [{}]
        return tuple(
            Trial("classifier", self.data, settings | fold | {"seed": seed}, evaluation or {})
            for seed in self.seeds
            for fold in folds
        )


@lru_cache(maxsize=1)
def printed_mad() -> dict[str, dict[str, dict[str, float]]]:
    """Return the values printed in the MAD paper: table to row to column to value, shares of 1."""
    text = resources.files("chiasm.benchmarks").joinpath("printed_mad.json").read_text()
    content: dict[str, dict[str, dict[str, float]]] = json.loads(text)["tables"]
    return content
