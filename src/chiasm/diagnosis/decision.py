"""From logits to a diagnosis: calibrated probabilities, opinions, and when evidence is too weak."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.fusion.evidence import Opinion, combine, conflict, opinion_from_evidence
from chiasm.metrics.calibration import softmax
from chiasm.samples import Diagnosis

Array = NDArray[np.float64]

RULE = (
    "evidence of a class = max(0, p / g - 1), with p its calibrated probability by one modality "
    "alone and g the geometric mean of all classes' probabilities; opinions of the modalities are "
    "combined by Dempster's rule; 'unknown' where the belief in the likeliest class is too small"
)
# Beyond e^12 evidence leaves no uncertainty in a figure of float32.
_MOST = 12.0


def evidence_from_logits(logits: Array, temperature: float) -> Array:
    """Evidence ``(..., K)``, float64: how many times likelier than the classes' mean, less one.

    ``max(0, exp(z) - 1)`` with ``z`` the logits over the temperature, less their mean over the
    classes: logits that are all alike are no evidence at all, whatever they are.
    """
    z = logits / temperature
    z = np.minimum(z - z.mean(axis=-1, keepdims=True), _MOST)
    return np.asarray(np.maximum(np.expm1(z), 0))


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
    out: Array = np.take_along_axis(opinion.belief, guess[..., None], axis=-1)[..., 0]
    return out


def weakest_accepted(supports: Array, right: NDArray[np.bool_], *, share: float) -> float:
    """The support below which a diagnosis is 'unknown'.

    The largest value that turns at most ``share`` of the right diagnoses away; 0 where none is
    right. Nothing but known classes is needed to choose it.
    """
    ours = np.sort(supports[right])
    return float(ours[math.floor(share * len(ours))]) if len(ours) else 0.0


def diagnosis_from_logits(
    alone: Mapping[str, Array],
    joint: Array,
    *,
    kinds: Sequence[str],
    temperatures: Mapping[str, float],
    unknown_below: Mapping[str, float],
    source: str = "",
    notes: tuple[str, ...] = (),
) -> Diagnosis:
    """What the logits of one recording say.

    Args:
        alone: modality that is there to logits ``(K,)`` of that one alone.
        joint: ``(K,)`` of all that are there.
        kinds: names of the classes.
        temperatures, unknown_below: by the modalities that are there, e.g. ``"image+series"``.
        source: path of the recording.
        notes: remarks.
    """
    key = "+".join(alone)
    probabilities = softmax(joint, temperature=temperatures.get(key, 1.0))
    own = {m: temperatures.get(m, 1.0) for m in alone}
    opinion, single = combined_opinion(alone, own)
    known = float(support(opinion, probabilities)) >= unknown_below.get(key, 0.0)
    return Diagnosis(
        source=source,
        kind=kinds[int(probabilities.argmax())] if known else "unknown",
        probabilities=_named(kinds, probabilities),
        opinions={m: _named(kinds, softmax(one, temperature=own[m])) for m, one in alone.items()},
        uncertainty=float(opinion.uncertainty),
        conflict=float(conflict(*single)) if len(single) == 2 else math.nan,
        notes=notes,
    )


def _named(kinds: Sequence[str], probabilities: Array) -> dict[str, float]:
    return {kind: float(p) for kind, p in zip(kinds, probabilities)}
