"""From logits to a diagnosis: calibrated probabilities, opinions, and what is 'unknown'."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.mixture_forest import MixtureForest
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.packed_arrays import unpacked
from chiasm.diagnosis.preparation.recording_statistics import recording_statistics
from chiasm.errors import ChiasmError
from chiasm.fusion.evidence import Opinion, combine, conflict, opinion_from_evidence
from chiasm.metrics.calibration import softmax
from chiasm.samples import Diagnosis, RecordingSample

Array = NDArray[np.float64]

UNKNOWN = "unknown"
UnknownBy = Literal["distance", "belief", "both"]

_EVIDENCE = (
    "evidence of a class = max(0, p / g - 1), with p its calibrated probability by one modality "
    "alone and g the geometric mean of all classes' probabilities; opinions of the modalities are "
    "combined by Dempster's rule; "
)
_BELIEF = "'unknown' where the belief in the likeliest class is too small"
_DISTANCE = (
    "'unknown' where the statistics of the recording are too far from those of every trained class"
)
RULE = _EVIDENCE + _BELIEF  # of models that keep no distances
RULES: Mapping[UnknownBy, str] = {
    "distance": _EVIDENCE + _DISTANCE,
    "belief": RULE,
    "both": f"{_EVIDENCE}{_DISTANCE}, and {_BELIEF}",
}

# Standard deviations beyond which a statistic is no stranger: one alone is not to decide.
_STRANGEST = 10.0
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


@dataclass(frozen=True, slots=True)
class KnownClasses:
    """Where the recordings of the trained classes lie, by the statistics of one modality.

    Statistics are standardised, then mapped so that recordings of one class have the covariance 1:
    the coordinates. Arrays are text, see ``packed``.

    Attributes:
        kinds: K classes that training recordings have.
        centre, scale: ``(1, D)`` mean and standard deviation of the training recordings.
        mapping: ``(D, D)`` from standardised statistics to coordinates, one row an axis.
        means: ``(K, D)`` of the classes, in coordinates.
        lengths: by class, how far its recordings usually are from its mean (see ``measures``).
        angles: by class, by what angle they usually lie off its mean.
        mixtures: tells the classes from mixtures of them; None of a single class, and of earlier
            versions, which had none.

    References:
        Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS
        2018, Equation 2 (the length). Techapanurak et al., Hyperparameter-Free Out-of-Distribution
        Detection Using Cosine Similarity, ACCV 2020 (the angle).
    """

    kinds: tuple[str, ...]
    centre: str
    scale: str
    mapping: str
    means: str
    lengths: tuple[float, ...]
    angles: tuple[float, ...]
    mixtures: MixtureForest | None = None

    def measures(self, statistics: Array) -> tuple[Array, Array]:
        """Return lengths ``(N, K)`` and angles ``(N, K)`` from each class of ``(N, D)``.

        A length is the root mean square difference of the coordinates from the class's mean. An
        angle is one minus the cosine, seen from the mean of all recordings: what has a pattern that
        leads away from all classes is strange where it is near, too.
        """
        width = statistics.shape[1]
        points, means = self.points(statistics), unpacked(self.means, width)
        lengths = np.linalg.norm(points[:, None] - means[None], axis=2) / math.sqrt(width)
        return lengths, 1 - _directions(points) @ _directions(means).T

    def points(self, statistics: Array) -> Array:
        """Return the coordinates ``(N, D)`` of statistics."""
        width = statistics.shape[1]
        standard = (statistics - unpacked(self.centre, width)) / unpacked(self.scale, width)
        within = np.clip(standard, -_STRANGEST, _STRANGEST)
        return np.asarray(within @ unpacked(self.mapping, width).T)

    def distances(self, statistics: Array) -> Array:
        """Return the distances ``(N, K)`` of statistics ``(N, D)`` from each class.

        The length or the angle, whichever is larger against what the class's own recordings have,
        times the doubt of the forest: a recording is strange that is far from a class, or whose
        parts do not go together as those of the class do.
        """
        lengths, angles = self.measures(statistics)
        far = np.maximum(lengths / np.array(self.lengths), angles / np.array(self.angles))
        return far if self.mixtures is None else far * self.mixtures.doubts(statistics)


def joint_distances(
    known: Sequence[KnownClasses], statistics: Sequence[Array]
) -> tuple[Array, tuple[str, ...]]:
    """Return distances ``(N, K)`` by several modalities, and the names of the K classes.

    The largest of a class's distances: a recording is like a class if all that is known of it is.

    Args:
        known: of each modality.
        statistics: ``(N, D)`` of each modality.
    """
    kinds = tuple(k for k in known[0].kinds if all(k in other.kinds for other in known))
    parts = [
        one.distances(rows)[:, [one.kinds.index(kind) for kind in kinds]]
        for one, rows in zip(known, statistics)
    ]
    return np.max(parts, axis=0), kinds


def _directions(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


@dataclass(frozen=True, slots=True)
class UnknownRule:
    """When a recording is called 'unknown', chosen on held-out recordings of known classes.

    Attributes:
        by: ``distance`` from the trained classes, too small a ``belief``, or ``both``.
        share: of the right diagnoses of validation that may be called so.
        known: modality to where the trained classes lie; empty for ``belief``.
        limits: modalities that are present, e.g. ``"image+series"``, to the largest distance of a
            known recording.
        mains: whether series have a phase of the mains.
    """

    by: UnknownBy
    share: float
    known: Mapping[str, KnownClasses]
    limits: Mapping[str, float]
    mains: bool = True


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a recording is from the trained classes.

    Attributes:
        value: the distance from the nearest class.
        limit: above which it is 'unknown'.
        nearest: the class that is nearest.
    """

    value: float
    limit: float
    nearest: str

    @property
    def sentence(self) -> str:
        """What is said of a recording beyond the limit."""
        return (
            f"like none of the trained classes: nearest is {self.nearest}, distance "
            f"{self.value:.2f} against limit {self.limit:.2f}"
        )


