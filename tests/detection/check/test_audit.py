"""What an audit must not overlook: gaps, leaks and shortcuts."""

from __future__ import annotations

import json
import os
import shutil
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.detection.check import audit as audit_module
from chiasm.detection.check.audit import audit, trivial_scores
from chiasm.detection.readers import splits as splits_module
from chiasm.detection.readers import survey as survey_module
from chiasm.detection.readers.manifest import Manifest
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.readers.opening import open_source
from chiasm.errors import DataError
from chiasm.files.images import write_mask, write_rgb, write_xyz

SIZE = (8, 10)


def put(folder: Path, number: int, *, brightness=1.0, missing=0, seed=0) -> None:
    """Write parts that differ by noise only, unless they are darker or lack points."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        xyz = rng.uniform(0.3, 0.4, (*SIZE, 3))
        xyz.reshape(-1, 3)[:missing] = 0
        write_rgb(
            folder / f"rgb/{i:03d}.bmp", brightness * rng.random((*SIZE, 3), dtype=np.float32)
        )
        write_xyz(folder / f"xyz/{i:03d}.tiff", xyz)
        if folder.name == "cut":
            write_mask(folder / f"gt/{i:03d}.png", np.eye(*SIZE) > 0)


@pytest.fixture
def category(tmp_path) -> Path:
    root = tmp_path / "peg"
    put(root / "train/good", 3, seed=1)
    put(root / "validation/good", 2, seed=2)
    put(root / "test/good", 4, seed=3)
    put(root / "test/cut", 4, seed=4)
    return root


def scores(report) -> dict[str, float]:
    return {score.name: score.auroc for score in report.trivial}


def test_parts_sizes_and_points_are_counted(category):
    write_xyz(category / "train/good/xyz/000.tiff", np.eye(*SIZE)[..., None].repeat(3, 2))
    report = audit(Mvtec3d(category))
    assert report.counts == {
        "train": {"good": 3},
        "validation": {"good": 2},
        "test": {"cut": 4, "good": 4},
    }
    assert report.sizes == {"8 x 10": 13}
    mean, least = report.valid_share
    assert least == pytest.approx(0.1) and mean == pytest.approx((12 + 0.1) / 13)
    assert (report.problems, report.unreadable, report.duplicates) == ((), (), ())


def test_unpaired_files_are_listed(category):
    (category / "train/good/xyz/001.tiff").unlink()
    report = audit(Mvtec3d(category))
    assert report.counts["train"] == {"good": 2}
    (problem,) = report.problems
    assert str(category / "train/good/rgb/001.bmp") == problem.source
    assert problem.sentence in report.to_text()
    assert json.loads(report.to_json())["problems"] == [problem.sentence]


def test_unreadable_parts_are_listed_and_the_others_still_counted(category):
    damaged = category / "train/good/rgb/001.bmp"
    damaged.write_bytes(damaged.read_bytes()[:60])
    write_mask(category / "test/cut/gt/002.png", np.zeros(SIZE, bool))
    xyz = np.full((*SIZE, 3), np.nan)
    write_xyz(category / "validation/good/xyz/000.tiff", xyz)
    report = audit(Mvtec3d(category))
    assert report.sizes == {"8 x 10": 10}
    assert report.counts["train"] == {"good": 3}
    for sentence, name in zip(
        report.unreadable,
        ("train/good/rgb/001.bmp", "validation/good/xyz/000.tiff", "test/cut/gt/002.png"),
        strict=True,
    ):
        assert str(category / name) in sentence


def test_files_in_two_splits_are_found(category):
    first, second = category / "train/good/xyz/000.tiff", category / "test/good/xyz/003.tiff"
    shutil.copy(first, second)
    report = audit(Mvtec3d(category))
    assert report.duplicates == (("train", str(first), "test", str(second)),)
    assert any("1 files stand in two splits" in warning for warning in report.warnings)
    assert f"{first} (train) = {second} (test)" in report.to_text()


def test_files_twice_in_one_split_are_no_leak(category):
    shutil.copy(category / "test/cut/xyz/000.tiff", category / "test/good/xyz/003.tiff")
    assert audit(Mvtec3d(category)).duplicates == ()


def test_a_shortcut_above_0_8_is_warned_of(category):
    shutil.rmtree(category / "test")
    put(category / "test/good", 8, brightness=0.9, seed=3)
    put(category / "test/cut", 8, brightness=0.4, missing=20, seed=4)
    report = audit(Mvtec3d(category))
    assert scores(report)["share of missing points"] == 1
    assert scores(report)["mean brightness"] == 0
    assert scores(report)["number of pixels"] == 0.5
    strengths = [score.strength for score in report.trivial]
    assert strengths == sorted(strengths, reverse=True)
    for words in ("share of missing points alone", "mean brightness alone"):
        side = "larger" if "missing" in words else "smaller"
        (warning,) = (w for w in report.warnings if words in w)
        assert "AUROC 1.000" in warning and f"({side} in defective parts)" in warning
    assert any("8 good and 8 defective" in warning for warning in report.warnings)
    assert "1.000  mean brightness, smaller in defective parts" in report.to_text()


@pytest.mark.parametrize(("brighter", "warned"), [(16, False), (17, True)])
def test_the_border_of_a_shortcut_is_0_8(tmp_path, brighter, warned):
    # Eight defective parts are brighter than k of 20 good ones: AUROC k/20; 0.8 is allowed.
    rows = ["rgb,label,split"]
    levels = [0.04 * i for i in range(20)]
    for i, level in enumerate([*levels, *[brighter * 0.04 - 0.02] * 8]):
        write_rgb(tmp_path / f"{i}.bmp", np.full((4, 4, 3), level, np.float32))
        rows.append(f"{i}.bmp,{int(i >= 20)},test")
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    report = audit(Manifest(tmp_path / "parts.csv"))
    assert scores(report)["mean brightness"] == pytest.approx(brighter / 20)
    assert any("mean brightness alone" in w for w in report.warnings) == warned
    assert report.valid_share is None


def test_noise_is_no_shortcut(category):
    shutil.rmtree(category / "test/cut")
    shutil.copytree(category / "test/good", category / "test/cut")
    report = audit(Mvtec3d(category))
    assert set(scores(report).values()) == {0.5}
    assert report.warnings == ()


def test_trivial_scores_are_those_of_the_files(category):
    put(category / "train/good", 1, missing=20)
    source = Mvtec3d(category)
    ref = source.refs[0]
    sample = source.load(ref)
    values = trivial_scores(ref, sample)
    assert values["size of the rgb file"] == (category / "train/good/rgb/000.bmp").stat().st_size
    assert values["mean green"] == pytest.approx(sample.rgb[..., 1].mean(), abs=1e-6)
    assert values["mean depth"] == pytest.approx(sample.xyz[2:, :, 2].mean(), abs=1e-6)
    assert values["share of missing points"] == 0.25
    assert values["number of pixels"] == 80


def test_missing_classes_groups_in_two_splits_and_mixed_sizes_are_warned_of(tmp_path):
    rows = ["rgb,label,split,group"]
    facts = [("1,train", "a"), ("0,test", "a"), ("0,test", "b")]
    for i, (fact, group) in enumerate(facts):
        write_rgb(tmp_path / f"{i}.png", np.full((4, 4 + i // 2, 3), 0.1 * i, np.float32))
        rows.append(f"{i}.png,{fact},{group}")
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    report = audit(Manifest(tmp_path / "parts.csv"))
    assert report.divided_groups == ("a",)
    assert report.sizes == {"4 x 4": 2, "4 x 5": 1}
    words = ("No good part to train on", "no readable parts of both", "1 groups", "2 image sizes")
    for warning, word in zip(report.warnings, words, strict=True):
        assert word in warning
    assert json.loads(report.to_json())["sizes"] == report.sizes


@pytest.mark.skipif("CHIASM_DATA" not in os.environ, reason="CHIASM_DATA, real data, is not set")
def test_cable_gland_is_warned_of_its_missing_points():
    source = open_source(Path(os.environ["CHIASM_DATA"]) / "mvtec_3d/cable_gland")
    report = audit(source)
    assert {split: sum(kinds.values()) for split, kinds in report.counts.items()} == {
        "train": 223,
        "validation": 23,
        "test": 55,
    }
    assert (report.problems, report.unreadable, report.duplicates) == ((), (), ())
    assert scores(report)["share of missing points"] > 0.99
    assert any("share of missing points alone" in warning for warning in report.warnings)


def discs(folder: Path, radii: list[int], *, tray=(0.7, 0.6, 0.5)) -> Manifest:
    """Write dark discs on a plain tray, colours alone."""
    rows, columns = np.mgrid[:64, :64] - 32
    lines = ["rgb,split,label"]
    for number, radius in enumerate(radii):
        rng = np.random.default_rng(number)
        rgb = np.full((64, 64, 3), tray) + rng.normal(0, 0.01, (64, 64, 3))
        rgb[rows**2 + columns**2 < radius**2] = 0.2
        write_rgb(folder / f"{number}.png", np.clip(rgb, 0, 1).astype(np.float32))
        lines.append(f"{number}.png,train,0")
    (folder / "parts.csv").write_text("\n".join(lines) + "\n")
    return Manifest(folder / "parts.csv")


def test_the_share_of_the_frame_that_is_looked_at_is_said(tmp_path):
    report = audit(discs(tmp_path, [16, 17, 18, 17]))
    assert 0.15 < report.coverage.smallest <= report.coverage.median < 0.4
    text = report.to_text()
    assert f"{report.coverage.median:.0%} of the frame is looked at" in text
    assert "by its colour, which all normal parts have in common" in text
    assert json.loads(report.to_json())["coverage"]["parts"] == 4


def test_a_part_that_fills_the_frame_is_said_to_be_looked_at_as_a_whole(category):
    report = audit(Manifest(_colours_of(category)))
    assert report.coverage.smallest == 1.0
    assert "Whole frames are looked at" in report.background


def _colours_of(category: Path) -> Path:
    """Write a table of the colours of the training's parts, which are noise."""
    names = [f"train/good/rgb/{i:03d}.bmp,train,0" for i in range(3)]
    (category / "parts.csv").write_text("\n".join(["rgb,split,label", *names]) + "\n")
    return category / "parts.csv"


