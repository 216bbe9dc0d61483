"""Synthetic anomalies: the paper's generator, mixtures of generators, and repeatable draws.

Training and validation use generators without a common family, because a score on the generator
of the training says little about real defects.
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
    """A generator of defective samples from normal ones.

    ``name`` becomes the sample's kind; ``family`` groups similar generators.
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
        """Return whether this defect can be visible in the sample."""
        ...

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with the defect, or unchanged if the defect is not visible."""
        ...


def as_clean(sample: PreparedSample) -> PreparedSample:
    """Return the sample marked as good: an empty mask, label 0, kind ``"good"``."""
    empty = np.zeros(sample.foreground.shape, dtype=bool)
    return replace(sample, mask=empty, label=0, kind="good")


@dataclass(frozen=True, slots=True)
class PaperGenerator:
    """Paste texture into RGB and noise into depth under one Perlin mask.

    Source: EasyNet's anomaly generator, steps 1 to 5. The paper replaces min-max depth by the
    noise; here the points move along their lines of sight to the camera distance of that depth,
    and height and normals follow. The mask is restricted to the object. If it is empty, the sample
    is returned unchanged.

    Attributes:
        textures: source of the pasted texture.
        opacity: the texture's weight is ``1 - beta`` with beta uniform on [0, ``opacity``].
    """

    textures: TextureSource = field(default_factory=TextureSource)
    opacity: float = 0.8
    name: ClassVar[str] = "perlin"
    family: ClassVar[str] = "paper"

    def supports(self, sample: PreparedSample) -> bool:
        """Return whether the sample shows an object."""
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
            delta = _delta_to_depth(sample, noise)
        window = slice(0, shape[0]), slice(0, shape[1])
        return apply_change(sample, *window, rgb=rgb, delta=delta, mask=mask, kind=self.name)


def _delta_to_depth(sample: PreparedSample, depth: FloatArray) -> FloatArray:
    """Return the gain of height ``(H, W)`` that moves each point to a min-max ``depth``."""
    assert sample.xyz is not None
    z = sample.xyz[..., 2]
    measured = z[sample.valid]
    near, far = float(measured.min()), float(measured.max())
    target = near + depth * np.float32(far - near)
    normal = np.array(sample.plane[:3] if sample.plane else (0.0, 0.0, -1.0), dtype=np.float32)
    along = sample.xyz @ normal  # negative: the plane's normal points at the camera
    stretch = np.where(sample.valid, target / np.where(z > 0, z, 1.0) - 1.0, 0.0)
    return np.asarray(along * stretch, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class MixedGenerator:
    """Draw one of several generators by weight and add one to three defects, or none.

    Attributes:
        components: pairs of generator and weight.
        probability: of a defect in a sample.
        repetition: probability of each further defect of the same generator, up to three
            defects.
        name: of the mixture; the sample's kind is the name of the drawn generator.

    Raises ``ConfigurationError`` without components, or for weights or probabilities out of range.
    """

    components: Sequence[tuple[AnomalyGenerator, float]]
    probability: float = 0.5
    repetition: float = 0.35
    name: str = "mixture"

    def __post_init__(self) -> None:
        weights = [weight for _, weight in self.components]
        if not weights or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigurationError(
                f"A mixture of anomaly generators has the weights {weights}; give at least one "
                "generator with a positive weight, and none with a negative one."
            )
        for probability in (self.probability, self.repetition):
            if not 0.0 <= probability <= 1.0:
                raise ConfigurationError(
                    f"The probability {probability} of a synthetic anomaly is not between 0 and 1."
                )

    @property
    def family(self) -> str:
        """The families of the components, joined by ``+``."""
        return "+".join(sorted(self.families))

    @property
    def families(self) -> frozenset[str]:
        """The families of the components that can be drawn."""
        return frozenset(generator.family for generator, weight in self.components if weight > 0)

    def supports(self, sample: PreparedSample) -> bool:
        """Return whether any component supports the sample."""
        return any(generator.supports(sample) for generator, _ in self.components)

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return a defective sample, or a clean one with an empty mask and label 0."""
        clean = as_clean(sample)
        usable = [(g, w) for g, w in self.components if w > 0 and g.supports(sample)]
        if rng.random() >= self.probability or not usable:
            return clean
        weights = np.array([weight for _, weight in usable])
        generator = usable[rng.choice(len(usable), p=weights / weights.sum())][0]
        result = generator(clean, rng)
        for _ in range(2):
            # The paper's masks already hold many islands, and may be empty by the paper's rule.
            if generator.family == PaperGenerator.family or rng.random() >= self.repetition:
                break
            result = generator(result, rng)
        return result


def training_generator(
    textures: TextureSource | None = None,
    probability: float = 0.5,
    *,
    paper: float = 0.35,
    geometric: float = 0.45,
    appearance: float = 0.2,
    smallest: float = 0.001,
) -> MixedGenerator:
    """Return the mixture for training: the paper's generator, shape and appearance.

    ``textures`` None takes the built-in ones. ``paper``, ``geometric`` and ``appearance`` are
    weights, divided equally among the forms. ``paper=1, geometric=0, appearance=0`` is the paper.
    ``smallest`` is the smallest area of a defect of shape or appearance, as a share of the part.
    """
    components: list[tuple[AnomalyGenerator, float]] = [
        (PaperGenerator(textures or TextureSource()), paper),
        *(
            (GeometricGenerator(f, smallest), geometric / len(GEOMETRIC_FORMS))
            for f in GEOMETRIC_FORMS
        ),
        *(
            (AppearanceGenerator(f, smallest), appearance / len(APPEARANCE_FORMS))
            for f in APPEARANCE_FORMS
        ),
    ]
    return MixedGenerator(tuple(components), probability, name="training")


def validation_generator(probability: float = 0.5) -> MixedGenerator:
    """Return the mixture for comparing genotypes; it has no family in common with training."""
    components: tuple[tuple[AnomalyGenerator, float], ...] = (
        (SelfPatchGenerator(), 0.45),
        (ContaminationGenerator(), 0.35),
        (CutPasteScarGenerator(), 0.2),
    )
    return MixedGenerator(components, probability, name="validation")


def synthesise(
    sample: PreparedSample, generator: AnomalyGenerator, *, seed: int, epoch: int, index: int
) -> PreparedSample:
    """Apply a generator with random draws that depend on (seed, epoch, index) alone.

    The result is the same in any worker and any order. Without a visible defect the sample is
    returned clean: empty mask, label 0. Raises ``DataError`` for a defective sample.
    """
    if sample.label == 1 or (sample.mask is not None and bool(sample.mask.any())):
        raise DataError(
            f"A synthetic anomaly cannot be added to {sample.source or 'a sample'}, which is "
            "labelled defective; use normal samples only."
        )
    result = generator(as_clean(sample), np.random.default_rng((seed, epoch, index)))
    return result if result.mask is not None and result.mask.any() else as_clean(result)
