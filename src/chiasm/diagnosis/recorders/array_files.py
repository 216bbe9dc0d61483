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

from chiasm.diagnosis.recorders.column_names import role_of, words_of
from chiasm.diagnosis.recorders.instrument_tables import InstrumentTable, is_unit, scale_of
from chiasm.diagnosis.recorders.recorded import RecorderSettings
from chiasm.errors import DataError

HDF5_SUFFIXES = (".h5", ".hdf5")
_MOST_BYTES = 1_000_000_000  # of an array that is unpacked
_LEAST = 16  # values of an array that is no list of settings
_RATE_NAMES = frozenset(
    {"fs", "fsamp", "fsample", "sr", "samplerate", "samplingrate", "samplefrequency"}
    | {"samplingfrequency", "samplespersecond", "samplerateperchannel", "abtastrate"}
    | {"abtastfrequenz", "frequencedechantillonnage", "frecuenciademuestreo"}
    | {"частотадискретизации", "采样率", "采样频率", "サンプリング周波数", "샘플링주파수"}
)
_STEP_NAMES = frozenset(
    {"dt", "ts", "tinterval", "tsample", "tinc", "xincr", "xincrement", "increment", "xinc"}
    | {"sampleinterval", "samplinginterval", "sampleperiod", "samplingperiod", "timestep"}
    | {"deltax", "deltat", "hresolution", "timeincrement", "clock", "abtastintervall"}
    | {"periodedechantillonnage", "шагдискретизации", "采样间隔", "采样周期"}
)
_MAINS_NAMES = frozenset(
    {"mainsfrequency", "linefrequency", "powerfrequency", "gridfrequency", "fmains"}
    | {"fnet", "fgrid", "fline", "netzfrequenz", "mainsfreq", "linefreq", "gridfreq", "powerfreq"}
    | {"частотасети", "电源频率", "工频"}
)
_NUMBER_WITH_UNIT = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([A-Za-zµμ/]*)\s*")
_MAINS = (10.0, 400.0)  # Hz
_SAME_RATE = 0.01  # share by which rates differ that are called equal
_LOW_MAINS = 70.0  # Hz; more beside the word 'mains' alone are volts


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
    if isinstance(loaded, np.ndarray) and loaded.dtype.names is None:
        return np.squeeze(loaded) if loaded.ndim > 2 else loaded, settings, ()
    if isinstance(loaded, np.ndarray):
        loaded = {"": loaded}
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in loaded.items():
        array = np.squeeze(np.asarray(value))
        fields = array.dtype.names or ()
        arrays |= {f"{name}.{f}".lstrip("."): np.squeeze(array[f]) for f in fields}
        arrays |= {} if fields else {name: array}
    numbers = {k: v for k, v in arrays.items() if v.dtype.kind in "iuf"}
    settings, said = _told_by_numbers(arrays, settings, where)
    if settings.variable:
        if settings.variable not in numbers:
            raise DataError(
                f"{where} has no array '{settings.variable}'; it has {', '.join(sorted(numbers))}."
            )
        chosen = numbers[settings.variable]
        time = _time_of(numbers, settings.variable)
        if time and not settings.is_described:
            remark = f"{where}: its array {time} holds the times of {settings.variable}."
            columns = np.stack([numbers[time].astype(np.float64), chosen.astype(np.float64)], 1)
            timed = InstrumentTable((time.rsplit(".", 1)[-1], "amplitude"), columns)
            return timed, settings, (*said, remark)
        return chosen, settings, said
    large = {k: v for k, v in numbers.items() if v.ndim in (1, 2) and v.size >= _LEAST}
    if len(large) == 1:
        ((name, series),) = large.items()
        role = role_of(name.rsplit(".", 1)[-1])
        if series.ndim == 1 and role in ("time", "phase", "count"):
            raise DataError(
                f"{where} holds one array of {_LEAST} numbers or more, '{name}', which is called "
                f"as a {role} is, and no series: save the amplitudes beside it, or give "
                f"variable={name} if it is the series.",
                see="columns",
            )
        return series, settings, said
    if (counts := _with_axes(large)) is not None:
        remark = f"{where}: its array {counts[0]} is read with the axes that are as long as it."
        return counts[1], settings, (*said, remark)
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
            if one.size * one.dtype.itemsize > _MOST_BYTES:  # packed, it may be a small file
                raise DataError(
                    f"{where} unpacks to more than {_MOST_BYTES:,} bytes in '{name}'; save one "
                    "recording in a file."
                )
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
    arrays: Mapping[str, NDArray[Any]], settings: RecorderSettings, where: str
) -> tuple[RecorderSettings, tuple[str, ...]]:
    """Return settings with what single numbers of a file are called, and texts such as '20 kHz'."""
    said: list[str] = []
    for name, value in arrays.items():
        if value.size != 1 or value.dtype.kind not in "iufUSO":
            continue
        unit = _text(arrays.get(f"{name}.units", arrays.get(f"{name}.unit")))
        match = _NUMBER_WITH_UNIT.fullmatch(_text(value))
        if match is None or not np.isfinite(number := float(match[1])):
            continue
        number *= scale_of(match[2] or unit)
        last = name.rsplit(".", 1)[-1]
        settings, more = with_fact(settings, last, number, where, f"its '{name}'")
        said += more
    return settings, tuple(said)


