"""What every classifier offers, and the base of those that are fitted without gradient steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from chiasm.diagnosis.layers.heads import ClassHead
from chiasm.errors import DataError
from chiasm.samples import RecordingBatch

MODALITIES = ("image", "series")

Described = Mapping[str, Tensor]


def present_modalities(batch: RecordingBatch, modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the tensors of those modalities that a batch has; ``DataError`` if it has none."""
    tensors = {m: getattr(batch, m) for m in modalities}
    present = {m: x for m, x in tensors.items() if x is not None}
    if not present:
        names = " or ".join(modalities)
        raise DataError(f"The recording has no {names}, and the classifier takes nothing else.")
    return present


class Classifier(nn.Module):
    """A network or method that turns a batch of recordings into logits.

    Attributes:
        modalities: that it takes, of ``("image", "series")``, in the order of its tokens.
        training_procedure: ``"stages"`` (contrast, then classes), ``"fit"`` (one call, see
            ``FittedClassifier``) or ``"members"`` (its members are trained one by one).
        exportable: whether it is a graph of tensor operations.
    """

    modalities: tuple[str, ...]
    training_procedure: Literal["stages", "fit", "members"] = "stages"
    exportable: bool = True

    @property
    def device(self) -> torch.device:
        """Device of its parameters or buffers."""
        return next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Compute the outputs for a batch; ``density`` concerns methods with flows.

        Raises:
            DataError: the batch has none of the modalities.
        """
        raise NotImplementedError

    def project(self, output: ClassifierOutput, parts: Sequence[str] = ("joint",)) -> Tensor:
        """Return the unit vectors ``(N, V, P)`` that the first stage contrasts.

        Args:
            output: of ``forward``.
            parts: ``"joint"`` and names of modalities; absent ones are left out.
        """
        raise NotImplementedError

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shapes of the longest recordings, on the classifier's device."""
        raise NotImplementedError

    @property
    def class_layer(self) -> nn.Linear | None:
        """Layer that maps ``pooled`` to the logits; None of a method without one."""
        head = getattr(self, "head", None)
        return head.linear if isinstance(head, ClassHead) else None

    def logits_by_modality(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return logits ``(N, K)`` of all modalities together, then of each one alone.

        Args:
            inputs: modality to the tensor of a ``RecordingBatch``.

        Returns:
            Modalities joined by ``+`` to logits; one entry if there is one modality.
        """
        subsets = [tuple(inputs), *((m,) for m in inputs)]
        return {
            "+".join(subset): self(
                RecordingBatch(**{m: inputs.get(m) if m in subset else None for m in MODALITIES})
            ).logits
            for subset in dict.fromkeys(subsets)
        }


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Described recordings with their classes.

    Attributes:
        described: name to a tensor with the recordings along its first axis.
        labels: ``(N,)`` int64.
    """

    described: Described
    labels: Tensor


class FittedClassifier(Classifier):
    """Describes recordings by fixed features, and fits a classifier to them.

    Everything that is fitted is stored in buffers (a library's model as the bytes of its text
    format), so that weights travel as safetensors and nothing needs pickle.
    """

    training_procedure = "fit"
    exportable = False

    def describe(self, batch: RecordingBatch) -> dict[str, Tensor]:
        """Compute the features of a batch, the recordings along the first axis of each tensor.

        Raises:
            DataError: the batch has none of the modalities.
        """
        raise NotImplementedError

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Fit to described recordings; the validation recordings only choose between fits."""
        raise NotImplementedError

    def decide(self, described: Described) -> Tensor:
        """Compute the logits ``(N, K)`` of described recordings."""
        raise NotImplementedError

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Describe the batch and compute its logits."""
        described = self.describe(batch)
        pooled = torch.cat([d.flatten(1).float() for d in described.values()], dim=1)
        return ClassifierOutput(logits=self.decide(described), pooled=pooled)


@dataclass(frozen=True, slots=True, eq=False)
class GateStatistics:
    """How the tokens of one modality use the experts, by layer; entropies in nats.

    Attributes:
        usage: ``(L, E)`` mean gate, rows sum to 1.
        share: ``(L, E)`` share of the tokens whose largest gate is each expert's.
        token_entropy: ``(L,)`` mean entropy of a token's gate: 0 decided, log E undecided.
        usage_entropy: ``(L,)`` entropy of ``usage``: 0 collapsed on one expert, log E balanced.
    """

    usage: Tensor
    share: Tensor
    token_entropy: Tensor
    usage_entropy: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierOutput:
    """Logits and intermediate results; dictionaries hold the modalities that were present.

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