def test_masks_that_differ_much_between_normals_are_warned_of(tmp_path):
    source = discs(tmp_path, [16, 16, 16, 16, 16, 10])
    report = audit(source)  # a part of 0.4 times the area still lies on a background
    (warning,) = (w for w in report.warnings if "masks of 1 of 6" in w)
    assert "5.png" in warning and "remove_background=false" in warning


def test_workers_give_the_report_of_one_process(category):
    (category / "train/good/rgb/001.bmp").write_bytes(b"damaged")
    shutil.copy(category / "train/good/xyz/000.tiff", category / "test/good/xyz/003.tiff")
    alone = audit(open_source(category))
    assert audit(open_source(category), workers=2) == alone
    assert len(alone.unreadable) == len(alone.duplicates) == 1


def test_a_file_that_cannot_be_compared_does_not_hide_the_leaks_of_others(category, monkeypatch):
    first, second = category / "train/good/xyz/000.tiff", category / "test/good/xyz/003.tiff"
    shutil.copy(first, second)
    shut = category / "validation/good/rgb/000.bmp"
    hashed = audit_module.content_hash

    def content_hash(paths):
        if str(shut) in map(str, paths):
            raise DataError(f"{shut} cannot be opened: Permission denied.")
        return hashed(paths)

    samples = splits_module._samples
    monkeypatch.setattr(audit_module, "content_hash", content_hash)
    monkeypatch.setattr(
        splits_module, "_samples", lambda path: None if path == str(shut) else samples(path)
    )
    report = audit(Mvtec3d(category))
    assert report.duplicates == (("train", str(first), "test", str(second)),)
    (sentence,) = report.unreadable
    assert sentence.startswith(f"{shut} was not compared with other splits.")


