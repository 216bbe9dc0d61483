"""A surrogate of Cross-Fusion Memory: late fusion of two modalities through a learned memory.

The MAD paper compares with a "Cross-Fusion Memory", cites no source for it, and describes it in
five words as memory-based late fusion. This network is our own substitute: its figures do not
apply to the original. It reads a learned memory in several hops as Sukhbaatar et al. do, and gates
one modality against another as Arevalo et al. do.

References:
    Sukhbaatar et al., End-To-End Memory Networks, NeurIPS 2015.
    Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR workshop 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
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


class CrossFusionMemory(Classifier):
    """Late fusion of modalities that read the same memory.

    1. Each modality has an encoder; the mean of its tokens is the modality's summary h.
    2. Each summary reads the same learned slots, hop by hop, and becomes a recall r.
    3. The recalls of the present modalities are averaged to R. A gate of the modality,
       ``g = sigmoid(W [h, R])``, mixes: ``g R + (1 - g) h``.
    4. The mixtures are concatenated, with zeros for an absent modality; a linear map gives logits.

    The modalities interact only through the shared slots and R.

    Args:
        inputs: embeddings of the modalities.
        encoders: modality to the encoder of its tokens.
        slots: vectors in the memory.
        width: D of tokens and slots.
        hops: layers of attention of the summaries to the slots.
        projection: for the contrast of the first stage, of M D channels for M modalities.
        head: for the classes, of M D channels.
    """

    def __init__(
        self,
        *,
        inputs: TokenInputs,
        encoders: Mapping[str, SelfEncoder],
        slots: int,
        width: int,
        hops: Sequence[CrossLayer],
        projection: ProjectionHead,
        head: ClassHead,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.modalities = inputs.modalities
        if set(encoders) != set(inputs) or slots < 1:
            raise ConfigurationError(
                f"Each of {self.modalities} takes an encoder, and the memory at least one slot, "
                f"not encoders of {sorted(encoders)} and {slots} slots."
            )
        self.encoders = nn.ModuleDict({m: encoders[m] for m in self.modalities})
        self.memory = nn.Parameter(nn.init.trunc_normal_(torch.empty(slots, width), std=0.02))
        self.hops = nn.ModuleList(hops)
        self.recall_norm = nn.LayerNorm(width)
        self.gates = nn.ModuleDict({m: nn.Linear(2 * width, width) for m in self.modalities})
        self.projection = projection
        self.head = head

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Classify a batch; an absent modality does not contribute to the recall.

        Raises:
            DataError: none of the network's modalities is present, or one has the wrong shape.
        """
        tokens = self.inputs(batch)
        summaries = {m: self.encoders[m](t).mean(dim=1) for m, t in tokens.items()}
        recalled = self._recall(torch.stack(list(summaries.values()), dim=1)).mean(dim=1)
        mixed = {m: self._mix(m, h, recalled) for m, h in summaries.items()}
        pooled = concatenate_modalities(mixed, self.modalities)  # (N, M D)
        return ClassifierOutput(
            logits=self.head(pooled),
            pooled=pooled,
            by_modality={
                m: concatenate_modalities({m: v}, self.modalities) for m, v in mixed.items()
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

    def _recall(self, summaries: Tensor) -> Tensor:
        """Read the memory with each of the summaries ``(N, M, D)``; the same shape."""
        memory = self.memory.expand(len(summaries), -1, -1)  # (N, slots, D)
        for hop in self.hops:
            summaries = hop(summaries, memory)
        out: Tensor = self.recall_norm(summaries)
        return out

    def _mix(self, name: str, summary: Tensor, recalled: Tensor) -> Tensor:
        gate = self.gates[name](torch.cat([summary, recalled], dim=1)).sigmoid()
        return torch.lerp(summary, recalled, gate)


def _cross_fusion_memory(
    inputs: TokenInputs,
    classes: int,
    *,
    width: int,
    depths: Mapping[str, int],
    hidden: int,
    projection: int,
) -> CrossFusionMemory:
    names = inputs.modalities
    return CrossFusionMemory(
        inputs=inputs,
        encoders={
            m: SelfEncoder(width=width, depth=depths[m], heads=8, hidden=hidden) for m in names
        },
        slots=64,
        width=width,
        hops=[CrossLayer(width=width, heads=8, hidden=hidden) for _ in range(2)],
        projection=ProjectionHead(width=len(names) * width, hidden=projection, out=projection),
        head=ClassHead(width=len(names) * width, classes=classes),
    )


@token_baseline(width=768, segment=60, size="base")
def cfm_surrogate_base(inputs: TokenInputs, classes: int) -> CrossFusionMemory:
    """Surrogate of Cross-Fusion Memory, ours, in the size of mad_base: 64 slots, 768 channels."""
    depths = {"image": 4, "series": 4}
    return _cross_fusion_memory(
        inputs, classes, width=768, depths=depths, hidden=3072, projection=768
    )


@token_baseline(width=192, segment=256)
def cfm_surrogate_small(inputs: TokenInputs, classes: int) -> CrossFusionMemory:
    """Surrogate of Cross-Fusion Memory, ours, in the size of mad_small: 64 slots, 192 channels."""
    depths = {"image": 1, "series": 2}
    return _cross_fusion_memory(
        inputs, classes, width=192, depths=depths, hidden=640, projection=128
    )
