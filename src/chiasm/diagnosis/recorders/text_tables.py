"""Text of instruments as cells: character sets, line ends, separators, quotes, decimal commas."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.recorders.column_names import COLUMN_WORDS, words_of

NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eEdD][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_PLAIN = b"0123456789+-.eE,\t\r\n "
_COMMENTS = ("#", "%", "//", '"#')
# Of texts that are no UTF-8: the set in which the names of their columns are known words.
_CHARSETS = ("gb18030", "cp949", "shift_jis", "cp1251")
_FOREIGN = tuple(k for words in COLUMN_WORDS.values() for k in words if max(k) > "\u03ff")
_HEAD = 4096  # bytes, of which the character set is told
_MOST = 0.9  # share of the lines that agree
_ONE_COMMA = re.compile(rb"[+-]?\d+,\d+")


def text_of(content: bytes) -> str:
    """Decode a text: UTF-8, UTF-16, else the set of its columns' names, else Latin-1.

    Line ends become line feeds, a minus sign of typographers one of ASCII, and what pads the end is
    taken off.
    """
    text = _decoded(content).rstrip("\x00\x1a \r\n")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2212", "-")


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    head = content[:_HEAD]
    # Digits and separators have one byte 0 in UTF-16.
    for charset, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) and zeros.count(0) > _MOST / 2 * len(zeros):
            return content.decode(charset, errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    for charset in _CHARSETS:
        try:
            text = content.decode(charset)
        except UnicodeDecodeError:
            continue
        words = words_of(text[:_HEAD])
        if any(w.startswith(k) and (len(k) > 1 or w == k) for w in words for k in _FOREIGN):
            return text
    return content.decode("latin-1")


def uncommented(line: str) -> str:
    """Return a line without a mark of comments before it."""
    for mark in _COMMENTS:
        if line.startswith(mark):
            return line[len(mark) :].strip()
    return line


def splitter(lines: Sequence[str]) -> Callable[[str], list[str]]:
    """Return what divides a line into cells.

    Separators are found by counting: semicolons, tabs and strokes before commas, because a comma
    beside them is a decimal one; else blanks.
    """
    share = {mark: np.mean([mark in line for line in lines]) for mark in ";\t|,"} if lines else {}
    separator = next((mark for mark, part in share.items() if part > 0.5), None)
    if separator == "," and _blanks_divide(lines):
        separator = None
    quoted = separator is not None and float(np.mean(['"' in line for line in lines])) > 0.5

    def split(line: str) -> list[str]:
        if quoted and separator is not None:
            parts = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        else:
            parts = line.split(separator)
        cells = [cell.strip() for cell in parts]
        while len(cells) > 1 and not cells[-1]:  # a separator at the end of the line
            cells.pop()
        return cells

    return split


def _blanks_divide(lines: Sequence[str]) -> bool:
    """Return whether blanks divide numbers with decimal commas."""
    rows = [line.split() for line in lines if any(c.isdigit() for c in line)]
    whole = [
        len(row) > 1 and all(NUMBER.fullmatch(c) and c[-1] != "," for c in row) for row in rows
    ]
    return bool(rows) and float(np.mean(whole)) > _MOST


def plain_table(content: bytes) -> NDArray[np.float64] | None:
    """Return a table of bare numbers, divided by commas or blanks; None of any other."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.translate(None, _PLAIN):
        return None
    separator = "," if b"," in content else None
    if separator and b"." not in content:
        cells = content.split()
        if all(map(_ONE_COMMA.fullmatch, cells)):
            parts = [cell.partition(b",")[2] for cell in cells]
            # Nobody writes a number as 05: the comma is a decimal one.
            if any(part[:1] == b"0" and len(part) > 1 for part in parts):
                content, separator = content.replace(b",", b"."), None
    try:
        return np.loadtxt(BytesIO(content), np.float64, comments=None, delimiter=separator, ndmin=2)
    except ValueError:  # an empty cell, rows of unequal length
        return None


def is_numeric(cells: Sequence[str]) -> bool:
    """Return whether all cells are numbers or empty, and one is not empty."""
    return any(cells) and all(not cell or NUMBER.fullmatch(cell) for cell in cells)


def value_of(cell: str, *, text: bool = False) -> float:
    """Return the number in a cell, with a decimal point or comma; NaN of an empty one or a text."""
    if not cell or text:
        return float("nan")
    return float(cell.replace(",", ".").replace("D", "E").replace("d", "e"))
