"""Read the points and colours of PLY and PCD files, and the grid that they name.

PLY: Turk, "The PLY Polygon File Format" (1994), ASCII and both binary orders; ``range_grid`` and
``obj_info`` as Stanford's scanners and the Point Cloud Library write them. PCD: the Point Cloud
Library's file format up to 0.7, ASCII, binary and binary_compressed (LZF, field after field).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import FloatArray

CLOUD_SUFFIXES = frozenset({".ply", ".pcd"})
_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
# Errors of numpy, struct and imagecodecs on damaged headers and bodies.
_DAMAGE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    RuntimeError,
)
_PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_COLOURS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_INTENSITIES = ("intensity", "intensities", "scalar_intensity", "grey", "gray", "luminance")
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class PointCloud:
    """The points of a file in their order.

    Attributes:
        points: ``(N, 3)`` float64, in the file's unit.
        rgb: ``(N, 3)`` float32 in [0, 1], or None.
        grey: whether the colours are repeated intensities.
        size: height and width of the grid, or None without one.
        grid: ``(H, W)`` number of the point of each pixel, -1 where there is none; None where the
            points are those of the grid, row by row.
    """

    points: NDArray[np.float64]
    rgb: FloatArray | None = None
    grey: bool = False
    size: tuple[int, int] | None = None
    grid: NDArray[np.int64] | None = None


def is_cloud(content: bytes) -> bool:
    """Return whether a file is PLY or PCD, by its first bytes."""
    head = content[:4000]
    fields = b"FIELDS" in head or b"COLUMNS" in head
    return head.startswith((b"ply\n", b"ply\r")) or (fields and b"\nDATA " in head)


def cloud_from_bytes(content: bytes, source: str) -> PointCloud:
    """Decode a PLY or PCD file; ``source`` names it in messages.

    Raises ``DataError`` for a file that is damaged or holds no points.
    """
    try:
        if content.startswith(b"ply"):
            return _read_ply(content)
        return _read_pcd(content)
    except DataError as cause:
        raise DataError(f"{source}: {cause}") from cause
    except _DAMAGE as cause:
        raise DataError(f"{source} is damaged or cut short ({cause}).") from cause


def _header(content: bytes, end: bytes) -> tuple[list[list[str]], bytes]:
    """Split into the words of the header's lines and the body after the line ``end``."""
    start = content.find(b"\n" + end)
    if start < 0:
        raise DataError(
            f"no header line '{end.decode()}' was found; it is damaged, or another format."
        )
    stop = content.find(b"\n", start + 1)
    stop = len(content) if stop < 0 else stop
    lines = content[:stop].decode("ascii", errors="replace").splitlines()
    return [words for words in map(str.split, lines) if words], content[stop + 1 :]


def _cloud(
    columns: Mapping[str, NDArray[Any]],
    size: tuple[int, int] | None,
    grid: NDArray[np.int64] | None = None,
) -> PointCloud:
    if not {"x", "y", "z"} <= columns.keys():
        raise DataError(
            f"the points have {', '.join(columns) or 'nothing'}; x, y and z are needed."
        )
    points = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if not len(points):
        raise DataError("it holds no point. Record the part again.")
    rgb, grey = _colours(columns)
    return PointCloud(points, rgb, grey, size, grid)


def _colours(columns: Mapping[str, NDArray[Any]]) -> tuple[FloatArray | None, bool]:
    """Return the colours of points, and whether they are intensities."""
    for name in ("rgb", "rgba"):
        if name in columns and columns[name].ndim == 1:
            packed = columns[name]
            # A float holds the bits of an integer: blue, green, red and alpha from the lowest byte.
            if packed.dtype.kind == "f":
                packed = np.ascontiguousarray(packed, np.float32).view(np.uint32)
            packed = packed.astype(np.uint32)
            channels = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
            return channels.astype(np.float32) / np.float32(255), False
    for names in _COLOURS:
        if set(names) <= columns.keys():
            return in_unit_range(np.stack([columns[name] for name in names], axis=1)), False
    for name in _INTENSITIES:
        if name in columns and columns[name].ndim == 1:
            grey = in_unit_range(columns[name])
            return np.repeat(grey[:, None], 3, axis=1), True
    return None, False


