"""What a classifier says about a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from chiasm.classifiers.expert_encoder import GateStatistics


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
