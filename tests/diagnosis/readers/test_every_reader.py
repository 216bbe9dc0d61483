"""One suite for every reader of recordings; a new reader gets one row in ``ROWS``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiasm.diagnosis.readers.opening import is_diagnosis_data, open_source
from chiasm.diagnosis.readers.source import KINDS
from chiasm.diagnosis.readers.store import convert
from chiasm.errors import DataError
from chiasm.files.images import write_rgb
from chiasm.files.readers import readers
from chiasm.samples import Problem

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3)) / np.float32(255)
COUNTS = np.random.default_rng(1).integers(0, 256, (2, 20, 7680))
# A recording of corona, and one of surface discharge.
RECORDINGS: list[dict[str, Any]] = [
    {"label": 3, "kind": "corona", "group": {"session": "monday"}},
    {"label": 2, "kind": "surface", "group": {"session": "tuesday"}},
]


def expected(**changes: Any) -> list[dict[str, Any]]:
    """Return the fields of both recordings in the order of the references."""
    common = {"split": "", "frequency": 60.0, "samples_per_cycle": 128}
    return [
        {"image": IMAGES[n], "series": COUNTS[n].reshape(1, -1), **common, **recording, **changes}
        for n, recording in enumerate(RECORDINGS)
    ]


def write_files(folder: Path, number: int, suffix: str = ".csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_rgb(folder / f"{number}.png", IMAGES[number])
    if suffix == ".csv":
        np.savetxt(folder / f"{number}.csv", COUNTS[number], fmt="%d", delimiter=",")
    else:
        np.save(folder / f"{number}.npy", COUNTS[number].reshape(1, -1).astype(np.float32))


def aihub(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    for number, recording in enumerate(RECORDINGS):
        write_files(root / "VS_all", number)
        (root / "VL_all").mkdir(exist_ok=True)
        content = {
            "label": {"PD_type": recording["label"]},
            "metadata": {
                "equipment_information": {
                    "equipment_id": "E7",
                    "equipment_name": "cable",
                    "insulator_type": "solid",
                },
                "environment": {
                    "recording_time": f"23091{number}_195222",
                    "power_supply_frequency": "60Hz",
                },
            },
        }
        (root / f"VL_all/{number}.json").write_text(json.dumps(content))
    recordings = expected()
    for number, recording in enumerate(recordings):
        session = f"E7_23091{number}"
        recording["group"] = {"session": session, "equipment": "cable", "insulator": "solid"}
    return root, recordings


def recording_folder(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    write_files(root, 0)
    write_files(root, 1, ".npy")
    return root, expected(label=None, kind="", group={})


def class_folders(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    for number, recording in enumerate(RECORDINGS):
        write_files(root / recording["kind"] / recording["group"]["session"], number)
    # Labels are numbered as all five kinds are, and folders come in the order of their names.
    return root, expected()


def manifest(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Values of 50 Hz mains; a .csv in the first row, a .npy in the second."""
    write_files(root, 0)
    write_files(root, 1, ".npy")
    (root / "recordings.csv").write_text(
        "image,series,kind,session,split,frequency,samples_per_cycle\n"
        "0.png,0.csv,corona,monday,train,50,160\n"
        "1.png,1.npy,surface,tuesday,train,50,160\n"
    )
    return root / "recordings.csv", expected(split="train", frequency=50.0, samples_per_cycle=160)


