"""M3DM: memory banks of colour, points and their fusion, and a trained decision layer.

References:
    Wang et al., Multimodal Industrial Anomaly Detection via Hybrid Fusion, CVPR 2023.

The decision layer combines distances from several banks by linear one-class machines:
    Schoelkopf et al., Estimating the Support of a High-Dimensional Distribution, 2001.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep, Step, TrainStep
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.memory_bank import MemoryBank
from chiasm.detection.layers.patches import (
    FPFH,
    PatchFeatures,
    Standardisation,
    fpfh_patches,
    gather,
    gather_owners,
    make_patches,
    published_weights,
    scatter,
    transformer_patches,
)
from chiasm.detection.layers.point_transformer import Points, PointTransformer, make_points
from chiasm.errors import ConfigurationError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

CONTRASTED = 2048  # most patches of a batch in the contrastive loss

DECIDED = 2048  # most patches of a batch to which the decision layer is fitted

_NEIGHBOURHOOD = 3  # entries around the nearest one that weigh a part's distance


class HybridFusion(Baseline):
    """Three banks (one for a single sensor) and a decision layer that is fitted to normals.

    Args:
        patches: frozen features of pictures.
        groups: modality to the channels of each group of its features.
        points: features of the geometry: a point transformer, ``"fpfh"`` for point histograms, or
            ``"picture"`` for the frozen features of height and slopes.
        banks: ``"rgb"``, ``"geometry"`` and, with both sensors, ``"fused"`` to its bank.
        decision: weighs the distances from each bank.
        fused: channels of each sensor's share of a fused descriptor.
        epochs: of the contrastive training.
        step: stride of rows and columns at which points are described.
        stride: pixels per patch.
    """

    def __init__(
        self,
        *,
        patches: PatchFeatures | None,
        groups: Mapping[str, tuple[int, ...]],
        points: PointTransformer | Literal["fpfh", "picture"],
        banks: Mapping[str, MemoryBank],
        decision: DecisionLayer,
        fused: int,
        epochs: int,
        step: int,
        stride: int = 8,
    ) -> None:
        super().__init__()
        self.modalities = tuple(groups)
        self.patches = patches
        self.points = points
        self.step = step
        self.stride = stride
        scales = {m: Standardisation(channels) for m, channels in groups.items()}
        # torch types the values of a ModuleDict as plain modules.
        self.scales: Mapping[str, Standardisation] = nn.ModuleDict(scales)  # type: ignore[assignment]
        self.banks: Mapping[str, MemoryBank] = nn.ModuleDict(dict(banks))  # type: ignore[assignment]
        steps: list[Step] = [FitStep("statistics")]
        if len(groups) > 1:
            self.projections = nn.ModuleDict({m: _mlp(sum(g), fused) for m, g in groups.items()})
            steps.append(TrainStep("fusion", ("projections",), epochs=epochs, batch=4, exact=True))
        self.steps = (*steps, FitStep("banks"), FitStep("decision"))
        self.decision = decision
        self._patches: list[Tensor] = []
        self._parts: list[Tensor] = []

    @property
    def pretrained_weights(self) -> str | None:
        """Published weights of the frozen features."""
        return published_weights(self.patches, self.points)

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute features of each sensor ``(N, D, h, w)`` and mark the patches on the object."""
        cells = batch.foreground.shape[-1] // self.stride
        features: dict[str, Tensor] = {}
        for modality in self.modalities:
            if modality == "geometry" and isinstance(self.points, PointTransformer):
                features[modality] = transformer_patches(
                    batch, self.points, cells=cells, step=self.step
                )
            elif modality == "geometry" and self.points == "fpfh":
                features[modality] = fpfh_patches(batch, cells=cells, step=self.step)
            else:
                assert self.patches is not None
                features[modality] = self.patches(images_of(batch, modality))
        return features | {"inside": cells_inside(batch.foreground, (cells, cells))}

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Accumulate channel statistics, fill the banks, or collect distances of normals."""
        inside = features["inside"]
        if step == "statistics":
            for modality, scale in self.scales.items():
                scale.add(gather(features[modality], inside))
            return
        owners = gather_owners(index, inside)
        rows = self._rows(features)
        if step == "banks":
            for name, bank in self.banks.items():
                bank.add(rows[name], owners)
            return
        # A part's own entries are excluded: with them its distances would be 0.
        patches, parts = self._distances(rows, inside, owners)
        self._patches.append(patches[:: max(1, len(patches) // DECIDED)])
        self._parts.append(parts[inside.flatten(1).any(dim=1)])

    def finish_fit(self, step: str) -> None:
        """Finish the statistics, the banks or the decision layer."""
        if step == "statistics":
            for scale in self.scales.values():
                scale.finish()
        elif step == "banks":
            for bank in self.banks.values():
                bank.finish()
        else:
            self.decision.fit(torch.cat(self._patches), torch.cat(self._parts))
            self._patches, self._parts = [], []

    def loss(self, step: str, batch: Features) -> Tensor:
        """Compute InfoNCE in both directions: the two sensors of a patch are a positive pair."""
        rows = self._rows(batch)
        colour, points = (
            F.normalize(self.projections[m](rows[m]), dim=1) for m in ("rgb", "geometry")
        )
        chosen = torch.randperm(len(colour), device=colour.device)[:CONTRASTED]
        similarity = colour[chosen] @ points[chosen].T / 0.1
        target = torch.arange(len(chosen), device=colour.device)
        return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))

    def predict(self, features: Features) -> BaselineOutput:
        """Weigh the distances from the nearest normal of each bank."""
        inside = features["inside"]
        patches, parts = self._distances(self._rows(features), inside, None)
        raw = scatter(self.decision.of_patches(patches), inside)
        image = self.decision.of_parts(parts) if self.decision.rule == "paper" else None
        return BaselineOutput(raw=raw, image=image)

    def _distances(
        self, rows: Mapping[str, Tensor], inside: Tensor, owners: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Distances of patches ``(M, B)`` from the nearest normal ones, and of parts ``(N, B)``.

        A part's distance is the largest of its patches; 0 for a part without patches.
        """
        row_at = inside.new_full(inside.shape, -1, dtype=torch.int64)
        row_at[inside] = torch.arange(int(inside.sum()), device=inside.device)
        patches, parts = [], []
        for name, bank in self.banks.items():
            distance, number = (nearest[:, 0] for nearest in bank(rows[name], owners))
            patches.append(distance)
            largest = scatter(distance, inside).flatten(1).argmax(dim=1)
            row_of_part = row_at.flatten(1).gather(1, largest[:, None])[:, 0]
            has_patches = row_of_part >= 0
            part_distance = distance.new_zeros(len(inside))
            row = row_of_part[has_patches]
            part_distance[has_patches] = distance[row]
            if self.decision.rule == "paper":
                part_distance[has_patches] *= _rareness(
                    bank,
                    rows[name][row],
                    distance[row],
                    number[row],
                    None if owners is None else owners[row],
                )
            parts.append(part_distance)
        return torch.stack(patches, dim=1), torch.stack(parts, dim=1)

    def _rows(self, features: Features) -> dict[str, Tensor]:
        inside = features["inside"]
        rows = {m: scale(gather(features[m], inside)) for m, scale in self.scales.items()}
        if "fused" in self.banks:
            joined = [F.normalize(self.projections[m](rows[m]), dim=1) for m in self.modalities]
            rows["fused"] = torch.cat(joined, dim=1)
        return rows


