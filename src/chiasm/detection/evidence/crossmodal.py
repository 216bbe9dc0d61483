"""Crossmodal error: how far one sensor's features are from what the other's predict on normals.

References:
    Costanzino et al., Multimodal Industrial Anomaly Detection by Crossmodal Feature Mapping,
    CVPR 2024.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.evidence.evidence import (
    Cells,
    Evidence,
    by_fold,
    descend,
    fold_of,
    on_object,
)
from chiasm.detection.layers.patches import Standardisation, gather, gather_owners
from chiasm.errors import DataError
from chiasm.samples import RGBDBatch

_STEPS = 500  # of the training of a pair of mappings


def make_mapping(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Build a mapping of ``(..., inputs)`` to ``(..., outputs)`` with two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, outputs),
    )


def mapping_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the Euclidean distance ``(...)`` of two descriptors ``(..., D)`` of length 1."""
    return (F.normalize(prediction, dim=-1) - F.normalize(target, dim=-1)).norm(dim=-1)


def mapping_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute one minus the mean cosine similarity of ``(M, D)`` predictions and targets."""
    return 1 - F.cosine_similarity(prediction, target, dim=-1).mean()


class Mappings(nn.Module):
    """A mapping to each of two sensors from the other, of standardised descriptors.

    Args:
        dimension: of either's descriptors.
        hidden: units of the two hidden layers.
    """

    def __init__(self, *, dimension: int, hidden: int) -> None:
        super().__init__()
        self.to_rgb = make_mapping(dimension, hidden, dimension)
        self.to_geometry = make_mapping(dimension, hidden, dimension)

    def forward(self, rgb: Tensor, geometry: Tensor) -> Tensor:
        """Compute the errors ``(..., 2)`` of predicting rgb, and geometry, from the other."""
        errors = (
            mapping_error(self.to_rgb(geometry), rgb),
            mapping_error(self.to_geometry(rgb), geometry),
        )
        return torch.stack(errors, dim=-1)

    def fit(self, rgb: Tensor, geometry: Tensor, *, seed: int) -> None:
        """Train both on cells ``(M, D)`` of normal parts."""

        def loss(numbers: Tensor) -> Tensor:
            colours, relief = rgb[numbers], geometry[numbers]
            return mapping_loss(self.to_rgb(relief), colours) + mapping_loss(
                self.to_geometry(colours), relief
            )

        descend(self.parameters(), loss, len(rgb), seed=seed, steps=_STEPS)


class CrossmodalError(Evidence):
    """Errors of two mappings between the sensors' descriptors, which normal parts trained.

    The map ``cross/mapping_error`` holds the error of colours predicted from geometry, of geometry
    predicted from colours, and their product: the published score, large where both are wrong.

    A mapping's error on parts that trained it is smaller than on others, so that in training a part
    is measured by mappings that its owner's parts did not train: the owners are divided into folds.
    Other parts are measured by mappings that all normal parts trained. With one owner there is
    nothing to divide, and its parts are measured by their own mappings.

    Args:
        channels: channels of each stride, the groups of a descriptor.
        hidden: units of the mappings' hidden layers.
        folds: of the owners; fewer where there are fewer owners.
    """

    owners: Tensor

    def __init__(self, *, channels: Mapping[int, int], hidden: int = 64, folds: int = 4) -> None:
        super().__init__()
        self.sensors = ("rgb", "geometry")
        groups = tuple(channels.values())
        self.dimension = sum(groups)
        self.hidden = hidden
        self.most_folds = folds
        # Of a standardised descriptor each group has length 1; a network learns faster on values
        # of deviation 1. Errors are of directions, which a factor does not change.
        self.gain = (self.dimension / len(groups)) ** 0.5
        self.scales = nn.ModuleDict({sensor: Standardisation(groups) for sensor in self.sensors})
        self.mappings = self._new_mappings()
        self.folds = nn.ModuleList()  # for training alone
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.requires_grad_(False)
        self._rows: dict[str, list[Tensor]] = {}

    def _new_mappings(self) -> Mappings:
        return Mappings(dimension=self.dimension, hidden=self.hidden)

    def forward(self, cells: Cells, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute both errors and their product."""
        rgb, geometry = (
            self._standardised(s, cells[s].descriptors.permute(0, 2, 3, 1))  # n d h w -> n h w d
            for s in self.sensors
        )
        errors = self._errors(rgb, geometry, batch.index)
        maps = torch.cat([errors, errors.prod(dim=-1, keepdim=True)], dim=-1)
        maps = maps.permute(0, 3, 1, 2)  # n h w c -> n c h w
        return {"cross/mapping_error": maps * on_object(batch.foreground, maps)}

    def _standardised(self, sensor: str, rows: Tensor) -> Tensor:
        standardised: Tensor = self.scales[sensor](rows) * self.gain
        return standardised

    def _errors(self, rgb: Tensor, geometry: Tensor, index: Tensor | None) -> Tensor:
        if index is None or not len(self.folds):
            out: Tensor = self.mappings(rgb, geometry)
            return out
        fold = fold_of(index, self.owners, len(self.folds))
        return by_fold(fold, self.mappings, self.folds, rgb, geometry)

    def partial_fit(self, cells: Cells, batch: RGBDBatch, chosen: Tensor) -> None:
        """Keep the chosen cells' descriptors, with their owners."""
        assert batch.index is not None
        rows = {s: gather(cells[s].descriptors, chosen) for s in self.sensors}
        rows["owner"] = gather_owners(batch.index, chosen)
        for name, values in rows.items():
            self._rows.setdefault(name, []).append(values)

    def finish_fit(self, *, seed: int) -> None:
        """Train the mappings on all cells, and those of each fold on the cells of the others."""
        rows = {name: torch.cat(values) for name, values in self._rows.items()}
        self._rows = {}
        if not rows or len(rows["owner"]) < 2:
            raise DataError("No cell of a normal part lies on an object: there is nothing to fit.")
        for sensor in self.sensors:
            scale = self.scales[sensor]
            assert isinstance(scale, Standardisation)
            scale.add(rows[sensor])
            scale.finish()
            rows[sensor] = self._standardised(sensor, rows[sensor])
        rgb, geometry, owner = rows["rgb"], rows["geometry"], rows["owner"]
        self.owners = owner.unique()
        count = min(self.most_folds, len(self.owners))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of the first weights: a repeated run is the same run
            self.mappings = self._new_mappings().to(rgb.device)
            self.folds = nn.ModuleList(
                self._new_mappings() for _ in range(count if count > 1 else 0)
            ).to(rgb.device)
        self.mappings.fit(rgb, geometry, seed=seed)
        fold = fold_of(owner, self.owners, max(count, 1))
        for number, mappings in enumerate(self.folds):
            assert isinstance(mappings, Mappings)
            kept = fold != number
            mappings.fit(rgb[kept], geometry[kept], seed=seed)

    def for_prediction(self, required: Collection[str]) -> CrossmodalError:
        """Return a copy without the folds."""
        bare = copy.deepcopy(self)
        bare.folds = nn.ModuleList()
        return bare
