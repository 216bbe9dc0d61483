"""Odd parts, drift and small defects, from measures that are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from chiasm.detection.check.part_measures import PartMeasures
from chiasm.detection.check.part_statistics import statistics_of

USUAL = {
    "split": "train",
    "kind": "good",
    "label": 0,
    "share": 0.3,
    "crop": 512,
    "outside": 0.4,
    "cut": False,
    "objects": 1,
    "plane": True,
    "measured": 0.9,
    "distance": 0.6,
    "pitch": 2e-4,
    "sharpness": 0.1,
    "brightness": 0.4,
    "brightest": 0.9,
    "saturated": 0.0,
    "dark": 0.0,
    "defect": None,
}


def part(number: int, **others) -> PartMeasures:
    return PartMeasures(**({"source": f"train/good/rgb/{number:03d}.png"} | USUAL | others))


def parts(count: int = 30) -> list[PartMeasures]:
    rng = np.random.default_rng(0)
    return [part(i, brightness=0.4 + 0.02 * rng.normal()) for i in range(count)]


def titles(measures, size: int = 256) -> list[str]:
    return [finding.title for finding in statistics_of(measures, size=size).findings]


def test_alike_parts_have_no_finding():
    statistics = statistics_of(parts(), size=256)
    assert statistics.findings == () and statistics.odd == ()
    # Three pixels of the crop are six of the frame, 0.2 mm each.
    assert statistics.smallest_pixels == pytest.approx(6)
    assert statistics.smallest_mm == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("others", "title"),
    [
        ({"fault": "nothing rises"}, "No part in the frame"),
        ({"objects": 3}, "Several objects in a frame"),
        ({"plane": False}, "No support plane"),
        ({"cut": True}, "Cut off by the frame"),
        ({"share": 0.1}, "Another size"),
        ({"distance": 0.9}, "Another distance"),
        ({"sharpness": 0.04}, "Blurred"),
        ({"brightness": 0.1}, "Other exposure"),
        ({"brightness": 0.9}, "Other exposure"),
        ({"saturated": 0.2}, "Overexposed"),
        ({"measured": 0.3}, "Few 3D points"),
    ],
)
def test_an_odd_part_is_named_with_its_reason(others, title):
    odd = part(99, **others)
    statistics = statistics_of([*parts(), odd], size=256)
    assert [found.source for found in statistics.odd] == [odd.source]
    (finding,) = statistics.findings
    assert finding.title == title and finding.sources == (odd.source,) and finding.remedy


def test_defective_parts_may_differ():
    defective = part(99, label=1, split="test", kind="cut", sharpness=0.01, share=0.1)
    assert statistics_of([*parts(), defective], size=256).odd == ()


def test_what_all_parts_show_is_one_finding_and_no_oddity():
    statistics = statistics_of([part(i, objects=4) for i in range(20)], size=256)
    assert statistics.odd == ()
    (finding,) = statistics.findings
    assert finding.sentence.startswith("All measured parts show several objects")


def test_few_parts_have_no_usual_look():
    assert titles([part(0), part(1, sharpness=0.01)]) == []


def test_twelve_bits_in_sixteen_are_told():
    assert titles([part(i, brightest=4095 / 65535) for i in range(8)]) == [
        "Nearly black: a twelve-bit camera in 16-bit files?"
    ]


@pytest.mark.parametrize("change", [-0.15, 0.15])
def test_drift_in_the_order_of_names_is_told_with_its_size(change: float):
    drifting = [part(i, brightness=0.4 * (1 + change * i / 39)) for i in range(40)]
    (finding,) = statistics_of(drifting, size=256).findings
    assert finding.title == "Drift of the brightness" and "order of their names" in finding.sentence
    assert ("rises" if change > 0 else "falls") in finding.sentence


def test_file_dates_give_the_order_where_they_differ(tmp_path: Path):
    drifting = []
    for i in range(40):
        path = tmp_path / f"{(7 * i) % 40:03d}.png"  # names tell nothing
        path.touch()
        os.utime(path, (1_700_000_000 + 60 * i,) * 2)
        drifting.append(part(0, source=str(path), brightness=0.4 + 0.004 * i))
    drifting.sort(key=lambda m: m.source)
    statistics = statistics_of(drifting, size=256)
    assert statistics.order == "file dates"
    assert [finding.title for finding in statistics.findings] == ["Drift of the brightness"]


def test_defects_that_the_crop_does_not_show_are_told_with_a_size_that_does():
    small = part(99, label=1, split="test", kind="cut", defect=4.0)  # 2 pixels of the crop
    large = part(98, label=1, split="test", kind="cut", defect=40.0)
    (finding,) = statistics_of([*parts(), small, large], size=256).findings
    assert finding.sources == (small.source,) and "image_size=384" in finding.remedy
    assert titles([*parts(), small, large], size=384) == []
