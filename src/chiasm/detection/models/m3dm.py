"""M3DM: colour, points and what joins them, a memory bank of each, and a learned decision.

References:
    Wang et al., Multimodal Industrial Anomaly Detection via Hybrid Fusion, CVPR 2023.

Distances to several memories as one: linear one-class machines that learn from normals.

References:
    Wang et al., Multimodal Industrial Anomaly Detection via Hybrid Fusion, CVPR 2023, Section 3.4;
    Schoelkopf et al., Estimating the Support of a High-Dimensional Distribution, 2001.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Described, Learn, Observe, Step
from chiasm.detection.layers.backbones import make_backbone
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.memory_bank import MemoryBank
from chiasm.detection.layers.patches import (
    FPFH,
    PatchFeatures,
    Standardisation,
    fpfh_patches,
    scatter,
    transformer_patches,
)
from chiasm.detection.layers.point_transformer import PointTransformer, make_point_transformer
from chiasm.errors import ConfigurationError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

Points = Literal["fpfh", "picture", "transformer"]

CONTRASTED = 2048  # patches of a batch that are contrasted, at most

DECIDED = 2048  # patches of a batch that the decision layer learns from, at most

_AROUND = 3  # entries around the nearest one by which a part's distance is weighted_smooth


class HybridFusion(Baseline):
    """Three banks (one with a single sensor), joined by a decision layer that normals teach.

    Args:
        patches: frozen features of pictures.
        points: describes the relief: a point transformer, ``"fpfh"``, point histograms, or
            ``"picture"``, the frozen features of height and slopes.
        banks: ``"rgb"``, ``"geometry"`` and, with both sensors, ``"fused"`` to its bank.
        decision: weighs the distances to each.
        fused: channels of each sensor's share of a fused descriptor.
        epochs: of the contrast.
        step: every so many rows and columns of the points are described.
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
        self.scales = nn.ModuleDict({m: Standardisation(g) for m, g in groups.items()})
        self.banks = nn.ModuleDict(dict(banks))
        steps: list[Step] = [Observe("statistics")]
        if len(groups) > 1:
            self.projections = nn.ModuleDict({m: _mlp(sum(g), fused) for m, g in groups.items()})
            steps.append(Learn("fusion", ("projections",), epochs=epochs, batch=4, exact=True))
        self.steps = (*steps, Observe("banks"), Observe("decision"))
        self.decision = decision
        self._patches: list[Tensor] = []
        self._parts: list[Tensor] = []

    @property
    def pretrained_weights(self) -> str | None:
        """Of the frozen features."""
        said = [] if self.patches is None else [str(self.patches.backbone.weights)]
        said += [self.points.weights] if isinstance(self.points, PointTransformer) else []
        return "; ".join(said) or None

    def describe(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Features of each sensor ``(N, D, h, w)`` and which patches lie on the object."""
        cells = batch.foreground.shape[-1] // self.stride
        found: dict[str, Tensor] = {}
        for modality in self.modalities:
            if modality == "geometry" and isinstance(self.points, PointTransformer):
                found[modality] = transformer_patches(
                    batch, self.points, cells=cells, step=self.step
                )
            elif modality == "geometry" and self.points == "fpfh":
                found[modality] = fpfh_patches(batch, cells=cells, step=self.step)
            else:
                assert self.patches is not None
                found[modality] = self.patches(images_of(batch, modality))
        return found | {"inside": cells_inside(batch.foreground, (cells, cells))}

    def observe(self, step: str, described: Described, index: Tensor) -> None:
        """See the spread of channels; then fill the banks; then see what usual distances are."""
        inside = described["inside"]
        if step == "statistics":
            for modality, scale in self.scales.items():
                scale.add(described[modality].permute(0, 2, 3, 1)[inside])
            return
        owners = index.view(-1, 1, 1).expand_as(inside)[inside]
        rows = self._rows(described)
        if step == "banks":
            for name, bank in self.banks.items():
                bank.add(rows[name], owners)
            return
        # A part's own entries are left out: with them its distances would be 0.
        away, largest = self._distances(rows, inside, owners)
        self._patches.append(away[:: max(1, len(away) // DECIDED)])
        self._parts.append(largest[inside.flatten(1).any(dim=1)])

    def finish(self, step: str) -> None:
        """Settle the statistics, the banks or the decision layer."""
        if step == "statistics":
            for scale in self.scales.values():
                scale.finish()
        elif step == "banks":
            for bank in self.banks.values():
                bank.finish()
        else:
            self.decision.fit(torch.cat(self._patches), torch.cat(self._parts))
            self._patches, self._parts = [], []

    def loss(self, step: str, batch: Described) -> Tensor:  # type: ignore[override]
        """Patches of one place belong together, those of others do not (InfoNCE, both ways)."""
        rows = self._rows(batch)
        colour, points = (
            F.normalize(self.projections[m](rows[m]), dim=1) for m in ("rgb", "geometry")
        )
        some = torch.randperm(len(colour), device=colour.device)[:CONTRASTED]
        alike = colour[some] @ points[some].T / 0.1
        target = torch.arange(len(some), device=colour.device)
        return 0.5 * (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target))

    def judge(self, described: Described) -> BaselineOutput:
        """Weighed distances to the nearest normal of each bank."""
        inside = described["inside"]
        away, largest = self._distances(self._rows(described), inside, None)
        raw = scatter(self.decision.of_patches(away), inside)
        part = self.decision.of_parts(largest) if self.decision.rule == "paper" else None
        return BaselineOutput(raw=raw, image=part)

    def _distances(
        self, rows: Mapping[str, Tensor], inside: Tensor, owners: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Distances of patches ``(M, B)`` from the nearest normal ones, and of parts ``(N, B)``."""
        place = inside.new_full(inside.shape, -1, dtype=torch.int64)
        place[inside] = torch.arange(int(inside.sum()), device=inside.device)
        patches, parts = [], []
        for name, bank in self.banks.items():
            away, number = (found[:, 0] for found in bank(rows[name], owners))
            patches.append(away)
            first = scatter(away, inside).flatten(1).argmax(dim=1)
            chosen = place.flatten(1).gather(1, first[:, None])[:, 0]
            known = chosen >= 0
            far = away.new_zeros(len(inside))
            some = chosen[known]
            far[known] = away[some]
            if self.decision.rule == "paper":
                own = None if owners is None else owners[some]
                far[known] *= _rareness(bank, rows[name][some], away[some], number[some], own)
            parts.append(far)
        return torch.stack(patches, dim=1), torch.stack(parts, dim=1)

    def _rows(self, described: Described) -> dict[str, Tensor]:
        inside = described["inside"]
        rows = {
            m: scale(described[m].permute(0, 2, 3, 1)[inside]) for m, scale in self.scales.items()
        }
        if "fused" in self.banks:
            joined = [F.normalize(self.projections[m](rows[m]), dim=1) for m in self.modalities]
            rows["fused"] = torch.cat(joined, dim=1)
        return rows


def _rareness(
    bank: MemoryBank, rows: Tensor, away: Tensor, number: Tensor, owners: Tensor | None
) -> Tensor:
    """How rare the nearest entries ``number`` ``(Q,)`` are: less than 1 among many like them.

    References:
        Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022, Eq. 7.
    """
    around = bank(bank.descriptors[number], owners, count=min(_AROUND, len(bank)))[1]
    distances = (rows[:, None] - bank.descriptors[around]).norm(dim=2)
    return 1 - (away - distances.logsumexp(dim=1)).exp()


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))


