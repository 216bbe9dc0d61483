"""M3DM: colour, points and what joins them, a memory bank of each, and a learned decision.

References:
    Wang et al., Multimodal Industrial Anomaly Detection via Hybrid Fusion, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detectors.backbones import make_backbone
from chiasm.detectors.features import images_of
from chiasm.detectors.maps import cells_inside
from chiasm.detectors.memory_bank import MemoryBank
from chiasm.detectors.patches import FPFH, PatchFeatures, Standardisation, fpfh_patches, scatter
from chiasm.detectors.point_patches import transformer_patches
from chiasm.detectors.point_transformer import PointTransformer, make_point_transformer
from chiasm.detectors.rival import Described, Learn, Observe, Rival, RivalOutput, Step
from chiasm.errors import ConfigurationError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

Points = Literal["fpfh", "picture", "transformer"]
CONTRASTED = 2048  # patches of a batch that are contrasted, at most


class HybridFusion(Rival):
    """Three banks (one with a single sensor), joined by a decision layer learned from normals.

    Args:
        patches: frozen features of pictures.
        points: describes the relief: a point transformer, ``"fpfh"``, point histograms, or
            ``"picture"``, the frozen features of height and slopes.
        banks: ``"rgb"``, ``"geometry"`` and, with both sensors, ``"fused"`` to its bank.
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
        self.register_buffer("usual", torch.ones(len(self.banks)))
        self.register_buffer("pixel_weights", torch.ones(len(self.banks)))
        self.register_buffer("image_weights", torch.ones(len(self.banks)))
        self._pixels: list[Tensor] = []
        self._images: list[Tensor] = []

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
        away = torch.stack([bank(rows[n], owners)[0][:, 0] for n, bank in self.banks.items()], 1)
        self._pixels.append(away[:: max(1, len(away) // CONTRASTED)])
        for number in index.tolist():
            if (owners == number).any():
                self._images.append(away[owners == number].amax(dim=0)[None])

    def finish(self, step: str) -> None:
        """Settle the statistics, the banks or the decision layer.

        Two linear one-class machines weigh the banks' distances, one for patches and one for parts,
        each distance in units of its mean on normals.
        """
        if step == "statistics":
            for scale in self.scales.values():
                scale.finish()
        elif step == "banks":
            for bank in self.banks.values():
                bank.finish()
        else:
            pixels, images = torch.cat(self._pixels), torch.cat(self._images)
            self._pixels, self._images = [], []
            self.usual = pixels.mean(dim=0).clamp(min=1e-6)
            self.pixel_weights = _one_class(pixels / self.usual)
            self.image_weights = _one_class(images / self.usual)

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

    def judge(self, described: Described) -> RivalOutput:
        """Weighed distances to the nearest normal of each bank; the part's is of their maxima."""
        inside = described["inside"]
        rows = self._rows(described)
        away = [bank(rows[name])[0][:, 0] for name, bank in self.banks.items()]
        relative = torch.stack(away, dim=1) / self.usual
        raw = scatter(relative @ self.pixel_weights, inside)
        largest = torch.cat([scatter(one, inside) for one in relative.T], dim=1).flatten(2).amax(2)
        return RivalOutput(raw=raw, image=largest @ self.image_weights)

    def _rows(self, described: Described) -> dict[str, Tensor]:
        inside = described["inside"]
        rows = {
            m: scale(described[m].permute(0, 2, 3, 1)[inside]) for m, scale in self.scales.items()
        }
        if "fused" in self.banks:
            joined = [F.normalize(self.projections[m](rows[m]), dim=1) for m in self.modalities]
            rows["fused"] = torch.cat(joined, dim=1)
        return rows


def _one_class(distances: Tensor) -> Tensor:
    """Weights ``(B,)`` of a linear one-class machine on ``(M, B)``, at least 0, of sum B.

    With one bank there is nothing to weigh.
    """
    count = distances.shape[1]
    if count == 1:
        return torch.ones(1)
    from sklearn.linear_model import SGDOneClassSVM

    machine = SGDOneClassSVM(nu=0.5, max_iter=5000, tol=1e-3, random_state=0)
    machine.fit(distances.cpu().numpy().astype(np.float64))
    weights = torch.from_numpy(machine.coef_).float().clamp(min=0)
    if not float(weights.sum()) > 0:
        return torch.ones(count)
    return weights * count / weights.sum()


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))


@register("detector", rival=True)
def m3dm(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    points: Points = "fpfh",
    bank_mb: float = 20.0,
    fused: int = 64,
    epochs: int = 20,
    step: int = 2,
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
        fused=fused,
        epochs=epochs,
        step=step,
    )
