"""Assets and times of recordings: from columns, instruments, folders and names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chiasm.diagnosis.monitoring.listing import list_assets, recorder_of
from chiasm.diagnosis.monitoring.times import time_in_name, time_of_text
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.errors import DataError

MAY = 1717166400.0  # 2024-05-31 14:40 UTC


def ref(path: str, **group: str) -> RecordingRef:
    return RecordingRef(path, {"series": Path(path)}, group=group)


@pytest.mark.parametrize(
    "text",
    [
        *("2024-05-31T14:40", "2024-05-31 14:40:00", "2024-05-31T16:40+02:00", "31.05.2024 14:40"),
        *("20240531_1440", "2024-05-31_14-40-00", "240531_144000", "1717166400", "1717166400000"),
    ],
)
def test_times_are_read_as_written(text: str):
    assert time_of_text(text) == MAY


@pytest.mark.parametrize("text", ["", "T1", "12345678", "2024-13-31", "99999999_999999", "17"])
def test_what_is_no_time_is_none(text: str):
    assert time_of_text(text) is None and time_in_name(text) is None


def test_folders_are_assets_and_names_have_dates(tmp_path: Path):
    names = ("T1/image/a_2024-05-31.csv", "T1/a_2024-06-01.csv", "T2/b_2024-05-31.csv")
    listing = list_assets([ref(str(tmp_path / name)) for name in names], tmp_path)
    assert [one.asset for one in listing.recordings] == ["T1", "T1", "T2"]
    assert all(one.time for one in listing.recordings)


def test_columns_win_over_folders_and_absent_times_are_left_out():
    refs = [
        ref("/d/1.csv", asset="A", date="2024-05-31", time="14:40", gain="2"),
        ref("/d/2.csv", asset="B", date="2024-06-01", time="14:40"),
        ref("/d/3.csv", asset="B"),
    ]
    listing = list_assets(refs, Path("/d"))
    assert (listing.recordings[0].asset, listing.recordings[0].time) == ("A", MAY)
    assert len(listing.recordings) == 2
    assert any("3.csv" in note for note in listing.notes)
    assert recorder_of(listing.recordings[0].facts) == "gain 2"


def test_an_instrument_tells_its_time_and_its_settings(tmp_path: Path):
    file = tmp_path / "a.xml"
    file.write_text(
        "<time version='1'>\n<date>2024-05-31</date>\n<time>14:40:00</time>\n"
        "<device_serial>7</device_serial>\n<antenna>TEV</antenna>\n"
    )
    (one,) = list_assets([ref(str(file))], tmp_path, asset="device_serial").recordings
    assert (one.asset, one.time) == ("7", MAY)
    assert recorder_of(one.facts) == "antenna TEV"


def test_what_cannot_be_told_is_refused_with_a_remedy(tmp_path: Path):
    with pytest.raises(DataError, match="--time order"):
        list_assets([ref("/d/1.csv")], Path("/d"))
    with pytest.raises(DataError, match=r"31\.05\.2024"):
        list_assets([ref("/d/1.csv", time="03/04/2024")], Path("/d"))
    with pytest.raises(DataError, match="there are bay, time"):
        list_assets([ref("/d/1.csv", bay="1", time="2024-05-31")], Path("/d"), asset="site")
    file = tmp_path / "1.csv"
    file.write_text("1")
    os.utime(file, (MAY, MAY))
    listing = list_assets([ref(str(file))], tmp_path, time="file")
    assert listing.recordings[0].time == MAY and "copied" in " ".join(listing.notes)
    (one,) = list_assets([ref("/d/1.csv")], Path("/d"), time="order").recordings
    assert one.time is None


def test_a_clock_that_was_never_set_is_told():
    listing = list_assets([ref("/d/a_2000-01-01.csv")], Path("/d"))
    assert any("never set" in note for note in listing.notes)