def _rareness(
    bank: MemoryBank, rows: Tensor, distance: Tensor, number: Tensor, owners: Tensor | None
) -> Tensor:
    """Weight of the nearest entries ``number`` ``(Q,)``: less than 1 among many similar ones.

    References:
        Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022, Eq. 7.
    """
    neighbours = bank(bank.descriptors[number], owners, count=min(_NEIGHBOURHOOD, len(bank)))[1]
    distances = (rows[:, None] - bank.descriptors[neighbours]).norm(dim=2)
    return 1 - (distance - distances.logsumexp(dim=1)).exp()


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))


@register("detector", baseline=True, method="M3DM")
def m3dm(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    points: Points = "fpfh",
    bank_mb: float = 20.0,
    fused: int = 64,
    epochs: int = 20,
    step: int = 2,
    decision: Rule = "map",
    backbone: str = "efficientnet_lite0",
    weights_file: str | None = None,
    point_weights: str | None = None,
    point_groups: int = 1024,
    group_size: int = 128,
    pretrained: bool = True,
) -> HybridFusion:
    """M3DM: memory banks of colour, points and their trained fusion, and a decision layer."""
    point_features = make_points(
        points,
        geometry="geometry" in modalities,
        weights_file=point_weights,
        groups=point_groups,
        group_size=group_size,
        pretrained=pretrained,
    )
    patches = None
    if "rgb" in modalities or points == "picture":
        patches = make_patches(backbone, weights_file=weights_file, pretrained=pretrained)
    groups: dict[str, tuple[int, ...]] = {}
    for modality in modalities:
        if modality == "geometry" and isinstance(point_features, PointTransformer):
            groups[modality] = point_features.channels
        elif modality == "geometry" and point_features == "fpfh":
            groups[modality] = (FPFH,)
        else:
            assert patches is not None
            groups[modality] = patches.groups
    sizes = {m: sum(channels) for m, channels in groups.items()}
    if len(sizes) > 1:
        sizes["fused"] = 2 * fused
    return HybridFusion(
        patches=patches,
        groups=groups,
        points=point_features,
        banks={
            name: MemoryBank(size, bank_mb=bank_mb / len(sizes), projection=64)
            for name, size in sizes.items()
        },
        decision=DecisionLayer(len(sizes), rule=decision),
        fused=fused,
        epochs=epochs,
        step=step,
    )


