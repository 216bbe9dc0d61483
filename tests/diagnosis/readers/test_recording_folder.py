"""Recordings without labels, as a folder or as files, for diagnosis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chiasm.diagnosis.readers.opening import is_diagnosis_data, open_source
from chiasm.diagnosis.readers.recording_folder import RecordingFolder
from chiasm.errors import DataError
from chiasm.files.images import write_rgb

CYCLE = 128


def record(folder: Path, stem: str, *, image: bool = True, series: str = ".csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if image:
        write_rgb(folder / f"{stem}.png", np.zeros((8, 8, 3)))
    values = np.arange(2 * CYCLE).reshape(2, CYCLE) % 50
    if series == ".csv":
        np.savetxt(folder / f"{stem}.csv", values, delimiter=",", fmt="%d")
    elif series:
        np.save(folder / f"{stem}.npy", values.astype(np.float32))


def test_partners_share_a_name_and_may_be_absent(tmp_path: Path):
    record(tmp_path, "b")
    record(tmp_path, "a", series="")
    record(tmp_path, "c", image=False, series=".npy")
    assert is_diagnosis_data(tmp_path)
    source = open_source(tmp_path)
    samples = [source.load(ref) for ref in source.refs]
    assert [Path(one.source).name for one in samples] == ["a.png", "b.png", "c.npy"]
    assert samples[0].series is None and samples[2].image is None
    assert samples[1].series.shape == (1, 2 * CYCLE)  # rows follow each other in time
    assert samples[2].series.shape == (2, CYCLE)  # rows are channels
    assert all(one.label is None and one.kind == "" for one in samples)
    assert any("60 Hz" in str(problem) for problem in source.problems)


def test_partners_may_lie_in_folders_of_their_own(tmp_path: Path):
    record(tmp_path / "image", "a", series="")
    record(tmp_path / "series", "a", image=False)
    (ref,) = open_source(tmp_path).refs
    assert set(ref.files) == {"image", "series"}


def test_source_folders_of_ai_hub_without_their_labels_are_read(tmp_path: Path):
    record(tmp_path / "VS_new", "a")
    assert set(open_source(tmp_path).refs[0].files) == {"image", "series"}


def test_pictures_alone_are_recordings_for_who_asks_for_such(tmp_path: Path):
    record(tmp_path, "a", series="")
    assert not is_diagnosis_data(tmp_path)
    assert len(open_source(tmp_path).refs) == 1


def test_two_files_of_one_name_are_left_out(tmp_path: Path):
    record(tmp_path / "image", "a")
    record(tmp_path / "other", "a", series="")
    record(tmp_path / "image", "b")
    source = RecordingFolder(tmp_path)
    assert [Path(ref.source).name for ref in source.refs] == ["b.png"]
    assert [p.left_out for p in source.problems if "a.png" in p.source] == [True]


def test_single_files_are_told_from_tables(tmp_path: Path):
    record(tmp_path, "a")
    (ref,) = open_source(tmp_path / "a.csv").refs
    assert set(ref.files) == {"series"}
    (ref,) = open_source(tmp_path / "a.png", partner=tmp_path / "a.csv").refs
    assert set(ref.files) == {"image", "series"}
    table = tmp_path / "table.csv"
    table.write_text("image,series\na.png,a.csv\n")
    assert len(open_source(table).refs) == 1
    with pytest.raises(DataError, match=r"a\.png is no partner of .*a\.png"):
        open_source(tmp_path / "a.png", partner=tmp_path / "a.png")
    with pytest.raises(DataError, match="no single picture or series"):
        open_source(tmp_path, partner=tmp_path / "a.csv")


def test_parts_and_empty_folders_are_no_recordings(tmp_path: Path):
    (tmp_path / "rgb").mkdir()
    write_rgb(tmp_path / "rgb/a.png", np.zeros((8, 8, 3)))
    assert not is_diagnosis_data(tmp_path)
    with pytest.raises(DataError, match="no known layout"):
        open_source(tmp_path)
    (tmp_path / "parts.csv").write_text("image,xyz,label\na.png,a.tiff,0\n")
    assert not is_diagnosis_data(tmp_path / "parts.csv")
    (tmp_path / "image").mkdir()
    (tmp_path / "rgb/a.png").unlink()
    with pytest.raises(DataError, match="holds no recording"):
        open_source(tmp_path)
