"""Prepared parts that stay on disk: the same parts, however often and in whatever order."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.readers.cache import PreparationCache, SelectedParts
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.scenes.maker import make_scenes
from chiasm.samples import PreparedSample

SETTINGS = PreparationSettings(size=64)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Mvtec3d:
    counts = {"train": 3, "validation": 0, "test_good": 0, "test_per_defect": 0}
    return Mvtec3d(
        make_scenes(tmp_path_factory.mktemp("data"), products=("flange",), size=64, **counts)[0]
    )


class CountingSource:
    """Counts how often a sample is loaded."""

    def __init__(self, source: Mvtec3d) -> None:
        self.source, self.loaded = source, 0

    def __getattr__(self, name: str):
        return getattr(self.source, name)

    def load(self, ref):
        self.loaded += 1
        return self.source.load(ref)


def assert_equal(one: PreparedSample, other: PreparedSample) -> None:
    for field in fields(PreparedSample):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and np.array_equal(a, b), field.name
        else:
            assert a == b, field.name


def test_parts_are_those_of_the_cache_at_every_use(source: Mvtec3d, tmp_path: Path):
    cache, counting = PreparationCache(tmp_path), CountingSource(source)
    parts = cache.parts(counting, source.refs, SETTINGS)
    assert len(parts) == 3
    expected = [PreparationCache(tmp_path / "other").get(source, r, SETTINGS) for r in source.refs]
    for _ in range(3):
        for part, other in zip(parts, expected, strict=True):
            assert_equal(part, other)
    assert_equal(parts[-1], expected[-1])
    assert [p.source for p in parts[1:]] == [p.source for p in expected[1:]]
    with pytest.raises(IndexError):
        parts[3]
    assert counting.loaded == 3


def test_no_part_stays_in_memory(source: Mvtec3d, tmp_path: Path):
    parts = PreparationCache(tmp_path).parts(source, source.refs, SETTINGS)
    list(parts)
    assert parts[0] is not parts[0]
    assert not parts._kept


def test_a_part_whose_entry_was_removed_is_prepared_again(source: Mvtec3d, tmp_path: Path):
    counting = CountingSource(source)
    parts = PreparationCache(tmp_path).parts(counting, source.refs, SETTINGS)
    before = list(parts)
    for entry in tmp_path.rglob("*.npz"):
        entry.unlink()
    assert_equal(parts[1], before[1])
    assert counting.loaded == 4


def test_a_folder_that_cannot_be_written_keeps_parts_in_memory(source: Mvtec3d, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    counting = CountingSource(source)
    parts = PreparationCache(tmp_path / "file").parts(counting, source.refs, SETTINGS)
    for _ in range(2):
        list(parts)
    assert counting.loaded == 3


def test_a_selection_reads_its_parts_when_they_are_used(source: Mvtec3d, tmp_path: Path):
    counting = CountingSource(source)
    selected = SelectedParts(
        PreparationCache(tmp_path).parts(counting, source.refs, SETTINGS), [2, 0]
    )
    assert (len(selected), counting.loaded) == (2, 0)
    assert [p.source for p in selected] == [source.refs[2].source, source.refs[0].source]
    assert [p.source for p in selected[1:]] == [source.refs[0].source]
    assert counting.loaded == 2
