"""Rendered parts: what each defect changes, exact masks, files, no shortcut to the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from chiasm.detection.check.audit import trivial_scores
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.scenes.maker import (
    DEFECT_VISIBILITY,
    DEFECTS,
    GOOD,
    PRODUCTS,
    make_scenes,
    render_scene,
    render_view,
)
from chiasm.errors import ConfigurationError
from chiasm.files.images import read_mask, read_rgb, read_xyz

SIZE = 96
PAIRS = [(PRODUCTS[i % len(PRODUCTS)], defect) for i, defect in enumerate(DEFECTS)]
# A difference of 0.15 is three standard errors of the 64 + 64 samples of a product.
LEAK_SIZE, LEAK_GOOD, LEAK_PER_DEFECT, LEAK_LIMIT = 64, 64, 8, 0.65


def test_there_are_enough_products_and_defects_of_each_visibility() -> None:
    sensors = [DEFECT_VISIBILITY[defect] for defect in DEFECTS]
    assert len(PRODUCTS) >= 4
    assert len(DEFECTS) >= 6
    assert set(sensors) == {frozenset({"rgb"}), frozenset({"3d"}), frozenset({"rgb", "3d"})}


@pytest.mark.parametrize(("product", "defect"), PAIRS)
def test_equal_seeds_give_equal_samples_and_others_do_not(product: str, defect: str) -> None:
    first, again = (render_scene(product, defect, 3, SIZE) for _ in range(2))
    other = render_scene(product, defect, 4, SIZE)
    for name in ("rgb", "xyz", "valid", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.rgb, other.rgb)
    assert not np.array_equal(first.xyz, other.xyz)


@pytest.mark.parametrize(("product", "defect"), PAIRS)
def test_a_defect_shows_in_the_claimed_sensors_only(product: str, defect: str) -> None:
    good, bad = render_scene(product, GOOD, 5, SIZE), render_scene(product, defect, 5, SIZE)
    assert bad.mask is not None and bad.mask.any()
    assert np.array_equal(good.rgb, bad.rgb) == ("rgb" not in DEFECT_VISIBILITY[defect])
    assert np.array_equal(good.xyz, bad.xyz) == ("3d" not in DEFECT_VISIBILITY[defect])


@pytest.mark.parametrize(("product", "defect"), PAIRS)
def test_the_mask_is_exact(product: str, defect: str) -> None:
    for seed in range(2):
        good, bad = render_view(product, GOOD, seed, SIZE), render_view(product, defect, seed, SIZE)
        same = ~bad.mask
        np.testing.assert_array_equal(good.colour[same], bad.colour[same])
        np.testing.assert_array_equal(good.points[same], bad.points[same])
        np.testing.assert_array_equal(good.chance[same], bad.chance[same])
        differs = (good.colour != bad.colour).any(axis=2) | (good.points != bad.points).any(axis=2)
        np.testing.assert_array_equal(differs, bad.mask)
        share = bad.mask.sum() / bad.part.sum()
        assert 0.002 < share < 0.09
        assert not good.mask.any()


@pytest.mark.parametrize("product", PRODUCTS)
def test_missing_points_are_zero_and_others_lie_in_front_of_the_camera(product: str) -> None:
    sample = render_scene(product, GOOD, 11, SIZE)
    assert sample.rgb is not None and sample.xyz is not None
    np.testing.assert_array_equal(sample.valid, (sample.xyz != 0).any(axis=2))
    assert (sample.xyz[~sample.valid] == 0).all()
    assert 0 < (~sample.valid).mean() < 0.3
    depth = sample.xyz[..., 2][sample.valid]
    assert depth.min() > 0.5 and depth.max() < 0.7
    assert sample.rgb.min() >= 0 and sample.rgb.max() <= 1
    # Neighbouring points of one row are one pixel width apart: x and z belong to one camera.
    both = sample.valid[:, 1:] & sample.valid[:, :-1]
    ray = sample.xyz[..., 0] / np.where(sample.valid, sample.xyz[..., 2], 1)
    steps = (ray[:, 1:] - ray[:, :-1])[both]
    np.testing.assert_allclose(steps, np.median(steps), rtol=1e-2)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_part_rises_above_its_support(product: str) -> None:
    view = render_view(product, GOOD, 2, SIZE)
    ground = ~view.part
    design = np.dstack([view.points[..., :2], np.ones(view.part.shape)])
    plane, *_ = np.linalg.lstsq(design[ground], view.points[ground][:, 2], rcond=None)
    height_mm = 1000 * (design @ plane - view.points[..., 2])
    assert np.abs(height_mm[ground]).max() < 0.5
    assert np.percentile(height_mm[view.part], 75) > 3
    assert 0.1 < view.part.mean() < 0.6


def test_files_read_back_as_they_were_rendered(tmp_path: Path) -> None:
    folders = make_scenes(
        tmp_path, products=["gear"], train=2, validation=1, test_good=1, test_per_defect=1, size=64
    )
    assert folders == [tmp_path / "gear"]
    source = Mvtec3d(folders[0])
    assert not source.problems
    assert {ref.kind for ref in source.refs} == {GOOD, *DEFECTS}
    assert [ref.split for ref in source.refs].count("train") == 2
    for ref in source.refs:
        sample = source.load(ref)
        assert sample.mask is not None
        assert sample.mask.any() == (sample.label == 1)
        np.testing.assert_array_equal(read_mask(ref.files["mask"]), sample.mask)
        assert read_rgb(ref.files["rgb"]).shape == (64, 64, 3)
        assert (read_xyz(ref.files["xyz"])[~sample.valid] == 0).all()


def test_files_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def written_files(name: str, **settings: int) -> dict[str, bytes]:
        counts = {"train": 2, "validation": 0, "test_good": 1, "test_per_defect": 1} | settings
        make_scenes(tmp_path / name, products=["cap"], size=48, **counts)  # type: ignore[arg-type]
        root = tmp_path / name
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.*")}

    first, again, more = (
        written_files("one"),
        written_files("two", workers=2),
        written_files("more", train=3),
    )
    assert first == again
    assert first.items() < more.items()
    other = written_files("other", seed=1)
    assert all(first[name] != other[name] for name in first if "gt" not in name)


def test_no_trivial_score_tells_good_from_bad(tmp_path: Path) -> None:
    folders = make_scenes(
        tmp_path,
        train=0,
        validation=0,
        test_good=LEAK_GOOD,
        test_per_defect=LEAK_PER_DEFECT,
        size=LEAK_SIZE,
    )
    rows, labels, products = [], [], []
    for folder in folders:
        source = Mvtec3d(folder)
        for ref in source.refs:
            rows.append(trivial_scores(ref, source.load(ref)))
            labels.append(ref.label)
            products.append(source.name)
    label, product = np.array(labels), np.array(products)
    for name in rows[0]:
        score = np.array([row[name] for row in rows])
        for group in ("", *PRODUCTS):
            chosen = (product == group) | (group == "")
            separation = roc_auc_score(label[chosen], score[chosen])
            auroc = max(separation, 1 - separation)
            assert auroc <= LEAK_LIMIT, f"{name} of {group or 'all parts'}: {auroc:.3f}"


@pytest.mark.parametrize(
    ("product", "defect", "size", "message"),
    [("spoon", GOOD, 64, "gear"), ("gear", "rust", 64, "scratch"), ("gear", GOOD, 8, "32")],
)
def test_a_wrong_request_is_answered_with_what_is_possible(
    product: str, defect: str, size: int, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        render_scene(product, defect, 0, size)


def test_a_negative_count_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="validation=-1"):
        make_scenes(tmp_path, validation=-1)
    assert not list(tmp_path.iterdir())