def store(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    path, recordings = manifest(root / "source")
    convert(open_source(path), root / "store")
    return root / "store", recordings


# Name of the reader to a function that writes two recordings into a folder. It returns the path to
# open, and the fields of each recording in the order of the references.
ROWS: dict[str, Callable[[Path], tuple[Path, list[dict[str, Any]]]]] = {
    "AiHub": aihub,
    "ClassFolders": class_folders,
    "RecordingFolder": recording_folder,
    "RecordingManifest": manifest,
    "RecordingStore": store,
}


def test_every_reader_has_a_row():
    assert {entry.__name__ for entry in readers("diagnosis")} == set(ROWS)


@pytest.fixture(params=sorted(ROWS))
def name(request) -> str:
    return request.param


@pytest.fixture
def written(name, tmp_path) -> tuple[Path, list[dict[str, Any]]]:
    return ROWS[name](tmp_path / "recordings")


def test_the_path_alone_finds_the_reader_and_no_other_recognises_it(name, written):
    path, _ = written
    assert type(open_source(path)).__name__ == name
    assert [entry.__name__ for entry in readers("diagnosis") if entry.recognises(path)] == [name]
    assert is_diagnosis_data(path)


def test_what_is_not_there_or_empty_is_not_recognised(name, tmp_path):
    (entry,) = (entry for entry in readers("diagnosis") if entry.__name__ == name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    for other in ("empty", "notes.txt", "nowhere", "nowhere.csv"):
        assert not entry.recognises(tmp_path / other)
        assert not is_diagnosis_data(tmp_path / other)
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "empty")
    assert entry.layout in str(error.value)


def test_references_are_stable_and_unique(written):
    first, second = open_source(written[0]), open_source(written[0])
    assert first.name == second.name != ""
    assert first.refs == second.refs
    assert len({ref.source for ref in first.refs}) == len(first.refs) == len(RECORDINGS)
    assert not any(problem.left_out for problem in first.problems)


def test_a_sample_has_the_written_values(written):
    path, recordings = written
    source = open_source(path)
    for ref, recording in zip(source.refs, recordings, strict=True):
        sample = source.load(ref)
        np.testing.assert_allclose(sample.image, recording["image"], atol=1e-6)
        np.testing.assert_array_equal(sample.series, recording["series"])
        for field in ("label", "kind", "group", "split", "frequency", "samples_per_cycle"):
            assert getattr(ref, field) == getattr(sample, field) == recording[field], field
        assert sample.source == ref.source


def test_a_sample_has_the_records_shapes_types_and_ranges(written):
    source = open_source(written[0])
    for ref in source.refs:
        sample = source.load(ref)
        assert sample.image.ndim == 3 and sample.image.shape[2] == 3
        assert sample.image.dtype == sample.series.dtype == np.float32
        assert sample.image.min() >= 0 and sample.image.max() <= 1
        assert sample.series.ndim == 2 and sample.series.shape[1] >= sample.samples_per_cycle
        assert np.isfinite(sample.series).all()
        assert sample.label is None or source.kinds[sample.label] == sample.kind
    assert source.kinds in ((), KINDS)


def test_repairs_are_problems_that_loading_twice_does_not_repeat(written):
    source = open_source(written[0])
    for ref in (*source.refs, *source.refs):
        source.load(ref)
    assert len(set(source.problems)) == len(source.problems)
    for ref in source.refs:
        assert set(source.repairs(ref)) <= set(source.problems)
    for problem in source.problems:
        assert isinstance(problem, Problem) and problem.sentence.endswith(".")


def test_a_damaged_file_is_named(name, tmp_path):
    """An error, or a problem where the reader notices the file on opening."""
    path, _ = ROWS[name](tmp_path / "a")
    names = sorted(str(p.relative_to(path)) for p in path.rglob("*.*")) if path.is_dir() else []
    names = names or sorted(p.name for p in path.parent.iterdir() if p != path)
    for number, damaged in enumerate(names):
        path, recordings = ROWS[name](tmp_path / f"copy{number}")
        file = (path if path.is_dir() else path.parent) / damaged
        file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))
        assert str(file) in fault_of(path, len(recordings)), file


def fault_of(path: Path, count: int) -> str:
    """Return the error of opening and loading, or the problem of what is left out."""
    try:
        source = open_source(path)
        if len(source.refs) == count:
            for ref in source.refs:
                source.load(ref)
            return ""
    except DataError as error:
        return str(error)
    (problem,) = (problem for problem in source.problems if problem.left_out)
    return problem.sentence
