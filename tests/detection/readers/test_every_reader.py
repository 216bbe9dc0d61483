"""One suite for every reader of parts; a new reader gets one row in ``ROWS``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from chiasm.detection.readers.opening import open_source
from chiasm.errors import DataError
from chiasm.files.images import write_mask, write_rgb, write_xyz
from chiasm.files.readers import readers
from chiasm.samples import Problem

SIZE = (18, 24)
RGB = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)) / np.float32(255)
XYZ = np.random.default_rng(1).uniform(0.2, 0.4, (3, *SIZE, 3)).astype(np.float32)
XYZ[:, 2:4, 5:9] = 0  # missing points
MASK = np.zeros(SIZE, bool)
MASK[8:10, 3:6] = True
NO_MASK = np.zeros(SIZE, bool)
# A good part for training, and a defective one.
PARTS: list[dict[str, Any]] = [
    {"split": "train", "label": 0, "kind": "good", "mask": NO_MASK},
    {"split": "test", "label": 1, "kind": "cut", "mask": MASK},
]


def expected(**changes: Any) -> list[dict[str, Any]]:
    """Return the fields of both parts in the order of the references."""
    return [
        {"rgb": RGB[number], "xyz": XYZ[number], **part, **changes}
        for number, part in enumerate(PARTS)
    ]


def write_images(folder: Path, number: int) -> None:
    write_rgb(folder / f"rgb/{number}.png", RGB[number])
    write_xyz(folder / f"xyz/{number}.tiff", XYZ[number])


def mvtec3d(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    write_images(root / "train/good", 0)
    write_images(root / "test/cut", 1)
    write_mask(root / "test/cut/gt/1.png", MASK)
    return root, expected()


def plain_folder(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    write_images(root, 0)
    write_images(root, 1)
    return root, expected(label=None, kind="", split="", mask=None)


def manifest(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A point map in the first row, depth with a camera in the second."""
    write_images(root, 0)
    write_images(root, 1)
    write_mask(root / "mask.png", MASK)
    counts = np.round(XYZ[1, ..., 2] * 10_000).astype(np.uint16)
    cv2.imwrite(str(root / "depth.png"), counts)
    camera = {"fx": 20.0, "fy": 10.0, "cx": 4.0, "cy": 6.0}
    (root / "camera.json").write_text(json.dumps(camera))
    (root / "parts.csv").write_text(
        "rgb,xyz,depth,depth_unit,intrinsics,mask,label,kind,split\n"
        "rgb/0.png,xyz/0.tiff,,,,,0,good,train\n"
        "rgb/1.png,,depth.png,0.0001,camera.json,mask.png,1,cut,test\n"
    )
    parts = expected()
    z = counts / 10_000
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    parts[1]["xyz"] = np.stack([(columns - 4) / 20 * z, (rows - 6) / 10 * z, z], axis=-1)
    return root / "parts.csv", parts


