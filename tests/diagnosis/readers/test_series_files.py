"""Tables of numbers: the quick way accepts nothing that the careful way would not, and is quick."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chiasm.diagnosis.readers import series_files
from chiasm.diagnosis.recorders.instrument_tables import read_instrument_table
from chiasm.diagnosis.recorders.recorded import RecorderSettings
from chiasm.diagnosis.recorders.recorder_files import recorded_from_bytes
from chiasm.errors import DataError

CELLS = st.one_of(
    st.text("0123456789+-.eE \t", min_size=1, max_size=8),
    st.integers(-(10**9), 10**9).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["", "nan", "inf", "-0", "1_0", "0x1", "1e400", "\u00a01", "\u0661", "3.5e38"]),
)


def parsed_cell_by_cell(content: bytes) -> object:
    try:
        return series_files._cell_by_cell("a.csv", content).tobytes()
    except DataError as error:
        return str(error)


@given(cells=st.lists(CELLS, min_size=1, max_size=4))
@example(cells=["1e2", "3"])
@example(cells=["16777217", "-3"])
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_quick_way_says_what_the_careful_way_says(cells: list[str]) -> None:
    content = ",".join(cells).encode()
    assume(content.strip())  # the shape of a table is looked at first
    quick = series_files._numbers(content)
    assert quick is None or quick.tobytes() == parsed_cell_by_cell(content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.5,2\n3,x\n4,5\n", "row 2, column 2 holds 'x'; a number was expected"),
        ("1.5,2\n3, \n4,5\n", "row 2 has 1 cells; 2 were expected"),
        ("1.5,2,3\n3, ,5\n", "row 2, column 2 is empty"),
        ("1.5,1e39", "row 1, column 2 holds 1e\\+39; a finite number"),
        ("1.5,nan", "row 1, column 2 is empty or holds NaN"),
    ],
)
def test_the_faulty_cell_is_named(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        recorded_from_bytes(text.encode(), "a.csv", RecorderSettings(layout="rows"))


def test_a_table_of_bare_numbers_is_quick() -> None:
    plain = b"\n".join([b",".join([b"12.5"] * 500)] * 400)
    seconds = []
    for content in (b"one,header\n" + plain, plain):
        began = time.process_time()
        table = read_instrument_table(content, "a.csv")
        seconds.append(time.process_time() - began)
        assert table.values.shape == (400, 500) and (table.values == 12.5).all()
    careful, quick = seconds
    assert quick < careful


def test_blanks_are_no_cells_and_nothing_is_lost() -> None:
    rows = np.arange(12).reshape(3, 4)
    for mark in (",", ";", "\t", "  "):
        text = "\n".join(mark.join(map(str, row)) + mark for row in rows)
        np.testing.assert_array_equal(read_instrument_table(text.encode(), "a").values, rows)
