"""Tables of numbers: the quick way accepts nothing that the careful way would not, and is quick."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chiasm.diagnosis.readers import series_files
from chiasm.diagnosis.readers.series_files import numbers_from_bytes
from chiasm.errors import DataError

CELLS = st.one_of(
    st.text("0123456789+-.eE \t", min_size=1, max_size=8),
    st.integers(-(10**9), 10**9).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["", "nan", "inf", "-0", "1_0", "0x1", "1e400", "\u00a01", "\u0661", "3.5e38"]),
)


def parsed_cell_by_cell(content: bytes, *, whole: bool) -> object:
    try:
        return series_files._cell_by_cell("a.csv", content, whole=whole).tobytes()
    except DataError as error:
        return str(error)


@given(cells=st.lists(CELLS, min_size=1, max_size=4), whole=st.booleans())
@example(cells=["1", "nan"], whole=False)
@example(cells=["1e2", "3"], whole=True)
@example(cells=["16777217", "-3"], whole=True)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_the_quick_way_says_what_the_careful_way_says(cells: list[str], whole: bool) -> None:
    content = ",".join(cells).encode()
    assume(content.strip())  # the shape of a table is looked at first
    quick = series_files._numbers(content, whole=whole)
    assert quick is None or quick.tobytes() == parsed_cell_by_cell(content, whole=whole)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.5,2\n3,x", "row 2, column 2 holds 'x'; a number was expected"),
        ("1.5,2\n3, ", "row 2, column 2 is empty"),
        ("1.5,1e39", "row 1, column 2 holds 1e39; amplitudes lie within"),
        ("1.5,nan", "row 1, column 2 holds 'nan'"),
    ],
)
def test_the_faulty_cell_is_named(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        numbers_from_bytes(text.encode(), "a.csv")


def test_a_fraction_does_not_make_a_table_slow() -> None:
    whole = b"\n".join([b",".join([b"12"] * 500)] * 400)
    careful = time.perf_counter()
    expected = series_files._cell_by_cell("a.csv", whole + b".5", whole=False)
    careful = time.perf_counter() - careful
    quick = time.perf_counter()
    values = numbers_from_bytes(whole + b".5", "a.csv")
    quick = time.perf_counter() - quick
    assert np.array_equal(values.ravel(), expected)
    assert quick < careful / 3
