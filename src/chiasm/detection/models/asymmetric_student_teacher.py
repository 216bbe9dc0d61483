"""AST: a normalising flow as teacher and a plain network as student, which differ on anomalies.

The flow works on feature maps: affine couplings whose nets are convolutions.

References:
    Rudolph et al., Asymmetric Student-Teacher Networks for Industrial Anomaly Detection, WACV 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.detector import Baseline, BaselineOutput, Features, FitStep, TrainStep
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.patches import (
    PatchFeatures,
    Standardisation,
    gather,
    make_patches,
    published_weights,
)
from chiasm.registry import register
from chiasm.samples import RGBDBatch

POSITION = 32


class AsymmetricStudentTeacher(Baseline):
    """A flow maps features to normal latents; a network of another kind is trained to imitate it.

    The student agrees with the teacher on training data. A flow is a bijection and moves unseen
    features far; a plain network generalises in another way, so that the two differ there.

    Args:
        patches: frozen features of the colour picture; None uses the height alone.
        relief: whether the height, unshuffled to the patches' grid, is joined.
        stride: pixels per patch.
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
            FitStep("statistics"),
            TrainStep("teacher", ("teacher",), epochs=teacher_epochs, exact=True, clip=1.0),
            TrainStep("student", ("student",), epochs=student_epochs, exact=True, clip=1.0),
        )

    @property
    def pretrained_weights(self) -> str | None:
        """Published weights of the colour features."""
        return published_weights(self.patches)

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute features and relief ``(N, D, h, w)`` and the mask of patches on the object."""
        maps = []
        if self.patches is not None:
            maps.append(self.patches(images_of(batch, "rgb")))
        if self.relief:
            height = images_of(batch, "geometry")[:, :1]
            maps.append(F.pixel_unshuffle(height, self.stride))
        cells = batch.foreground.shape[-1] // self.stride
        inside = cells_inside(batch.foreground, (cells, cells))
        return {"patches": torch.cat(maps, dim=1), "inside": inside}

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Accumulate the statistics of each channel."""
        self.standard.add(gather(features["patches"], features["inside"]))

    def finish_fit(self, step: str) -> None:
        """Finish the statistics."""
        self.standard.finish()

    def loss(self, step: str, batch: Features) -> Tensor:
        """Compute the teacher's likelihood or the student's distance, on the object alone."""
        inside = batch["inside"]
        x = self._input(batch)
        if step == "teacher":
            return position_nll(*self.teacher(x))[inside].mean()
        with torch.no_grad():
            target, _ = self.teacher(x)
        return self._distance(target, self._student_latent(x))[inside].mean()

    def predict(self, features: Features) -> BaselineOutput:
        """Compute the mean squared distance of teacher and student at each patch."""
        x = self._input(features)
        distance = self._distance(self.teacher(x)[0], self._student_latent(x))
        return BaselineOutput(raw=(distance * features["inside"])[:, None])

    def _input(self, features: Features) -> Tensor:
        rows = self.standard(features["patches"].permute(0, 2, 3, 1))
        # A deviation of 1 in every channel: a flow's prior has no groups.
        rows = rows / self.standard.share
        return (rows * features["inside"][..., None]).permute(0, 3, 1, 2)

    def _student_latent(self, x: Tensor) -> Tensor:
        out: Tensor = self.student(torch.cat([x, position_encoding(x, POSITION)], dim=1))
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


@register("detector", baseline=True, method="AST")
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
    patches = None
    if "rgb" in modalities:
        patches = make_patches(backbone, weights_file=weights_file, pretrained=pretrained)
    return AsymmetricStudentTeacher(
        patches=patches,
        relief="geometry" in modalities,
        stride=8,
        hidden=hidden,
        couplings=couplings,
        blocks=blocks,
        teacher_epochs=teacher_epochs,
        student_epochs=student_epochs,
    )


_CLAMP = 1.9  # bounds the logarithm of a scale


class ConvolutionalFlow(nn.Module):
    """Couplings of maps ``(N, D, h, w)``, with a log-determinant for each position.

    The channels are permuted between couplings. Every net also reads the position.

    Args:
        channels: D, even.
        hidden: channels within the nets.
        couplings: number of couplings.
        position: channels of the position encoding, a multiple of 4.
        seed: of the permutations.

    References:
        Dinh et al., Density Estimation using Real NVP, ICLR 2017; Rudolph et al., WACV 2023,
        Section 3.2.
    """

    orders: Tensor

    def __init__(
        self, *, channels: int, hidden: int, couplings: int = 4, position: int = 32, seed: int = 0
    ) -> None:
        super().__init__()
        half = channels // 2
        self.position = position
        self.nets = nn.ModuleList()
        for _ in range(couplings):
            first = nn.Conv2d(half + position, hidden, 3, padding=1)
            last = nn.Conv2d(hidden, 2 * (channels - half), 3, padding=1)
            self.nets.append(nn.Sequential(first, nn.ReLU(), last))
            # The flow starts as the identity.
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
        generator = torch.Generator().manual_seed(seed)
        orders = torch.stack([torch.randperm(channels, generator=generator) for _ in self.nets])
        self.register_buffer("orders", orders)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute latents ``(N, D, h, w)`` and log-determinants of positions ``(N, h, w)``."""
        position = position_encoding(x, self.position)
        log_det = x.new_zeros(x.shape[0], *x.shape[2:])
        for net, order in zip(self.nets, self.orders):
            x = x[:, order]
            fixed, moved = x.tensor_split([x.shape[1] // 2], dim=1)
            scale, shift = self._affine(net, fixed, position)
            x = torch.cat([fixed, moved * scale.exp() + shift], dim=1)
            log_det = log_det + scale.sum(dim=1)
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Invert ``forward``."""
        position = position_encoding(z, self.position)
        for net, order in zip(reversed(self.nets), reversed(self.orders)):
            fixed, moved = z.tensor_split([z.shape[1] // 2], dim=1)
            scale, shift = self._affine(net, fixed, position)
            z = torch.cat([fixed, (moved - shift) * (-scale).exp()], dim=1)[:, order.argsort()]
        return z

    def _affine(self, net: nn.Module, fixed: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = net(torch.cat([fixed, position], dim=1)).chunk(2, dim=1)
        return _CLAMP * 2 / math.pi * torch.atan(raw), shift


def position_encoding(maps: Tensor, channels: int) -> Tensor:
    """Encode rows and columns as sines and cosines ``(N, channels, h, w)``.

    Args:
        maps: ``(N, D, h, w)``, for shape, type and device.
        channels: a multiple of 4.
    """
    height, width = maps.shape[-2:]
    quarter = channels // 4
    rates = 10_000 ** (-torch.arange(quarter) / quarter)
    rows = torch.arange(height)[:, None] * rates
    columns = torch.arange(width)[:, None] * rates

    def waves(angles: Tensor) -> Tensor:
        return torch.cat([angles.sin(), angles.cos()], dim=1).T  # (l, 2q) -> (2q, l)

    vertical = waves(rows)[:, :, None].expand(-1, -1, width)
    horizontal = waves(columns)[:, None, :].expand(-1, height, -1)
    return torch.cat([vertical, horizontal]).to(maps).expand(len(maps), -1, -1, -1)


def position_nll(latent: Tensor, log_det: Tensor) -> Tensor:
    """Compute the negative log-likelihood ``(N, h, w)`` in nats per channel, without constant."""
    return (0.5 * latent.square().sum(dim=1) - log_det) / latent.shape[1]