def distance_of(
    sample: RecordingSample,
    form: RecordingForm,
    present: Sequence[str],
    rule: UnknownRule | None,
) -> Distance | None:
    """Return how far a recording is from the trained classes by some of its modalities.

    None where the model keeps no distances for these modalities.
    """
    limit = math.nan if rule is None else rule.limits.get("+".join(present), math.nan)
    if rule is None or math.isnan(limit):
        return None
    rows = [recording_statistics(sample, form, m, mains=rule.mains)[None] for m in present]
    distances, kinds = joint_distances([rule.known[m] for m in present], rows)
    nearest = int(distances[0].argmin())
    return Distance(float(distances[0, nearest]), limit, kinds[nearest])


def is_unknown(
    belief: float | Array, least: float | Array, distance: float | Array, limit: float | Array
) -> NDArray[np.bool_]:
    """Return whether recordings are 'unknown'; a distance or limit of NaN decides nothing."""
    return np.asarray((np.asarray(belief) < least) | (np.asarray(distance) > limit))


def diagnosis_from_logits(
    single: Mapping[str, Array],
    joint: Array,
    *,
    kinds: Sequence[str],
    temperatures: Mapping[str, float],
    unknown_below: Mapping[str, float],
    distance: Distance | None = None,
    source: str = "",
    notes: tuple[str, ...] = (),
) -> Diagnosis:
    """Return the diagnosis of one recording.

    Args:
        single: modality to its logits ``(K,)``, of those that are present.
        joint: logits ``(K,)`` of all of them together.
        kinds: names of the classes.
        temperatures, unknown_below: by the modalities that are present, e.g. ``"image+series"``.
        distance: from the trained classes; None of a model that keeps none.
        source: path of the recording.
        notes: remarks.
    """
    key = "+".join(single)
    probabilities = softmax(joint, temperature=temperatures.get(key, 1.0))
    by_modality = {m: temperatures.get(m, 1.0) for m in single}
    opinion, opinions = combined_opinion(single, by_modality)
    belief, least = float(support(opinion, probabilities)), unknown_below.get(key, 0.0)
    likeliest = kinds[int(probabilities.argmax())]
    far = distance or Distance(math.nan, math.nan, "")
    if far.value > far.limit:
        notes = (*notes, far.sentence)
    elif distance is not None and belief < least:
        notes = (
            *notes,
            f"the evidence is too weak: belief {belief:.2f} in {likeliest}, {least:.2f} is needed",
        )
    return Diagnosis(
        source=source,
        kind=UNKNOWN if is_unknown(belief, least, far.value, far.limit) else likeliest,
        probabilities=_named(kinds, probabilities),
        opinions={
            m: _named(kinds, softmax(z, temperature=by_modality[m])) for m, z in single.items()
        },
        uncertainty=float(opinion.uncertainty),
        conflict=float(conflict(*opinions)) if len(opinions) == 2 else math.nan,
        notes=notes,
        distance=far.value,
        distance_limit=far.limit,
        nearest_kind=far.nearest,
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
