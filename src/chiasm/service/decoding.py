"""Decode the files of a request into the arrays that a model takes, within limits.

A request takes what the command line takes: every format of ``range_from_bytes`` and
``recorded_from_bytes``, with what the files do not say in fields of the form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from chiasm.detection.readers.camera import (
    CAMERA_COLUMNS,
    Intrinsics,
    camera_from_text,
    intrinsics_from_bytes,
)
from chiasm.detection.readers.range_image import RangeSettings, range_from_bytes
from chiasm.detection.readers.sensor_part import size_of_colours, with_colours
from chiasm.detection.sensors.orientation import UPRIGHT, orientation_of, upright
from chiasm.detection.sensors.registration import ColourView, extrinsic_from_bytes
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.readers.checked_sample import series_of_file
from chiasm.diagnosis.recorders.instruments import MONITOR_ROLES, monitor_list
from chiasm.diagnosis.recorders.recorded import RAW_SUFFIXES, Recorded, RecorderSettings
from chiasm.diagnosis.recorders.recorder_settings import settings_of
from chiasm.discharge import MeasuringSystem, Pulses
from chiasm.errors import DataError, renamed
from chiasm.files.bit_depth import few_bits
from chiasm.files.decoding import numbers_of
from chiasm.files.images import rgb_from_bytes
from chiasm.samples import FloatArray
from chiasm.service.declared_size import (
    Limits,
    check_facts,
    check_image,
    check_not_empty,
    check_sensor_file,
    check_series,
)
from chiasm.service.multipart import Upload
from chiasm.service.refusals import shortened

_CAMERA_FILES = ("intrinsics", "colour_intrinsics", "extrinsic")
_SENSOR_FIELDS = (
    *("unit", "pitch", "pitch_y", "offset", "direction", "missing", "intensity", "bits"),
)
PART_FIELDS = (
    *("rgb", "xyz", "depth", *_CAMERA_FILES, *CAMERA_COLUMNS, "depth_unit"),
    *(*_SENSOR_FIELDS, "product", "source"),
)
# The further files of a monitor's recording, beside its amplitudes.
_MONITOR_FILES = {"series_phase": "P", "series_time": "Ti", "series_settings": "SG"}
_RECORDER_FIELDS = (
    *("frequency", "samples_per_cycle", "sample_rate", "layout", "columns", "raw_type"),
    *("header_bytes", "raw_channels", "variable", "charge", "voltage_kv", "dead_time"),
    *("time_unit", "phase_unit", "amplitude_grows"),
)
ASSET_FIELDS = ("asset", "recorded", "recorder")
RECORDING_FIELDS = (
    *("image", "series", *_MONITOR_FILES, *_RECORDER_FIELDS, "rows_in_time", "source"),
    *ASSET_FIELDS,
)
FILE_FIELDS = frozenset({"rgb", "xyz", "depth", *_CAMERA_FILES, "image", "series", *_MONITOR_FILES})
_COUNT = 0.001  # metres of one whole count of depth, where the request says nothing
_OPTION = re.compile(r"(?:chiasm )?(?:data convert )?(?:\.\.\. )?--([a-z][a-z-]*)")
_FIELD_OF_OPTION = {"down": "direction=down", "no_intensity": "intensity=false"}
_UP, _DOWN = "up", "down"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Arrays of one part.

    Attributes:
        rgb: ``(H, W, 3)`` float32 in [0, 1], or None.
        xyz: ``(H, W, 3)`` float32 metres, 0 where missing, or None.
        notes: what was assumed when they were decoded.
    """

    rgb: FloatArray | None
    xyz: FloatArray | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Arrays of one recording.

    Attributes:
        image: ``(H, W, 3)`` float32 in [0, 1], or None.
        series: ``(C, T)`` float32, recorder counts, or None.
        frequency: of the mains, Hz.
        samples_per_cycle: values of the series per mains cycle.
        notes: what was assumed when they were decoded.
        pulses: single ones, where the recorder lists them.
        system: calibration and voltage.
    """

    image: FloatArray | None
    series: FloatArray | None
    frequency: float
    samples_per_cycle: int
    notes: tuple[str, ...] = ()
    pulses: Pulses | None = None
    system: MeasuringSystem = field(default_factory=MeasuringSystem)


def check_fields(
    files: Mapping[str, Upload], fields: Mapping[str, str], allowed: tuple[str, ...]
) -> None:
    """Raise ``DataError`` for an unknown field, and for text in place of a file or vice versa."""
    for name in (*files, *fields):
        if name not in allowed:
            raise DataError(
                f"The field {shortened(name)!r} is unknown; this model takes {', '.join(allowed)}."
            )
        if (name in files) != (name in FILE_FIELDS):
            expected = "a file" if name in FILE_FIELDS else "text"
            raise DataError(f"The field {name!r} must be {expected}.")


def decode_part(files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits) -> Part:
    """Decode a part; raises ``DataError`` in a sentence that names file and field."""
    check_fields(files, fields, PART_FIELDS)
    if "xyz" in files and "depth" in files:
        raise DataError("Both xyz and depth were sent; send the one that the sensor measured.")
    try:
        part = _part(files, fields, limits)
    except DataError as cause:
        raise DataError(in_fields(str(cause))) from cause
    return replace(part, notes=tuple(dict.fromkeys(map(in_fields, part.notes))))


def in_fields(sentence: str) -> str:
    """Return a sentence with the fields of the form in place of a command's options.

    Example:
        >>> in_fields("Give the metres of one count (--unit 0.001).")
        'Give the metres of one count (field unit 0.001).'
    """

    def named(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return f"field {_FIELD_OF_OPTION.get(name, name)}"

    return _OPTION.sub(named, sentence)


def _part(files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits) -> Part:
    notes: list[str] = []
    bits = _whole(fields, "bits", 8, 16)
    rgb = _colour(files["rgb"], limits, bits, notes) if "rgb" in files else None
    upload = files.get("xyz") or files.get("depth")
    if upload is None:
        if rgb is not None:
            rgb = upright(rgb, files["rgb"].content, partner=None, name=files["rgb"].where)
        return Part(rgb, None, tuple(notes))
    check_sensor_file(upload.content, upload.where, limits)
    settings = _range_settings(files, fields, upload, limits)
    colours = _colour_view(files)
    # How a turned image lies is told by the size of the points.
    turned = rgb is not None and orientation_of(files["rgb"].content) != UPRIGHT
    size = None if turned else size_of_colours(rgb, colours)
    image = range_from_bytes(upload.content, upload.where, settings, size)
    if rgb is not None and turned and colours is None:
        partner = (image.xyz.shape[0], image.xyz.shape[1])
        rgb = upright(rgb, files["rgb"].content, partner=partner, name=files["rgb"].where)
    rgb, _, said = with_colours(
        image, rgb, colours=colours, depth_camera=settings.camera, name=upload.where
    )
    return Part(rgb, image.xyz, (*notes, *said))


def _range_settings(
    files: Mapping[str, Upload], fields: Mapping[str, str], upload: Upload, limits: Limits
) -> RangeSettings:
    """Return what a request says of its 3D file."""
    unit = "unit" if _given(fields, "unit") else "depth_unit"
    direction = fields.get("direction", _UP).strip().lower() or _UP
    if direction not in (_UP, _DOWN):
        raise DataError(
            f"direction is {shortened(direction)!r}; up (heights) or down (distances) was expected."
        )
    return RangeSettings(
        unit_m=number(fields, unit, 0.0) if _given(fields, unit) else None,
        usual_count_m=_COUNT if upload.role == "depth" else None,
        missing=_numbers(fields, "missing"),
        camera=_camera(files, fields, limits),
        pitch_x=number(fields, "pitch", 0.0) if _given(fields, "pitch") else None,
        pitch_y=number(fields, "pitch_y", 0.0) if _given(fields, "pitch_y") else None,
        offset_m=(*_numbers(fields, "offset"), 0.0)[0],
        up=direction == _UP,
        intensity=_is_true(fields, "intensity", default=True),
    )


def _camera(
    files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits
) -> Intrinsics | None:
    """Return the camera in a file of the request, or in its four numbers."""
    given = [name for name in CAMERA_COLUMNS if _given(fields, name)]
    if "intrinsics" in files:
        if given:
            raise DataError(f"Both intrinsics and {given[0]} were sent; send one of them.")
        camera = _camera_of_file(files["intrinsics"])
    elif given:
        numbers = {name: fields.get(name, "") for name in CAMERA_COLUMNS}
        camera = camera_from_text(numbers, "The request")
    else:
        return None
    if (camera.width or 0) * (camera.height or 0) > limits.pixels:
        raise DataError(
            f"The intrinsics are of {camera.width} x {camera.height} pixels; this service takes "
            f"images of at most {limits.pixels:,} pixels (option --max-megapixels)."
        )
    return camera


def _camera_of_file(upload: Upload, *, colour: bool = False) -> Intrinsics:
    check_facts(upload.content, upload.where)
    return intrinsics_from_bytes(upload.content, upload.where, colour=colour)


def _colour_view(files: Mapping[str, Upload]) -> ColourView | None:
    """Return the camera of colours that are still to be registered; None where they are."""
    sent = [name for name in ("colour_intrinsics", "extrinsic") if name in files]
    if len(sent) == 1:
        raise DataError(
            "Colours of another camera need colour_intrinsics and extrinsic, a file each; only "
            f"{sent[0]} was sent."
        )
    if not sent or "rgb" not in files:
        return None
    motion = files["extrinsic"]
    check_facts(motion.content, motion.where)
    matrix = extrinsic_from_bytes(motion.content, motion.where)
    return ColourView(
        _camera_of_file(files["colour_intrinsics"], colour=True), tuple(map(tuple, matrix.tolist()))
    )


def decode_recording(
    files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits, *, channels: int
) -> Recording:
    """Decode a recording; raises ``DataError`` in a sentence that names file and field.

    Rows of a table are points in time if the model takes one channel, and channels otherwise; the
    fields ``layout`` and ``rows_in_time`` override this.
    """
    check_fields(files, fields, RECORDING_FIELDS)
    notes: list[str] = []
    if _given(fields, "rows_in_time"):
        notes.append(renamed("field", "rows_in_time", "layout"))
    image = _colour(files["image"], limits, None, notes) if "image" in files else None
    settings = _recorder_settings(fields, channels)
    per_cycle = settings.samples_per_cycle or CYCLE
    if "series" not in files:
        if others := sorted(set(files) & set(_MONITOR_FILES)):
            raise DataError(f"{others[0]} belongs to a monitor's amplitudes; send these as series.")
        return Recording(image, None, settings.frequency, per_cycle, tuple(notes))
    recorded = _recorded(files, settings, limits, channels)
    if recorded.assumed:
        notes.append(
            f"{files['series'].name} does not name its recorder: {settings.frequency:g} Hz and "
            f"{CYCLE} values a cycle are assumed (fields frequency, sample_rate)."
        )
    return Recording(
        recorded.image if image is None else image,
        recorded.series,
        recorded.frequency,
        recorded.samples_per_cycle,
        (*notes, *recorded.remarks),
        recorded.pulses,
        recorded.system,
    )


def _recorder_settings(fields: Mapping[str, str], channels: int) -> RecorderSettings:
    """Return what a request says of its recorder."""
    number(fields, "frequency", 60.0)
    per_cycle = number(fields, "samples_per_cycle", 128.0)
    if per_cycle != int(per_cycle) or not 2 <= per_cycle <= 2**20:
        raise DataError(f"samples_per_cycle is {per_cycle:g}; a whole number from 2 was expected.")
    given = {name: fields[name].strip() for name in _RECORDER_FIELDS if _given(fields, name)}
    if _given(fields, "sample_rate"):
        given.pop("samples_per_cycle", None)  # the page always sends its own
    layout = ""
    if _given(fields, "rows_in_time"):
        layout = "rows" if _is_true(fields, "rows_in_time", default=True) else "channels"
    elif channels > 1:
        layout = "channels"
    settings = settings_of(given, "The request")
    return settings if settings.layout else replace(settings, layout=layout)  # type: ignore[arg-type]


def _recorded(
    files: Mapping[str, Upload], settings: RecorderSettings, limits: Limits, channels: int
) -> Recorded:
    upload = files["series"]
    monitor = {role: files[name] for name, role in _MONITOR_FILES.items() if name in files}
    if monitor:
        for file in (upload, *monitor.values()):
            check_series(file.content, file.where, limits)
        contents = {role: (file.where, file.content) for role, file in monitor.items()}
        lacking = [
            n for n, role in _MONITOR_FILES.items() if role in MONITOR_ROLES and role not in monitor
        ]
        if lacking:
            raise DataError(f"A monitor's recording needs {lacking[0]} as well.")
        return monitor_list({"A": (upload.where, upload.content), **contents}, settings)
    raw = bool(settings.raw_type) or Path(upload.name).suffix.lower() in RAW_SUFFIXES
    if raw:
        check_not_empty(upload.content, upload.where)
    else:
        check_series(upload.content, upload.where, limits)
    return series_of_file((upload.where, upload.content), channels=channels, settings=settings)


def number(fields: Mapping[str, str], name: str, default: float) -> float:
    """Return the value of a field; raises ``DataError`` unless it is a positive number."""
    text = fields.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise DataError(f"{name} is {shortened(text)!r}; a positive number was expected.")
    return value


def _given(fields: Mapping[str, str], name: str) -> bool:
    return bool(fields.get(name, "").strip())


def _numbers(fields: Mapping[str, str], name: str) -> tuple[float, ...]:
    """Return the numbers of a field, divided by commas or blanks; none of an empty one."""
    text = fields.get(name, "")
    try:
        return tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise DataError(f"{name} is {shortened(text)!r}; numbers were expected.") from None


def _whole(fields: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """Return the whole number of a field, None of an empty one."""
    if not _given(fields, name):
        return None
    value = number(fields, name, 0.0)
    if value != int(value) or not least <= value <= most:
        raise DataError(f"{name} is {value:g}; a whole number from {least} to {most} was expected.")
    return int(value)


def _is_true(fields: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = fields.get(name, "").strip().lower() or str(default).lower()
    if text not in ("true", "false"):
        raise DataError(f"{name} is {shortened(text)!r}; true or false was expected.")
    return text == "true"


def _colour(upload: Upload, limits: Limits, bits: int | None, notes: list[str]) -> FloatArray:
    if check_image(upload.content, upload.where, limits) != "npy":
        rgb = rgb_from_bytes(upload.content, upload.where, bits)
        if bits is None and (sentence := few_bits(rgb, upload.content)):
            notes.append(sentence)
        return rgb
    pixels = numbers_of(upload.content, upload.where).values
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError(
            f"{upload.where} has shape {pixels.shape}; (height, width, 3) was expected."
        )
    if pixels.dtype in (np.uint8, np.uint16):
        most = (
            np.iinfo(pixels.dtype).max if bits is None or pixels.dtype == np.uint8 else 2**bits - 1
        )
        return pixels.astype(np.float32) / np.float32(most)
    if pixels.dtype.kind != "f" or not (
        np.isfinite(pixels).all() and pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 1
    ):
        raise DataError(
            f"{upload.where} holds {pixels.dtype} values that are not colours: send unsigned "
            "integers of 8 or 16 bits, or floats in [0, 1] without NaN."
        )
    return np.ascontiguousarray(pixels, dtype=np.float32)
