"""CFM: each sensor's features are predicted from the other's, as trained on normal parts.

References:
    Costanzino et al., Multimodal Industrial Anomaly Detection by Crossmodal Feature Mapping,
    CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep, TrainStep
from chiasm.detection.evidence.crossmodal import make_mapping, mapping_error, mapping_loss
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.patches import (
    FPFH,
    PatchFeatures,
    Standardisation,
    fpfh_patches,
    gather,
    make_patches,
    published_weights,
    scatter,
    transformer_patches,
)
from chiasm.detection.layers.point_transformer import Points, PointTransformer, make_points
from chiasm.errors import ConfigurationError
from chiasm.registry import register
from chiasm.samples import RGBDBatch


class CrossmodalMapping(Baseline):
    """Two small networks that map features of one sensor to the other's, patch by patch.

    A patch is anomalous where both mappings are wrong: their distances are multiplied.

    Args:
        patches: frozen features of pictures.
        points: ``"picture"``: the same features of height and slopes; ``"fpfh"``: histograms; or a
            point transformer.
        hidden: units of the mappings' two hidden layers.
        epochs: of their training.
        step: stride of rows and columns at which points are described.
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
            FitStep("statistics"),
            TrainStep("mapping", ("to_points", "to_colour"), epochs=epochs, exact=True),
        )
        self.patches = patches
        self.points = points
        self.step = step
        colour = patches.groups
        relief: tuple[int, ...] = patches.groups if points == "picture" else (FPFH,)
        if isinstance(points, PointTransformer):
            relief = points.channels
        self.colour_scale = Standardisation(colour)
        self.points_scale = Standardisation(relief)
        self.to_points = make_mapping(sum(colour), hidden, sum(relief))
        self.to_colour = make_mapping(sum(relief), hidden, sum(colour))

    @property
    def pretrained_weights(self) -> str | None:
        """Published weights of the frozen features."""
        return published_weights(self.patches, self.points)

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute features of both sensors ``(N, D, h, w)`` and mark the patches on the object."""
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

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Accumulate the statistics of each channel."""
        for scale, name in ((self.colour_scale, "colour"), (self.points_scale, "relief")):
            scale.add(gather(features[name], features["inside"]))

    def finish_fit(self, step: str) -> None:
        """Finish the statistics."""
        self.colour_scale.finish()
        self.points_scale.finish()

    def loss(self, step: str, batch: Features) -> Tensor:
        """Sum one minus the cosine similarity of prediction and target over both mappings."""
        colour, relief = self._rows(batch)
        return mapping_loss(self.to_points(colour), relief) + mapping_loss(
            self.to_colour(relief), colour
        )

    def predict(self, features: Features) -> BaselineOutput:
        """Multiply the two distances between prediction and target."""
        colour, relief = self._rows(features)
        product = mapping_error(self.to_points(colour), relief) * mapping_error(
            self.to_colour(relief), colour
        )
        return BaselineOutput(raw=scatter(product, features["inside"]))

    def _rows(self, features: Features) -> tuple[Tensor, Tensor]:
        inside = features["inside"]
        return (
            self.colour_scale(gather(features["colour"], inside)),
            self.points_scale(gather(features["relief"], inside)),
        )


@register("detector", baseline=True, method="CFM")
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
    """CFM: each sensor's frozen features, predicted from the other's."""
    if set(modalities) != {"rgb", "geometry"}:
        raise ConfigurationError(
            "Crossmodal mapping predicts one sensor from the other: it needs rgb and geometry, and "
            f"was given {', '.join(modalities)}."
        )
    return CrossmodalMapping(
        patches=make_patches(backbone, weights_file=weights_file, pretrained=pretrained),
        points=make_points(
            points,
            weights_file=point_weights,
            groups=point_groups,
            group_size=group_size,
            pretrained=pretrained,
        ),
        hidden=hidden,
        epochs=epochs,
    )
