"""MAD: flows align the tokens of two modalities, a shared mixture-of-experts transformer fuses.

References:
    MAD: A Multimodal Anomaly Detection Framework Based on Shared Transformer and Contrastive
    Learning for Smart Manufacturing. The published sizes do not determine a network; these are
    the simplest ones within 0.5 % of both published figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import MODALITIES, Classifier, ClassifierOutput
from chiasm.diagnosis.layers.coupling_flow import (
    FLOWS,
    CouplingFlow,
    Flow,
    IdentityFlow,
    check_flow,
    flow_nll,
)
from chiasm.diagnosis.layers.expert_encoder import ExpertEncoder, Gate
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.layers.series_tokens import KernelEmbedding, PhaseEmbedding
from chiasm.diagnosis.layers.tokens import (
    PatchEmbedding,
    SeriesEmbedding,
    TokenInputs,
    token_embedding,
    vectors_to_contrast,
)
from chiasm.errors import ConfigurationError
from chiasm.registry import register
from chiasm.samples import RecordingBatch
from chiasm.training.ranks import noise_like

Pool = Literal["mean", "modality_mean"]
SeriesTokens = Literal["segments", "phases", "kernels"]


class Mad(Classifier):
    """Tokens, flows, shared encoder, pool and two heads.

    Args:
        inputs: embeddings of the modalities.
        flows: modality to the flow over its tokens.
        encoder: shared by all modalities.
        projection: for the contrast of the first stage.
        head: for the classes.
        pool: ``"mean"`` over all tokens, in which the longer series outweighs the picture, or
            ``"modality_mean"``, the mean of the modalities' means.
        noise: standard deviation of the noise added to the tokens that train the flow.
    """

    def __init__(
        self,
        *,
        inputs: TokenInputs,
        flows: Mapping[str, CouplingFlow | IdentityFlow],
        encoder: ExpertEncoder,
        projection: ProjectionHead,
        head: ClassHead,
        pool: Pool = "mean",
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        if set(inputs) != set(flows):
            raise ConfigurationError(
                f"MAD takes one embedding and one flow for each modality, not {sorted(inputs)} and "
                f"{sorted(flows)}."
            )
        if pool not in ("mean", "modality_mean"):
            raise ConfigurationError(f"pool must be 'mean' or 'modality_mean', not {pool!r}.")
        self.embeddings = inputs
        self.modalities = inputs.modalities
        self.flows = nn.ModuleDict({m: flows[m] for m in self.modalities})
        self.encoder = encoder
        self.projection = projection
        self.head = head
        self.pool = pool
        self.noise = noise

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Classify a batch; an absent modality contributes no tokens.

        Args:
            batch: at least one of the network's modalities.
            density: whether training computes the likelihood of noisy tokens by a second pass
                through the flows. Its gradient reaches the flows only: an embedding could raise
                the likelihood without bound by shrinking. In evaluation it costs nothing.

        Raises:
            DataError: none of the network's modalities is present, or one has the wrong shape.
        """
        embedded = self.embeddings(batch)
        aligned, log_det, nll = {}, {}, {}
        for name, tokens in embedded.items():
            aligned[name], log_det[name] = self.flows[name](tokens)
            if not self.training:
                nll[name] = flow_nll(aligned[name], log_det[name])
            elif density:
                noisy = tokens.detach() + self.noise * noise_like(tokens)
                nll[name] = flow_nll(*self.flows[name](noisy))
        encoded, gates = self.encoder(aligned)
        by_modality = {name: tokens.mean(dim=1) for name, tokens in encoded.items()}
        pooled = self._pool(encoded, by_modality)
        return ClassifierOutput(
            logits=self.head(pooled),
            pooled=pooled,
            by_modality=by_modality,
            embedded=embedded,
            aligned=aligned,
            log_det=log_det,
            flow_nll=nll,
            gates=gates,
        )

    def logits_by_modality(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As in ``Classifier``; the tokens and the flow of a modality are computed once."""
        aligned = {m: self.flows[m](self.embeddings[m](x))[0] for m, x in inputs.items()}
        subsets = [tuple(aligned), *((m,) for m in aligned)]
        return {
            "+".join(subset): self._logits({m: aligned[m] for m in subset})
            for subset in dict.fromkeys(subsets)
        }

    def _logits(self, aligned: Mapping[str, Tensor]) -> Tensor:
        """Return the logits ``(N, K)`` of aligned tokens ``(N, T_m, D)``."""
        encoded, _ = self.encoder(aligned)
        by_modality = {name: tokens.mean(dim=1) for name, tokens in encoded.items()}
        logits: Tensor = self.head(self._pool(encoded, by_modality))
        return logits

    def project(self, output: ClassifierOutput, parts: Sequence[str] = ("joint",)) -> Tensor:
        """Return the unit vectors ``(N, V, P)`` of ``"joint"``, as in the paper, and modalities."""
        out: Tensor = self.projection(vectors_to_contrast(output, parts))
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shapes of standard recordings, on the network's device."""
        return self.embeddings.example_batch(count, self.device)

    def _pool(self, encoded: Mapping[str, Tensor], by_modality: Mapping[str, Tensor]) -> Tensor:
        if self.pool == "modality_mean":
            return torch.stack(list(by_modality.values())).mean(dim=0)
        return torch.cat(list(encoded.values()), dim=1).mean(dim=1)


def _assemble(
    *,
    width: int,
    flow_hidden: int,
    expert_hidden: int,
    projection: tuple[int, int],
    modalities: Sequence[str],
    flow: Flow,
    gate: Gate,
    experts: int,
    pool: Pool,
    segment: int,
    classes: int,
    channels: int,
    image_size: int,
    series_length: int,
    samples_per_cycle: int,
    series_tokens: SeriesTokens,
) -> Mad:
    check_flow(flow)
    embeddings: dict[str, PatchEmbedding | SeriesEmbedding] = {}
    flows: dict[str, CouplingFlow | IdentityFlow] = {}
    for name in sorted(modalities):  # the image first, whose weights are drawn first
        shape = {"width": width, "channels": channels, "length": series_length}
        if name == "series" and series_tokens == "phases":
            embeddings[name] = PhaseEmbedding(cycle=samples_per_cycle, **shape)
        elif name == "series" and series_tokens == "kernels":
            embeddings[name] = KernelEmbedding(segment=segment, **shape)
        else:
            embeddings[name] = token_embedding(
                name,
                width=width,
                segment=segment,
                channels=channels,
                image_size=image_size,
                series_length=series_length,
            )
        flows[name] = FLOWS[name](width=width, hidden=flow_hidden)
    return Mad(
        inputs=TokenInputs(embeddings),
        # Built for both kinds, so that one seed gives the other layers the same weights.
        flows=flows if flow == "coupling" else {m: IdentityFlow() for m in flows},
        encoder=ExpertEncoder(
            width=width, depth=4, heads=8, hidden=expert_hidden, experts=experts, gate=gate
        ),
        projection=ProjectionHead(width=width, hidden=projection[0], out=projection[1]),
        head=ClassHead(width=width, classes=classes),
        pool=pool,
    )


@register("classifier", size="base")
def mad_base(
    *,
    modalities: Sequence[str] = MODALITIES,
    flow: Flow = "coupling",
    gate: Gate = "softmax",
    experts: int = 2,
    pool: Pool = "mean",
    segment: int = 60,
    classes: int = 5,
    channels: int = 1,
    image_size: int = 256,
    series_length: int = 153_600,
    samples_per_cycle: int = 128,
    series_tokens: SeriesTokens = "segments",
) -> Mad:
    """MAD at the published size: 75.8 million weights, 768 channels, 2,816 tokens."""
    return _assemble(
        width=768,
        flow_hidden=2048,
        expert_hidden=3072,
        projection=(768, 768),
        modalities=modalities,
        flow=flow,
        gate=gate,
        experts=experts,
        pool=pool,
        segment=segment,
        classes=classes,
        channels=channels,
        image_size=image_size,
        series_length=series_length,
        samples_per_cycle=samples_per_cycle,
        series_tokens=series_tokens,
    )


@register("classifier")
def mad_small(
    *,
    modalities: Sequence[str] = MODALITIES,
    flow: Flow = "coupling",
    gate: Gate = "softmax",
    experts: int = 2,
    pool: Pool = "mean",
    segment: int = 256,
    classes: int = 5,
    channels: int = 1,
    image_size: int = 256,
    series_length: int = 153_600,
    samples_per_cycle: int = 128,
    series_tokens: SeriesTokens = "segments",
) -> Mad:
    """MAD at the published small size: 2.4 million weights, segments of two mains cycles."""
    return _assemble(
        width=192,
        flow_hidden=288,
        expert_hidden=192,
        projection=(128, 128),
        modalities=modalities,
        flow=flow,
        gate=gate,
        experts=experts,
        pool=pool,
        segment=segment,
        classes=classes,
        channels=channels,
        image_size=image_size,
        series_length=series_length,
        samples_per_cycle=samples_per_cycle,
        series_tokens=series_tokens,
    )
