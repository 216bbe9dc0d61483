"""Cross-Modal Transformer: an encoder for each modality, then attention in both directions.

The MAD paper compares with "ViT + Transformer + Cross-Attention" and gives no more. This is the
plainest network that the words describe, with the directional attention of MulT.

References:
    Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019.
    Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from chiasm.diagnosis.classifier import Classifier, ClassifierOutput
from chiasm.diagnosis.layers.attention import CrossLayer, SelfEncoder
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.layers.tokens import (
    TokenInputs,
    concatenate_modalities,
    vectors_to_contrast,
)
from chiasm.diagnosis.models.token_baselines import token_baseline
from chiasm.errors import ConfigurationError
from chiasm.samples import RecordingBatch


class CrossModalTransformer(Classifier):
    """The tokens of each modality are encoded, attend to those of the other, and are averaged.

    Both directions attend to the encoders' output, so that the order does not matter. The joint
    vector concatenates the modalities' averages, with zeros for an absent modality; the vector of
    one modality has zeros for the other.

    Args:
        inputs: embeddings of the modalities.
        encoders: modality to the encoder of its tokens.
        crossings: modality to the attention of its tokens to the other's; none for a single one.
        width: D of the tokens.
        projection: for the contrast of the first stage, of M D channels for M modalities.
        head: for the classes, of M D channels.

    References:
        Tsai et al., Section 3.2 (crossmodal attention).
    """

    def __init__(
        self,
        *,
        inputs: TokenInputs,
        encoders: Mapping[str, SelfEncoder],
        crossings: Mapping[str, CrossLayer],
        width: int,
        projection: ProjectionHead,
        head: ClassHead,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.modalities = inputs.modalities
        both = len(self.modalities) == 2
        if set(encoders) != set(inputs) or set(crossings) != (set(inputs) if both else set()):
            raise ConfigurationError(
                f"Each of {self.modalities} takes an encoder, and a crossing where there are two, "
                f"not encoders of {sorted(encoders)} and crossings of {sorted(crossings)}."
            )
        self.encoders = nn.ModuleDict({m: encoders[m] for m in self.modalities})
        self.crossings = nn.ModuleDict({m: crossings[m] for m in self.modalities if both})
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in self.crossings})
        self.projection = projection
        self.head = head

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Classify a batch; the present modality does not attend to an absent one.

        Raises:
            DataError: none of the network's modalities is present, or one has the wrong shape.
        """
        tokens = self.inputs(batch)
        encoded = {m: self.encoders[m](t) for m, t in tokens.items()}
        crossed = {m: self._cross(m, encoded) for m in encoded}
        means = {m: t.mean(dim=1) for m, t in crossed.items()}
        pooled = concatenate_modalities(means, self.modalities)  # (N, M D)
        return ClassifierOutput(
            logits=self.head(pooled),
            pooled=pooled,
            by_modality={
                m: concatenate_modalities({m: v}, self.modalities) for m, v in means.items()
            },
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

    def _cross(self, name: str, encoded: Mapping[str, Tensor]) -> Tensor:
        if name not in self.crossings:
            return encoded[name]
        other = next((t for m, t in encoded.items() if m != name), None)
        out: Tensor = self.norms[name](self.crossings[name](encoded[name], other))
        return out


def _cross_modal_transformer(
    inputs: TokenInputs,
    classes: int,
    *,
    width: int,
    depths: Mapping[str, int],
    hidden: int,
    projection: int,
) -> CrossModalTransformer:
    names = inputs.modalities
    return CrossModalTransformer(
        inputs=inputs,
        encoders={
            m: SelfEncoder(width=width, depth=depths[m], heads=8, hidden=hidden) for m in names
        },
        crossings={
            m: CrossLayer(width=width, heads=8, hidden=hidden) for m in names if len(names) == 2
        },
        width=width,
        projection=ProjectionHead(width=len(names) * width, hidden=projection, out=projection),
        head=ClassHead(width=len(names) * width, classes=classes),
    )


@token_baseline(width=768, segment=60, size="base")
def cross_modal_transformer_base(inputs: TokenInputs, classes: int) -> CrossModalTransformer:
    """Cross-Modal Transformer in the size of mad_base: 4 layers a modality, 768 channels."""
    depths = {"image": 4, "series": 4}
    return _cross_modal_transformer(
        inputs, classes, width=768, depths=depths, hidden=3264, projection=768
    )


@token_baseline(width=192, segment=256)
def cross_modal_transformer_small(inputs: TokenInputs, classes: int) -> CrossModalTransformer:
    """Cross-Modal Transformer in the size of mad_small: 1 and 2 layers, 192 channels."""
    depths = {"image": 1, "series": 2}
    return _cross_modal_transformer(
        inputs, classes, width=192, depths=depths, hidden=704, projection=128
    )