def in_unit_range(values: NDArray[Any]) -> FloatArray:
    """Return colours in [0, 1]: small integers by their type, others by 1, 255 or 65535."""
    if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
        scale = float(np.iinfo(values.dtype).max)
    else:
        most = float(np.nanmax(values, initial=0))
        scale = 1.0 if most <= 1 else 255.0 if most <= 255 else 65535.0
    scaled = np.nan_to_num(values.astype(np.float64) / scale)
    return np.clip(scaled, 0, 1).astype(np.float32)


@dataclass(slots=True)
class _Element:
    """One element of a PLY header: its rows, and their properties in order."""

    name: str
    count: int
    properties: list[tuple[str, str, str]]  # name, type, and type of a list's length or ""

    @property
    def plain(self) -> bool:
        return not any(length for _, _, length in self.properties)


def _read_ply(content: bytes) -> PointCloud:
    lines, body = _header(content, b"end_header")
    order, size = None, {}
    elements: list[_Element] = []
    for words in lines:
        if words[0] == "format":
            order = _PLY_ORDERS[words[1]]
        elif words[0] == "element":
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[0] == "property":
            length = _PLY_TYPES[words[2]] if words[1] == "list" else ""
            kind = words[3] if length else words[1]
            elements[-1].properties.append((words[-1], _PLY_TYPES[kind], length))
        elif words[0] in ("obj_info", "comment") and len(words) >= 3:
            name, _, value = words[1].partition("=")
            if name in ("num_cols", "num_rows") and (value or words[2]).isdigit():
                size[name] = int(value or words[2])
    if order is None:
        raise DataError("the header has no line 'format'; it is damaged.")
    if not any(element.name == "vertex" for element in elements):
        raise DataError("it has no vertices; a point cloud has.")
    reader = _PlyText(body) if order == "" else _PlyBytes(body, order)
    columns: Columns = {}
    links: NDArray[np.int64] | None = None
    for element in elements:
        if element.name == "vertex":
            columns = reader.columns(element)
        elif element.name == "range_grid":
            links = reader.links(element)
        elif not columns or any(later.name == "range_grid" for later in elements):
            reader.columns(element)
        if columns and links is not None:
            break
    file_size = (size["num_rows"], size["num_cols"]) if len(size) == 2 else None
    if links is None or file_size is None:
        return _cloud(columns, file_size)
    if links.max(initial=-1) >= len(columns["x"]):
        raise ValueError("the range grid names a point that is not there")
    return _cloud(columns, file_size, links.reshape(file_size))


class _PlyText:
    """Reads elements of an ASCII body, a row a line."""

    def __init__(self, body: bytes) -> None:
        self._lines = body.decode("ascii").split("\n")
        self._at = 0

    def _rows(self, element: _Element) -> list[list[str]]:
        rows = [line.split() for line in self._lines[self._at : self._at + element.count]]
        if len(rows) < element.count or (rows and not all(rows)):
            raise ValueError(f"{element.count} rows of {element.name} were announced")
        self._at += element.count
        return rows

    def columns(self, element: _Element) -> Columns:
        rows = self._rows(element)
        if not element.plain:
            rows = [_without_lists(row, element) for row in rows]
        plain = [(name, kind) for name, kind, length in element.properties if not length]
        values = np.array(rows, dtype=np.float64).reshape(element.count, -1)
        if values.shape[1] != len(plain):
            raise ValueError(f"{element.count} rows of points were announced, {values.shape} found")
        return {name: values[:, i].astype(kind) for i, (name, kind) in enumerate(plain)}

    def links(self, element: _Element) -> NDArray[np.int64]:
        rows = self._rows(element)
        return np.array([int(row[1]) if row[0] != "0" else -1 for row in rows], np.int64)


def _without_lists(row: list[str], element: _Element) -> list[str]:
    kept, at = [], 0
    for _, _, length in element.properties:
        if length:
            at += 1 + int(row[at])
        else:
            kept.append(row[at])
            at += 1
    return kept


