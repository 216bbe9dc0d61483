"""Properties that every synthetic anomaly keeps, whatever it draws."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from chiasm.detection.anomalies.appearance import FORMS as COLOURS
from chiasm.detection.anomalies.appearance import AppearanceGenerator
from chiasm.detection.anomalies.generators import (
    AnomalyGenerator,
    MixedGenerator,
    PaperGenerator,
    synthesise,
    training_generator,
    validation_generator,
)
from chiasm.detection.anomalies.geometric import FORMS as SHAPES
from chiasm.detection.anomalies.geometric import GeometricGenerator
from chiasm.detection.anomalies.relief import NORMAL_REACH
from chiasm.detection.anomalies.shading import fill_missing
from chiasm.detection.anomalies.transplant import (
    ContaminationGenerator,
    CutPasteScarGenerator,
    SelfPatchGenerator,
)
from chiasm.detection.preparation.surface import surface_normals
from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import CropBox, PreparedSample

SIDE = 96
ALL: list[AnomalyGenerator] = [
    PaperGenerator(),
    *(GeometricGenerator(form) for form in SHAPES),
    *(AppearanceGenerator(form) for form in COLOURS),
    SelfPatchGenerator(),
    ContaminationGenerator(),
    CutPasteScarGenerator(),
]
SOLID = [generator for generator in ALL if generator.family != "appearance"]


def named(generator: AnomalyGenerator) -> str:
    return generator.name


@pytest.fixture(scope="module")
def part() -> PreparedSample:
    """A striped, ribbed dome under an oblique camera, with missing points inside and at its rim."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    radius = np.hypot(y - 48, x - 46) / 38
    foreground = radius < 1
    target_height = 0.02 * np.sqrt(np.clip(1.05 - radius**2, 0, None)) + 0.0006 * np.sin(x / 3)
    tilt = 0.25
    normal = np.array([0.0, np.sin(tilt), -np.cos(tilt)])
    offset = 0.5
    rays = np.stack([(x - 48) / 600, (y - 48) / 600, np.ones_like(x)], axis=-1)
    xyz = rays * ((target_height - offset) / (rays @ normal))[..., None]
    valid = foreground & (rng.random(foreground.shape) > 0.03)
    valid[60:66, 40:47] = False
    xyz = np.where(valid[..., None], xyz, 0).astype(np.float32)
    height = np.where(valid, xyz @ normal + offset, 0).astype(np.float32)
    z = xyz[..., 2]
    near, far = z[valid].min(), z[valid].max()
    depth = np.where(valid, (z - near) / (far - near), 0).astype(np.float32)
    stripes = 0.45 + 0.15 * (np.floor((x + y) / 9) % 2)
    rgb = np.stack([stripes, stripes * 0.9, stripes * 0.8], axis=-1) * foreground[..., None]
    return PreparedSample(
        rgb=rgb.astype(np.float32),
        xyz=xyz,
        height=height,
        normals=surface_normals(xyz, valid),
        depth=depth,
        valid=valid,
        foreground=foreground,
        mask=None,
        box=CropBox(0, 0, SIDE, SIDE, SIDE),
        plane=(*normal.tolist(), offset),
        label=0,
        kind="good",
        source="part.png",
    )


def rgb_only(sample: PreparedSample) -> PreparedSample:
    return replace(
        sample,
        xyz=None,
        height=None,
        normals=None,
        depth=None,
        plane=None,
        valid=np.ones_like(sample.valid),
    )


def defective_samples(
    sample: PreparedSample, generator: AnomalyGenerator, count: int = 12
) -> list[PreparedSample]:
    """Return defective samples of a generator; more than half of the draws must be visible."""
    results = [synthesise(sample, generator, seed=7, epoch=0, index=i) for i in range(count)]
    defective = [result for result in results if result.label == 1]
    assert len(defective) > count / 2
    return defective


@pytest.mark.parametrize("generator", ALL, ids=named)
def test_outside_the_mask_nothing_changes(
    part: PreparedSample, generator: AnomalyGenerator
) -> None:
    for result in defective_samples(part, generator):
        outside = ~result.mask
        for field in ("rgb", "xyz", "height", "depth", "valid", "foreground"):
            before, after = getattr(part, field), getattr(result, field)
            np.testing.assert_array_equal(after[outside], before[outside], err_msg=field)
        kernel = np.ones((2 * NORMAL_REACH + 1,) * 2, dtype=np.uint8)
        far = cv2.dilate(result.mask.astype(np.uint8), kernel) == 0
        np.testing.assert_allclose(result.normals[far], part.normals[far], atol=1e-6)


@pytest.mark.parametrize("generator", ALL, ids=named)
def test_mask_lies_on_the_object_and_shows_a_change(
    part: PreparedSample, generator: AnomalyGenerator
) -> None:
    for result in defective_samples(part, generator):
        assert result.mask.dtype == bool and result.mask.any()
        assert not (result.mask & ~part.foreground).any()
        assert result.kind == generator.name
        colour = np.abs(result.rgb - part.rgb).max(axis=-1)
        height = np.abs(result.height - part.height)
        assert max(colour[result.mask].max() / 0.02, height[result.mask].max() / 1e-5) > 1
        assert result.rgb.min() >= 0 and result.rgb.max() <= 1
        assert result.depth.min() >= 0 and result.depth.max() <= 1