def test_one_part_is_held_at_a_time(category):
    loaded, most = [], []

    class Watched(Mvtec3d):
        def load(self, ref):
            sample = super().load(ref)
            loaded.append(weakref.ref(sample.rgb))
            most.append(sum(reference() is not None for reference in loaded))
            return sample

    audit(Watched(category))
    assert len(most) >= 13
    assert max(most) <= 2


def test_backgrounds_of_a_bounded_number_of_parts_are_compared(tmp_path, monkeypatch):
    source = discs(tmp_path, [16] * 9)
    monkeypatch.setattr(survey_module, "FRAMES_COMPARED", 4)
    report = audit(source)
    assert "(4 of 9 normal parts were compared.)" in report.background
    monkeypatch.undo()
    assert "compared" not in audit(source).background


def test_of_large_data_a_sample_of_every_kind_is_read_and_the_ends_of_all_files(tmp_path):
    root = tmp_path / "peg"
    put(root / "train/good", 40, seed=1)
    put(root / "test/good", 3, seed=3)
    put(root / "test/cut", 2, seed=4)
    for path in sorted((root / "train/good/xyz").iterdir()):
        path.write_bytes(path.read_bytes()[:-40])
    source, read = Mvtec3d(root), []
    load = source.load
    source.load = lambda ref: read.append(ref.kind) or load(ref)
    report = audit(source, sample=12)
    assert report.parts == 45 and 10 <= report.read <= 16
    assert {"good", "cut"} <= set(read)
    assert len(report.unreadable) == 40  # read or not, in the order of the listing
    assert [name for name in report.unreadable if "/000.tiff" in name] == [report.unreadable[0]]
    assert f"The pixels of {report.read} of 45 parts were read" in report.to_text()
    assert audit(source, sample=0).read == 45