def eyecandies(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Depth between two bounds; the renderer misses no point."""
    counts = np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype(np.uint16).reshape(SIZE)
    z = 2 + counts / 65535 * 2
    focal = 711.11 / 512 * SIZE[1]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    xyz = np.stack([(columns - 11.5) / focal * z, (rows - 8.5) / focal * z, z], axis=-1)
    parts = expected(xyz=xyz)
    parts[1]["kind"] = "dents"
    for number, folder in enumerate(("train/data", "test_public/data")):
        data = root / folder
        write_rgb(data / "0_image_2.png", RGB[number])
        cv2.imwrite(str(data / "0_depth.png"), counts)
        bounds = {"normalization": {"min": 2.0, "max": 4.0}}
        (data / "0_info_depth.yaml").write_text(yaml.safe_dump(bounds))
        write_mask(data / "0_mask.png", parts[number]["mask"])
        facts = {"anomalous": number, "anomalous_dents": number}
        (data / "0_metadata.yaml").write_text(yaml.safe_dump(facts))
    return root, parts


def image_folder(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The MVTec AD layout: colours alone."""
    write_rgb(root / "train/good/0.png", RGB[0])
    write_rgb(root / "test/cut/1.png", RGB[1])
    write_mask(root / "ground_truth/cut/1_mask.png", MASK)
    return root, expected(xyz=None)


# Name of the reader to a function that writes two parts into a folder. It returns the path to
# open, and the fields of each part in the order of the references.
ROWS: dict[str, Callable[[Path], tuple[Path, list[dict[str, Any]]]]] = {
    "Eyecandies": eyecandies,
    "ImageFolder": image_folder,
    "Manifest": manifest,
    "Mvtec3d": mvtec3d,
    "PlainFolder": plain_folder,
}


def test_every_reader_has_a_row():
    assert {entry.__name__ for entry in readers("detection")} == set(ROWS)


@pytest.fixture(params=sorted(ROWS))
def name(request) -> str:
    return request.param


@pytest.fixture
def written(name, tmp_path) -> tuple[Path, list[dict[str, Any]]]:
    return ROWS[name](tmp_path / "parts")


def test_the_path_alone_finds_the_reader_and_no_other_recognises_it(name, written):
    path, _ = written
    assert type(open_source(path)).__name__ == name
    assert [entry.__name__ for entry in readers("detection") if entry.recognises(path)] == [name]


def test_what_is_not_there_or_empty_is_not_recognised(name, tmp_path):
    (entry,) = (entry for entry in readers("detection") if entry.__name__ == name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    for other in ("empty", "notes.txt", "nowhere", "nowhere.csv"):
        assert not entry.recognises(tmp_path / other)
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "empty")
    assert entry.layout in str(error.value)


def test_references_are_stable_and_unique(written):
    first, second = open_source(written[0]), open_source(written[0])
    assert first.name == second.name != ""
    assert first.refs == second.refs
    assert len({ref.source for ref in first.refs}) == len(first.refs) == len(PARTS)
    assert first.problems == ()


def test_a_sample_has_the_written_values(written):
    path, parts = written
    source = open_source(path)
    for ref, part in zip(source.refs, parts, strict=True):
        sample = source.load(ref)
        for field in ("label", "kind", "split"):
            assert getattr(ref, field) == getattr(sample, field) == part[field]
        assert sample.source == ref.source
        np.testing.assert_allclose(sample.rgb, part["rgb"], atol=1e-6)
        if part["xyz"] is None:
            assert sample.xyz is None
        else:
            np.testing.assert_allclose(sample.xyz, part["xyz"], rtol=1e-5, atol=1e-6)
        if part["mask"] is None:
            assert sample.mask is None
        else:
            np.testing.assert_array_equal(sample.mask, part["mask"])


def test_a_sample_has_the_records_shapes_types_and_ranges(written):
    source = open_source(written[0])
    for sample in map(source.load, source.refs):
        assert sample.rgb.shape == (*SIZE, 3) and sample.rgb.dtype == np.float32
        assert sample.rgb.min() >= 0 and sample.rgb.max() <= 1
        if sample.xyz is not None:
            assert sample.xyz.shape == (*SIZE, 3) and sample.xyz.dtype == np.float32
            assert np.isfinite(sample.xyz).all()
        assert sample.valid.shape == SIZE and sample.valid.dtype == np.bool_
        if sample.mask is not None:
            assert sample.mask.shape == SIZE and sample.mask.dtype == np.bool_


def test_missing_points_are_0_and_not_valid(written):
    path, parts = written
    source = open_source(path)
    for ref, part in zip(source.refs, parts, strict=True):
        sample = source.load(ref)
        if sample.xyz is None:
            assert sample.valid.all()
            continue
        np.testing.assert_array_equal(sample.valid, (part["xyz"] != 0).any(axis=2))
        assert not sample.xyz[~sample.valid].any()


def test_a_damaged_file_is_named(name, tmp_path):
    """An error, or a problem where the reader notices the file on opening."""
    roles = {role for ref in open_source(ROWS[name](tmp_path / "a")[0]).refs for role in ref.files}
    for role in roles:
        path, _ = ROWS[name](tmp_path / role)
        ref = next(ref for ref in open_source(path).refs if role in ref.files)
        file = ref.files[role]
        file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))
        source = open_source(path)
        if ref in source.refs:
            with pytest.raises(DataError) as error:
                source.load(ref)
            assert str(file) in str(error.value)
        else:
            (problem,) = source.problems
            assert isinstance(problem, Problem) and problem.left_out
            assert str(file) in problem.sentence


def test_a_part_without_a_needed_file_is_left_out_and_listed(name, tmp_path):
    """A part of one file is absent without it; one of several is a problem that names the file."""
    for number in range(len(PARTS)):
        path, parts = ROWS[name](tmp_path / str(number))
        ref = open_source(path).refs[number]
        file = next(iter(ref.files.values()))
        file.unlink()
        source = open_source(path)
        assert len(source.refs) == len(parts) - 1 and ref not in source.refs
        for problem in source.problems:
            assert isinstance(problem, Problem) and problem.left_out
            assert str(file.parent) in problem.sentence
        assert len(source.problems) == (len(ref.files) > 1)
