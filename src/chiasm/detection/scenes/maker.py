"""The built-in maker of RGB + 3D parts: rendered products, good and defective, as MVTec files."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from chiasm.detection.scenes.defects import DEFECT_VISIBILITY, DEFECTS, PROUD_MM, spoil
from chiasm.detection.scenes.housings import bracket, cap, connector
from chiasm.detection.scenes.rendering import FIELD_MM, PLAN_MM, camera_above, light_over
from chiasm.detection.scenes.sensor import measure, photograph
from chiasm.detection.scenes.shapes import biscuit, flange, gear
from chiasm.detection.scenes.surface import Frame, Rng, Surface, frame_at, painted, patches
from chiasm.detection.scenes.view import Stage, View
from chiasm.errors import ConfigurationError
from chiasm.files.images import write_mask, write_rgb, write_xyz
from chiasm.samples import RGBDSample

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

_PLAN_PER_PIXEL = 1.35

# A defect that can hardly be seen where it was drawn is drawn anew, larger.
_LEAST_SHARE = 0.003

_GROWTH = (1.0, 1.3, 1.7, 2.2, 2.8)


def render_view(kind: str, defect: str, seed: int, size: int = 256) -> View:
    """Render a scene without sensor effects.

    The good part of the same seed has the same pose, material, light and background, and equals
    the defective one outside ``mask``: shadows that a defect throws beyond it are left out.
    Raises ``ConfigurationError`` for an unknown kind or defect, or a size under 32.
    """
    _check(kind, defect, size)
    settings = _rng(seed, "settings")
    exposure = float(np.exp(settings.normal(0, 0.11)))
    around = settings.uniform(0, 2 * np.pi)
    points = round(_PLAN_PER_PIXEL * size * PLAN_MM / FIELD_MM)
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
    stage = Stage(
        ground=support(made.height.shape, per_mm, _rng(seed, "background")),
        camera=camera_above(size, _rng(seed, "camera")),
        light=light_over(_rng(seed, "light")),
        projector=(0.28 * np.cos(around), 0.28 * np.sin(around), 0.96),
        exposure=exposure,
        top=float(made.height.max()) + PROUD_MM,
    )
    if defect == GOOD:
        return stage.view_good(made)
    draw = _rng(seed, "defect")
    for growth in _GROWTH:
        spoilt = spoil(made, defect, per_mm, draw, growth)
        view = stage.view_defect(made, spoilt, DEFECT_VISIBILITY[defect])
        if view.mask.sum() >= _LEAST_SHARE * view.part.sum():
            break
    return view


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


_COLOURS = (
    (0.16, 0.16, 0.165),
    (0.055, 0.10, 0.17),
    (0.05, 0.125, 0.085),
    (0.30, 0.29, 0.27),
    (0.085, 0.08, 0.078),
)


def support(shape: tuple[int, int], per_mm: float, rng: Rng) -> Surface:
    """Draw the flat support of a scene: colour, weave or grain, and stains of long use."""
    colour = np.array(_COLOURS[rng.integers(len(_COLOURS))]) * (1 + rng.normal(0, 0.06, 3))
    colour = colour * (1 + rng.normal(0, 0.10))
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(2.2, 3.6)
    line = np.arange(shape[0], dtype=np.float32) / np.float32(per_mm)
    along = np.cos(turn) * line[None, :] + np.sin(turn) * line[:, None]
    across = np.cos(turn) * line[:, None] - np.sin(turn) * line[None, :]
    wave = np.float32(2 * np.pi / pitch)
    weave = np.sin(wave * along) * np.sin(wave * across) * np.float32(rng.uniform(0, 0.07))
    worn = rng.uniform(0.02, 0.06) * patches(shape, 16 * per_mm, rng)
    grain = rng.uniform(0.02, 0.05) * patches(shape, 0.9 * per_mm, rng)
    albedo = painted(colour, shape, (weave + worn + grain).astype(np.float32))
    flat = np.zeros(shape, dtype=np.float32)
    return Surface(flat, albedo.astype(np.float32), flat, flat + np.float32(0.04), flat)