@pytest.mark.parametrize("generator", ALL, ids=named)
def test_missing_points_never_become_real(
    part: PreparedSample, generator: AnomalyGenerator
) -> None:
    for result in defective_samples(part, generator):
        assert not (result.valid & ~part.valid).any()
        assert not result.xyz[~result.valid].any()
        assert not result.height[~result.valid].any()
        assert (result.xyz[result.valid][:, 2] > 0).all()


@pytest.mark.parametrize("generator", SOLID, ids=named)
def test_points_height_and_normals_agree(part: PreparedSample, generator: AnomalyGenerator) -> None:
    normal, offset = np.array(part.plane[:3]), part.plane[3]
    for result in defective_samples(part, generator, count=8):
        points = result.xyz[result.valid].astype(np.float64)
        np.testing.assert_allclose(points @ normal + offset, result.height[result.valid], atol=2e-6)
        recomputed = surface_normals(result.xyz, result.valid)
        np.testing.assert_allclose(result.normals, recomputed, atol=1e-5)
        # Each point is still seen by its own pixel.
        both = result.valid & part.valid
        before, after = part.xyz[both], result.xyz[both]
        np.testing.assert_allclose(
            after[:, :2] / after[:, 2:], before[:, :2] / before[:, 2:], atol=1e-5
        )


def test_anomalies_are_not_told_by_missing_points_alone(part: PreparedSample) -> None:
    for generator in ALL:
        for result in defective_samples(part, generator):
            dropout = part.valid & ~result.valid
            assert dropout.sum() <= 0.5 * result.mask.sum()
            assert (np.abs(result.rgb - part.rgb).max(axis=-1)[dropout] > 0).all()


@pytest.mark.parametrize(("form", "sign"), [("bump", 1), ("dent", -1), ("missing_material", -1)])
def test_direction_of_the_change(part: PreparedSample, form: str, sign: int) -> None:
    for result in defective_samples(part, GeometricGenerator(form)):
        both = result.valid & part.valid & result.mask
        change = sign * (result.height - part.height)[both]
        assert change.min() >= -1e-6 and change.max() > 1e-5


def test_cut_is_deep_and_dark(part: PreparedSample) -> None:
    for result in defective_samples(part, GeometricGenerator("cut")):
        change = np.where(result.valid, result.height - part.height, 0)
        deepest = np.unravel_index(change.argmin(), change.shape)
        assert change[deepest] < 0
        assert result.rgb[deepest].sum() < part.rgb[deepest].sum()


def test_repeated_points_move_together(part: PreparedSample) -> None:
    """Nearest-neighbour enlargement repeats points; a dent must not tear the copies apart."""

    def enlarged(field: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(field, 2, axis=0), 2, axis=1)

    names = ("rgb", "xyz", "height", "normals", "depth", "valid", "foreground")
    big = replace(part, **{name: enlarged(getattr(part, name)) for name in names})
    for result in defective_samples(big, GeometricGenerator("dent")):
        blocks = result.height.reshape(SIDE, 2, SIDE, 2).transpose(0, 2, 1, 3)  # (S, S, 2, 2)
        whole = result.mask.reshape(SIDE, 2, SIDE, 2).all(axis=(1, 3))
        assert whole.any()
        assert np.ptp(blocks[whole], axis=(1, 2)).max() < 1e-6


def test_no_defect_reaches_below_the_plane(part: PreparedSample) -> None:
    for form in SHAPES:
        for result in defective_samples(part, GeometricGenerator(form)):
            assert result.height.min() >= min(part.height.min(), 0) - 1e-6


@pytest.mark.parametrize("generator", ALL, ids=named)
def test_single_modalities(part: PreparedSample, generator: AnomalyGenerator) -> None:
    for result in defective_samples(rgb_only(part), generator):
        assert result.xyz is None and result.height is None and result.normals is None
        assert (result.rgb[~result.mask] == part.rgb[~result.mask]).all()
        assert not np.array_equal(result.rgb, part.rgb)
    without_rgb = replace(part, rgb=None)
    if generator.supports(without_rgb):
        for result in defective_samples(without_rgb, generator):
            assert result.rgb is None
            assert not np.array_equal(result.xyz, part.xyz)
    else:
        assert generator.family == "appearance"
        assert synthesise(without_rgb, generator, seed=0, epoch=0, index=0).label == 0