def test_labelled_defects_do_not_enter_trivial_scores(category):
    source = Mvtec3d(category)
    ref = next(ref for ref in source.refs if ref.kind == "cut")
    sample = source.load(ref)
    plain = trivial_scores(ref, sample)
    sample.rgb[sample.mask] = 1
    sample.xyz[sample.mask] = 0
    sample.valid[sample.mask] = False
    assert trivial_scores(ref, sample) == pytest.approx(plain)


def test_a_strong_score_of_few_parts_is_said_to_be_chance(tmp_path):
    put(tmp_path / "peg/train/good", 2, seed=1)
    put(tmp_path / "peg/test/good", 3, brightness=0.9, seed=3)
    put(tmp_path / "peg/test/cut", 2, brightness=0.4, seed=4)
    report = audit(Mvtec3d(tmp_path / "peg"))
    assert scores(report)["mean brightness"] == 0
    assert not any(warning.startswith("Shortcut") for warning in report.warnings)
    (warning,) = (w for w in report.warnings if "by chance" in w)
    assert "3 good and 2 defective" in warning


@pytest.mark.parametrize(("validation", "enough"), [(18, False), (19, True)])
def test_the_check_says_what_the_calibration_can_promise(tmp_path, validation, enough):
    put(tmp_path / "peg/train/good", 2, seed=1)
    put(tmp_path / "peg/validation/good", validation, seed=2)
    report = audit(Mvtec3d(tmp_path / "peg"))
    (found,) = [f for f in report.findings if "alarm threshold" in f.title] or [None]
    assert (found is None) == enough
    if enough:
        assert "Calibration: 19 of 21 good parts" in report.calibration
    assert report.calibration in report.to_text()


def test_empty_files_are_no_leak(category):
    for name in ("train/good/rgb/000.bmp", "test/good/rgb/000.bmp"):
        (category / name).write_bytes(b"")
    report = audit(Mvtec3d(category))
    assert report.duplicates == () and len(report.unreadable) == 2


def test_what_was_assumed_about_files_and_dark_bits_are_told(category):
    for path in sorted((category / "train/good/rgb").iterdir()):
        counts = np.random.default_rng(0).integers(0, 4096, SIZE).astype(np.uint16)
        path.unlink()
        cv2.imwrite(str(path.with_suffix(".png")), counts)
    for path in sorted((category / "train/good/xyz").iterdir()):
        xyz = np.random.default_rng(1).uniform(0.3, 0.4, (*SIZE, 3)).astype(np.float32)
        xyz[0] = -9999
        path.unlink()
        np.save(path.with_suffix(".npy"), xyz)
    text = audit(Mvtec3d(category)).to_text()
    assert "so that the camera has 12 bits, and the images are read 16 times too dark" in text
    assert "The value -9999 is far from all others" in text and "(in 3 parts)" in text