Rule = Literal["map", "paper"]


class DecisionLayer(nn.Module):
    """Weights of the distances of patches, and of parts, from normal.

    Args:
        banks: number of memory banks whose distances are weighted, B.
        rule: ``"paper"`` weighs distances without a scale, those of patches by one machine and a
            part's largest ones by another. ``"map"`` divides each distance by its spread over
            normal patches, and takes a part's score from its map.

    Raises:
        ConfigurationError: another rule.
    """

    unit: Tensor
    patch_weights: Tensor
    part_weights: Tensor

    def __init__(self, banks: int, *, rule: Rule = "map") -> None:
        super().__init__()
        if rule not in get_args(Rule):
            raise ConfigurationError(
                f"decision is {rule!r}; it is one of {', '.join(get_args(Rule))}."
            )
        self.rule = rule
        self.register_buffer("unit", torch.ones(banks))
        self.register_buffer("patch_weights", torch.ones(banks))
        self.register_buffer("part_weights", torch.ones(banks))

    @torch.no_grad()
    def fit(self, patches: Tensor, parts: Tensor) -> None:
        """Fit to distances of normal patches ``(M, B)`` and of normal parts ``(N, B)``."""
        if self.rule == "map":
            self.unit.copy_(patches.std(dim=0, correction=0).clamp(min=1e-6))
        self.patch_weights.copy_(one_class_weights(patches / self.unit))
        self.part_weights.copy_(one_class_weights(parts / self.unit))

    def of_patches(self, distances: Tensor) -> Tensor:
        """Score patches ``(M,)`` by their distances ``(M, B)``."""
        return (distances / self.unit) @ self.patch_weights

    def of_parts(self, distances: Tensor) -> Tensor:
        """Score parts ``(N,)`` by their distances ``(N, B)``."""
        return (distances / self.unit) @ self.part_weights


def one_class_weights(distances: Tensor, *, nu: float = 0.5) -> Tensor:
    """Fit the weights ``(B,)`` of a linear one-class machine to ``(M, B)``: at least 0, of sum B.

    The machine's problem is solved for its weight vector alone; the best offset is then the ``nu``
    quantile of the weighted distances. The objective is half the squared length minus the mean over
    the share ``nu`` of normals nearest to 0. The offset changes no order and is omitted. A negative
    weight would score a part lower the farther it is from normal, so none is allowed. A single
    bank has weight 1.
    """
    count = distances.shape[1]
    if count == 1:
        return torch.ones(1)
    rows = distances.cpu().numpy().astype(np.float64)
    # A common scale changes no direction.
    rows = rows / max(float(np.abs(rows).mean()), 1e-12)
    nearest = max(1, round(nu * len(rows)))

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mean = rows[np.argpartition(rows @ weights, nearest - 1)[:nearest]].mean(axis=0)
        return 0.5 * float(weights @ weights) - float(mean @ weights), weights - mean

    solution = minimize(
        objective, np.ones(count), jac=True, method="L-BFGS-B", bounds=[(0, None)] * count
    )
    weights = torch.from_numpy(solution.x).float()
    if not float(weights.sum()) > 0:
        return torch.ones(count)
    return weights * count / weights.sum()
