"""Render RGB + 3D parts, good and defective, and write them in the MVTec 3D-AD layout."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from chiasm.detection.scenes.defects import DEFECT_VISIBILITY, DEFECTS, MAX_RISE_MM, add_defect
from chiasm.detection.scenes.housings import bracket, cap, connector
from chiasm.detection.scenes.rendering import FIELD_MM, PLAN_MM, random_camera, random_light
from chiasm.detection.scenes.sensor import measure_points, take_photo
from chiasm.detection.scenes.shapes import biscuit, flange, gear
from chiasm.detection.scenes.surface import Frame, Rng, Surface, frame_at, painted, patches
from chiasm.detection.scenes.view import Stage, View
from chiasm.errors import ConfigurationError
from chiasm.files.images import write_mask, write_rgb, write_xyz
from chiasm.samples import RGBDSample
from chiasm.training.progress import counted

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

# A defect that covers less than this share of the part is drawn again, larger.
_MIN_SHARE = 0.003

_GROWTH = (1.0, 1.3, 1.7, 2.2, 2.8)


def render_view(
    product: str, defect: str, seed: int, size: int = 256, *, defect_area: float = 1.0
) -> View:
    """Render a scene without sensor effects.

    The good part of the same seed has the same pose, material, light and background. The two
    views are equal outside ``mask``: shadows that the defect casts beyond it are omitted.
    ``defect_area`` multiplies the area that is usual of the defect. Raises ``ConfigurationError``
    for an unknown product or defect, or a size under 32.
    """
    _check(product, defect, size)
    sensors = _rng(seed, "settings")
    exposure = float(np.exp(sensors.normal(0, 0.11)))
    azimuth = sensors.uniform(0, 2 * np.pi)
    points = round(_PLAN_PER_PIXEL * size * PLAN_MM / FIELD_MM)
    per_mm = points / PLAN_MM
    pose = _rng(seed, "pose")
    frame = frame_at(
        points,
        per_mm,
        rotation=pose.uniform(0, 2 * np.pi),
        centre=(pose.normal(0, 2.5), pose.normal(0, 2.5)),
        stretch=1 + float(np.clip(pose.normal(0, 0.015), -0.04, 0.04)),
    )
    good = _PRODUCTS[product](frame, _rng(seed, "shape"))
    stage = Stage(
        ground=support(good.height.shape, per_mm, _rng(seed, "background")),
        camera=random_camera(size, _rng(seed, "camera")),
        light=random_light(_rng(seed, "light")),
        projector=(0.28 * np.cos(azimuth), 0.28 * np.sin(azimuth), 0.96),
        exposure=exposure,
        top=float(good.height.max()) + MAX_RISE_MM,
    )
    if defect == GOOD:
        return stage.good_view(good)
    rng = _rng(seed, "defect")
    for growth in _GROWTH:
        defective = add_defect(good, defect, per_mm, rng, growth * defect_area)
        view = stage.defective_view(good, defective, DEFECT_VISIBILITY[defect])
        if view.mask.sum() >= _MIN_SHARE * defect_area * view.part.sum():
            break
    return view


def render_scene(
    product: str, defect: str, seed: int, size: int = 256, *, defect_area: float = 1.0
) -> RGBDSample:
    """Render one part with sensor effects.

    ``product`` is one of ``PRODUCTS``; ``defect`` is ``"good"`` or one of ``DEFECTS``. Returns
    ``size`` by ``size`` pixels; equal arguments give equal samples. ``defect_area`` multiplies the
    area that is usual of the defect. Raises ``ConfigurationError``
    for an unknown product or defect, or a size under 32.
    """
    view = render_view(product, defect, seed, size, defect_area=defect_area)
    rgb = take_photo(view.colour, view.exposure, _rng(seed, "picture"))
    xyz, valid = measure_points(view.points, view.chance, _rng(seed, "cloud"))
    return RGBDSample(
        rgb=rgb,
        xyz=xyz,
        valid=valid,
        mask=view.mask,
        label=int(defect != GOOD),
        kind=defect,
        group=product,
    )


def make_scenes(
    folder: Path | str,
    *,
    products: Sequence[str] | None = None,
    train: int = 60,
    validation: int = 20,
    test_good: int = 40,
    test_per_defect: int = 10,
    size: int = 256,
    seed: int = 0,
    defect_area: float = 1.0,
    workers: int = 1,
) -> list[Path]:
    """Write rendered parts in the MVTec 3D-AD layout, one category per product.

    ``folder/<product>/{train,validation,test}/<good or defect>/{rgb,xyz,gt}/NNN``: 8-bit PNG,
    float32 TIFF in metres with 0 for missing points, and masks of 0 and 255. A sample depends on
    the seed, its product, split, defect and number alone, not on the counts nor on ``workers``.
    ``defect_area`` multiplies the area that is usual of defects: 0.005 makes them two or three
    pixels wide at 256 pixels. Returns the categories' folders. Raises ``ConfigurationError`` for an
    unknown product, a negative count, or a size or an area out of range.
    """
    products = PRODUCTS if products is None else tuple(products)
    if not 0.001 <= defect_area <= 2:
        raise ConfigurationError(f"defect_area is {defect_area:g}; it must be from 0.001 to 2.")
    counts = {"train": train, "validation": validation, "test_good": test_good}
    counts["test_per_defect"] = test_per_defect
    for name, count in counts.items():
        if count < 0:
            raise ConfigurationError(f"{name}={count} is negative; give a number of parts.")
    for product in products:
        _check(product, GOOD, size)
    jobs = [
        (Path(folder) / product, split, defect, number)
        for product in products
        for split, defect, count in _plan(train, validation, test_good, test_per_defect)
        for number in range(count)
    ]
    write = partial(_write, size=size, seed=seed, defect_area=defect_area)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            list(counted("Rendering", pool.map(write, jobs, chunksize=8), total=len(jobs)))
    else:
        for job in counted("Rendering", jobs):
            write(job)
    return [Path(folder) / product for product in products]


def _plan(train: int, validation: int, good: int, bad: int) -> Iterator[tuple[str, str, int]]:
    yield from (("train", GOOD, train), ("validation", GOOD, validation), ("test", GOOD, good))
    yield from (("test", defect, bad) for defect in DEFECTS)


def _write(job: tuple[Path, str, str, int], size: int, seed: int, defect_area: float) -> None:
    root, split, defect, number = job
    sequence = np.random.SeedSequence([seed, *map(_hash, (root.name, split, defect)), number])
    drawn = int(sequence.generate_state(1, np.uint64)[0])
    sample = render_scene(root.name, defect, drawn, size, defect_area=defect_area)
    assert sample.rgb is not None and sample.xyz is not None and sample.mask is not None
    folder, name = root / split / defect, f"{number:03d}"
    write_rgb(folder / "rgb" / f"{name}.png", sample.rgb)
    write_xyz(folder / "xyz" / f"{name}.tiff", sample.xyz)
    write_mask(folder / "gt" / f"{name}.png", sample.mask)


def _rng(seed: int, purpose: str) -> Rng:
    # One stream per purpose: draws for one purpose never shift those for another.
    return np.random.default_rng([seed, _hash(purpose)])


def _hash(name: str) -> int:
    return zlib.crc32(name.encode())


def _check(product: str, defect: str, size: int) -> None:
    if product not in _PRODUCTS:
        raise ConfigurationError(
            f"'{product}' is no built-in product; choose from {', '.join(PRODUCTS)}."
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
    """Draw the flat support of a scene: its colour, weave, grain and stains."""
    colour = np.array(_COLOURS[rng.integers(len(_COLOURS))]) * (1 + rng.normal(0, 0.06, 3))
    colour = colour * (1 + rng.normal(0, 0.10))
    rotation, pitch = rng.uniform(0, np.pi), rng.uniform(2.2, 3.6)
    line = np.arange(shape[0], dtype=np.float32) / np.float32(per_mm)
    along = np.cos(rotation) * line[None, :] + np.sin(rotation) * line[:, None]
    across = np.cos(rotation) * line[:, None] - np.sin(rotation) * line[None, :]
    wave = np.float32(2 * np.pi / pitch)
    weave = np.sin(wave * along) * np.sin(wave * across) * np.float32(rng.uniform(0, 0.07))
    worn = rng.uniform(0.02, 0.06) * patches(shape, 16 * per_mm, rng)
    grain = rng.uniform(0.02, 0.05) * patches(shape, 0.9 * per_mm, rng)
    albedo = painted(colour, shape, (weave + worn + grain).astype(np.float32))
    flat = np.zeros(shape, dtype=np.float32)
    return Surface(flat, albedo.astype(np.float32), flat, flat + np.float32(0.04), flat)
