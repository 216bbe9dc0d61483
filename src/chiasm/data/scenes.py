"""The built-in maker of RGB + 3D parts: rendered products, good and defective, as MVTec files."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from chiasm.data.images import write_mask, write_rgb, write_xyz
from chiasm.data.scene_backgrounds import support
from chiasm.data.scene_defects import DEFECT_VISIBILITY, DEFECTS, spoil
from chiasm.data.scene_rendering import (
    PLAN_MM,
    Camera,
    Light,
    camera_above,
    light_over,
    look_up,
    points_at,
    shade,
    shadow,
    trace,
)
from chiasm.data.scene_sensor import measure, missing_chance, photograph, tone
from chiasm.data.scene_housings import bracket, cap, connector
from chiasm.data.scene_shapes import biscuit, flange, gear
from chiasm.data.scene_surface import Frame, Rng, Surface, blend, frame_at, rise
from chiasm.errors import ConfigurationError
from chiasm.samples import BoolArray, FloatArray, RGBDSample

GOOD = "good"
_PRODUCTS: dict[str, Callable[[Frame, Rng], Surface]] = {
    "flange": flange,
    "gear": gear,
    "biscuit": biscuit,
    "connector": connector,
    "cap": cap,
    "bracket": bracket,
}
PRODUCTS = tuple(_PRODUCTS)

_PLAN_PER_PIXEL = 1.5
# Differences below these are invisible next to the sensors' noise.
_SEEN_TONE = 5 / 255
_SEEN_MM = 0.12


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A scene before the sensors: what an ideal camera would see.

    Attributes:
        colour: ``(S, S, 3)`` float32, linear light.
        points: ``(S, S, 3)`` float32, metres in the camera frame.
        chance: ``(S, S)`` float32 in [0, 1], chance of a missing 3D point.
        part: ``(S, S)`` bool, the part and what lies on it.
        mask: ``(S, S)`` bool, the defect; all False for a good part.
        exposure: factor of the colour camera.
    """

    colour: FloatArray
    points: FloatArray
    chance: FloatArray
    part: BoolArray
    mask: BoolArray
    exposure: float


def render_view(kind: str, defect: str, seed: int, size: int = 256) -> View:
    """Render a scene without sensor effects.

    The good part of the same seed has the same pose, material, light and background, and equals
    the defective one outside ``mask``: shadows that a defect throws beyond it are left out.
    Raises ``ConfigurationError`` for an unknown kind or defect, or a size under 32.
    """
    _check(kind, defect, size)
    camera, light = camera_above(size, _rng(seed, "camera")), light_over(_rng(seed, "light"))
    settings = _rng(seed, "settings")
    exposure = float(np.exp(settings.normal(0, 0.11)))
    around = settings.uniform(0, 2 * np.pi)
    projector = (0.28 * np.cos(around), 0.28 * np.sin(around), 0.96)
    points = round(_PLAN_PER_PIXEL * size * PLAN_MM / 124.0)
    per_mm = points / PLAN_MM
    pose = _rng(seed, "pose")
    frame = frame_at(
        points,
        per_mm,
        turn=pose.uniform(0, 2 * np.pi),
        centre=(pose.normal(0, 2.5), pose.normal(0, 2.5)),
        stretch=1 + float(np.clip(pose.normal(0, 0.015), -0.04, 0.04)),
    )
    made = _PRODUCTS[kind](frame, _rng(seed, "shape"))
    ground = support(made.height.shape, per_mm, _rng(seed, "background"))
    look = partial(_look, ground=ground, camera=camera, light=light, projector=projector)
    if defect == GOOD:
        return replace(look(made, top=_top(made)), exposure=exposure)
    spoilt = spoil(made, defect, per_mm, _rng(seed, "defect"))
    top = max(_top(made), _top(spoilt))
    good, bad = look(made, top=top), look(spoilt, top=top)
    return replace(_merge(good, bad, DEFECT_VISIBILITY[defect], exposure), exposure=exposure)


def render_scene(kind: str, defect: str, seed: int, size: int = 256) -> RGBDSample:
    """Render one part as the sensors see it.

    ``kind`` is one of ``PRODUCTS``; ``defect`` is ``"good"`` or one of ``DEFECTS``. Returns
    ``size`` by ``size`` pixels; equal arguments give equal samples. Raises ``ConfigurationError``
    for an unknown kind or defect, or a size under 32.
    """
    view = render_view(kind, defect, seed, size)
    rgb = photograph(view.colour, view.exposure, _rng(seed, "picture"))
    xyz, valid = measure(view.points, view.chance, _rng(seed, "cloud"))
    return RGBDSample(
        rgb=rgb,
        xyz=xyz,
        valid=valid,
        mask=view.mask,
        label=int(defect != GOOD),
        kind=defect,
        group=kind,
    )


