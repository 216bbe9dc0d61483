"""What a run records of how it saw its normals, and what is said of parts seen otherwise."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from chiasm.detection.preparation.acquisition import (
    Acquisition,
    AcquisitionObserver,
    acquisition_from_json,
    coverage_of,
    looked_at,
    prepare_as_trained,
)
from chiasm.detection.preparation.distance import distance_range
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.scenes.maker import render_scene
from chiasm.samples import PreparedSample, RGBDSample

SETTINGS = PreparationSettings(size=64, crop_fraction=0.9)
NORMALS = 6


def normal(seed: int) -> RGBDSample:
    """A part with the colours of one material, so that red and blue are never mistaken."""
    sample = render_scene("flange", "good", seed, 96)
    grey = sample.rgb.mean(axis=2, keepdims=True)
    return replace(sample, rgb=grey * np.array([1, 0.7, 0.4], np.float32), source=f"{seed}.png")


@pytest.fixture(scope="module")
def parts() -> list[PreparedSample]:
    return [prepare(normal(seed), SETTINGS) for seed in range(NORMALS)]


@pytest.fixture(scope="module")
def seen(parts: list[PreparedSample]) -> Acquisition:
    observer = AcquisitionObserver()
    assert [part.source for part in observer.watch(parts)] == [part.source for part in parts]
    return observer.acquisition(lamp=2, lamps=(2,), background="Told by points.")


def test_normals_are_recorded(parts: list[PreparedSample], seen: Acquisition):
    assert seen.frames == ((96, 96),)
    inside = [part.rgb[part.foreground].mean(axis=0) for part in parts]
    np.testing.assert_allclose(seen.colour, np.median(inside, axis=0), atol=1e-4)
    means = np.mean(inside, axis=1)
    np.testing.assert_allclose(seen.brightness, (means.min(), means.max()), atol=1e-4)
    shares = [looked_at(part) for part in parts]
    assert seen.coverage.median == pytest.approx(np.median(shares), abs=1e-4)
    assert seen.coverage.smallest <= seen.coverage.median <= seen.coverage.largest
    assert f"{seen.coverage.median:.0%} of the frame is looked at" in seen.sentences[1]


def test_the_share_of_the_frame_is_that_of_the_mask(parts: list[PreparedSample]):
    whole = prepare(
        normal(0), PreparationSettings(size=64, remove_background=False, crop_fraction=1.0)
    )
    assert looked_at(whole) == 1.0
    sample = normal(1)
    mask = prepare(sample, replace(SETTINGS, size=96, crop_fraction=1.0)).foreground
    assert looked_at(parts[1]) == pytest.approx(mask.mean(), rel=0.1)


def test_the_record_is_the_same_through_json(seen: Acquisition):
    assert acquisition_from_json(json.loads(json.dumps(asdict(seen)))) == seen
    assert acquisition_from_json(None) is None


def notes_on(sample: RGBDSample, seen: Acquisition, parts: list[PreparedSample]) -> str:
    (part,) = prepare_as_trained(sample, SETTINGS, seen, distance=distance_range(parts))
    return " ".join(part.notes)


def stretched(sample: RGBDSample, factor: int) -> RGBDSample:
    def larger(image):
        return None if image is None else image.repeat(factor, axis=0).repeat(factor, axis=1)

    return replace(
        sample,
        rgb=larger(sample.rgb),
        xyz=larger(sample.xyz),
        valid=larger(sample.valid),
        mask=larger(sample.mask),
    )


def cut(sample: RGBDSample) -> RGBDSample:
    rows = slice(8, -8)
    return replace(
        sample,
        rgb=sample.rgb[rows],
        xyz=sample.xyz[rows],
        valid=sample.valid[rows],
        mask=sample.mask[rows],
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: replace(s, rgb=s.rgb[..., ::-1].copy()), "BGR order"),
        (lambda s: replace(s, rgb=s.rgb / 16), "fewer bits"),
        (lambda s: replace(s, rgb=np.clip(s.rgb * 5, 0, 1)), "twice as bright"),
        (lambda s: replace(s, xyz=s.xyz * np.float32(1.5)), "farther from the camera"),
        (lambda s: replace(s, xyz=s.xyz / np.float32(1.5)), "nearer to the camera"),
        (lambda s: stretched(s, 2), "fineness differs"),
        (cut, "another aspect"),
    ],
    ids=["BGR", "dark", "bright", "far", "near", "large", "aspect"],
)
def test_a_part_that_was_seen_otherwise_is_noted(change, words, seen, parts):
    assert words in notes_on(change(normal(20)), seen, parts)


def in_steps(sample: RGBDSample, metres: float) -> RGBDSample:
    z = sample.xyz[..., 2:]
    rounded = np.round(z / metres) * metres
    return replace(sample, xyz=(sample.xyz * rounded / np.maximum(z, 1e-6)).astype(np.float32))


def noisy(sample: RGBDSample, metres: float) -> RGBDSample:
    noise = np.random.default_rng(0).normal(0, metres, sample.xyz.shape[:2])
    noise = np.where(sample.valid, noise, 0)[..., None] * [0, 0, 1]
    return replace(sample, xyz=(sample.xyz + noise).astype(np.float32))


def test_depth_of_another_fineness_is_noted(seen, parts):
    assert "coarser steps" in notes_on(in_steps(normal(20), 0.002), seen, parts)
    assert "rougher than any" in notes_on(noisy(normal(20), 0.003), seen, parts)
    observer = AcquisitionObserver()
    coarse = [prepare(in_steps(normal(seed), 0.002), SETTINGS) for seed in range(NORMALS)]
    assert len([*observer.watch(coarse)]) == NORMALS
    rounded = observer.acquisition()
    assert "finer steps" in notes_on(normal(20), rounded, parts)
    assert "steps" not in notes_on(in_steps(normal(20), 0.002), rounded, parts)
    rough = replace(seen, roughness=tuple(10 * r for r in seen.roughness))
    assert "smoother than any" in notes_on(normal(20), rough, parts)


@pytest.mark.parametrize("seed", range(30, 36))
def test_nothing_is_noted_on_parts_as_the_normals(seed, seen, parts):
    assert notes_on(normal(seed), seen, parts) == ""
    assert notes_on(normal(seed), None, parts) == ""


def test_grey_parts_are_not_taken_for_exchanged_colours(parts):
    grey = [replace(p, rgb=p.rgb.mean(axis=2, keepdims=True).repeat(3, axis=2)) for p in parts]
    observer = AcquisitionObserver()
    list(observer.watch(grey))
    seen = observer.acquisition()
    sample = normal(20)
    grey_sample = replace(sample, rgb=sample.rgb.mean(axis=2, keepdims=True).repeat(3, axis=2))
    assert "BGR" not in notes_on(grey_sample, seen, parts)


def test_masks_that_differ_much_are_named():
    shares = {f"{number}.png": 0.2 + 0.01 * number for number in range(9)}
    assert coverage_of(shares).warning == ""
    coverage = coverage_of(shares | {"cut.png": 0.05})
    assert coverage.outliers == ("cut.png",) and coverage.differing == 1
    assert "cut.png" in coverage.warning and "1 of 10" in coverage.warning
    assert coverage_of({}) is None


def test_a_missing_support_plane_is_noted(seen, parts):
    sample = normal(20)
    scattered = sample.xyz.copy()
    scattered[sample.valid] += np.random.default_rng(0).uniform(0, 0.05, (sample.valid.sum(), 3))
    assert "No support plane" in notes_on(replace(sample, xyz=scattered), seen, parts)
