"""Files of one part whose names differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from chiasm.detection.sensors.pairing import pair_files, seconds_in_name, sides_of


def pairs(colours: list[str], points: list[str]) -> list[tuple[str, str]]:
    return [(pair.colour.name, pair.points.name) for pair in paired(colours, points).pairs]


def paired(colours: list[str], points: list[str]):
    return pair_files([Path("rgb", n) for n in colours], [Path("xyz", n) for n in points])


def test_equal_stems_need_no_remark():
    result = paired(["0.png", "1.png"], ["1.tiff", "0.tiff", "2.tiff"])
    assert [(p.colour.stem, p.points.stem, p.lamp) for p in result.pairs] == [
        ("0", "0", None),
        ("1", "1", None),
    ]
    assert result.remarks == []
    (problem,) = result.problems
    assert problem.left_out and str(Path("xyz/2.tiff")) in problem.sentence


@pytest.mark.parametrize(
    ("colour", "points"),
    [
        ("{:04d}_color.png", "{:04d}_depth.png"),
        ("Color_{:d}.png", "Depth_{:d}.png"),
        ("rgb{:03d}.png", "pcd{:05d}.pcd"),
        ("cam0-{:04d}-RGB.bmp", "zivid-{:04d}-pts.ply"),
        ("left_part{:02d}_image.png", "scan_part{:02d}_xyz.tiff"),
    ],
)
def test_what_names_share_pairs_them_whatever_is_missing(colour, points):
    colours = [colour.format(n) for n in (3, 11, 12, 20)]
    found = pairs(colours, [points.format(n) for n in (20, 12, 3, 7)])
    assert sorted(found) == sorted((colour.format(n), points.format(n)) for n in (3, 12, 20))
    result = paired(colours, [points.format(n) for n in (20, 12, 3, 7)])
    assert "3 pairs have names that differ" in result.remarks[0] and len(result.problems) == 2


def test_names_that_share_nothing_are_never_paired_by_order():
    assert pairs(["a.png", "b.png"], ["x.tiff", "y.tiff"]) == []
    assert pairs(["1_2.png", "1_3.png"], ["4_2.tiff", "4_5.tiff"]) == []
    assert len(paired(["a.png", "b.png"], ["x.tiff", "y.tiff"]).problems) == 4


def test_two_files_of_one_name_are_not_guessed_between():
    assert pairs(["1_rgb.png", "1_color.png"], ["1_depth.png"]) == []


@pytest.mark.parametrize("light", ["", "L", "lamp"])
def test_images_that_continue_a_name_are_under_lamps(light):
    colours = [f"{part:03d}_{light}{lamp}.png" for part in range(2) for lamp in range(3)]
    result = paired(colours, ["000.tiff", "001.tiff"])
    found = [(pair.colour.name, pair.points.name, pair.lamp) for pair in result.pairs]
    expected = [
        (f"{part:03d}_{light}{lamp}.png", f"{part:03d}.tiff", lamp)
        for part in range(2)
        for lamp in range(3)
    ]
    assert found == expected and "several lamps" in result.remarks[0]


def test_times_pair_the_nearest_within_half_a_period():
    """As in the TUM RGB-D layout: neither number nor order of the files is the same."""
    colours = [f"{1305031102 + n / 30:.6f}.png" for n in range(10)]
    points = [f"{1305031102.004 + n / 30:.6f}.png" for n in (9, 2, 3, 4, 6, 0)]
    points.append(f"{1305031102 + 20 / 30:.6f}.png")  # beyond the last image
    result = paired(colours, points)
    numbers = [colours.index(pair.colour.name) for pair in result.pairs]
    assert numbers == [0, 2, 3, 4, 6, 9]
    for pair in result.pairs:
        assert float(pair.points.stem) - float(pair.colour.stem) == pytest.approx(0.004, abs=1e-5)
    assert "4 ms apart" in result.remarks[0] and len(result.problems) == 5


def test_times_farther_apart_than_half_a_period_pair_nothing():
    colours = [f"{1700000000 + n}.000.png" for n in range(4)]
    assert pairs(colours, [f"{1700000000 + n}.600.png" for n in range(5, 9)]) == []


def test_a_time_is_read_in_every_notation():
    instant = 1701341701.25
    for name in (
        "1701341701.250",
        "1701341701_250000",
        "20231130_105501_250",
        "cam-2023-11-30T10-55-01.250",
        "1701341701250",
        "f_1701341701250000_x",
        "1701341701250000000",
    ):
        assert seconds_in_name(name) == pytest.approx(instant, abs=1e-6), name
    assert seconds_in_name("part_0001") is seconds_in_name("20231399_995501") is None


def test_one_folder_is_divided_by_words():
    files = [Path(name) for name in ("1_color.png", "1_depth.png", "2_Color.png", "notes.png")]
    colours, points = sides_of(files)
    assert [p.name for p in colours] == ["1_color.png", "2_Color.png"]
    assert [p.name for p in points] == ["1_depth.png"]
    assert sides_of([Path("part_depth.png")]) == ([], [])
