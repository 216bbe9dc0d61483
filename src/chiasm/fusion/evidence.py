"""Opinions from evidence, and their combination (Dempster-Shafer theory, reduced rule).

Accepts arrays of numpy and tensors of torch, and imports neither library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chiasm.errors import ChiasmError


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """Belief in each of N classes and the remaining uncertainty; they sum to 1.

    Attributes:
        belief: ``(..., N)``, at least 0.
        uncertainty: ``(...)``, at least 0.
    """

    belief: Any
    uncertainty: Any


def opinion_from_evidence(evidence: Any) -> Opinion:
    """Compute belief ``e / S`` and uncertainty ``N / S``, Dirichlet strength ``S = sum(e + 1)``.

    ``evidence`` is ``(..., N)`` and at least 0: amounts of support, *not* probabilities. With
    probabilities, as in the paper's wording, the uncertainty would always be ``N / (N + 1)``.

    References:
        3D-ADNAS supplement, Equations 1-3; Han et al., Trusted Multi-View Classification, 2021.
    """
    strength = (evidence + 1).sum(axis=-1)
    return Opinion(evidence / strength[..., None], evidence.shape[-1] / strength)


def conflict(first: Opinion, second: Opinion) -> Any:
    """Compute the mass ``z`` that two opinions put on different classes, ``(...)`` in [0, 1]."""
    agreement = (first.belief * second.belief).sum(axis=-1)
    return first.belief.sum(axis=-1) * second.belief.sum(axis=-1) - agreement


def combine(first: Opinion, second: Opinion) -> Opinion:
    """Combine two opinions by Dempster's rule, supplement Equations 4 and 5.

    Raises:
        ChiasmError: total contradiction (``z = 1``), where the rule is undefined.
    """
    scale = 1 - conflict(first, second)
    if bool((scale <= 1e-12).any()):
        raise ChiasmError(
            "Two opinions contradict each other totally and leave no uncertainty: Dempster's rule "
            "is undefined there. Give at least one of them some uncertainty."
        )
    belief = (
        first.belief * second.belief
        + first.belief * second.uncertainty[..., None]
        + second.belief * first.uncertainty[..., None]
    ) / scale[..., None]
    return Opinion(belief, first.uncertainty * second.uncertainty / scale)