def make_scenes(
    folder: Path | str,
    *,
    kinds: Sequence[str] | None = None,
    train: int = 60,
    validation: int = 20,
    test_good: int = 40,
    test_per_defect: int = 10,
    size: int = 256,
    seed: int = 0,
    workers: int = 1,
) -> list[Path]:
    """Write rendered parts in the MVTec 3D-AD layout, one category a kind of product.

    ``folder/<kind>/{train,validation,test}/<good or defect>/{rgb,xyz,gt}/NNN``: 8-bit PNG,
    float32 TIFF in metres with 0 for missing points, and masks of 0 and 255. A sample depends on
    the seed, its kind, split, defect and number alone, not on how many are made nor by how many
    ``workers``. Returns the categories' folders. Raises ``ConfigurationError`` for an unknown
    kind, a negative count or a size under 32.
    """
    chosen = PRODUCTS if kinds is None else tuple(kinds)
    counts = {"train": train, "validation": validation, "test_good": test_good}
    counts["test_per_defect"] = test_per_defect
    for name, count in counts.items():
        if count < 0:
            raise ConfigurationError(f"{name}={count} is negative; give a number of parts.")
    for kind in chosen:
        _check(kind, GOOD, size)
    jobs = [
        (Path(folder) / kind, split, defect, number)
        for kind in chosen
        for split, defect, count in _plan(train, validation, test_good, test_per_defect)
        for number in range(count)
    ]
    write = partial(_write, size=size, seed=seed)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(write, jobs, chunksize=8))
    else:
        for job in jobs:
            write(job)
    return [Path(folder) / kind for kind in chosen]


def _plan(train: int, validation: int, good: int, bad: int) -> Iterator[tuple[str, str, int]]:
    yield from (("train", GOOD, train), ("validation", GOOD, validation), ("test", GOOD, good))
    yield from (("test", defect, bad) for defect in DEFECTS)


def _write(job: tuple[Path, str, str, int], size: int, seed: int) -> None:
    root, split, defect, number = job
    own = np.random.SeedSequence([seed, *map(_number, (root.name, split, defect)), number])
    sample = render_scene(root.name, defect, int(own.generate_state(1, np.uint64)[0]), size)
    assert sample.rgb is not None and sample.xyz is not None and sample.mask is not None
    folder, name = root / split / defect, f"{number:03d}"
    write_rgb(folder / "rgb" / f"{name}.png", sample.rgb)
    write_xyz(folder / "xyz" / f"{name}.tiff", sample.xyz)
    write_mask(folder / "gt" / f"{name}.png", sample.mask)


def _look(
    surface: Surface,
    *,
    ground: Surface,
    camera: Camera,
    light: Light,
    projector: tuple[float, float, float],
    top: float,
) -> View:
    """Render one surface lying on the ground."""
    cover = rise(surface.part * np.float32(2.0))
    scene = Surface(
        surface.height,
        blend(ground.albedo, surface.albedo, cover),
        blend(ground.metal, surface.metal, cover),
        blend(ground.gloss, surface.gloss, cover),
        surface.part,
        surface.across,
    )
    colour, highlight = shade(scene, light)
    per_mm = surface.height.shape[0] / PLAN_MM
    hidden = rise(shadow(surface.height, projector, per_mm, 0.3 * top + 1) / np.float32(0.8))
    height = trace(surface.height, camera, top)
    seen = look_up(np.dstack([colour, highlight, hidden, scene.part]), camera, height)
    points = points_at(height, camera)
    part = (seen[..., 5] > 0.5) | (height > 0.4)
    return View(
        colour=cv2.GaussianBlur(seen[..., :3], (0, 0), 0.45),
        points=points,
        chance=missing_chance(points, seen[..., 3], seen[..., 4]),
        part=part,
        mask=np.zeros(part.shape, dtype=bool),
        exposure=1.0,
    )


def _merge(good: View, bad: View, visible: frozenset[str], exposure: float) -> View:
    """Put the defect into the good view where, and in what, it can be seen."""
    differs = np.zeros(good.part.shape, dtype=bool)
    if "rgb" in visible:
        tones = np.abs(tone(bad.colour, exposure) - tone(good.colour, exposure))
        differs |= tones.max(axis=2) > _SEEN_TONE
    if "3d" in visible:
        lifted = np.abs(bad.points[..., 2] - good.points[..., 2])
        differs |= lifted > np.float32(_SEEN_MM / 1000)
    mask = differs & (good.part | bad.part)
    in_rgb, in_3d = mask & ("rgb" in visible), mask & ("3d" in visible)
    return View(
        colour=np.where(in_rgb[..., None], bad.colour, good.colour).astype(np.float32),
        points=np.where(in_3d[..., None], bad.points, good.points),
        chance=np.where(in_3d, bad.chance, good.chance),
        part=good.part | (bad.part & mask),
        mask=mask,
        exposure=exposure,
    )


def _top(surface: Surface) -> float:
    return float(surface.height.max()) + 0.5


def _rng(seed: int, purpose: str) -> Rng:
    # One stream a purpose: what is drawn for one never shifts what is drawn for another.
    return np.random.default_rng([seed, _number(purpose)])


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _check(kind: str, defect: str, size: int) -> None:
    if kind not in _PRODUCTS:
        raise ConfigurationError(
            f"'{kind}' is no built-in product; choose from {', '.join(PRODUCTS)}."
        )
    if defect != GOOD and defect not in DEFECTS:
        raise ConfigurationError(
            f"'{defect}' is no built-in defect; choose good or {', '.join(DEFECTS)}."
        )
    if size < 32:
        raise ConfigurationError(f"size={size} is too small to show a part; give at least 32.")
