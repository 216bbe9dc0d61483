"""Embeddings of pictures and series as sequences of tokens with fixed positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from chiasm.diagnosis.classifier import MODALITIES, ClassifierOutput, present_modalities
from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import RecordingBatch


def sincos_1d(length: int, width: int, *, start: int = 0) -> Tensor:
    """Encode positions ``start .. start + length - 1`` as ``(length, width)`` sines and cosines.

    Wavelengths rise geometrically from 2 pi to 10,000 * 2 pi tokens. ``width`` must be even.

    References:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017, Section 3.5.
    """
    rates = 10_000.0 ** (-torch.arange(width // 2) / (width // 2))
    angles = torch.arange(start, start + length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_2d(rows: int, columns: int, width: int) -> Tensor:
    """Encode the positions of a grid, row by row, as ``(rows * columns, width)``.

    Half of the width encodes the row, half the column.

    References:
        Chen et al., An Empirical Study of Training Self-Supervised Vision Transformers, ICCV 2021.
    """
    down = sincos_1d(rows, width // 2)[:, None].expand(-1, columns, -1)
    across = sincos_1d(columns, width // 2)[None].expand(rows, -1, -1)
    return torch.cat([down, across], dim=-1).flatten(0, 1)  # (rows * columns, width)


class PatchEmbedding(nn.Module):
    """Map a square picture to ``(S / patch)^2`` tokens: linear map of a patch, plus its position.

    Args:
        width: of a token, D; a multiple of 4.
        image_size: side S of the picture in pixels.
        patch: side of a patch in pixels; the published 256 and 16 give 256 tokens.

    References:
        MAD, Section 3.A; Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021.
    """

    positions: Tensor

    def __init__(self, *, width: int, image_size: int = 256, patch: int = 16) -> None:
        super().__init__()
        if image_size % patch or width % 4:
            raise ConfigurationError(
                f"A picture of {image_size} pixels must divide into patches of {patch}, and the "
                f"tokens' width ({width}) by 4."
            )
        self.image_size, self.patch = image_size, patch
        self.project = nn.Linear(3 * patch * patch, width)
        side = image_size // patch
        self.register_buffer("positions", sincos_2d(side, side, width), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, S, S)`` in [0, 1] to tokens ``(N, T, D)``, row by row.

        Raises:
            DataError: the picture has another size.
        """
        if tuple(image.shape[1:]) != (3, self.image_size, self.image_size):
            raise DataError(
                f"The classifier takes RGB pictures of {self.image_size} x {self.image_size} "
                f"pixels and got {tuple(image.shape[1:])} (channels, rows, columns). Resize them."
            )
        size = self.patch
        patches = rearrange(image, "n c (h p) (w q) -> n (h w) (c p q)", p=size, q=size)
        out: Tensor = self.project(patches) + self.positions
        return out


class SeriesEmbedding(nn.Module):
    """The base of embeddings of a series.

    Args:
        channels: C of the series.
        length: values of a standard series; shorter and longer ones are accepted as well.
    """

    def __init__(self, *, channels: int, length: int) -> None:
        super().__init__()
        self.channels, self.length = channels, length

    def check(self, series: Tensor, *, unit: int) -> None:
        """Refuse a series ``(N, C, L)`` with other channels, or not of whole units of values.

        Raises:
            DataError: it says so.
        """
        channels, length = series.shape[1:]
        if channels != self.channels or length % unit or not length:
            raise DataError(
                f"The classifier takes series of {self.channels} channels in whole segments of "
                f"{unit} values and got {channels} channels of {length}. Cut or pad them."
            )

    @staticmethod
    def place(count: int, positions: Tensor, *, start: int = 0) -> Tensor:
        """Return the positions ``(count, D)`` from ``start`` on, of which some may be stored."""
        if start + count <= len(positions):
            return positions[start : start + count]
        return sincos_1d(count, positions.shape[1], start=start).to(positions)


