"""From logits to a diagnosis: calibrated probabilities, opinions, and the bound of 'unknown'."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ChiasmError
from chiasm.fusion.evidence import Opinion, combine, conflict, opinion_from_evidence
from chiasm.metrics.calibration import softmax
from chiasm.samples import Diagnosis, RecordingSample

Array = NDArray[np.float64]

RULE = (
    "evidence of a class = max(0, p / g - 1), with p its calibrated probability by one modality "
    "alone and g the geometric mean of all classes' probabilities; opinions of the modalities are "
    "combined by Dempster's rule; 'unknown' where the belief in the likeliest class is too small"
)
# Evidence above e^12 leaves no uncertainty in float32.
_LARGEST_LOGIT = 12.0


def evidence_from_logits(logits: Array, temperature: float) -> Array:
    """Return evidence ``(..., K)``, float64: the likelihood over the classes' mean, minus one.

    ``max(0, exp(z) - 1)`` with ``z`` the logits over the temperature, minus their mean over the
    classes: equal logits are no evidence, whatever their value.
    """
    z = logits / temperature
    z = np.minimum(z - z.mean(axis=-1, keepdims=True), _LARGEST_LOGIT)
    return np.asarray(np.maximum(np.expm1(z), 0))


def combined_opinion(
    logits: Mapping[str, Array], temperatures: Mapping[str, float]
) -> tuple[Opinion, tuple[Opinion, ...]]:
    """Return the combined opinion and each modality's, for logits ``(..., K)`` by modality."""
    single = tuple(
        opinion_from_evidence(evidence_from_logits(z, temperatures[name]))
        for name, z in logits.items()
    )
    joint = single[0]
    for other in single[1:]:
        joint = combine(joint, other)
    return joint, single


def support(opinion: Opinion, probabilities: Array) -> Array:
    """Return an opinion's belief ``(...)`` in the likeliest class of ``(..., K)``."""
    likeliest = probabilities.argmax(axis=-1)
    belief: Array = np.take_along_axis(opinion.belief, likeliest[..., None], axis=-1)[..., 0]
    return belief


def weakest_accepted(supports: Array, right: NDArray[np.bool_], *, share: float) -> float:
    """Return the support below which a diagnosis is 'unknown'.

    That is the largest value that rejects at most ``share`` of the right diagnoses; 0 if none is
    right. Recordings of known classes suffice to choose it.
    """
    accepted = np.sort(supports[right])
    return float(accepted[math.floor(share * len(accepted))]) if len(accepted) else 0.0


def diagnosis_from_logits(
    single: Mapping[str, Array],
    joint: Array,
    *,
    kinds: Sequence[str],
    temperatures: Mapping[str, float],
    unknown_below: Mapping[str, float],
    source: str = "",
    notes: tuple[str, ...] = (),
) -> Diagnosis:
    """Return the diagnosis of one recording.

    Args:
        single: modality to its logits ``(K,)``, of those that are present.
        joint: logits ``(K,)`` of all of them together.
        kinds: names of the classes.
        temperatures, unknown_below: by the modalities that are present, e.g. ``"image+series"``.
        source: path of the recording.
        notes: remarks.
    """
    key = "+".join(single)
    probabilities = softmax(joint, temperature=temperatures.get(key, 1.0))
    by_modality = {m: temperatures.get(m, 1.0) for m in single}
    opinion, opinions = combined_opinion(single, by_modality)
    accepted = float(support(opinion, probabilities)) >= unknown_below.get(key, 0.0)
    return Diagnosis(
        source=source,
        kind=kinds[int(probabilities.argmax())] if accepted else "unknown",
        probabilities=_named(kinds, probabilities),
        opinions={
            m: _named(kinds, softmax(z, temperature=by_modality[m])) for m, z in single.items()
        },
        uncertainty=float(opinion.uncertainty),
        conflict=float(conflict(*opinions)) if len(opinions) == 2 else math.nan,
        notes=notes,
    )


def _named(kinds: Sequence[str], probabilities: Array) -> dict[str, float]:
    return {kind: float(p) for kind, p in zip(kinds, probabilities)}


def predict_each(
    predict: Callable[[RecordingSample], Diagnosis],
    samples: Iterable[RecordingSample | tuple[str, RecordingSample | ChiasmError]],
) -> Iterator[Diagnosis]:
    """Diagnose recordings one by one; an error becomes a diagnosis with ``error`` and no kind.

    Args:
        predict: diagnoses one recording.
        samples: recordings, or pairs of a source and its recording or the error at reading it.
    """
    for item in samples:
        source, sample = item if isinstance(item, tuple) else (item.source, item)
        try:
            if isinstance(sample, ChiasmError):
                raise sample
            yield predict(sample)
        except ChiasmError as error:
            yield Diagnosis(source, None, error=str(error))
