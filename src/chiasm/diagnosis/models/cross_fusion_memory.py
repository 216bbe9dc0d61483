"""A surrogate of Cross-Fusion Memory: late fusion of two modalities through a learned memory.

The MAD paper compares with a "Cross-Fusion Memory", cites no source for it, and describes it in
five words as memory-based late fusion. This network is ours, made to stand in its place: nothing
that it reaches says anything about the original. Reading a learned memory in several hops is of
Sukhbaatar et al., gating a modality against another of Arevalo et al.

References:
    Sukhbaatar et al., End-To-End Memory Networks, NeurIPS 2015.
    Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR workshop 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import MODALITIES, Classifier, ClassifierOutput
from chiasm.diagnosis.layers.attention import CrossLayer, SelfEncoder
from chiasm.diagnosis.layers.heads import ClassHead, ProjectionHead
from chiasm.diagnosis.layers.tokens import TokenInputs, contrasted, side_by_side, token_inputs
from chiasm.errors import ConfigurationError
from chiasm.registry import register
from chiasm.samples import RecordingBatch


class CrossFusionMemory(Classifier):
    """Modalities meet only in what they recall from one memory.

    1. An encoder for each modality; its tokens' mean is the modality's summary h.
    2. Each summary reads the same learned slots, hop by hop, and becomes a recall r.
    3. The recalls of the modalities that are there are averaged, to R. A gate of the modality,
       ``g = sigmoid(W [h, R])``, mixes: ``g R + (1 - g) h``.
    4. The mixtures stand side by side, zeros for an absent modality; a linear map gives logits.

    Since the slots are shared, what one modality recalls is in the other's terms too: that is all
    the crossing there is, and it happens late.

    Args:
        inputs: what makes the tokens.
        encoders: modality to the encoder of its tokens.
        slots: vectors in the memory.
        width: D of tokens and slots.
        hops: attention of summaries to the slots, one after the other.
        projection: for the contrast of the first stage, of M D channels for M modalities.
        head: for the classes, likewise.
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
        """Run everything on a batch; an absent modality recalls nothing and has no say.

        Raises:
            DataError: none of the network's modalities is present, or one has the wrong shape.
        """
        tokens = self.inputs(batch)
        summaries = {m: self.encoders[m](t).mean(dim=1) for m, t in tokens.items()}
        recalled = self._recall(torch.stack(list(summaries.values()), dim=1)).mean(dim=1)
        mixed = {m: self._mix(m, h, recalled) for m, h in summaries.items()}
        pooled = side_by_side(mixed, self.modalities)  # (N, M D)
        return ClassifierOutput(
            logits=self.head(pooled),
            pooled=pooled,
            by_modality={m: side_by_side({m: v}, self.modalities) for m, v in mixed.items()},
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

    def _recall(self, summaries: Tensor) -> Tensor:
        """What summaries ``(N, M, D)`` read from the memory, each for itself; the same shape."""
        memory = self.memory.expand(len(summaries), -1, -1)  # (N, slots, D)
        for hop in self.hops:
            summaries = hop(summaries, memory)
        out: Tensor = self.recall_norm(summaries)
        return out

    def _mix(self, name: str, summary: Tensor, recalled: Tensor) -> Tensor:
        gate = self.gates[name](torch.cat([summary, recalled], dim=1)).sigmoid()
        return torch.lerp(summary, recalled, gate)


def _assemble(
    inputs: TokenInputs,
    *,
    width: int,
    depths: Mapping[str, int],
    hidden: int,
    projection: int,
    classes: int,
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


@register("classifier", baseline=True)
def cfm_surrogate_base(
    *,
    modalities: Sequence[str] = MODALITIES,
    segment: int = 60,
    classes: int = 5,
    channels: int = 1,
    image_size: int = 256,
    series_length: int = 153_600,
) -> CrossFusionMemory:
    """Surrogate of Cross-Fusion Memory, ours, in the size of mad_base: 64 slots, 768 channels."""
    inputs = token_inputs(
        modalities,
        width=768,
        segment=segment,
        channels=channels,
        image_size=image_size,
        series_length=series_length,
    )
    depths = {"image": 4, "series": 4}
    return _assemble(inputs, width=768, depths=depths, hidden=3072, projection=768, classes=classes)


@register("classifier", baseline=True)
def cfm_surrogate_small(
    *,
    modalities: Sequence[str] = MODALITIES,
    segment: int = 256,
    classes: int = 5,
    channels: int = 1,
    image_size: int = 256,
    series_length: int = 153_600,
) -> CrossFusionMemory:
    """Surrogate of Cross-Fusion Memory, ours, in the size of mad_small: 64 slots, 192 channels."""
    inputs = token_inputs(
        modalities,
        width=192,
        segment=segment,
        channels=channels,
        image_size=image_size,
        series_length=series_length,
    )
    depths = {"image": 1, "series": 2}
    return _assemble(inputs, width=192, depths=depths, hidden=640, projection=128, classes=classes)
