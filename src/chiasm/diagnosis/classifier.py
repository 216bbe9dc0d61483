"""What every classifier offers, and what those have in common that learn without gradient steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from chiasm.errors import DataError
from chiasm.samples import RecordingBatch

MODALITIES = ("image", "series")

Described = Mapping[str, Tensor]


def present_modalities(batch: RecordingBatch, modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the tensors of those modalities that a batch has; ``DataError`` if it has none."""
    tensors = {m: getattr(batch, m) for m in modalities}
    present = {m: x for m, x in tensors.items() if x is not None}
    if not present:
        raise DataError(f"The recording has nothing that this classifier looks at: {modalities}.")
    return present


class Classifier(nn.Module):
    """A network or method that turns a batch of recordings into logits.

    Attributes:
        modalities: what it looks at, of ``("image", "series")``, in the order of its tokens.
    """

    modalities: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where its weights or its buffers lie."""
        return next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Run everything on a batch; ``density`` concerns those that have flows.

        Raises ``DataError`` where nothing is there that it looks at.
        """
        raise NotImplementedError

    def project(self, output: ClassifierOutput, parts: Sequence[str] = ("joint",)) -> Tensor:
        """Unit vectors ``(N, V, P)`` to contrast, of those that have a first stage.

        Args:
            output: of ``forward``.
            parts: ``"joint"`` and names of modalities; absent ones are left out.
        """
        raise NotImplementedError

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Zeros in the shapes of usual recordings, on its device."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Recordings that were described, with their classes.

    Attributes:
        described: name to a tensor with the recordings along its first axis.
        labels: ``(N,)`` int64.
    """

    described: Described
    labels: Tensor


class FittedClassifier(Classifier):
    """Describes recordings by features that do not learn, and fits a classifier to them.

    Everything that is fitted is kept in buffers (a model of a library as the bytes of its own
    text), so that weights travel as safetensors and nothing needs pickle.
    """

    def describe(self, batch: RecordingBatch) -> dict[str, Tensor]:
        """Features of a batch, the recordings along the first axis of each tensor.

        Raises ``DataError`` where nothing is there that it looks at.
        """
        raise NotImplementedError

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Learn from described recordings; the held-out ones may choose, but not be learned."""
        raise NotImplementedError

    def decide(self, described: Described) -> Tensor:
        """Logits ``(N, K)`` of described recordings."""
        raise NotImplementedError

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Describe and decide."""
        described = self.describe(batch)
        pooled = torch.cat([d.flatten(1).float() for d in described.values()], dim=1)
        return ClassifierOutput(logits=self.decide(described), pooled=pooled)


@dataclass(frozen=True, slots=True, eq=False)
class GateStatistics:
    """How one modality's tokens use the experts, layer by layer; entropies in nats.

    Attributes:
        usage: ``(L, E)`` mean gate, rows sum to 1.
        share: ``(L, E)`` share of the tokens that lean to each expert most.
        token_entropy: ``(L,)`` mean entropy of a token's gate: 0 decided, log E undecided.
        usage_entropy: ``(L,)`` entropy of ``usage``: 0 collapsed on one expert, log E balanced.
    """

    usage: Tensor
    share: Tensor
    token_entropy: Tensor
    usage_entropy: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierOutput:
    """Logits, and what lies behind them; dictionaries hold the modalities that were present.

    Attributes:
        logits: ``(N, K)``.
        pooled: ``(N, D)`` joint embedding, on which the logits stand.
        by_modality: ``(N, D)`` mean of that modality's tokens after the shared encoder.
        embedded: ``(N, T_m, D)`` tokens before the flow.
        aligned: ``(N, T_m, D)`` tokens after the flow.
        log_det: ``(N,)`` log-determinant of the flow at ``embedded``, nats.
        flow_nll: ``(N,)`` negative log-likelihood, nats per token and channel. In training of
            noisy copies of the tokens, as a loss for the flow alone; otherwise of the tokens.
        gates: use of the experts.
    """

    logits: Tensor
    pooled: Tensor
    by_modality: dict[str, Tensor] = field(default_factory=dict)
    embedded: dict[str, Tensor] = field(default_factory=dict)
    aligned: dict[str, Tensor] = field(default_factory=dict)
    log_det: dict[str, Tensor] = field(default_factory=dict)
    flow_nll: dict[str, Tensor] = field(default_factory=dict)
    gates: dict[str, GateStatistics] = field(default_factory=dict)
