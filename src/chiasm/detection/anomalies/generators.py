"""Synthetic anomalies: the paper's generator, mixtures of ours, and drawing them repeatably.

Training and validation draw from generators that have no family in common, because a score on the
generator that a network was trained with says little about real defects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np

from chiasm.detection.anomalies.appearance import FORMS as APPEARANCE_FORMS
from chiasm.detection.anomalies.appearance import AppearanceGenerator
from chiasm.detection.anomalies.geometric import FORMS as GEOMETRIC_FORMS
from chiasm.detection.anomalies.geometric import GeometricGenerator
from chiasm.detection.anomalies.perlin import perlin_mask
from chiasm.detection.anomalies.relief import apply_change
from chiasm.detection.anomalies.textures import TextureSource
from chiasm.detection.anomalies.transplant import (
    ContaminationGenerator,
    CutPasteScarGenerator,
    SelfPatchGenerator,
)
from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import FloatArray, PreparedSample


class AnomalyGenerator(Protocol):
    """What makes a defective sample out of a normal one.

    ``name`` becomes the sample's kind; ``family`` groups generators that resemble each other.
    """

    @property
    def name(self) -> str:
        """Kind of defect, e.g. ``"bump"``."""
        ...

    @property
    def family(self) -> str:
        """Group of related generators, e.g. ``"geometric"``."""
        ...

    def supports(self, sample: PreparedSample) -> bool:
        """Whether the sample has what this defect would show in."""
        ...

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with the defect added; unchanged if nothing would be visible."""
        ...


def as_clean(sample: PreparedSample) -> PreparedSample:
    """Return the sample marked as good: an empty mask, label 0, kind ``"good"``."""
    empty = np.zeros(sample.foreground.shape, dtype=bool)
    return replace(sample, mask=empty, label=0, kind="good")


@dataclass(frozen=True, slots=True)
class PaperGenerator:
    """Paste texture into RGB and noise into depth under one Perlin mask.

    Source: EasyNet's anomaly generator, steps 1 to 5. The paper replaces min-max depth by the
    noise; here the points move along their lines of sight to the camera distance that this depth
    stands for, so that height and normals follow. The mask is confined to the object. Now and then
    it is empty, and the sample comes back unchanged.

    Attributes:
        textures: where the pasted texture comes from.
        opacity: the texture's weight is ``1 - beta`` with beta uniform on [0, ``opacity``].
    """

    textures: TextureSource = field(default_factory=TextureSource)
    opacity: float = 0.8
    name: ClassVar[str] = "perlin"
    family: ClassVar[str] = "paper"

    def supports(self, sample: PreparedSample) -> bool:
        """True for any sample that shows an object."""
        return bool(sample.foreground.any())

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with a pasted defect, or unchanged if the mask misses the object."""
        shape = (sample.foreground.shape[0], sample.foreground.shape[1])
        islands, noise = perlin_mask(shape, rng)
        mask = islands & sample.foreground
        if not mask.any():
            return sample
        rgb = None
        if sample.rgb is not None:
            texture = self.textures.draw_augmented(shape, rng)
            beta = np.float32(rng.uniform(0.0, self.opacity))
            rgb = (1 - beta) * texture + beta * sample.rgb
        delta = None
        if sample.xyz is not None and sample.depth is not None and sample.valid.any():
            delta = _replaced_depth(sample, noise)
        everything = slice(0, shape[0]), slice(0, shape[1])
        return apply_change(sample, *everything, rgb=rgb, delta=delta, mask=mask, kind=self.name)


def _replaced_depth(sample: PreparedSample, noise: FloatArray) -> FloatArray:
    """Gain of height ``(H, W)`` that gives each point the min-max depth ``noise``."""
    assert sample.xyz is not None
    z = sample.xyz[..., 2]
    seen = z[sample.valid]
    near, far = float(seen.min()), float(seen.max())
    target = near + noise * np.float32(far - near)
    normal = np.array(sample.plane[:3] if sample.plane else (0.0, 0.0, -1.0), dtype=np.float32)
    along = sample.xyz @ normal  # negative: the plane's normal looks at the camera
    stretch = np.where(sample.valid, target / np.where(z > 0, z, 1.0) - 1.0, 0.0)
    return np.asarray(along * stretch, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class MixedGenerator:
    """Draw among several generators by weight, put one to three defects, or leave the part clean.

    Attributes:
        parts: pairs of generator and weight.
        probability: chance that a sample becomes defective at all.
        more: chance of one further defect of the same generator, asked again after each (three
            at most).
        name: of the mixture; the sample's kind is that of the generator drawn.

    Raises ``ConfigurationError`` without parts, or for weights or chances out of range.
    """

    parts: Sequence[tuple[AnomalyGenerator, float]]
    probability: float = 0.5
    more: float = 0.35
    name: str = "mixture"

    def __post_init__(self) -> None:
        weights = [weight for _, weight in self.parts]
        if not weights or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigurationError(
                f"A mixture of anomaly generators has the weights {weights}; give at least one "
                "generator with a positive weight, and none with a negative one."
            )
        for chance in (self.probability, self.more):
            if not 0.0 <= chance <= 1.0:
                raise ConfigurationError(
                    f"The chance {chance} of a synthetic anomaly does not lie between 0 and 1."
                )

    @property
    def family(self) -> str:
        """The families of the parts, joined by ``+``."""
        return "+".join(sorted(self.families))

    @property
    def families(self) -> frozenset[str]:
        """The families of the parts that can be drawn."""
        return frozenset(part.family for part, weight in self.parts if weight > 0)

    def supports(self, sample: PreparedSample) -> bool:
        """True if any of the parts can be used on the sample."""
        return any(part.supports(sample) for part, _ in self.parts)

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return a defective sample, or a clean one with an empty mask and label 0."""
        clean = as_clean(sample)
        usable = [(p, w) for p, w in self.parts if w > 0 and p.supports(sample)]
        if rng.random() >= self.probability or not usable:
            return clean
        weights = np.array([weight for _, weight in usable])
        part = usable[rng.choice(len(usable), p=weights / weights.sum())][0]
        result = part(clean, rng)
        for _ in range(2):
            # The paper's masks hold many islands already, and may be empty by its own rule.
            if part.family == PaperGenerator.family or rng.random() >= self.more:
                break
            result = part(result, rng)
        return result


