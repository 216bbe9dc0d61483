"""AST: a flow is the teacher, a plain network the student, and where they differ is not normal.

References:
    Rudolph et al., Asymmetric Student-Teacher Networks for Industrial Anomaly Detection, WACV 2023.

A normalising flow over feature maps: affine couplings whose nets are convolutions.

References:
    Dinh et al., Density Estimation using Real NVP, ICLR 2017; Rudolph et al., Asymmetric
    Student-Teacher Networks for Industrial Anomaly Detection, WACV 2023, Section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Described, Learn, Observe
from chiasm.detection.layers.backbones import make_backbone
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.patches import PatchFeatures, Standardisation
from chiasm.registry import register
from chiasm.samples import RGBDBatch

POSITION = 32


class AsymmetricStudentTeacher(Baseline):
    """A flow maps features to normal latents; a network of another kind learns to do the same.

    On what it has seen the student agrees with the teacher. A flow is a bijection and moves unseen
    features far; a plain network generalises otherwise, so the two part.

    Args:
        patches: frozen features of the colour picture; None looks at the relief alone.
        relief: whether the height, unshuffled to the patches' grid, is joined.
        stride: pixels to a patch.
        hidden: channels of the teacher's nets, and half of those of the student.
        couplings: of the teacher.
        blocks: residual blocks of the student.
        teacher_epochs, student_epochs: of the two steps.
    """

    def __init__(
        self,
        *,
        patches: PatchFeatures | None,
        relief: bool,
        stride: int,
        hidden: int,
        couplings: int,
        blocks: int,
        teacher_epochs: int,
        student_epochs: int,
    ) -> None:
        super().__init__()
        self.patches = patches
        self.relief = relief
        self.stride = stride
        groups = (patches.groups if patches is not None else ()) + (
            (stride * stride,) if relief else ()
        )
        channels = sum(groups)
        self.standard = Standardisation(groups)
        self.teacher = ConvolutionalFlow(channels=channels, hidden=hidden, couplings=couplings)
        self.student = nn.Sequential(
            nn.Conv2d(channels + POSITION, 2 * hidden, 3, padding=1),
            nn.LeakyReLU(0.2),
            *(_Residual(2 * hidden) for _ in range(blocks)),
            nn.Conv2d(2 * hidden, channels, 3, padding=1),
        )
        self.steps = (
            Observe("statistics"),
            Learn("teacher", ("teacher",), epochs=teacher_epochs, exact=True, clip=1.0),
            Learn("student", ("student",), epochs=student_epochs, exact=True, clip=1.0),
        )

    @property
    def pretrained_weights(self) -> str | None:
        """Of the colour features."""
        return None if self.patches is None else str(self.patches.backbone.weights)

    def describe(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Features and relief ``(N, D, h, w)`` and which patches lie on the object."""
        found = []
        if self.patches is not None:
            found.append(self.patches(images_of(batch, "rgb")))
        if self.relief:
            height = images_of(batch, "geometry")[:, :1]
            found.append(F.pixel_unshuffle(height, self.stride))
        cells = batch.foreground.shape[-1] // self.stride
        inside = cells_inside(batch.foreground, (cells, cells))
        return {"patches": torch.cat(found, dim=1), "inside": inside}

    def observe(self, step: str, described: Described, index: Tensor) -> None:
        """See the spread of each channel."""
        self.standard.add(described["patches"].permute(0, 2, 3, 1)[described["inside"]])

    def finish(self, step: str) -> None:
        """Settle the statistics."""
        self.standard.finish()

    def loss(self, step: str, batch: Described) -> Tensor:  # type: ignore[override]
        """Of the teacher its likelihood, of the student its distance, on the object alone."""
        inside = batch["inside"]
        x = self._input(batch)
        if step == "teacher":
            return position_nll(*self.teacher(x))[inside].mean()
        with torch.no_grad():
            target, _ = self.teacher(x)
        return self._distance(target, self._imitated(x))[inside].mean()

    def judge(self, described: Described) -> BaselineOutput:
        """Mean squared distance between teacher and student at each patch."""
        x = self._input(described)
        away = self._distance(self.teacher(x)[0], self._imitated(x))
        return BaselineOutput(raw=(away * described["inside"])[:, None])

    def _input(self, described: Described) -> Tensor:
        rows = self.standard(described["patches"].permute(0, 2, 3, 1))
        # Deviations of 1 in every channel: a flow's prior knows no groups.
        rows = rows / self.standard.share
        return (rows * described["inside"][..., None]).permute(0, 3, 1, 2)

    def _imitated(self, x: Tensor) -> Tensor:
        where = position_encoding(x.shape[-2], x.shape[-1], POSITION).to(x)
        out: Tensor = self.student(torch.cat([x, where.expand(len(x), -1, -1, -1)], dim=1))
        return out

    @staticmethod
    def _distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(dim=1)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.layers(x), 0.2)