@register("detector", baseline=True)
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
    """M3DM: memory banks of colour, points and their learned fusion, and a decision layer."""
    if points not in ("fpfh", "picture", "transformer"):
        raise ConfigurationError(f"points is {points!r}; it is 'fpfh', 'picture' or 'transformer'.")
    transformer = make_point_transformer(
        wanted=points == "transformer" and "geometry" in modalities,
        weights_file=point_weights,
        groups=point_groups,
        group_size=group_size,
        pretrained=pretrained,
    )
    pictures = "rgb" in modalities or points == "picture"
    patches = (
        PatchFeatures(
            backbone=make_backbone(backbone, weights_file=weights_file, pretrained=pretrained)
        )
        if pictures
        else None
    )
    relief = {"fpfh": (FPFH,), "transformer": transformer.channels if transformer else ()}
    own = {
        m: relief[points] if m == "geometry" and points in relief else patches.groups
        for m in modalities
    }
    sizes = {m: sum(groups) for m, groups in own.items()}
    if len(sizes) > 1:
        sizes["fused"] = 2 * fused
    return HybridFusion(
        patches=patches,
        groups=own,
        points=transformer or points,
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

RULES = ("map", "paper")


class DecisionLayer(nn.Module):
    """Weighs the distances of patches, and of parts, from what is normal.

    Args:
        banks: memories whose distances are weighted_smooth, B.
        rule: ``"paper"`` weighs distances as they are, those of patches by one machine and a
            part's largest ones by another. ``"map"`` takes each distance in units of its spread
            over normal patches, and leaves a part's score to its map.

    Raises:
        ConfigurationError: there is no such rule.
    """

    def __init__(self, banks: int, *, rule: Rule = "map") -> None:
        super().__init__()
        if rule not in RULES:
            raise ConfigurationError(f"decision is {rule!r}; it is one of {', '.join(RULES)}.")
        self.rule = rule
        self.register_buffer("unit", torch.ones(banks))
        self.register_buffer("patch_weights", torch.ones(banks))
        self.register_buffer("part_weights", torch.ones(banks))

    @torch.no_grad()
    def fit(self, patches: Tensor, parts: Tensor) -> None:
        """Learn from distances of normal patches ``(M, B)`` and of normal parts ``(N, B)``."""
        if self.rule == "map":
            self.unit.copy_(patches.std(dim=0, correction=0).clamp(min=1e-6))
        self.patch_weights.copy_(one_class_weights(patches / self.unit))
        self.part_weights.copy_(one_class_weights(parts / self.unit))

    def of_patches(self, distances: Tensor) -> Tensor:
        """Scores ``(M,)`` of patches' distances ``(M, B)``."""
        return (distances / self.unit) @ self.patch_weights

    def of_parts(self, distances: Tensor) -> Tensor:
        """Scores ``(N,)`` of parts' distances ``(N, B)``."""
        return (distances / self.unit) @ self.part_weights


def one_class_weights(distances: Tensor, *, nu: float = 0.5) -> Tensor:
    """Weights ``(B,)`` of a linear one-class machine on ``(M, B)``, at least 0, of sum B.

    The machine's problem is solved for its normal alone, whose best offset is the ``nu`` quantile
    of what it weighs: half its squared length minus the mean of the share ``nu`` of normals that
    lie nearest to 0. The offset changes no order and is left out. A weight below 0 would call a
    part the more normal the farther it is from normal, so none is allowed. With one bank there is
    nothing to weigh.
    """
    count = distances.shape[1]
    if count == 1:
        return torch.ones(1)
    rows = distances.cpu().numpy().astype(np.float64)
    # One unit for all of them changes no direction.
    rows = rows / max(float(np.abs(rows).mean()), 1e-12)
    nearest = max(1, round(nu * len(rows)))

    def problem(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        lower = rows[np.argpartition(rows @ weights, nearest - 1)[:nearest]].mean(axis=0)
        return 0.5 * float(weights @ weights) - float(lower @ weights), weights - lower

    found = minimize(
        problem, np.ones(count), jac=True, method="L-BFGS-B", bounds=[(0, None)] * count
    )
    weights = torch.from_numpy(found.x).float()
    if not float(weights.sum()) > 0:
        return torch.ones(count)
    return weights * count / weights.sum()
