"""Reader of a table of recordings, CSV or Parquet: an image, a series or both in each row.

Columns (``image`` or ``series`` is required, the others are optional): ``image`` (RGB or grey);
``series``, a file of any recorder; ``layout``: ``rows`` if the rows of a series' file follow each
other in time, ``channels`` if each row is a channel, ``pulses``, ``pattern`` or ``waveform`` (where
the content does not tell, tables have rows and arrays channels); ``sample_rate``, ``columns``,
``raw_type``, ``header_bytes``,
``raw_channels``, ``variable``, ``charge``, ``voltage_kv`` and ``dead_time`` of the
file (see ``RecorderSettings``);
``label`` (0, 1, 2 ...) or ``kind`` (the class's name) or both; ``split`` (train, validation,
test); ``frequency`` of the mains in Hz and ``samples_per_cycle``. Paths are relative to the table.
Each other column is a kind of group, e.g. ``session``, and is copied to the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from chiasm.diagnosis.readers.journal import RECORDER
from chiasm.diagnosis.readers.recording_folder import (
    SERIES_SUFFIXES,
    is_one_recording,
    load_recorded,
)
from chiasm.diagnosis.readers.source import (
    KINDS,
    ProblemLog,
    RecordingRef,
    problem_message,
    whole_samples_per_cycle,
)
from chiasm.diagnosis.recorders.recorded import LAYOUTS, RecorderSettings
from chiasm.diagnosis.recorders.recorder_settings import settings_of
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES
from chiasm.files.readers import reader
from chiasm.files.tables import SUFFIXES, close_name, read_rows
from chiasm.samples import Problem, RecordingSample

SENSOR_COLUMNS = ("image", "series")
RECORDER_COLUMNS = (
    *("sample_rate", "columns", "raw_type", "header_bytes", "raw_channels", "variable"),
    *("charge", "voltage_kv", "dead_time", "time_unit", "phase_unit", "amplitude_grows"),
)
FACT_COLUMNS = (
    *("layout", "label", "kind", "split", "frequency", "samples_per_cycle"),
    *RECORDER_COLUMNS,
)
DEFAULTS = {"frequency": "60", "samples_per_cycle": "128"}
_SPLITS = {
    "": "",
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}


@reader("diagnosis")
class RecordingManifest:
    """Recordings listed in a CSV or Parquet table; image-only and series-only rows are legal.

    If a table names kinds but no labels, the kinds are numbered as in ``KINDS`` if all are members
    of it, else alphabetically. Rows that name missing files are left out and listed in
    ``problems``. Any other fault raises ``DataError`` that names the row (1 is the first below the
    header).

    Args:
        path: of the table.
        image_size: (height, width) to which images are resized; None keeps them.
        segment: minimum number of values of a series; None: one mains cycle.
    """

    layout = "a CSV or Parquet table with columns such as image, series and label"

    def __init__(
        self,
        path: Path | str,
        *,
        image_size: tuple[int, int] | None = None,
        segment: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.image_size = image_size
        self.segment = segment
        columns, rows = read_rows(self.path)
        self._check_columns(columns)
        problems: list[Problem] = []
        refs = list(self._find(rows, problems))
        if any("series" in ref.files for ref in refs):
            problems += [
                Problem(
                    str(self.path),
                    f"{self.path} has no column {column}; {value} is assumed.",
                    left_out=False,
                )
                for column, value in DEFAULTS.items()
                if column not in columns
            ]
        self.kinds, self.refs = _numbered(self.path, refs)
        self._log = ProblemLog(problems)
        if not refs:
            causes = " ".join(map(problem_message, problems[:3]))
            raise DataError(f"{self.path} lists no usable recording. {causes}".strip())

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a path is a CSV or Parquet file, but no series of numbers."""
        return path.is_file() and path.suffix.lower() in SUFFIXES and not is_one_recording(path)

    @property
    def name(self) -> str:
        """Name of the table without its suffix."""
        return self.path.stem

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out or repaired so far."""
        return self._log.all()

    def repairs(self, ref: RecordingRef) -> tuple[Problem, ...]:
        """Return what the last ``load`` of the recording repaired."""
        return self._log.repairs(ref)

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Read one recording: image ``(H, W, 3)``, series ``(C, T)`` in the recorder's counts.

        Raises ``DataError`` that names the file, and the row of a faulty series.
        """
        repairs: list[str] = []
        sample = load_recorded(
            ref, _settings(ref), repairs, segment=self.segment, image_size=self.image_size
        )
        self._log.set_repairs(ref, repairs)
        return sample

    def _check_columns(self, columns: list[str]) -> None:
        if not set(columns) & set(SENSOR_COLUMNS):
            raise DataError(
                f"{self.path} has the columns {', '.join(columns) or '(none)'}, but neither image "
                "nor series; the first row must name the columns, separated by commas. A recording "
                "itself, such as columns of time and signal, is read from CSV, .npz, .npy or .mat; "
                "say what its columns are: --recorder columns=time,amplitude,-.",
                see="columns",
            )
        for column in columns:
            similar = close_name(column, (*SENSOR_COLUMNS, *FACT_COLUMNS))
            if similar and similar not in columns:
                raise DataError(
                    f"{self.path} has a column '{column}'; '{similar}' was probably meant. "
                    "Rename it, or choose a less similar name."
                )

    def _find(self, rows: list[dict[str, str]], problems: list[Problem]) -> Iterator[RecordingRef]:
        row_of: dict[str, int] = {}
        for number, row in enumerate(rows, start=1):
            where = f"{self.path}, row {number}"
            ref = self._reference(row, where)
            if ref.source in row_of:
                raise DataError(
                    f"{where} names {ref.source}, as row {row_of[ref.source]} does; list each "
                    "recording once."
                )
            row_of[ref.source] = number
            missing = [str(path) for path in ref.files.values() if not path.is_file()]
            if missing:
                sentence = (
                    f"{where} names {', '.join(missing)}, which does not exist; paths are "
                    "relative to the table's folder."
                )
                problems.append(Problem(ref.source, sentence, left_out=True))
            else:
                yield ref

    def _reference(self, row: Mapping[str, str], where: str) -> RecordingRef:
        files = {role: self.path.parent / row[role] for role in SENSOR_COLUMNS if row.get(role)}
        if not files:
            raise DataError(f"{where} names neither an image nor a series.")
        if "image" in files and files["image"].suffix.lower() not in RGB_SUFFIXES:
            raise DataError(
                f"{where} names the image {files['image']}; PNG, JPEG, TIFF or BMP was expected."
            )
        split = row.get("split", "").lower()
        if split not in _SPLITS:
            raise DataError(
                f"{where} has split '{row['split']}'; train, validation, test or nothing was "
                "expected."
            )
        frequency = _positive(row, "frequency", where)
        per_cycle = _positive(row, "samples_per_cycle", where)
        label = row.get("label", "")
        columns = (*SENSOR_COLUMNS, *FACT_COLUMNS)
        return RecordingRef(
            source=str(next(iter(files.values()))),
            files=files,
            frequency=frequency,
            samples_per_cycle=whole_samples_per_cycle(per_cycle * frequency, frequency, where),
            label=_label(label, where) if label else None,
            kind=row.get("kind", ""),
            group={column: text for column, text in row.items() if text and column not in columns},
            split=_SPLITS[split],
            extra={"where": where, **_recorder(row, files, where)},
        )