class SegmentEmbedding(SeriesEmbedding):
    """Map a series to ``T / segment`` tokens: linear map of a segment, plus its position in time.

    Args:
        width: of a token, D; even.
        segment: values per token. With the paper's 60 at 128 values a mains cycle, the phase of a
            token repeats only every 32 tokens; 64, 128 and 256 are in step with the mains.
        channels: C of the series.
        length: values of a standard series; shorter and longer ones are accepted as well.

    References:
        MAD, Section 3.A.
    """

    positions: Tensor

    def __init__(
        self, *, width: int, segment: int = 60, channels: int = 1, length: int = 153_600
    ) -> None:
        super().__init__(channels=channels, length=length)
        if segment < 1 or length % segment:
            raise ConfigurationError(
                f"A series of {length} values does not divide into segments of {segment}."
            )
        self.segment = segment
        self.project = nn.Linear(channels * segment, width)
        self.register_buffer("positions", sincos_1d(length // segment, width), persistent=False)

    def forward(self, series: Tensor, *, start: int = 0) -> Tensor:
        """Map ``(N, C, L)`` to tokens ``(N, L / segment, D)``; ``start`` is the first position.

        Raises:
            DataError: another number of channels, or not a whole number of segments.
        """
        self.check(series, unit=self.segment)
        segments = rearrange(series, "n c (t s) -> n t (c s)", s=self.segment)
        places = self.place(segments.shape[1], self.positions, start=start)
        out: Tensor = self.project(segments) + places
        return out


class TokenInputs(nn.ModuleDict):
    """One embedding for each modality that a network looks at.

    Args:
        embeddings: modality, ``"image"`` or ``"series"``, to its embedding.
    """

    def __init__(self, embeddings: Mapping[str, PatchEmbedding | SeriesEmbedding]) -> None:
        if not embeddings or not set(embeddings) <= set(MODALITIES):
            raise ConfigurationError(
                f"modalities must be among {MODALITIES}, at least one, not {tuple(embeddings)}."
            )
        super().__init__({m: embeddings[m] for m in MODALITIES if m in embeddings})

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, the image first."""
        return tuple(self)

    def forward(self, batch: RecordingBatch) -> dict[str, Tensor]:
        """Return modality to tokens ``(N, T_m, D)``, without absent modalities.

        Raises:
            DataError: none of the modalities is present, or one has the wrong shape.
        """
        return {m: self[m](x) for m, x in present_modalities(batch, self.modalities).items()}

    def example_batch(self, count: int, device: torch.device) -> RecordingBatch:
        """Return zeros in the shapes of standard recordings."""
        shapes: dict[str, Tensor | None] = dict.fromkeys(MODALITIES)
        for name, embedding in self.items():
            if isinstance(embedding, PatchEmbedding):
                size = embedding.image_size
                shapes[name] = torch.zeros(count, 3, size, size, device=device)
            elif isinstance(embedding, SeriesEmbedding):
                length = embedding.length
                shapes[name] = torch.zeros(count, embedding.channels, length, device=device)
        return RecordingBatch(image=shapes["image"], series=shapes["series"])


def token_embedding(
    modality: str, *, width: int, segment: int, channels: int, image_size: int, series_length: int
) -> PatchEmbedding | SegmentEmbedding:
    """Build MAD's embedding of a modality; ``ConfigurationError`` if there is no such modality."""
    if modality == "image":
        return PatchEmbedding(width=width, image_size=image_size)
    if modality == "series":
        return SegmentEmbedding(
            width=width, segment=segment, channels=channels, length=series_length
        )
    raise ConfigurationError(f"modalities must be among {MODALITIES}, not {modality!r}.")


def token_inputs(modalities: Sequence[str], **sizes: int) -> TokenInputs:
    """Build MAD's embeddings of some modalities; ``sizes`` as in ``token_embedding``."""
    return TokenInputs({name: token_embedding(name, **sizes) for name in modalities})


def vectors_to_contrast(output: ClassifierOutput, parts: Sequence[str]) -> Tensor:
    """Stack the vectors ``(N, V, D)`` of ``"joint"`` and modalities, without absent modalities."""
    vectors = {"joint": output.pooled, **output.by_modality}
    return torch.stack([vectors[p] for p in parts if p in vectors], dim=1)


def concatenate_modalities(vectors: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """Join one vector ``(N, D)`` per modality to ``(N, M D)``; an absent one is zeros."""
    template = next(iter(vectors.values()))
    return torch.cat([vectors.get(m, torch.zeros_like(template)) for m in modalities], dim=1)