def _text(value: NDArray[Any] | None) -> str:
    """Return the single element of an array as text; "" of none."""
    if value is None or value.size != 1:
        return ""
    one = value.reshape(())[()]
    return one.decode("utf-8", errors="replace") if isinstance(one, bytes) else str(one)


def _time_of(arrays: Mapping[str, NDArray[Any]], variable: str) -> str:
    """Return the name of the one array of times that is as long as a chosen series; "" of none."""
    chosen = arrays[variable]
    times = [
        name
        for name, array in arrays.items()
        if name != variable and array.ndim == 1 and array.shape == chosen.shape
        if role_of(name.rsplit(".", 1)[-1]) == "time"
    ]
    return times[0] if len(times) == 1 else ""


def _with_axes(arrays: Mapping[str, NDArray[Any]]) -> tuple[str, InstrumentTable] | None:
    """Return a matrix with the axes of its phases and amplitudes as one table, and its name."""
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    roles = {n: role_of(n.rsplit(".", 1)[-1]) for n, array in arrays.items() if array.ndim == 1}
    phases = [name for name, role in roles.items() if role == "phase"]
    others = [name for name, role in roles.items() if role == "amplitude"]
    if len(matrices) != 1 or len(phases) != 1 or len(others) != 1:
        return None
    matrix, phase, other = (arrays[name] for name in (matrices[0], phases[0], others[0]))
    counts = matrix if matrix.shape == (other.size, phase.size) else matrix.T
    if counts.shape != (other.size, phase.size):
        return None
    values = np.full((other.size + 1, phase.size + 1), np.nan)
    values[0, 1:], values[1:, 0], values[1:, 1:] = phase, other, counts
    return matrices[0], InstrumentTable((), values)


def with_fact(
    settings: RecorderSettings, name: str, number: float, where: str, origin: str
) -> tuple[RecorderSettings, tuple[str, ...]]:
    """Return settings with a named number of a file, if it is a fact of recorders, and remarks.

    A rate that is given already holds; a remark says so where the file's is another one.
    ``origin`` names the place of the number, e.g. "its header".
    """
    found, number = told_fact(name, number)
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


def told_fact(name: str, number: float) -> tuple[str, float]:
    """Return what a number is by its name, and the number in Hz or seconds.

    Known are ``sample_rate``, ``step`` (between two values) and ``frequency`` (of the mains); any
    other is "".

    Example:
        >>> told_fact("Sample Rate", 1e6), told_fact("dt_us", 4.0), told_fact("gain", 3.0)
        (('sample_rate', 1000000.0), ('step', 4e-06), ('', 3.0))
    """
    words = words_of(name)
    # A unit may end the name: 'fs_khz'.
    if len(words) > 1 and is_unit(words[-1]):
        found = told_fact(" ".join(words[:-1]), number * scale_of(words[-1]))
        if found[0] in ("sample_rate", "step"):
            return found
    word = "".join(words)
    if word in _RATE_NAMES and number > 0:
        return "sample_rate", number
    if word in _STEP_NAMES and 0 < number < 1:
        return "step", number
    most = _LOW_MAINS if word == "mains" else _MAINS[1]
    named = word in _MAINS_NAMES or word == "mains"
    return "frequency" if named and _MAINS[0] <= number <= most else "", number


def _by_names(arrays: Mapping[str, NDArray[Any]]) -> InstrumentTable | None:
    """Return arrays of one length, which are called as columns of a table are."""
    roles = {name: role_of(name.rsplit(".", 1)[-1]) for name in arrays}
    if any(array.ndim == 2 for array in arrays.values()):
        return None  # of which the others may be the axes
    flat = {n: a for n, a in arrays.items() if a.ndim == 1 and roles[n]}
    held = [roles[name] for name in flat]
    if len({a.size for a in flat.values()}) != 1 or "amplitude" not in held:
        return None
    if not {"time", "phase"} & set(held) or (len(flat) < len(arrays) and "phase" not in held):
        return None
    names = tuple(name.rsplit(".", 1)[-1] for name in flat)
    return InstrumentTable(names, np.stack([a.astype(np.float64) for a in flat.values()], axis=1))
