"""EasyNet: two reconstruction branches, a hand-made fusion of their layers, and an entropy gate.

References:
    Chen et al., EasyNet: An Easy Network for 3D Industrial Anomaly Detection, ACM MM 2023. Sizes
    are those of the published classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep, TrainStep
from chiasm.detection.layers.features import clean_images_of, images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.reconstruction import ReconstructionBranch, stage_channels
from chiasm.detection.layers.segmentation import (
    Loss,
    SegmentationHead,
    point_wise,
    reconstruction_loss,
    segmentation_loss,
)
from chiasm.errors import ConfigurationError
from chiasm.registry import register
from chiasm.samples import RGBDBatch

Variant = Literal["joint", "gated"]
# A layer joins an encoder's stage with the decoder's stage of the same size.
LAYERS = (("E1", "D4"), ("E2", "D3"), ("E3", "D2"))
GATED_SHARE = 0.05  # share of normal parts that the gate leaves to the colour head


class EasyNet(Baseline):
    """Layers of every branch, projected, resized, joined and segmented.

    Args:
        branches: modality to its reconstruction branch.
        width: channels of a branch's first stage.
        layers: 1, 2 or 3, from the finest.
        projected: channels of a projected layer; a single layer is not projected.
        hidden: channels of the head.
        size: pixels of a side at which layers are joined.
        variant: ``"joint"``: one head on both sensors. ``"gated"``: a second head on colour alone,
            which scores the parts whose joint features add too little entropy.
        epochs, learning_rate, batch: of training.
        loss: of the segmentation and the restoration, see ``Loss``; but for ``focal``, as
            published, logits are left without activation.
    """

    smoothing = 0.0
    threshold: Tensor

    def __init__(
        self,
        *,
        branches: Mapping[str, ReconstructionBranch],
        width: int,
        layers: int,
        projected: int,
        hidden: tuple[int, int],
        size: int,
        variant: Variant,
        epochs: int,
        learning_rate: float,
        batch: int,
        loss: Loss,
    ) -> None:
        super().__init__()
        if layers not in (1, 2, 3):
            raise ConfigurationError(f"layers is {layers}; EasyNet joins 1, 2 or 3 of them.")
        if variant not in ("joint", "gated"):
            raise ConfigurationError(f"variant is {variant!r}; it is 'joint' or 'gated'.")
        if variant == "gated" and set(branches) != {"rgb", "geometry"}:
            raise ConfigurationError(
                "The gate chooses between rgb and both modalities: it needs both."
            )
        self.modalities = tuple(branches)
        self.branches = nn.ModuleDict(dict(branches))
        self.layers = LAYERS[:layers]
        self.size = size
        self.loss_name = loss
        channels = stage_channels(width)
        joined = [channels[e] + channels[d] for e, d in self.layers]
        projections = {
            m: nn.ModuleList(point_wise(channels, projected) for channels in joined)
            for m in (branches if layers > 1 else ())
        }
        # torch types the values of a ModuleDict as plain modules.
        self.projections: Mapping[str, nn.ModuleList] = nn.ModuleDict(projections)  # type: ignore[assignment]
        each = layers * projected if layers > 1 else joined[0]

        def head(channels: int) -> SegmentationHead:
            return SegmentationHead(
                channels=channels, hidden=hidden, final_activation=loss == "focal"
            )

        self.head = head(each * len(branches))
        self.colour_head = head(each) if variant == "gated" else None
        self.register_buffer("threshold", torch.zeros(()))
        self._differences: list[Tensor] = []
        gated = self.colour_head is not None
        training = TrainStep(
            "segmentation",
            ("branches", "projections", "head", *(["colour_head"] if gated else [])),
            epochs=epochs,
            learning_rate=learning_rate,
            batch=batch,
            synthetic=True,
        )
        self.steps = (training, FitStep("gate")) if gated else (training,)

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Return the pictures in half precision: EasyNet has no frozen features."""
        return {m: images_of(batch, m).half() for m in self.modalities}

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Collect the entropy that joint features of normal parts have over colour alone."""
        layers, _ = self._layers({m: features[m].float() for m in self.modalities})
        self._differences.append(self._difference(layers))

    def finish_fit(self, step: str) -> None:
        """Set the gate's threshold to a quantile of the normal parts.

        The paper sets a threshold by hand for each class; a quantile needs no defects.
        """
        self.threshold = torch.cat(self._differences).quantile(GATED_SHARE)
        self._differences = []

    def loss(self, step: str, batch: RGBDBatch) -> Tensor:
        """Add the restoration of every sensor's clean picture and the segmentation by every head.

        The target of a reconstruction is the part without its synthetic anomaly.
        """
        assert batch.mask is not None
        pictures = {m: images_of(batch, m) for m in self.modalities}
        layers, reconstructions = self._layers(pictures)
        of_object = self.loss_name == "object"
        terms = [
            reconstruction_loss(
                reconstructions[m],
                clean_images_of(batch, m),
                structural=m == "rgb",
                inside=batch.foreground if of_object else None,
            )
            for m in self.modalities
        ]
        for logits in self._logits(layers).values():
            size = tuple(logits.shape[-2:])
            mask = F.adaptive_max_pool2d(batch.mask, size)
            inside = cells_inside(batch.foreground, size)[:, None] if of_object else None
            dice = self.loss_name != "focal"
            terms.append(segmentation_loss(logits, mask, dice=dice, inside=inside))
        return torch.stack(terms).sum()

    def predict(self, features: Features) -> BaselineOutput:
        """Compute the probability of a defect by the head that the gate chooses for each part."""
        layers, _ = self._layers({m: features[m].float() for m in self.modalities})
        maps = {name: x.softmax(dim=1)[:, 1:] for name, x in self._logits(layers).items()}
        if "colour" in maps:
            joint = self._difference(layers) >= self.threshold
            return BaselineOutput(
                torch.where(joint.view(-1, 1, 1, 1), maps["joint"], maps["colour"])
            )
        return BaselineOutput(maps["joint"])

    def _layers(
        self, pictures: Mapping[str, Tensor]
    ) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
        layers, reconstructions = {}, {}
        for modality, branch in self.branches.items():
            stages, reconstructions[modality] = branch(pictures[modality])
            joined = [torch.cat([stages[e], stages[d]], dim=1) for e, d in self.layers]
            if modality in self.projections:
                projections = self.projections[modality]
                joined = [project(layer) for project, layer in zip(projections, joined)]
            layers[modality] = joined
        return layers, reconstructions

    def _logits(self, layers: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        def joined(modalities: Sequence[str]) -> Tensor:
            return torch.cat(
                [
                    self.maps.resize(layer, (self.size, self.size))
                    for m in modalities
                    for layer in layers[m]
                ],
                dim=1,
            )

        logits = {"joint": self.head(joined(self.modalities))}
        if self.colour_head is not None:
            logits["colour"] = self.colour_head(joined(("rgb",)))
        return logits

    def _difference(self, layers: Mapping[str, list[Tensor]]) -> Tensor:
        """Entropy ``(N,)`` in bits of the joint layers' means, less that of colour's means."""
        means = {m: [layer.float().mean(dim=(2, 3)) for layer in layers[m]] for m in layers}
        colour = torch.cat(means["rgb"], dim=1)
        return entropy(torch.cat([colour, *means["geometry"]], dim=1)) - entropy(colour)


def entropy(values: Tensor, *, bins: int = 256) -> Tensor:
    """Compute the entropy ``(N,)`` in bits of a histogram of each row of ``(N, D)`` over [0, 1].

    Values outside are ignored, as in the published gate; a row without any inside has entropy 0.
    """
    inside = (values >= 0) & (values <= 1)
    places = (values * bins).long().clamp(0, bins - 1)
    counts = torch.zeros(len(values), bins, device=values.device)
    counts.scatter_add_(1, places, inside.float())
    share = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return -(share * share.clamp(min=1e-12).log2()).sum(dim=1)


@register("detector", baseline=True, size="base", method="EasyNet", scale="width 128")
def easynet(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    layers: int = 2,
    variant: Variant = "joint",
    epochs: int = 770,
) -> EasyNet:
    """EasyNet as published: branches of width 128 at 256 pixels, trained from scratch."""
    return EasyNet(
        branches={m: ReconstructionBranch(width=128) for m in modalities},
        width=128,
        layers=layers,
        projected=512,
        hidden=(256, 1024) if layers == 1 else (512, 256),
        size=image_size,
        variant=variant,
        epochs=epochs,
        learning_rate=2e-4,
        batch=4,
        loss="focal",
    )


@register("detector", baseline=True, method="EasyNet", scale="width 16")
def easynet_slim(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    layers: int = 2,
    variant: Variant = "joint",
    epochs: int = 180,
    bottleneck_stride: int = 32,
) -> EasyNet:
    """EasyNet from scratch at a width that two processor cores can train.

    The default of ``bottleneck_stride`` is that of models that were saved without it; a run has
    that of its settings, and loss and learning rate are those of ``adnas_slim`` (decision 17).
    """
    return EasyNet(
        branches={
            m: ReconstructionBranch(width=16, stem=2, bottleneck_stride=bottleneck_stride)
            for m in modalities
        },
        width=16,
        layers=layers,
        projected=64,
        hidden=(128, 64),
        size=image_size // 4,
        variant=variant,
        epochs=epochs,
        learning_rate=5e-4,
        batch=8,
        loss="object",
    )
