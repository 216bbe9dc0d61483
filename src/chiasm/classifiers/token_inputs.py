"""A batch of recordings as tokens, whichever of its modalities are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from chiasm.classifiers.classifier import MODALITIES
from chiasm.classifiers.output import ClassifierOutput
from chiasm.classifiers.tokens import PatchEmbedding, SegmentEmbedding
from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import DischargeBatch


class TokenInputs(nn.ModuleDict):
    """One embedding for each modality that a network looks at.

    Args:
        embeddings: modality, ``"image"`` or ``"series"``, to what makes its tokens.
    """

    def __init__(self, embeddings: Mapping[str, PatchEmbedding | SegmentEmbedding]) -> None:
        if not embeddings or not set(embeddings) <= set(MODALITIES):
            raise ConfigurationError(
                f"modalities must be among {MODALITIES}, at least one, not {tuple(embeddings)}."
            )
        super().__init__({m: embeddings[m] for m in MODALITIES if m in embeddings})

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, the image first."""
        return tuple(self)

    def forward(self, batch: DischargeBatch) -> dict[str, Tensor]:
        """Modality to tokens ``(N, T_m, D)``; an absent one contributes none.

        Raises:
            DataError: none of the modalities is present, or one has the wrong shape.
        """
        inputs = {m: getattr(batch, m) for m in self}
        tokens = {m: self[m](x) for m, x in inputs.items() if x is not None}
        if not tokens:
            raise DataError(
                f"The recording has nothing that this classifier looks at: {self.modalities}."
            )
        return tokens

    def example_batch(self, count: int, device: torch.device) -> DischargeBatch:
        """Zeros in the shapes of usual recordings."""
        shapes: dict[str, Tensor | None] = dict.fromkeys(MODALITIES)
        for name, embedding in self.items():
            if isinstance(embedding, PatchEmbedding):
                size = embedding.image_size
                shapes[name] = torch.zeros(count, 3, size, size, device=device)
            elif isinstance(embedding, SegmentEmbedding):
                length = embedding.length
                shapes[name] = torch.zeros(count, embedding.channels, length, device=device)
        return DischargeBatch(image=shapes["image"], series=shapes["series"])


def token_inputs(
    modalities: Sequence[str],
    *,
    width: int,
    segment: int,
    channels: int,
    image_size: int,
    series_length: int,
) -> TokenInputs:
    """The embeddings of MAD, of the modalities asked for.

    Raises ``ConfigurationError`` for modalities that there are not.
    """
    found: dict[str, PatchEmbedding | SegmentEmbedding] = {}
    for name in modalities:
        if name == "image":
            found[name] = PatchEmbedding(width=width, image_size=image_size)
        elif name == "series":
            found[name] = SegmentEmbedding(
                width=width, segment=segment, channels=channels, length=series_length
            )
        else:
            raise ConfigurationError(f"modalities must be among {MODALITIES}, not {name!r}.")
    return TokenInputs(found)


def contrasted(output: ClassifierOutput, parts: Sequence[str]) -> Tensor:
    """The vectors ``(N, V, D)`` of ``"joint"`` and modalities; absent ones are left out."""
    vectors = {"joint": output.pooled, **output.by_modality}
    return torch.stack([vectors[p] for p in parts if p in vectors], dim=1)


def side_by_side(vectors: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """Join one vector ``(N, D)`` for each modality to ``(N, M D)``; an absent one is zeros."""
    some = next(iter(vectors.values()))
    return torch.cat([vectors.get(m, torch.zeros_like(some)) for m in modalities], dim=1)
