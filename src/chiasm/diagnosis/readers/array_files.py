"""Arrays of numpy and MATLAB files, and bare numbers: what a file of several arrays says by names.

``time``, ``phase`` and ``charge`` of one length are a table, and a number called ``fs`` or ``dt``
is the rate of a series. Bare numbers whose bytes make no sense in their order are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.readers.instrument_tables import InstrumentTable
from chiasm.diagnosis.readers.recorded import RAW_TYPES, RecorderSettings, role_of
from chiasm.errors import DataError

HDF5_SUFFIXES = (".h5", ".hdf5")
_LEAST = 16  # values of an array that is no list of settings
_RATE_NAMES = frozenset(
    {"fs", "fsamp", "fsample", "sr", "samplerate", "samplingrate", "samplefrequency"}
    | {"samplingfrequency", "samplespersecond"}
)
_STEP_NAMES = frozenset(
    {"dt", "ts", "tinterval", "tsample", "xincr", "xincrement", "increment", "xinc"}
    | {"sampleinterval", "samplinginterval", "sampleperiod", "samplingperiod", "timestep"}
)
_MAINS_NAMES = frozenset(
    {"mainsfrequency", "linefrequency", "powerfrequency", "gridfrequency", "fmains"}
    | {"fnet", "fgrid", "fline", "netzfrequenz", "mainsfreq", "linefreq", "gridfreq", "powerfreq"}
)
_MAINS = (10.0, 400.0)  # Hz
_SAME_RATE = 0.01  # share by which rates differ that are called equal
_LOW_MAINS = 70.0  # Hz; more beside the word 'mains' alone are volts
# A spread so many times as wide as with the bytes the other way round is no signal.
_WIDER = 30.0
_DECADES = 25.0  # that values of a signal hardly span
_LOW_BYTE = 64  # of a signal in the upper byte, half of the values lie nearer to 0
_TEXT_HEAD = 32  # bytes that are no numbers if all are letters


def array_content(
    content: bytes, where: str, settings: RecorderSettings
) -> tuple[NDArray[Any] | InstrumentTable, RecorderSettings, tuple[str, ...]]:
    """Return what a .npy, .npz or .mat file holds.

    Returns:
        The array, or a table of several arrays of one length; the settings, with rate and mains
        frequency where numbers in the file are called so; and sentences on what was taken.

    Raises:
        DataError: the file is damaged, or has several arrays whose names say nothing.
    """
    loaded = _loaded(content, where)
    if isinstance(loaded, np.ndarray):
        return loaded, settings, ()
    numbers = {k: np.squeeze(np.asarray(v)) for k, v in loaded.items()}
    numbers = {k: v for k, v in numbers.items() if v.dtype.kind in "iuf"}
    settings, said = _told_by_numbers(numbers, settings, where)
    if settings.variable:
        if settings.variable not in numbers:
            raise DataError(
                f"{where} has no array '{settings.variable}'; it has {', '.join(sorted(numbers))}."
            )
        return numbers[settings.variable], settings, said
    large = {k: v for k, v in numbers.items() if v.ndim in (1, 2) and v.size >= _LEAST}
    if len(large) == 1:
        ((name, series),) = large.items()
        role = role_of(name.rsplit(".", 1)[-1])
        if role in ("time", "phase", "count"):
            raise DataError(
                f"{where} holds one array of {_LEAST} numbers or more, '{name}', which is called "
                f"as a {role} is, and no series: save the amplitudes beside it, or give "
                f"variable={name} if it is the series.",
                see="columns",
            )
        return series, settings, said
    table = _by_names(large)
    if table is not None:
        names = ", ".join(table.names)
        return table, settings, (*said, f"{where}: its arrays {names} are columns of one table.")
    raise DataError(
        f"{where} holds {len(large)} arrays of numbers ({', '.join(sorted(large)) or 'none'}); "
        "say which one is the series: variable=NAME."
        if large
        else f"{where} holds no array of {_LEAST} numbers or more ({', '.join(loaded) or 'nothing'}"
        "); save the series as a matrix of numbers of its own.",
        see="columns",
    )


def _loaded(content: bytes, where: str) -> NDArray[Any] | dict[str, Any]:
    stream = BytesIO(content)
    try:
        if content[:6] == b"\x93NUMPY" or content[:2] == b"PK":
            loaded = np.load(stream, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
        if content[:8] == b"\x89HDF\r\n\x1a\n" or content[512:520] == b"\x89HDF\r\n\x1a\n":
            return _of_hdf5(stream, where, matlab=not where.lower().endswith(HDF5_SUFFIXES))
        from scipy.io import loadmat

        return _flat(loadmat(stream, simplify_cells=True))
    except (DataError, ImportError):
        raise
    except Exception as cause:  # damaged files make readers raise nearly anything
        raise DataError(
            f"{where} cannot be read as a numpy or MATLAB file ({cause}); copy it again, or save "
            "its numbers as .npy, .csv or .mat ('-v7')."
        ) from cause


def _of_hdf5(stream: BytesIO, where: str, *, matlab: bool) -> dict[str, Any]:
    """Return arrays of an HDF5 file, and numbers among its attributes, by ``group.name``.

    ``matlab``: of a MATLAB file of version 7.3, whose axes are in the order of MATLAB.
    """
    try:
        import h5py
    except ImportError as cause:
        kind = "a MATLAB file of version 7.3 (HDF5)" if matlab else "an HDF5 file"
        other = "with '-v7', or as .npz" if matlab else "as .npz"
        raise DataError(
            f"{where} is {kind}: pip install 'chiasm[formats]', or save it {other}."
        ) from cause
    found: dict[str, Any] = {}

    def keep(name: str, one: Any) -> None:
        place = name.replace("/", ".")
        if isinstance(one, h5py.Dataset) and not name.startswith("#refs#"):
            found[place] = np.asarray(one).T if matlab else np.asarray(one)
        if not matlab:
            found.update({f"{place}.{fact}": np.asarray(x) for fact, x in one.attrs.items()})

    with h5py.File(stream, "r") as file:
        if not matlab:
            found.update({fact: np.asarray(x) for fact, x in file.attrs.items()})
        file.visititems(keep)
    return found


def wave_content(
    content: bytes, where: str, settings: RecorderSettings
) -> tuple[NDArray[np.float64], RecorderSettings, tuple[str, ...]]:
    """Return the series ``(C, T)`` of a WAV file in its counts, and the settings with its rate.

    Raises:
        DataError: the file is damaged, or compressed.
    """
    from scipy.io import wavfile

    try:
        rate, counts = wavfile.read(BytesIO(content))
    except Exception as cause:  # damaged files make the reader raise nearly anything
        raise DataError(
            f"{where} cannot be read as a WAV file ({cause}); copy it again, or save it "
            "uncompressed (PCM)."
        ) from cause
    settings, said = with_fact(settings, "sample rate", float(rate), where, "its header")
    series = np.atleast_2d(counts.T).astype(np.float64)
    # Eight bits are written without a sign.
    return series - 128.0 if counts.dtype == np.uint8 else series, settings, said


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return the fields of structures by ``structure.field``."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if str(name).startswith("__"):
            continue
        if isinstance(value, dict):
            out |= _flat(value, f"{before}{name}.")
        else:
            out[f"{before}{name}"] = value
    return out


def _told_by_numbers(
    numbers: Mapping[str, NDArray[Any]], settings: RecorderSettings, where: str
) -> tuple[RecorderSettings, tuple[str, ...]]:
    """Return settings with what single numbers of a file are called."""
    said: list[str] = []
    for name, value in numbers.items():
        if value.size != 1 or not np.isfinite(value).all():
            continue
        number = float(value.reshape(()))
        settings, more = with_fact(
            settings, name.rsplit(".", 1)[-1], number, where, f"its '{name}'"
        )
        said += more
    return settings, tuple(said)


def with_fact(
    settings: RecorderSettings, name: str, number: float, where: str, origin: str
) -> tuple[RecorderSettings, tuple[str, ...]]:
    """Return settings with a named number of a file, if it is a fact of recorders, and remarks.

    A rate that is given already holds; a remark says so where the file's is another one.
    ``origin`` names the place of the number, e.g. "its header".
    """
    found = told_fact(name, number)
    if found == "frequency" and settings.frequency != number:
        said = f"{where}: {number:g} Hz of the mains by {origin}."
        return replace(settings, frequency=number), (said,)
    if found not in ("sample_rate", "step"):
        return settings, ()
    rate = number if found == "sample_rate" else 1 / number
    if not settings.is_described:
        said = f"{where}: {rate:.6g} values a second by {origin}."
        return replace(settings, sample_rate=rate), (said,)
    held = settings.sample_rate or (settings.samples_per_cycle or 0) * settings.frequency
    if abs(held - rate) <= _SAME_RATE * rate:
        return settings, ()
    said = f"{where}: {held:.6g} values a second were taken, and {origin} says {rate:.6g}."
    return settings, (said,)


def told_fact(name: str, number: float) -> str:
    """Return what a number is by its name: ``sample_rate``, ``step`` (seconds), ``frequency``, "".

    Example:
        >>> told_fact("Sample Rate", 1e6), told_fact("dt", 1e-6), told_fact("gain", 3.0)
        ('sample_rate', 'step', '')
    """
    word = re.sub(r"[^a-z]", "", name.lower())
    if word in _RATE_NAMES and number > 0:
        return "sample_rate"
    if word in _STEP_NAMES and 0 < number < 1:
        return "step"
    most = _LOW_MAINS if word == "mains" else _MAINS[1]
    named = word in _MAINS_NAMES or word == "mains"
    return "frequency" if named and _MAINS[0] <= number <= most else ""


def _by_names(arrays: Mapping[str, NDArray[Any]]) -> InstrumentTable | None:
    """Return arrays of one length, which are called as columns of a table are."""
    roles = {name: role_of(name.rsplit(".", 1)[-1]) for name in arrays}
    flat = {n: a for n, a in arrays.items() if a.ndim == 1 and roles[n]}
    held = [roles[name] for name in flat]
    if len({a.size for a in flat.values()}) != 1 or "amplitude" not in held:
        return None
    if not {"time", "phase"} & set(held) or (len(flat) < len(arrays) and "phase" not in held):
        return None
    names = tuple(name.rsplit(".", 1)[-1] for name in flat)
    return InstrumentTable(names, np.stack([a.astype(np.float64) for a in flat.values()], axis=1))


def raw_numbers(content: bytes, settings: RecorderSettings, where: str) -> NDArray[np.float64]:
    """Return bare numbers ``(1, T)``.

    Raises:
        DataError: no type is given, it does not fit, or the bytes make sense the other way round.
    """
    if not settings.raw_type:
        raise DataError(
            f"{where} holds bare numbers; say of which type, e.g. raw_type=int16 "
            f"({', '.join(RAW_TYPES)}), and header_bytes=... if something stands before them.",
            see="columns",
        )
    dtype = np.dtype(RAW_TYPES[settings.raw_type])
    body = content[settings.header_bytes :]
    if not body or len(body) % dtype.itemsize:
        raise DataError(
            f"{where} has {len(body)} bytes of numbers, which is no multiple of {dtype.itemsize} "
            f"({settings.raw_type}); check raw_type and header_bytes."
        )
    head = body[:_TEXT_HEAD]
    if len(head) == _TEXT_HEAD and dtype.itemsize > 1 and all(32 <= b < 127 for b in head):
        raise DataError(
            f"{where} begins with the text '{head[:16].decode()}...', which is no number: say how "
            "many bytes stand before the numbers, header_bytes=..."
        )
    values = np.frombuffer(body, dtype)
    other = _likelier_type(values, settings.raw_type)
    if other:
        raise DataError(
            f"{where} makes no signal of {settings.raw_type}, and one of {other}: give "
            f"raw_type={other}. If it is {settings.raw_type}, save it as .npy."
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"{where} holds no finite numbers as {settings.raw_type}; check raw_type "
            f"({', '.join(RAW_TYPES)}) and header_bytes.",
            see="columns",
        )
    return values.astype(np.float64)[None]


def _likelier_type(values: NDArray[Any], given: str) -> str:
    """Return the type of which the bytes make a signal, where they plainly make none of a given."""
    size = values.dtype.itemsize
    if size == 1 or values.size < _LEAST:
        return ""
    swapped = f"{given[:-2]}" if given.endswith("be") else f"{given}be"
    turned = values.view(values.dtype.newbyteorder())
    if values.dtype.kind == "f":
        if _decades(values) > _DECADES > 2 * _decades(turned):
            return swapped if swapped in RAW_TYPES else ""
        whole = values.view(f"{values.dtype.byteorder}i{size}").astype(np.float64)
        # Whole numbers read as fractions lie next to 0.
        some = values[values != 0]  # lists of pulses are mostly 0
        tiny = float(np.mean(np.abs(some) < 1e-30)) if some.size else 0.0
        return "int32" if size == 4 and tiny > 0.9 and np.ptp(whole) > 0 else ""
    # Converters of 8 bits write theirs into the upper byte of 16: those lie around 0, and their
    # bytes the other way round would not.
    upper = size == 2 and not (values % 256).any() and np.median(np.abs(values / 256)) < _LOW_BYTE
    if not upper and _spread(values) > _WIDER * max(_spread(turned), 1.0) and swapped in RAW_TYPES:
        return swapped
    if size == 4:
        for name in ("float32", "float32be"):
            as_float = values.view(RAW_TYPES[name])
            sane = np.isfinite(as_float).all() and _decades(as_float) < 12
            if sane and float(np.mean(np.abs(values.astype(np.float64)) > 2**24)) > 0.9:
                return name
    return ""


def _spread(values: NDArray[Any]) -> float:
    numbers = values.astype(np.float64)
    return float(np.median(np.abs(numbers - np.median(numbers))))


def _decades(values: NDArray[Any]) -> float:
    """Return the decades between the largest value and the smallest of most; infinity of NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(values.astype(np.float64))
    if not np.isfinite(size).all():
        return float("inf")
    some = size[size > 0]
    if not some.size:
        return 0.0
    return float(np.log10(some.max()) - np.log10(np.quantile(some, 0.05)))
