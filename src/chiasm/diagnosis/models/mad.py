"""MAD: flows align two modalities' tokens, a shared mixture-of-experts transformer fuses them.

References:
    MAD: A Multimodal Anomaly Detection Framework Based on Shared Transformer and Contrastive
    Learning for Smart Manufacturing. The published sizes do not determine a network; these are
    the simplest ones that come within 0.5 % of both printed figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import MODALITIES, Classifier, ClassifierOutput
from chiasm.diagnosis.layers.coupling_flow import (
    CouplingFlow,
    IdentityFlow,
    flow_nll,
    image_flow,
    signal_flow,
)
from chiasm.diagnosis.layers.expert_encoder import ExpertEncoder, Gate
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.layers.tokens import PatchEmbedding, SegmentEmbedding
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import register
from chiasm.samples import RecordingBatch

Flow = Literal["coupling", "identity"]
Pool = Literal["mean", "modality_mean"]


class Mad(Classifier):
    """Tokens, flows, shared encoder, pool and two heads.

    Args:
        embeddings: modality, ``"image"`` or ``"series"``, to what makes its tokens.
        flows: modality to the flow over its tokens.
        encoder: shared by all modalities.
        projection: for the contrast of the first stage.
        head: for the classes.
        pool: ``"mean"`` over all tokens, in which the longer series outvotes the picture, or
            ``"modality_mean"``, the mean of the modalities' means.
        noise: standard deviation added to the tokens whose likelihood the flow is trained on.
    """

    def __init__(
        self,
        *,
        embeddings: Mapping[str, PatchEmbedding | SegmentEmbedding],
        flows: Mapping[str, CouplingFlow | IdentityFlow],
        encoder: ExpertEncoder,
        projection: ProjectionHead,
        head: ClassHead,
        pool: Pool = "mean",
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        if set(embeddings) != set(flows) or not set(embeddings) <= set(MODALITIES) or not flows:
            raise ConfigurationError(
                f"MAD takes one embedding and one flow for each of 'image' and 'series' that it "
                f"is to look at, not {sorted(embeddings)} and {sorted(flows)}."
            )
        if pool not in ("mean", "modality_mean"):
            raise ConfigurationError(f"pool must be 'mean' or 'modality_mean', not {pool!r}.")
        self.embeddings = nn.ModuleDict({m: embeddings[m] for m in MODALITIES if m in embeddings})
        self.flows = nn.ModuleDict({m: flows[m] for m in MODALITIES if m in flows})
        self.encoder = encoder
        self.projection = projection
        self.head = head
        self.pool = pool
        self.noise = noise
        self.modalities = tuple(self.embeddings)

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Run everything on a batch; a modality that is absent contributes no tokens.

        Args:
            batch: at least one of the network's modalities.
            density: whether in training the likelihood of noisy tokens is computed, a second pass
                through the flows. It moves the flows alone, for a learned embedding could raise
                the likelihood without bound by shrinking. In evaluation it costs nothing.

        Raises:
            DataError: none of the network's modalities is present, or one has the wrong shape.
        """
        inputs = {m: getattr(batch, m) for m in self.modalities}
        embedded = {m: self.embeddings[m](x) for m, x in inputs.items() if x is not None}
        if not embedded:
            raise DataError(
                f"The recording has nothing that this classifier looks at: {self.modalities}."
            )
        aligned, log_det, nll = {}, {}, {}
        for name, tokens in embedded.items():
            aligned[name], log_det[name] = self.flows[name](tokens)
            if not self.training:
                nll[name] = flow_nll(aligned[name], log_det[name])
            elif density:
                noisy = tokens.detach() + self.noise * torch.randn_like(tokens)
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

    def decide(self, aligned: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(N, K)`` of tokens ``(N, T_m, D)`` that have passed their flows."""
        encoded, _ = self.encoder(aligned)
        by_modality = {name: tokens.mean(dim=1) for name, tokens in encoded.items()}
        out: Tensor = self.head(self._pool(encoded, by_modality))
        return out

    def project(self, output: ClassifierOutput, parts: Sequence[str] = ("joint",)) -> Tensor:
        """Unit vectors ``(N, V, P)`` to contrast.

        Args:
            output: of ``forward``.
            parts: ``"joint"``, as in the paper, and names of modalities; absent ones are left out.
        """
        pooled = {"joint": output.pooled, **output.by_modality}
        out: Tensor = self.projection(torch.stack([pooled[p] for p in parts if p in pooled], dim=1))
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Zeros in the shapes of usual recordings, on the network's device."""
        device = self.device
        shapes: dict[str, Tensor | None] = dict.fromkeys(MODALITIES)
        for name, embedding in self.embeddings.items():
            if isinstance(embedding, PatchEmbedding):
                size = embedding.image_size
                shapes[name] = torch.zeros(count, 3, size, size, device=device)
            elif isinstance(embedding, SegmentEmbedding):
                length = embedding.length
                shapes[name] = torch.zeros(count, embedding.channels, length, device=device)
        return RecordingBatch(image=shapes["image"], series=shapes["series"])

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
) -> Mad:
    if flow not in ("coupling", "identity") or not set(modalities) <= set(MODALITIES):
        raise ConfigurationError(
            f"flow must be 'coupling' or 'identity' and modalities among {MODALITIES}, "
            f"not {flow!r} and {tuple(modalities)}."
        )
    embeddings: dict[str, PatchEmbedding | SegmentEmbedding] = {}
    flows: dict[str, CouplingFlow | IdentityFlow] = {}
    if "image" in modalities:
        embeddings["image"] = PatchEmbedding(width=width, image_size=image_size)
        flows["image"] = image_flow(width=width, hidden=flow_hidden, couplings=3)
    if "series" in modalities:
        embeddings["series"] = SegmentEmbedding(
            width=width, segment=segment, channels=channels, length=series_length
        )
        flows["series"] = signal_flow(width=width, hidden=flow_hidden, couplings=5)
    return Mad(
        embeddings=embeddings,
        flows=flows if flow == "coupling" else {m: IdentityFlow() for m in flows},
        encoder=ExpertEncoder(
            width=width, depth=4, heads=8, hidden=expert_hidden, experts=experts, gate=gate
        ),
        projection=ProjectionHead(width=width, hidden=projection[0], out=projection[1]),
        head=ClassHead(width=width, classes=classes),
        pool=pool,
    )


@register("classifier")
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
    )
