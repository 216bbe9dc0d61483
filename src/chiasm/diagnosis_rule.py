"""From logits to a diagnosis: calibrated probabilities, opinions, and when evidence is too weak."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiasm.fusion.evidence import Opinion, combine, opinion_from_evidence

Array = NDArray[np.float64]

RULE = (
    "evidence of a class = max(0, p / g - 1), with p its calibrated probability by one modality "
    "alone and g the geometric mean of all classes' probabilities; opinions of the modalities are "
    "combined by Dempster's rule; 'unknown' where the belief in the likeliest class is too small"
)
# Beyond e^12 evidence leaves no uncertainty in a figure of float32.
_MOST = 12.0


def evidence_from_logits(logits: Array, temperature: float) -> Tensor:
    """Evidence ``(..., K)``, float64: how many times likelier than the classes' mean, less one.

    ``max(0, exp(z) - 1)`` with ``z`` the logits over the temperature, less their mean over the
    classes: logits that are all alike are no evidence at all, whatever they are.
    """
    z = logits / temperature
    z = np.minimum(z - z.mean(axis=-1, keepdims=True), _MOST)
    return torch.from_numpy(np.maximum(np.expm1(z), 0))


def combined_opinion(
    logits: Mapping[str, Array], temperatures: Mapping[str, float]
) -> tuple[Opinion, tuple[Opinion, ...]]:
    """The opinion of all modalities together, and of each alone, for logits ``(..., K)``."""
    single = tuple(
        opinion_from_evidence(evidence_from_logits(one, temperatures[name]))
        for name, one in logits.items()
    )
    joint = single[0]
    for other in single[1:]:
        joint = combine(joint, other)
    return joint, single


def support(opinion: Opinion, probabilities: Array) -> Array:
    """Belief ``(...)`` of an opinion in the class that is likeliest by ``(..., K)``."""
    guess = probabilities.argmax(axis=-1)
    belief = opinion.belief.numpy()
    out: Array = np.take_along_axis(belief, guess[..., None], axis=-1)[..., 0]
    return out


def weakest_accepted(supports: Array, right: NDArray[np.bool_], *, share: float) -> float:
    """The support below which a diagnosis is 'unknown'.

    The largest value that turns at most ``share`` of the right diagnoses away; 0 where none is
    right. Nothing but known classes is needed to choose it.
    """
    ours = np.sort(supports[right])
    return float(ours[math.floor(share * len(ours))]) if len(ours) else 0.0
