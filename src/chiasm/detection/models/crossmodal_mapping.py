"""CFM: what one sensor's features are on normal parts, told from the other's.

References:
    Costanzino et al., Multimodal Industrial Anomaly Detection by Crossmodal Feature Mapping,
    CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Described, Learn, Observe
from chiasm.detection.layers.backbones import make_backbone
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
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

Points = Literal["picture", "fpfh", "transformer"]


class CrossmodalMapping(Baseline):
    """Two small networks that map features of one sensor to the other's, patch by patch.

    Where both mappings are wrong, a part is not normal: the distances are multiplied.

    Args:
        patches: frozen features of pictures.
        points: ``"picture"``: the same features of height and slopes; ``"fpfh"``: histograms; or a
            point transformer.
        hidden: units of the mappings' two hidden layers.
        epochs: of their training.
    """

    def __init__(
        self,
        *,
        patches: PatchFeatures,
        points: PointTransformer | Literal["picture", "fpfh"],
        hidden: int,
        epochs: int,
        step: int = 2,
    ) -> None:
        super().__init__()
        self.steps = (
            Observe("statistics"),
            Learn("mapping", ("to_points", "to_colour"), epochs=epochs, exact=True),
        )
        self.patches = patches
        self.points = points
        self.step = step
        colour = patches.groups
        if isinstance(points, PointTransformer):
            relief = points.channels
        else:
            relief = patches.groups if points == "picture" else (FPFH,)
        self.colour_scale = Standardisation(colour)
        self.points_scale = Standardisation(relief)
        self.to_points = _mapping(sum(colour), hidden, sum(relief))
        self.to_colour = _mapping(sum(relief), hidden, sum(colour))

    @property
    def pretrained_weights(self) -> str | None:
        """Of the frozen features."""
        said = [str(self.patches.backbone.weights)]
        said += [self.points.weights] if isinstance(self.points, PointTransformer) else []
        return "; ".join(said)

    def describe(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Features of either sensor ``(N, D, h, w)`` and which patches lie on the object."""
        colour = self.patches(images_of(batch, "rgb"))
        cells = colour.shape[-1]
        if isinstance(self.points, PointTransformer):
            relief = transformer_patches(batch, self.points, cells=cells, step=self.step)
        elif self.points == "picture":
            relief = self.patches(images_of(batch, "geometry"))
        else:
            relief = fpfh_patches(batch, cells=cells, step=self.step)
        inside = cells_inside(batch.foreground, (cells, cells))
        return {"colour": colour, "relief": relief, "inside": inside}

    def observe(self, step: str, described: Described, index: Tensor) -> None:
        """See the spread of each channel."""
        for scale, name in ((self.colour_scale, "colour"), (self.points_scale, "relief")):
            scale.add(described[name].permute(0, 2, 3, 1)[described["inside"]])

    def finish(self, step: str) -> None:
        """Settle the statistics."""
        self.colour_scale.finish()
        self.points_scale.finish()

    def loss(self, step: str, batch: Described) -> Tensor:  # type: ignore[override]
        """One minus the cosine between what is predicted and what is there, of both mappings."""
        colour, relief = self._rows(batch)
        return (
            1
            - F.cosine_similarity(self.to_points(colour), relief).mean()
            + 1
            - F.cosine_similarity(self.to_colour(relief), colour).mean()
        )

    def judge(self, described: Described) -> BaselineOutput:
        """Product of the two distances between unit vectors."""
        colour, relief = self._rows(described)
        away = _distance(self.to_points(colour), relief) * _distance(self.to_colour(relief), colour)
        return BaselineOutput(raw=scatter(away, described["inside"]))

    def _rows(self, described: Described) -> tuple[Tensor, Tensor]:
        inside = described["inside"]
        return (
            self.colour_scale(described["colour"].permute(0, 2, 3, 1)[inside]),
            self.points_scale(described["relief"].permute(0, 2, 3, 1)[inside]),
        )


def _distance(predicted: Tensor, there: Tensor) -> Tensor:
    return (F.normalize(predicted, dim=1) - F.normalize(there, dim=1)).norm(dim=1)


def _mapping(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, outputs),
    )


@register("detector", baseline=True)
def crossmodal_mapping(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    points: Points = "picture",
    hidden: int = 176,
    epochs: int = 250,
    backbone: str = "efficientnet_lite0",
    weights_file: str | None = None,
    point_weights: str | None = None,
    point_groups: int = 1024,
    group_size: int = 128,
    pretrained: bool = True,
) -> CrossmodalMapping:
    """CFM: each sensor's frozen features, told from the other's."""
    if set(modalities) != {"rgb", "geometry"}:
        raise ConfigurationError(
            "Crossmodal mapping tells one sensor from the other: it needs rgb and geometry, and "
            f"was given {', '.join(modalities)}."
        )
    if points not in ("picture", "fpfh", "transformer"):
        raise ConfigurationError(f"points is {points!r}; it is 'picture', 'fpfh' or 'transformer'.")
    transformer = make_point_transformer(
        wanted=points == "transformer",
        weights_file=point_weights,
        groups=point_groups,
        group_size=group_size,
        pretrained=pretrained,
    )
    return CrossmodalMapping(
        patches=PatchFeatures(
            backbone=make_backbone(backbone, weights_file=weights_file, pretrained=pretrained)
        ),
        points=transformer or points,
        hidden=hidden,
        epochs=epochs,
    )
