"""Rows on disk against the arrays that were written, in any order and in any portions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from chiasm.errors import DataError
from chiasm.files.rows import RowFile, SampledRows


def written(
    path: Path, sizes: tuple[int, ...] = (3, 1, 4)
) -> tuple[RowFile, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows, blocks = RowFile(path), []
    for size in sizes:
        block = {
            "half": rng.normal(size=(size, 2, 3)).astype(np.float16),
            "flag": rng.random((size, 5)) > 0.5,
            "number": rng.integers(0, 99, size),
        }
        rows.append(block)
        blocks.append(block)
    return rows, {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


@pytest.mark.parametrize("positions", [[0], [7, 2, 2], [*range(8)], slice(2, 6), slice(5, 50), []])
def test_rows_are_those_that_were_written(tmp_path: Path, positions):
    rows, whole = written(tmp_path / "rows.bin")
    assert len(rows) == 8
    for name, values in rows.read(positions).items():
        expected = whole[name][
            positions if isinstance(positions, slice) else np.array(positions, int)
        ]
        assert values.dtype == expected.dtype
        assert np.array_equal(values, expected)


def test_a_file_is_opened_again_from_its_description(tmp_path: Path):
    rows, whole = written(tmp_path / "rows.bin")
    description = json.loads(json.dumps(rows.describe()))
    again = RowFile.described(tmp_path / "rows.bin", description)
    assert set(again.read([1], ["flag"])) == {"flag"}
    assert np.array_equal(again.read(slice(0, 8))["half"], whole["half"])
    joined = [block["number"] for block in again.blocks(3)]
    assert [len(block) for block in joined] == [3, 3, 2]
    assert np.array_equal(np.concatenate(joined), whole["number"])


def test_a_cut_file_and_other_rows_are_refused(tmp_path: Path):
    rows, _ = written(tmp_path / "rows.bin")
    with pytest.raises(DataError, match="same size"):
        rows.append({"half": np.zeros((1, 2, 3), np.float16)})
    (tmp_path / "rows.bin").write_bytes((tmp_path / "rows.bin").read_bytes()[:-1])
    with pytest.raises(DataError, match="delete it"):
        RowFile.described(tmp_path / "rows.bin", rows.describe())


def test_what_is_read_is_a_copy_that_may_be_changed(tmp_path: Path):
    rows, whole = written(tmp_path / "rows.bin")
    rows.read([0, 1])["half"][:] = 0
    assert np.array_equal(rows.read([0, 1])["half"], whole["half"][:2])


@pytest.mark.parametrize("channels", [1, 3])
def test_axes_lie_in_memory_as_they_did(tmp_path: Path, channels: int):
    first = torch.randn(4, channels, 5, 5)
    last = first.to(memory_format=torch.channels_last)
    last = last.clone(memory_format=torch.channels_last)
    rows = RowFile(tmp_path / "rows.bin")
    rows.append({"first": first.numpy(), "last": last.numpy()})
    values = rows.read([3, 0])
    for name, tensor in (("first", first), ("last", last)):
        again = torch.from_numpy(values[name])
        assert torch.equal(again, tensor[[3, 0]])
        assert again.stride() == tensor[[3, 0]].stride()


def test_a_bounded_file_keeps_every_row_with_the_same_probability(tmp_path: Path):
    count, most, draws = 60, 12, 400
    kept = np.zeros(count)
    for seed in range(draws):
        rows = SampledRows(tmp_path / f"{seed}.bin", most=most, seed=seed)
        for start in range(0, count, 7):
            numbers = np.arange(start, min(start + 7, count))
            rows.append({"number": numbers, "square": numbers**2})
        assert (len(rows), rows.seen) == (most, count)
        found = rows.read(slice(None))
        np.testing.assert_array_equal(found["square"], found["number"] ** 2)
        assert len(set(found["number"].tolist())) == most
        kept[found["number"]] += 1
    expected = draws * most / count
    # 99.99 % of chi squares with 59 degrees of freedom are below this.
    spread = expected * (1 - most / count)
    assert ((kept - expected) ** 2 / spread).sum() < 108


def test_a_bounded_file_with_room_is_a_plain_one(tmp_path: Path):
    plain, whole = written(tmp_path / "rows.bin")
    bounded = SampledRows(tmp_path / "bounded.bin", most=len(plain), seed=0)
    for start in (0, 5):
        bounded.append({name: value[start : start + 5] for name, value in whole.items()})
    assert bounded.path.read_bytes() == plain.path.read_bytes()