def _numbered(
    path: Path, refs: Sequence[RecordingRef]
) -> tuple[tuple[str, ...], tuple[RecordingRef, ...]]:
    """Return the names of the classes, and the references with both label and kind."""
    number_of = _numbers(refs)
    name_of: dict[int, str] = {}
    for kind, number in number_of.items():
        if name_of.setdefault(number, kind) != kind:
            raise DataError(
                f"{path} gives label {number} to '{name_of[number]}' and to '{kind}'; a class has "
                "one label."
            )
    count = max([*name_of, *(ref.label for ref in refs if ref.label is not None)], default=-1) + 1
    names = tuple(name_of.get(number, str(number)) for number in range(count))
    numbered = []
    for ref in refs:
        label = number_of[ref.kind] if ref.kind else ref.label
        numbered.append(
            ref if label is None else replace(ref, label=label, kind=ref.kind or names[label])
        )
    return names, tuple(numbered)


def _numbers(refs: Sequence[RecordingRef]) -> dict[str, int]:
    """Return kind to label: from the rows that have both, else by the order of the kinds."""
    kinds = {ref.kind for ref in refs if ref.kind}
    if all(ref.label is None for ref in refs):
        order = KINDS if kinds <= set(KINDS) else sorted(kinds)
        return {kind: number for number, kind in enumerate(order)} if kinds else {}
    labels: dict[str, int] = {}
    for ref in refs:
        if not ref.kind or ref.label is None:
            continue
        if labels.setdefault(ref.kind, ref.label) != ref.label:
            raise DataError(
                f"{ref.extra['where']} gives '{ref.kind}' the label {ref.label}, an earlier row "
                f"{labels[ref.kind]}; a class has one label."
            )
    for ref in refs:
        if ref.kind and ref.kind not in labels:
            raise DataError(
                f"{ref.extra['where']} has kind '{ref.kind}' without a label, and no other row "
                "gives its label."
            )
    return labels


def _label(text: str, where: str) -> int:
    try:
        value = float(text)  # Parquet keeps whole numbers beside gaps as 1.0
        if value.is_integer() and 0 <= value < 10_000:
            return int(value)
    except ValueError:
        pass
    raise DataError(f"{where} has label '{text}'; the class's number, 0 or more, was expected.")


def _positive(row: Mapping[str, str], column: str, where: str) -> float:
    text = row.get(column) or DEFAULTS[column]
    try:
        value = float(text)
        if 0 < value < float("inf"):
            return value
    except ValueError:
        pass
    raise DataError(f"{where} has {column} '{text}'; a number above 0 was expected.")


def _layout(row: Mapping[str, str], files: Mapping[str, Path], where: str) -> str:
    if "series" not in files:
        return ""
    suffix = files["series"].suffix.lower()
    if suffix not in SERIES_SUFFIXES:
        raise DataError(
            f"{where} names the series {files['series']}; "
            f"{', '.join(sorted(SERIES_SUFFIXES))} were expected."
        )
    layout = row.get("layout", "").lower()
    if layout and layout not in LAYOUTS:
        raise DataError(
            f"{where} has layout '{row['layout']}'; {', '.join(LAYOUTS)} or nothing was expected."
        )
    return layout


def _recorder(row: Mapping[str, str], files: Mapping[str, Path], where: str) -> dict[str, str]:
    """Return what the row says of a recorder's file, as text by name, and all of it together."""
    told = {name: row[name] for name in RECORDER_COLUMNS if row.get(name)}
    told |= {"layout": _layout(row, files, where)}
    facts = {name: row.get(name) or DEFAULTS[name] for name in DEFAULTS}
    return {**told, RECORDER: " ".join(f"{k}={v}" for k, v in {**told, **facts}.items() if v)}


def _settings(ref: RecordingRef) -> RecorderSettings:
    """Return what the table says of a recording's series."""
    values = {name: ref.extra[name] for name in ("layout", *RECORDER_COLUMNS) if name in ref.extra}
    facts = {"frequency": ref.frequency, "samples_per_cycle": ref.samples_per_cycle}
    return settings_of({**values, **facts}, ref.extra["where"])
