"""Distances from normal whose scale depends on the nearest normal and on the direction.

A Euclidean distance counts every direction of feature space alike. Here a small network says, of
the nearest normal and the direction of the residual, how much each dimension counts; it learns to
tell synthetic anomalies from normal cells.

References:
    Tao, Cao, Du, G2SF: Geometry-Guided Score Fusion for Multimodal Industrial Anomaly Detection,
    arXiv 2503.10091, 2025: the idea. Network, loss and input are this library's own.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

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
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.layers.patches import gather, gather_owners
from chiasm.errors import DataError
from chiasm.fusion.pools import CROSS
from chiasm.samples import RGBDBatch

_STEPS = 300  # of the training of a scaling
_LARGEST = 2.0  # logarithm of a scale, either way: a factor of 7.4
_SPREAD = 0.05  # weight of the mean squared logarithm in the loss
_LEAST = 1e-6  # squared distance
_FEWEST = 16  # cells with an anomaly, and without
_COVERED = 0.25  # share of a cell that an anomaly covers, from which it counts as one


class Scaling(nn.Module):
    """A scale of each dimension of a residual, from its direction and the normal it starts at.

    At first all scales are 1, so that the distance starts Euclidean. Scales lie between exp(-2) and
    exp(2), and the loss draws them to 1: what the anomalies of the training do not show counts as
    it did.

    Args:
        groups: channels of the groups of a descriptor; each group has length 1 on average.
        hidden: rank of the scales.
    """

    def __init__(self, groups: Sequence[int], *, hidden: int = 64) -> None:
        super().__init__()
        dimension = sum(groups)
        self.gain = (dimension / len(groups)) ** 0.5  # to values of deviation 1
        self.width = dimension**0.5
        self.of_normal = nn.Linear(dimension, hidden)
        self.of_direction = nn.Linear(dimension, hidden, bias=False)
        self.scale = nn.Linear(hidden, dimension)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.scale.bias)
        self.slope = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def logarithms(self, residual: Tensor, normal: Tensor) -> Tensor:
        """Compute the logarithms ``(..., D)`` of the scales."""
        hidden = self.of_normal(normal * self.gain) + self.of_direction(
            F.normalize(residual, dim=-1) * self.width
        )
        return _LARGEST * torch.tanh(self.scale(F.gelu(hidden)))

    def forward(self, residual: Tensor, normal: Tensor) -> Tensor:
        """Compute the scaled distances ``(...)``.

        Args:
            residual: ``(..., D)`` from the nearest normal, with its sign.
            normal: ``(..., D)`` the nearest normal.
        """
        scaled = residual * torch.exp(self.logarithms(residual, normal))
        return (scaled * scaled).sum(dim=-1).sqrt()

    def fit(self, residual: Tensor, normal: Tensor, anomalous: Tensor, *, seed: int) -> None:
        """Train on cells ``(M, D)``, as many anomalous ones as normal ones in each step.

        The logarithm of the distance is the log-odds of an anomaly, up to slope and offset.
        """
        kinds = [torch.nonzero(anomalous == kind)[:, 0] for kind in (False, True)]

        def loss(numbers: Tensor) -> Tensor:
            draws = zip(kinds, numbers.chunk(2))
            chosen = torch.cat([kind[draw % len(kind)] for kind, draw in draws])
            logarithms = self.logarithms(residual[chosen], normal[chosen])
            scaled = residual[chosen] * torch.exp(logarithms)
            squared = (scaled * scaled).sum(dim=-1).clamp(min=_LEAST)
            odds = F.softplus(self.slope) * squared.log() + self.offset
            target = anomalous[chosen].to(odds)
            return (
                F.binary_cross_entropy_with_logits(odds, target)
                + _SPREAD * (logarithms * logarithms).mean()
            )

        descend(self.parameters(), loss, 2**31 - 1, seed=seed, steps=_STEPS, batch=1024)


class ScaledDistance(Evidence):
    """Scaled distances of each sensor, and of both sensors' residuals as one.

    Maps: ``rgb/scaled_distance``, ``geometry/scaled_distance`` and, with both sensors,
    ``cross/scaled_distance``.

    A network tells anomalies of parts that trained it better than others, and a fusion that learnt
    from its maps there would trust them too much. In training a part is therefore measured by
    networks that its owner's parts did not train: the owners are divided into folds. Other parts
    are measured by networks that all of them trained.

    Args:
        channels: channels of each stride, the groups of a descriptor.
        sensors: of memories.
        hidden: rank of the scales.
        folds: of the owners; fewer where there are fewer owners.
    """

    learns_from = "anomalies"
    reads_memory = True
    owners: Tensor

    def __init__(
        self,
        *,
        channels: Mapping[int, int],
        sensors: tuple[str, ...],
        hidden: int = 64,
        folds: int = 4,
    ) -> None:
        super().__init__()
        self.sensors = sensors
        self.groups = tuple(channels.values())
        self.hidden = hidden
        self.most_folds = folds
        for sensor in sensors:  # of its memory
            self.register_buffer(f"{sensor}_mean", torch.zeros(sum(self.groups)))
            self.register_buffer(f"{sensor}_weight", torch.ones(sum(self.groups)))
        self.scalings = self._new_scalings()
        self.folds = nn.ModuleDict()  # for training alone
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.requires_grad_(False)
        self._rows: dict[str, list[Tensor]] = {}

    def _new_scalings(self) -> nn.ModuleDict:
        scalings = {sensor: Scaling(self.groups, hidden=self.hidden) for sensor in self.sensors}
        if len(self.sensors) > 1:
            scalings[CROSS] = Scaling(self.groups * len(self.sensors), hidden=self.hidden)
        return nn.ModuleDict(scalings)

    def forward(self, cells: Cells, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute the scaled distances."""
        maps: dict[str, Tensor] = {}
        compared = {s: self._compared(s, cells) for s in self.sensors}
        for name, scaling in self.scalings.items():
            # n d h w -> n h w d
            inputs = [value.permute(0, 2, 3, 1) for value in self._joined(name, compared)]
            if batch.index is None or name not in self.folds:
                distance = scaling(*inputs)[:, None]
            else:
                folds = self.folds[name]
                assert isinstance(folds, nn.ModuleList)
                fold = fold_of(batch.index, self.owners, len(folds))
                distance = by_fold(fold, scaling, folds, *inputs)[:, None]
            maps[f"{name}/scaled_distance"] = distance * on_object(batch.foreground, distance)
        return maps

    def _compared(self, sensor: str, cells: Cells) -> tuple[Tensor, Tensor]:
        """Return residual and nearest normal ``(N, D, h, w)``, valid on the object."""
        shape = (1, -1, 1, 1)
        mean: Tensor = getattr(self, f"{sensor}_mean").view(shape)
        weight: Tensor = getattr(self, f"{sensor}_weight").view(shape)
        residual = cells[sensor].compared.offset
        return residual, (cells[sensor].descriptors - mean) * weight - residual

    def _joined(
        self, name: str, compared: Mapping[str, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        if name in compared:
            return compared[name]
        residual, normal = zip(*(compared[s] for s in self.sensors))
        return torch.cat(residual, dim=1), torch.cat(normal, dim=1)

    def start_fit(self, memories: Mapping[str, NormalMemory]) -> None:
        """Take the standardisation of the memories."""
        for sensor in self.sensors:
            getattr(self, f"{sensor}_mean").copy_(memories[sensor].mean)
            getattr(self, f"{sensor}_weight").copy_(memories[sensor].weight)

    def partial_fit(self, cells: Cells, batch: RGBDBatch, chosen: Tensor) -> None:
        """Keep the chosen cells' residuals and nearest normals, and the share that is anomalous."""
        assert batch.mask is not None and batch.index is not None
        compared = {s: self._compared(s, cells) for s in self.sensors}
        rows = {}
        for name in self.scalings:
            residual, normal = self._joined(name, compared)
            rows[f"{name}/residual"] = gather(residual, chosen)
            rows[f"{name}/normal"] = gather(normal, chosen)
        rows["owner"] = gather_owners(batch.index, chosen)
        height, width = chosen.shape[-2:]
        covered = F.adaptive_avg_pool2d(batch.mask, (height, width))
        rows["covered"] = gather(covered, chosen)[:, 0]
        for name, values in rows.items():
            self._rows.setdefault(name, []).append(values)

    def finish_fit(self, *, seed: int) -> None:
        """Train each scaling; cells at the rim of an anomaly are left out."""
        rows = {name: torch.cat(values) for name, values in self._rows.items()}
        self._rows = {}
        covered = rows.get("covered", torch.zeros(0))
        clear = (covered == 0) | (covered >= _COVERED)
        anomalous = covered[clear] > 0
        count = int(anomalous.sum())
        if min(count, len(anomalous) - count) < _FEWEST:
            raise DataError(
                f"Of {len(anomalous)} cells of parts with synthetic anomalies {count} are "
                f"anomalous; scaled distances need {_FEWEST} of either kind. Give more or larger "
                "parts, or leave scaled_distance out of evidence."
            )
        owner = rows["owner"][clear]
        self.owners = owner.unique()
        count = min(self.most_folds, len(self.owners))
        fold = fold_of(owner, self.owners, count)
        kept = [fold != number for number in range(count)]
        # A fold whose rest shows only one kind of cell teaches nothing.
        if any(len(anomalous[k].unique()) < 2 for k in kept):
            kept = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of the first weights: a repeated run is the same run
            self.scalings = self._new_scalings().to(owner.device)
            new = [self._new_scalings().to(owner.device) for _ in kept]
        self.folds = nn.ModuleDict(
            {name: nn.ModuleList(n[name] for n in new) for name in self.scalings if new}
        )
        for name, scaling in self.scalings.items():
            residual = rows[f"{name}/residual"][clear]
            normal = rows[f"{name}/normal"][clear]
            assert isinstance(scaling, Scaling)
            scaling.fit(residual, normal, anomalous, seed=seed)
            for others, folded in zip(kept, new):
                partial = folded[name]
                assert isinstance(partial, Scaling)
                partial.fit(residual[others], normal[others], anomalous[others], seed=seed)

    def for_prediction(self, required: Collection[str]) -> ScaledDistance:
        """Return a copy without the folds, with the scalings and sensors of the required maps."""
        bare = copy.deepcopy(self)
        bare.folds = nn.ModuleDict()
        kept = {n: s for n, s in bare.scalings.items() if f"{n}/scaled_distance" in required}
        bare.scalings = nn.ModuleDict(kept)
        bare.sensors = tuple(s for s in self.sensors if {s, CROSS} & kept.keys())
        return bare
