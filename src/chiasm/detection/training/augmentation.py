"""Normal parts under other light and at other angles, for networks trained from scratch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from chiasm.samples import PreparedSample


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random light and a random quarter turn of a normal part.

    A part is changed before an anomaly is added, so that the network's input and the clean part
    that it is to restore are changed alike.

    Attributes:
        gain: colours are multiplied by a factor within 1 +- ``gain``.
        offset: a constant within +- ``offset`` is added to colours, of a range from 0 to 1.
        tint: each channel's factor differs by up to +- ``tint`` from the others'.
        turns: whether the part is turned by 0, 90, 180 or 270 degrees.
    """

    gain: float = 0.25
    offset: float = 0.05
    tint: float = 0.05
    turns: bool = True

    def __call__(self, part: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the part under other light and at another angle."""
        if self.turns:
            part = turned(part, int(rng.integers(4)))
        factor = rng.uniform(1 - self.gain, 1 + self.gain) + rng.uniform(-self.tint, self.tint, 3)
        return lit(part, factor, float(rng.uniform(-self.offset, self.offset)))


def lit(part: PreparedSample, factor: np.ndarray, offset: float) -> PreparedSample:
    """Return a part with colours ``factor * rgb + offset`` on the object, within [0, 1].

    ``factor`` is a number or has one value per channel ``(3,)``. Geometry does not change.
    """
    if part.rgb is None:
        return part
    changed = np.clip(part.rgb * np.float32(factor) + np.float32(offset), 0, 1)
    return replace(part, rgb=np.where(part.foreground[..., None], changed, part.rgb))


def turned(part: PreparedSample, quarters: int) -> PreparedSample:
    """Return a part turned clockwise about the camera's axis by quarters of a full turn.

    No pixel is interpolated: four quarters return the part itself. Light and shadow turn too,
    which they would not in a real frame.
    """
    quarters %= 4
    if quarters == 0:
        return part
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]

    def grid(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(values, -quarters))

    def vectors(values: np.ndarray) -> np.ndarray:
        # Image and camera share their axes: x to the right, y down.
        out = grid(values)
        x, y = out[..., 0].copy(), out[..., 1].copy()
        out[..., 0], out[..., 1] = cosine * x - sine * y, sine * x + cosine * y
        return out

    plane = part.plane
    if plane is not None:
        a, b, c, d = plane
        plane = (cosine * a - sine * b, sine * a + cosine * b, c, d)
    return replace(
        part,
        rgb=None if part.rgb is None else grid(part.rgb),
        xyz=None if part.xyz is None else vectors(part.xyz),
        height=None if part.height is None else grid(part.height),
        normals=None if part.normals is None else vectors(part.normals),
        depth=None if part.depth is None else grid(part.depth),
        valid=grid(part.valid),
        foreground=grid(part.foreground),
        mask=None if part.mask is None else grid(part.mask),
        plane=plane,
    )
