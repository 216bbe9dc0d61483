"""Reader of organised point clouds in PLY and PCD files: one point per pixel, row by row.

PLY: Turk, "The PLY Polygon File Format" (1994), ASCII and both binary orders. PCD: the Point Cloud
Library's file format 0.7, ASCII, binary and binary_compressed (LZF, field after field).
"""

from __future__ import annotations

import struct
from pathlib import Path

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


def read_cloud(
    path: Path | str, *, size: tuple[int, int] | None = None, unit_m: float = 1.0
) -> FloatArray:
    """Read an organised point cloud as a point map.

    ``size`` is (height, width) for files without it, e.g. that of the colour image;
    ``unit_m`` is the length of the file's unit in metres. Returns ``(H, W, 3)`` float32 metres, 0
    where missing (NaN and infinite points become 0). Raises ``DataError`` for a damaged file and
    for a cloud that is not organised, i.e. does not have one point per pixel.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause
    try:
        read = _read_pcd if path.suffix.lower() == ".pcd" else _read_ply
        points, file_size = read(content)
    except DataError as cause:
        raise DataError(f"{path}: {cause}") from cause
    except _DAMAGE as cause:
        raise DataError(f"{path} is damaged or cut short ({cause}).") from cause
    height, width = file_size or size or (1, len(points))
    if height == 1 or height * width != len(points):
        expected = f", {size[0]} x {size[1]} were expected" if size else ""
        raise DataError(
            f"{path} holds {len(points)} points as {height} x {width}{expected}: it is not "
            "organised, one point per pixel. Save the sensor's full grid, with missing points as "
            "NaN or 0."
        )
    if size is not None and size != (height, width):
        raise DataError(
            f"{path} is organised as {height} x {width}, but the colour image has {size[0]} x "
            f"{size[1]} pixels (height x width); they must be registered pixel by pixel."
        )
    metres = points * unit_m
    metres[~np.isfinite(metres).all(axis=1)] = 0
    return metres.reshape(height, width, 3).astype(np.float32)


def _header(content: bytes, end: bytes) -> tuple[list[list[str]], bytes]:
    """Split into the words of the header's lines and the body after the line ``end``."""
    start = content.find(b"\n" + end)
    if start < 0:
        raise DataError(f"no header line '{end.decode()}' was found; it is another format.")
    stop = content.find(b"\n", start + 1)
    stop = len(content) if stop < 0 else stop
    lines = content[:stop].decode("ascii", errors="replace").splitlines()
    return [words for words in map(str.split, lines) if words], content[stop + 1 :]


def _points(table: NDArray[np.void]) -> NDArray[np.float64]:
    names = table.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise DataError(f"the points have {', '.join(names)}; x, y and z are needed.")
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)


def _from_ascii(body: bytes, dtype: np.dtype[np.void], count: int) -> NDArray[np.float64]:
    rows = body.decode("ascii").split("\n", count)[:count]
    values = np.array([row.split() for row in rows], dtype=np.float64)
    if values.shape != (count, sum(_width(dtype, name) for name in dtype.names or ())):
        raise ValueError(f"{count} rows of points were announced, {values.shape} values found")
    columns, start = {}, 0
    for name in dtype.names or ():
        columns[name] = start
        start += _width(dtype, name)
    if not {"x", "y", "z"} <= columns.keys():
        raise DataError(f"the points have {', '.join(columns)}; x, y and z are needed.")
    return values[:, [columns[axis] for axis in "xyz"]]


def _width(dtype: np.dtype[np.void], name: str) -> int:
    return int(np.prod(dtype[name].shape, dtype=int))


def _read_ply(content: bytes) -> tuple[NDArray[np.float64], tuple[int, int] | None]:
    if not content.startswith(b"ply"):
        raise DataError("it does not start with 'ply'; it is another format.")
    lines, body = _header(content, b"end_header")
    order, count, fields, size, element = None, -1, [], {}, ""
    for words in lines:
        if words[0] == "format":
            order = _PLY_ORDERS[words[1]]
        elif words[0] == "element":
            if element == "" and words[1] != "vertex":
                raise DataError(f"element '{words[1]}' stands before the vertices; re-save it.")
            element = words[1]
            count = int(words[2]) if element == "vertex" else count
        elif words[0] == "property" and element == "vertex":
            if words[1] == "list":
                raise DataError("the vertices have a list property; re-save it without.")
            fields.append((words[2], _PLY_TYPES[words[1]]))
        elif words[0] == "obj_info" and len(words) == 3 and words[1] in ("num_cols", "num_rows"):
            size[words[1]] = int(words[2])
    if order is None:
        raise DataError("the header has no line 'format'; it is damaged.")
    dtype: np.dtype[np.void] = np.dtype([(name, order + code) for name, code in fields])
    file_size = (size["num_rows"], size["num_cols"]) if len(size) == 2 else None
    if order == "":
        return _from_ascii(body, dtype, count), file_size
    return _points(np.frombuffer(body, dtype=dtype, count=count)), file_size


def _read_pcd(content: bytes) -> tuple[NDArray[np.float64], tuple[int, int] | None]:
    lines, body = _header(content, b"DATA")
    header = {words[0]: words[1:] for words in lines if not words[0].startswith("#")}
    names = header["FIELDS"]
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
    file_size = size if size[0] > 1 else None
    if header["DATA"][0] == "ascii":
        return _from_ascii(body, dtype, total), file_size
    if header["DATA"][0] == "binary":
        return _points(np.frombuffer(body, dtype=dtype, count=total)), file_size
    if header["DATA"][0] != "binary_compressed":
        raise DataError(f"DATA is '{header['DATA'][0]}'; ascii, binary or binary_compressed.")
    packed, unpacked = struct.unpack_from("<II", body)
    if unpacked != total * dtype.itemsize or len(body) < 8 + packed:
        raise ValueError(f"{unpacked} bytes were announced for {total} points")
    try:
        import imagecodecs  # a station has it only where such files come
    except ModuleNotFoundError as error:
        raise DataError(
            "its points are compressed (LZF), which needs imagecodecs: pip install "
            "'chiasm[formats]', or save it as DATA binary."
        ) from error
    raw = imagecodecs.lzf_decode(body[8 : 8 + packed], out=unpacked)
    table = np.zeros(total, dtype=dtype)
    start = 0
    for name in dtype.names or ():
        column = np.frombuffer(raw, dtype[name].base, total * _width(dtype, name), start)
        table[name] = column.reshape(table[name].shape)
        start += column.nbytes
    return _points(table), file_size