class _PlyBytes:
    """Reads elements of a binary body."""

    def __init__(self, body: bytes, order: str) -> None:
        self._body, self._order = body, order
        self._at = 0

    def columns(self, element: _Element) -> Columns:
        if element.plain:
            fields = [(name, self._order + kind) for name, kind, _ in element.properties]
            dtype: np.dtype[np.void] = np.dtype(fields)
            table = np.frombuffer(self._body, dtype, element.count, self._at)
            self._at += table.nbytes
            return {name: table[name] for name in dtype.names or ()}
        rows = [self._row(element)[0] for _ in range(element.count)]
        plain = [(name, kind) for name, kind, length in element.properties if not length]
        return {
            name: np.array([row[i] for row in rows], dtype=kind)
            for i, (name, kind) in enumerate(plain)
        }

    def links(self, element: _Element) -> NDArray[np.int64]:
        lists = (self._row(element)[1] for _ in range(element.count))
        return np.array([found[0] if len(found) else -1 for found in lists], np.int64)

    def _row(self, element: _Element) -> tuple[list[Any], NDArray[Any]]:
        """Return the plain values of a row, and its last list."""
        plain, found = [], np.empty(0)
        for _, kind, length in element.properties:
            count = int(self._values(length, 1)[0]) if length else 1
            values = self._values(kind, count)
            if length:
                found = values
            else:
                plain.append(values[0])
        return plain, found

    def _values(self, kind: str, count: int) -> NDArray[Any]:
        values = np.frombuffer(self._body, self._order + kind, count, self._at)
        self._at += values.nbytes
        return values


def _read_pcd(content: bytes) -> PointCloud:
    lines, body = _header(content, b"DATA")
    header = {words[0]: words[1:] for words in lines if not words[0].startswith("#")}
    names = header.get("FIELDS") or header["COLUMNS"]  # COLUMNS: before version 0.6
    counts = [int(n) for n in header.get("COUNT", ["1"] * len(names))]
    codes = [kind.lower() + width for kind, width in zip(header["TYPE"], header["SIZE"])]
    # Padding fields are all called "_", which a record type cannot hold twice.
    unique = [f"_{i}" if name == "_" else name for i, name in enumerate(names)]
    fields = [
        (name, "<" + code, (n,)) if n > 1 else (name, "<" + code)
        for name, code, n in zip(unique, codes, counts, strict=True)
    ]
    dtype: np.dtype[np.void] = np.dtype(fields)
    size = int(header["HEIGHT"][0]), int(header["WIDTH"][0])
    total = size[0] * size[1]
    # A width of 1 is a list as well, written upright.
    file_size = size if min(size) > 1 else None
    form = header["DATA"][0].lower()
    if form == "ascii":
        return _cloud(_pcd_text(body, dtype, total), file_size)
    if form == "binary":
        table = np.frombuffer(body, dtype=dtype, count=total)
        return _cloud({name: table[name] for name in dtype.names or ()}, file_size)
    if form != "binary_compressed":
        raise DataError(f"DATA is '{form}'; ascii, binary or binary_compressed.")
    try:
        import imagecodecs  # a station has it only where such files come
    except ModuleNotFoundError as error:
        raise DataError(
            "its points are compressed (LZF), which needs imagecodecs: pip install "
            "'chiasm[formats]', or save it as DATA binary."
        ) from error
    packed, unpacked = struct.unpack_from("<II", body)
    if unpacked != total * dtype.itemsize or len(body) < 8 + packed:
        raise ValueError(f"{unpacked} bytes were announced for {total} points")
    raw = imagecodecs.lzf_decode(body[8 : 8 + packed], out=unpacked)
    columns: Columns = {}
    start = 0
    for name in dtype.names or ():
        shape = (total, *dtype[name].shape)
        column = np.frombuffer(raw, dtype[name].base, int(np.prod(shape)), start)
        columns[name] = column.reshape(shape)
        start += column.nbytes
    return _cloud(columns, file_size)


def _pcd_text(body: bytes, dtype: np.dtype[np.void], count: int) -> Columns:
    names = dtype.names or ()
    widths = [int(np.prod(dtype[name].shape, dtype=int)) for name in names]
    rows = [row.split() for row in body.decode("ascii").split("\n", count)[:count]]
    if len(rows) < count or any(len(row) != sum(widths) for row in rows):
        raise ValueError(f"{count} rows of {sum(widths)} values were announced")
    columns: Columns = {}
    starts = [sum(widths[:i]) for i in range(len(widths))]
    for name, start, width in zip(names, starts, widths):
        kind = dtype[name].base
        if width != 1:
            continue  # histograms and padding
        texts = [row[start] for row in rows]
        # Packed colours are written as whole numbers in text, also where their type is a float.
        if name in ("rgb", "rgba") and all(text.isdigit() for text in texts[:100]):
            kind = np.dtype(np.uint32)
            columns[name] = np.array([int(text) for text in texts]).astype(kind)
        else:
            columns[name] = np.array(texts, dtype=np.float64).astype(kind)
    return columns
