"""Perceiver IO: a few latent vectors read both modalities' tokens, and answer queries.

References:
    Jaegle et al., Perceiver IO: A General Architecture for Structured Inputs & Outputs, ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import MODALITIES, Classifier, ClassifierOutput
from chiasm.diagnosis.layers.attention import CrossLayer, SelfLayer
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.layers.tokens import TokenInputs, contrasted, token_inputs
from chiasm.registry import register
from chiasm.samples import RecordingBatch


class PerceiverIO(Classifier):
    """Tokens of all modalities in one array, read into latents, worked on there, and asked.

    The cost of everything behind the first attention does not depend on the number of tokens.
    Queries are learned: one for the class, and one for each modality, whose answers are contrasted
    in the first stage beside the joint one. All answers come from the same latents: that of a
    modality is not of its tokens alone, unless the other one is absent.

    Args:
        inputs: what makes the tokens.
        latents: number of latent vectors.
        width: D of tokens, latents and queries.
        reading: attention of the latents to the tokens.
        layers: over the latents.
        asking: attention of the queries to the latents.
        projection: for the contrast of the first stage.
        head: for the classes.

    References:
        Jaegle et al., Section 3.1 (encode and process) and Section 3.2 (decode with queries).
    """

    def __init__(
        self,
        *,
        inputs: TokenInputs,
        latents: int,
        width: int,
        reading: CrossLayer,
        layers: Sequence[SelfLayer],
        asking: CrossLayer,
        projection: ProjectionHead,
        head: ClassHead,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.modalities = inputs.modalities
        # Which modality a token is of; where it lies is in the token already.
        self.kinds = nn.ParameterDict({m: _learned(width) for m in self.modalities})
        self.latents = _learned(latents, width)
        self.queries = _learned(1 + len(self.modalities), width)
        self.reading = reading
        self.layers = nn.Sequential(*layers)
        self.asking = asking
        self.norm = nn.LayerNorm(width)
        self.projection = projection
        self.head = head

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Run everything on a batch; a modality that is absent contributes no tokens.

        Raises:
            DataError: none of the network's modalities is present, or one has the wrong shape.
        """
        tokens = {m: t + self.kinds[m] for m, t in self.inputs(batch).items()}
        array = torch.cat(list(tokens.values()), dim=1)  # (N, sum of T_m, D)
        count = len(array)
        latents = self.reading(self.latents.expand(count, -1, -1), array)  # (N, L, D)
        latents = self.layers(latents)
        answers = self.norm(self.asking(self.queries.expand(count, -1, -1), latents))
        pooled, *others = answers.unbind(dim=1)
        return ClassifierOutput(
            logits=self.head(pooled),
            pooled=pooled,
            by_modality={m: v for m, v in zip(self.modalities, others) if m in tokens},
            embedded=tokens,
            aligned=tokens,
        )

    def project(self, output: ClassifierOutput, parts: Sequence[str] = ("joint",)) -> Tensor:
        """Unit vectors ``(N, V, P)`` to contrast, of ``"joint"`` and modalities."""
        out: Tensor = self.projection(contrasted(output, parts))
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Zeros in the shapes of usual recordings, on the network's device."""
        return self.inputs.example_batch(count, self.device)


def _learned(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


def _assemble(
    inputs: TokenInputs,
    *,
    width: int,
    latents: int,
    depth: int,
    hidden: int,
    projection: int,
    classes: int,
) -> PerceiverIO:
    return PerceiverIO(
        inputs=inputs,
        latents=latents,
        width=width,
        reading=CrossLayer(width=width, heads=8, hidden=hidden),
        layers=[SelfLayer(width=width, heads=8, hidden=hidden) for _ in range(depth)],
        asking=CrossLayer(width=width, heads=8, hidden=hidden),
        projection=ProjectionHead(width=width, hidden=projection, out=projection),
        head=ClassHead(width=width, classes=classes),
    )


@register("classifier", baseline=True)
def perceiver_io_base(
    *,
    modalities: Sequence[str] = MODALITIES,
    segment: int = 60,
    classes: int = 5,
    channels: int = 1,
    image_size: int = 256,
    series_length: int = 153_600,
) -> PerceiverIO:
    """Perceiver IO in the size of mad_base: 256 latents of 768 channels, 8 layers over them."""
    inputs = token_inputs(
        modalities,
        width=768,
        segment=segment,
        channels=channels,
        image_size=image_size,
        series_length=series_length,
    )
    return _assemble(
        inputs, width=768, latents=256, depth=8, hidden=3264, projection=768, classes=classes
    )


@register("classifier", baseline=True)
def perceiver_io_small(
    *,
    modalities: Sequence[str] = MODALITIES,
    segment: int = 256,
    classes: int = 5,
    channels: int = 1,
    image_size: int = 256,
    series_length: int = 153_600,
) -> PerceiverIO:
    """Perceiver IO in the size of mad_small: 128 latents of 192 channels, 3 layers over them."""
    inputs = token_inputs(
        modalities,
        width=192,
        segment=segment,
        channels=channels,
        image_size=image_size,
        series_length=series_length,
    )
    return _assemble(
        inputs, width=192, latents=128, depth=3, hidden=704, projection=128, classes=classes
    )