def training_generator(
    textures: TextureSource | None = None,
    probability: float = 0.5,
    *,
    paper: float = 0.35,
    geometric: float = 0.45,
    appearance: float = 0.2,
) -> MixedGenerator:
    """The mixture that detectors are trained with: the paper's, shape, and appearance.

    ``textures`` None means built-in ones; ``paper``, ``geometric`` and ``appearance`` are weights,
    shared equally among the forms of each. ``paper=1, geometric=0, appearance=0`` is the paper.
    """
    shapes = GEOMETRIC_FORMS
    colours = APPEARANCE_FORMS
    parts: list[tuple[AnomalyGenerator, float]] = [
        (PaperGenerator(textures or TextureSource()), paper),
        *((GeometricGenerator(form), geometric / len(shapes)) for form in shapes),
        *((AppearanceGenerator(form), appearance / len(colours)) for form in colours),
    ]
    return MixedGenerator(tuple(parts), probability, name="training")


def validation_generator(probability: float = 0.5) -> MixedGenerator:
    """The mixture that genotypes are compared with; no family in common with training."""
    parts: tuple[tuple[AnomalyGenerator, float], ...] = (
        (SelfPatchGenerator(), 0.45),
        (ContaminationGenerator(), 0.35),
        (CutPasteScarGenerator(), 0.2),
    )
    return MixedGenerator(parts, probability, name="validation")


def synthesise(
    sample: PreparedSample, generator: AnomalyGenerator, *, seed: int, epoch: int, index: int
) -> PreparedSample:
    """Apply a generator with randomness that depends on (seed, epoch, index) alone.

    The result is the same in any worker, in any order. Where nothing visible came out, the sample
    is returned clean: empty mask, label 0. Raises ``DataError`` for a sample that is defective
    already.
    """
    if sample.label == 1 or (sample.mask is not None and bool(sample.mask.any())):
        raise DataError(
            f"A synthetic anomaly was asked for on {sample.source or 'a sample'}, which is "
            "labelled defective; only normal samples may be used."
        )
    result = generator(as_clean(sample), np.random.default_rng((seed, epoch, index)))
    return result if result.mask is not None and result.mask.any() else as_clean(result)