@pytest.mark.parametrize("make", [training_generator, validation_generator])
def test_draws_depend_on_seed_epoch_and_index_alone(part: PreparedSample, make) -> None:
    keys = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]

    def at(key: tuple[int, int, int], generator: AnomalyGenerator) -> PreparedSample:
        return synthesise(part, generator, seed=key[0], epoch=key[1], index=key[2])

    forward = [at(key, make(probability=1.0)) for key in keys]
    shared = make(probability=1.0)
    backward = [at(key, shared) for key in reversed(keys)][::-1]
    for first, second in zip(forward, backward):
        for field in ("rgb", "xyz", "height", "normals", "depth", "mask"):
            np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    different = {result.rgb.tobytes() + result.xyz.tobytes() for result in forward}
    assert len(different) == len(keys)


def test_training_and_validation_share_no_family() -> None:
    training, validation = training_generator(), validation_generator()
    assert training.families and validation.families
    assert training.families.isdisjoint(validation.families)
    names = [{generator.name for generator, _ in mix.components} for mix in (training, validation)]
    assert names[0].isdisjoint(names[1])


def test_probability_is_kept_and_clean_samples_are_untouched(part: PreparedSample) -> None:
    generator = training_generator(probability=0.3)
    results = [synthesise(part, generator, seed=0, epoch=0, index=i) for i in range(200)]
    share = np.mean([result.label for result in results])
    # Some draws show nothing and stay clean, so the share may lie a little lower.
    assert 0.3 - 4 * np.sqrt(0.21 / 200) - 0.05 < share < 0.3 + 4 * np.sqrt(0.21 / 200)
    for result in results:
        assert result.label == int(result.mask.any())
        if result.label == 0:
            assert result.kind == "good"
            assert result.rgb is part.rgb and result.xyz is part.xyz


def test_input_is_never_written_to(part: PreparedSample) -> None:
    before = {f: getattr(part, f).copy() for f in ("rgb", "xyz", "height", "normals", "depth")}
    for generator in ALL:
        synthesise(part, generator, seed=3, epoch=0, index=0)
    for field, value in before.items():
        np.testing.assert_array_equal(getattr(part, field), value)


def test_paper_blend_follows_its_equation(part: PreparedSample) -> None:
    """RGB' = (1 - b) T + b I with one b, and depth' the noise itself (above its threshold)."""
    opaque = PaperGenerator(opacity=0.0)
    for result in defective_samples(part, opaque):
        changed = result.mask & result.valid
        assert result.depth[changed].min() > 0.5 - 1e-3
        z, old = result.xyz[..., 2], part.xyz[..., 2][part.valid]
        expected = (z - old.min()) / np.ptp(old)
        np.testing.assert_allclose(result.depth[changed], expected[changed], atol=1e-3)


def test_empty_object_stays_clean(part: PreparedSample) -> None:
    empty_mask = np.zeros_like(part.valid)
    empty = replace(
        part,
        valid=empty_mask,
        foreground=empty_mask,
        rgb=np.zeros_like(part.rgb),
        xyz=np.zeros_like(part.xyz),
        height=np.zeros_like(part.height),
    )
    for make in (training_generator, validation_generator):
        assert synthesise(empty, make(probability=1.0), seed=0, epoch=0, index=0).label == 0


def test_object_without_any_point_gets_colour_only(part: PreparedSample) -> None:
    blank = replace(
        part,
        valid=np.zeros_like(part.valid),
        xyz=np.zeros_like(part.xyz),
        height=np.zeros_like(part.height),
        normals=np.zeros_like(part.normals),
        depth=np.zeros_like(part.depth),
    )
    for generator in ALL:
        for index in range(4):
            result = synthesise(blank, generator, seed=0, epoch=0, index=index)
            assert not result.xyz.any() and not result.valid.any()


def test_defective_samples_and_wrong_settings_are_refused(part: PreparedSample) -> None:
    with pytest.raises(DataError, match=r"part\.png"):
        synthesise(replace(part, label=1), training_generator(), seed=0, epoch=0, index=0)
    with pytest.raises(ConfigurationError, match="weights"):
        MixedGenerator(())
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        training_generator(probability=1.5)
    with pytest.raises(ConfigurationError, match="bulge"):
        GeometricGenerator("bulge")
    with pytest.raises(ConfigurationError, match="rust"):
        AppearanceGenerator("rust")


def test_fill_missing_takes_the_nearest() -> None:
    rng = np.random.default_rng(1)
    values = rng.random((20, 17)).astype(np.float32)
    measured = rng.random(values.shape) > 0.7
    filled = fill_missing(values, measured)
    ys, xs = np.nonzero(measured)
    for y, x in np.ndindex(values.shape):
        distance = np.hypot(ys - y, xs - x)
        # OpenCV's 3x3 distance is off by up to 8 %, so near-ties may be won by either.
        close = distance <= distance.min() * 1.1
        assert filled[y, x] in values[ys[close], xs[close]]


def test_the_smallest_area_of_shapes_and_colours_is_a_choice(part):
    def least(smallest: float) -> float:
        generator = training_generator(probability=1, paper=0, smallest=smallest)
        made = [generator(part, np.random.default_rng(seed)) for seed in range(60)]
        return min(sample.mask.sum() for sample in made if sample.mask.any())

    assert least(0.03) > 2 * least(0.001)