@register("detector", baseline=True)
def ast(
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    image_size: int = 256,
    hidden: int = 64,
    couplings: int = 4,
    blocks: int = 4,
    teacher_epochs: int = 24,
    student_epochs: int = 24,
    backbone: str = "efficientnet_lite0",
    weights_file: str | None = None,
    pretrained: bool = True,
) -> AsymmetricStudentTeacher:
    """AST: a normalising flow as teacher, a convolutional student, on features and height."""
    colour = "rgb" in modalities
    features = (
        make_backbone(backbone, weights_file=weights_file, pretrained=pretrained)
        if colour
        else None
    )
    return AsymmetricStudentTeacher(
        patches=None if features is None else PatchFeatures(backbone=features),
        relief="geometry" in modalities,
        stride=8,
        hidden=hidden,
        couplings=couplings,
        blocks=blocks,
        teacher_epochs=teacher_epochs,
        student_epochs=student_epochs,
    )


_CLAMP = 1.9  # largest logarithm of a scale


class ConvolutionalFlow(nn.Module):
    """Couplings ``(N, D, h, w)`` to the same shape, each position with its own Jacobian's share.

    Between couplings the channels are permuted, by a seed. Every net sees the position as well.

    Args:
        channels: D, even.
        hidden: channels within the nets.
        couplings: how many.
        position: channels of the position's encoding, a multiple of 4.
        seed: of the permutations.
    """

    def __init__(
        self, *, channels: int, hidden: int, couplings: int = 4, position: int = 32, seed: int = 0
    ) -> None:
        super().__init__()
        half = channels // 2
        self.position = position
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(half + position, hidden, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(hidden, 2 * (channels - half), 3, padding=1),
            )
            for _ in range(couplings)
        )
        for net in self.nets:  # the flow begins as the identity
            nn.init.zeros_(net[-1].weight)
            nn.init.zeros_(net[-1].bias)
        generator = torch.Generator().manual_seed(seed)
        orders = torch.stack([torch.randperm(channels, generator=generator) for _ in self.nets])
        self.register_buffer("orders", orders)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D, h, w)`` and log-determinant of each position ``(N, h, w)``."""
        where = self._where(x)
        log_det = x.new_zeros(x.shape[0], *x.shape[2:])
        for net, order in zip(self.nets, self.orders):
            x = x[:, order]
            kept, moved = x.tensor_split([x.shape[1] // 2], dim=1)
            scale, shift = self._affine(net, kept, where)
            x = torch.cat([kept, moved * scale.exp() + shift], dim=1)
            log_det = log_det + scale.sum(dim=1)
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """What ``forward`` was given."""
        where = self._where(z)
        for net, order in zip(reversed(self.nets), reversed(self.orders)):
            kept, moved = z.tensor_split([z.shape[1] // 2], dim=1)
            scale, shift = self._affine(net, kept, where)
            z = torch.cat([kept, (moved - shift) * (-scale).exp()], dim=1)[:, order.argsort()]
        return z

    def _affine(self, net: nn.Module, kept: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = net(torch.cat([kept, where], dim=1)).chunk(2, dim=1)
        return _CLAMP * 2 / math.pi * torch.atan(raw), shift

    def _where(self, x: Tensor) -> Tensor:
        return (
            position_encoding(x.shape[-2], x.shape[-1], self.position)
            .to(x)
            .expand(len(x), -1, -1, -1)
        )


def position_encoding(height: int, width: int, channels: int) -> Tensor:
    """Sines and cosines of rows and columns ``(1, channels, height, width)``.

    Args:
        height, width: of the map.
        channels: a multiple of 4.
    """
    quarter = channels // 4
    rates = 10_000 ** (-torch.arange(quarter) / quarter)
    rows = torch.arange(height)[:, None] * rates
    columns = torch.arange(width)[:, None] * rates

    def waves(angles: Tensor) -> Tensor:
        return torch.cat([angles.sin(), angles.cos()], dim=1).T  # (l, 2q) -> (2q, l)

    down = waves(rows)[:, :, None].expand(-1, -1, width)
    across = waves(columns)[:, None, :].expand(-1, height, -1)
    return torch.cat([down, across])[None]


def position_nll(latent: Tensor, log_det: Tensor) -> Tensor:
    """Negative log-likelihood ``(N, h, w)``, nats a channel, without the normal's constant."""
    return (0.5 * latent.square().sum(dim=1) - log_det) / latent.shape[1]
