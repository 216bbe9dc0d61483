"""Perceiver IO: a few latent vectors attend to both modalities' tokens and answer queries.

References:
    Jaegle et al., Perceiver IO: A General Architecture for Structured Inputs & Outputs, ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import Classifier, ClassifierOutput
from chiasm.diagnosis.layers.attention import CrossLayer, SelfLayer
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.layers.tokens import TokenInputs, vectors_to_contrast
from chiasm.diagnosis.models.token_baselines import token_baseline
from chiasm.samples import RecordingBatch


class PerceiverIO(Classifier):
    """Latents attend to the tokens of all modalities, are encoded, and decoded by queries.

    Behind the first attention, the cost does not depend on the number of tokens. The queries are
    learned: one for the class, and one for each modality; the first stage contrasts all answers.
    All answers come from the same latents, so that the answer of a modality depends on the tokens
    of the other one too.

    Args:
        inputs: embeddings of the modalities.
        latents: number of latent vectors.
        width: D of tokens, latents and queries.
        reading: cross-attention of the latents to the tokens.
        layers: over the latents.
        asking: cross-attention of the queries to the latents.
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
        # They mark the modality of a token; the token already holds its position.
        self.kinds = nn.ParameterDict({m: _parameter(width) for m in self.modalities})
        self.latents = _parameter(latents, width)
        self.queries = _parameter(1 + len(self.modalities), width)
        self.reading = reading
        self.layers = nn.Sequential(*layers)
        self.asking = asking
        self.norm = nn.LayerNorm(width)
        self.projection = projection
        self.head = head

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Classify a batch; an absent modality contributes no tokens.

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
        """Return the unit vectors ``(N, V, P)`` of ``"joint"`` and modalities."""
        out: Tensor = self.projection(vectors_to_contrast(output, parts))
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shapes of standard recordings, on the network's device."""
        return self.inputs.example_batch(count, self.device)


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


def _perceiver_io(
    inputs: TokenInputs,
    classes: int,
    *,
    width: int,
    latents: int,
    depth: int,
    hidden: int,
    projection: int,
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


@token_baseline(width=768, segment=60, size="base")
def perceiver_io_base(inputs: TokenInputs, classes: int) -> PerceiverIO:
    """Perceiver IO in the size of mad_base: 256 latents of 768 channels, 8 layers over them."""
    return _perceiver_io(
        inputs, classes, width=768, latents=256, depth=8, hidden=3264, projection=768
    )


@token_baseline(width=192, segment=256)
def perceiver_io_small(inputs: TokenInputs, classes: int) -> PerceiverIO:
    """Perceiver IO in the size of mad_small: 128 latents of 192 channels, 3 layers over them."""
    return _perceiver_io(
        inputs, classes, width=192, latents=128, depth=3, hidden=704, projection=128
    )
