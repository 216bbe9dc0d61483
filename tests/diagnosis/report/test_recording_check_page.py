"""The page of a check of recordings."""

from __future__ import annotations

import re

import numpy as np
import pytest

from chiasm.diagnosis.readers.audit import audit
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.report.check_page import recording_picture, write_page
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.samples import RecordingSample


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("check")
    make_recordings(folder / "own", count=10, sessions=5, seed=0)
    first = sorted((folder / "own").glob("*/*.csv"))[0]
    first.write_text("nothing")
    source = open_source(folder / "own")
    return write_page(audit(source), source, folder / "c.html", repeat="chiasm").read_text()


def test_the_page_is_complete_and_needs_no_other_file(page: str):
    assert all(a.startswith("data:") for a in re.findall(r'src="([^"]*)"', page))
    for title in ("10 recordings were checked", "Recordings by class", "Damaged recordings"):
        assert title in page
    assert "Few sessions of corona" in page and page.count("<figure>") > 5


def test_a_pattern_is_drawn_by_phase_and_amplitude():
    series = np.zeros((1, 20 * 8), np.float32)
    series[0, 3::8] = 1  # a pulse at the fourth of eight phases in each cycle
    sample = RecordingSample(image=None, series=series, samples_per_cycle=8)
    drawn = recording_picture(sample, side=64)
    assert drawn.shape == (64, 64, 3)
    top = drawn[0].astype(int).sum(axis=1)  # the largest amplitude
    assert set(np.flatnonzero(top > top.min())) <= set(range(24, 32))
    empty = RecordingSample(image=None, series=series[:, :5], samples_per_cycle=8)
    assert recording_picture(empty, side=16).shape == (16, 16, 3)
