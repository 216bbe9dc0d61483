"""Reader of a table of samples (CSV, TSV, JSON lines, Parquet), for data in any other layout.

Lists of splits as JSON (``split_lists``: Real-IAD, Real-IAD D3) are read as a table, too.

One of the columns ``rgb``, ``xyz`` and ``depth`` is needed. All columns: ``rgb``; ``xyz`` (point
map in metres) or ``depth`` with ``depth_unit`` (metres per count) and intrinsics in pixels (``fx,
fy, cx, cy``, or ``intrinsics``: a JSON file with those four); ``mask``; ``label`` (0 good,
1 defective, or words such as ok and nok); ``kind``; ``split`` (train, validation, test);
``group``; ``lamp`` (earlier name: ``light``). The names that anomalib and others give these columns
(``ALIASES``) are read, too. Paths are relative to the table, or to the folder above it where none
of its files lies beside it. Other columns are kept in ``SampleRef.extra``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from chiasm.detection.readers.camera import (
    CAMERA_COLUMNS,
    camera_from_text,
    read_intrinsics,
)
from chiasm.detection.readers.checked_sample import load_sample
from chiasm.detection.readers.range_image import RangeSettings, read_range
from chiasm.detection.readers.source import Lamp, SampleRef
from chiasm.detection.readers.split_lists import holds_split_lists, read_split_lists
from chiasm.detection.sensors.pairing import read_once
from chiasm.errors import DataError
from chiasm.files.images import holds_points
from chiasm.files.readers import reader
from chiasm.files.tables import SUFFIXES, close_name, read_rows
from chiasm.files.words import GOOD, is_defective, is_good
from chiasm.samples import Problem, RGBDSample

PATH_COLUMNS = ("rgb", "xyz", "depth", "mask", "intrinsics")

SENSOR_COLUMNS = ("rgb", "xyz", "depth")

FACT_COLUMNS = ("label", "kind", "split", "group", "lamp", "depth_unit", *CAMERA_COLUMNS)

# Other names of columns; the first that a table has is taken where it lacks the column itself.
ALIASES = {
    "lamp": ("light",),
    "rgb": ("image_path", "image", "rgb_path", "image_file", "filename", "file_name", "filepath"),
    "xyz": ("xyz_path", "point_map"),
    "depth": ("depth_path", "depth_image"),
    "mask": ("mask_path", "mask_file", "gt_path", "ground_truth"),
    "label": ("label_index", "is_anomaly", "anomalous"),
    "kind": ("defect_type", "anomaly_type", "defect_class"),
    "split": ("subset",),
}

_SPLITS = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_PRODUCTS = ("object", "category", "product")  # columns that name what a part is
_ROWS_LOOKED_FOR = 50  # whose files tell what paths are relative to


@reader("detection")
class Manifest:
    """Samples listed in a table; RGB-only and 3D-only rows are legal.

    ``lamp`` selects the rows with that number in the lamp column. Rows that show one part under
    several lamps, because they name the same 3D file, or one group with each lamp once, count as
    one part (``read_once``): None takes one lamp, ``"all"`` draws one of a part for training.
    ``unit_m`` is the length of the point maps' unit in metres (the table names the unit of depth).
    Rows that name missing files are left out and listed in ``problems``. Any other fault in the
    table raises ``DataError`` naming the row; row 1 is the first below the header.
    """

    layout = "a table (CSV, TSV, JSON lines, Parquet) with columns such as rgb, xyz, label, split"

    def __init__(
        self, path: Path | str, lamp: Lamp | None = None, *, unit_m: float | None = None
    ) -> None:
        self.path = Path(path)
        self.unit_m = unit_m
        remarks: list[str] = []
        if holds_split_lists(self.path):
            columns, rows, self.folder = read_split_lists(self.path)
            _rename(columns, rows, remarks)
            remarks.append(f"Paths in {self.path} are relative to {self.folder}.")
        else:
            columns, rows = read_rows(self.path)
            _rename(columns, rows, remarks)
            self._check_columns(columns)
            self.folder = self._folder_of_paths(rows, remarks)
        self._take_points_for_points(columns, rows, remarks)
        problems: list[Problem] = []
        refs = list(self._find(rows, problems))
        if unit_m is not None and refs and not any("xyz" in ref.files for ref in refs):
            raise DataError(f"{self.path} has no point maps for a unit; depth has depth_unit.")
        self.lamps = tuple(sorted({ref.lamp for ref in refs if ref.lamp is not None}))
        if lamp is not None and lamp != "all":
            refs = self._with_lamp(lamp, refs)
        else:
            refs = read_once(refs, lamp, remarks, str(self.path))
        _remark_products(rows, remarks)
        self.problems = tuple(problems)
        self.remarks = tuple(remarks)
        self._refs = tuple(refs)
        if not refs:
            raise DataError(
                f"{self.path} lists no usable sample. {' '.join(map(str, problems[:3]))}"
            )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a path is a table's file; its columns are checked on opening."""
        return path.is_file() and (path.suffix.lower() in SUFFIXES or holds_split_lists(path))

    @property
    def name(self) -> str:
        """Name of the table without its suffix."""
        return self.path.stem

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All samples whose files exist, in the order of the table."""
        return self._refs

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        if "depth" not in ref.files:
            return load_sample(ref, unit_m=self.unit_m)
        image = read_range(ref.files["depth"], _depth_settings(ref))
        return load_sample(ref, xyz=image.xyz, notes=image.remarks)

    def _check_columns(self, columns: list[str]) -> None:
        if not set(columns) & set(SENSOR_COLUMNS):
            raise DataError(
                f"{self.path} has the columns {', '.join(columns) or '(none)'}, but none of rgb, "
                "xyz and depth; the first row must name the columns, separated by commas."
            )
        known = (*PATH_COLUMNS, *FACT_COLUMNS)
        for column in columns:
            name = close_name(column, known)
            if name and name not in columns:
                raise DataError(
                    f"{self.path} has a column '{column}'; '{name}' was probably meant. "
                    "Rename it, or choose a name less alike."
                )

    def _find(self, rows: list[dict[str, str]], problems: list[Problem]) -> Iterator[SampleRef]:
        row_of: dict[str, int] = {}
        for number, row in enumerate(rows, start=1):
            source = f"{self.path}, row {number}"
            ref = self._reference(row, source)
            if ref.source in row_of:
                raise DataError(
                    f"{source} names {ref.source}, as row {row_of[ref.source]} does; each part may "
                    "stand in the table once."
                )
            row_of[ref.source] = number
            missing = [str(path) for path in ref.files.values() if not path.is_file()]
            if missing:
                sentence = (
                    f"{source} names {', '.join(missing)}, which does not exist; paths are "
                    f"relative to {self.folder}."
                )
                problems.append(Problem(source, sentence, left_out=True))
            else:
                yield ref

    def _reference(self, row: Mapping[str, str], source: str) -> SampleRef:
        files = {role: self._path(row[role]) for role in PATH_COLUMNS if row.get(role)}
        sensors = [role for role in SENSOR_COLUMNS if role in files]
        if not sensors:
            raise DataError(f"{source} names neither an rgb nor an xyz nor a depth file.")
        if "xyz" in files and "depth" in files:
            raise DataError(f"{source} names both xyz and depth; give one of them.")
        extra = {
            column: text
            for column, text in row.items()
            if text and (column not in (*PATH_COLUMNS, *FACT_COLUMNS))
        }
        if "depth" in files:
            extra |= _depth_facts(row, source)
        else:
            files.pop("intrinsics", None)
        label, kind = _label_of_row(row.get("label", ""), row.get("kind", ""), source)
        split = row.get("split", "").lower()
        if split not in _SPLITS:
            raise DataError(
                f"{source} has split '{row['split']}'; train, validation, test or nothing was "
                "expected."
            )
        lamp = row.get("lamp", "")
        return SampleRef(
            source=str(files[sensors[0]]),
            files=files,
            split=_SPLITS[split],
            label=label,
            kind=kind,
            group=row.get("group", ""),
            lamp=_whole_number(lamp, f"{source}, column lamp") if lamp else None,
            extra=extra,
        )

    def _path(self, text: str) -> Path:
        path = self.folder / text
        # Windows writes backslashes.
        return self.folder / text.replace("\\", "/") if "\\" in text and not path.exists() else path

    def _folder_of_paths(self, rows: list[dict[str, str]], remarks: list[str]) -> Path:
        """Return the folder that paths are relative to: the table's, or the one above it."""
        self.folder = beside = self.path.parent
        above = self.path.resolve().parent.parent
        for folder in (beside, above):
            self.folder = folder
            names = (row.get(role) for row in rows[:_ROWS_LOOKED_FOR] for role in SENSOR_COLUMNS)
            if any(self._path(name).is_file() for name in names if name):
                if folder is above:
                    remarks.append(f"Paths in {self.path} are relative to {folder}.")
                return folder
        return beside

    def _take_points_for_points(
        self, columns: list[str], rows: list[dict[str, str]], remarks: list[str]
    ) -> None:
        """Read the column of depth as point maps where its files are such, as anomalib's are."""
        if "depth" not in columns or "xyz" in columns or "depth_unit" in columns:
            return
        paths = (self._path(row["depth"]) for row in rows if row["depth"])
        first = next((path for path in paths if path.is_file()), None)
        if first is not None and holds_points(first):
            _rename_column(columns, rows, "depth", "xyz")
            remarks.append(f"The column of depth holds point maps, such as {first}.")

    def _with_lamp(self, lamp: int, refs: list[SampleRef]) -> list[SampleRef]:
        if lamp not in self.lamps:
            listing = ", ".join(map(str, self.lamps)) or "none"
            raise DataError(f"{self.path} has no row with lamp {lamp}; lamps found: {listing}.")
        return [ref for ref in refs if ref.lamp == lamp]


def _rename(columns: list[str], rows: list[dict[str, str]], remarks: list[str]) -> None:
    """Give columns with other names their own, in place."""
    words = ""
    if "label_index" in columns and "label" in columns:  # anomalib's label is the kind in words
        words = "kind" if "kind" not in columns else "words"
        _rename_column(columns, rows, "label", words)
    renamed = [f"label as {words}"] if words == "kind" else []
    for name, others in ALIASES.items():
        other = next((other for other in others if other in columns), None)
        if name not in columns and other is not None:
            _rename_column(columns, rows, other, name)
            if name == "label":
                for row in rows:  # in these columns, true can only mean that there is an anomaly
                    row["label"] = {"true": "1", "false": "0"}.get(
                        row["label"].lower(), row["label"]
                    )
            if other != "light":
                renamed.append(f"{other} as {name}")
    if words == "kind":
        for row in rows:  # "normal" of anomalib says no more than the label
            if is_good(row["kind"]) or row["label"] in ("0", "0.0"):
                row["kind"] = ""
    if renamed:
        remarks.append(f"Columns are read by other names: {', '.join(renamed)}.")


def _rename_column(columns: list[str], rows: list[dict[str, str]], old: str, new: str) -> None:
    columns[columns.index(old)] = new
    for row in rows:
        row[new] = row.pop(old)


def _remark_products(rows: list[dict[str, str]], remarks: list[str]) -> None:
    for column in _PRODUCTS:
        names = sorted({row[column] for row in rows if row.get(column)})
        if len(names) > 1:
            remarks.append(
                f"The column '{column}' names {len(names)} products ({', '.join(names[:5])}"
                f"{', ...' if len(names) > 5 else ''}). A training keeps them apart "
                "(products=together takes them for one), a model of several judges each by its "
                "own, and a model of one product takes all for that one."
            )


def _depth_facts(row: Mapping[str, str], source: str) -> dict[str, str]:
    """Return the checked texts that turn counts of depth into points."""
    unit = row.get("depth_unit", "")
    if not unit and row.get("intrinsics"):
        return {}  # the camera's file may say it
    try:
        positive = 0 < float(unit) < float("inf")
    except ValueError:
        positive = False
    if not positive:
        raise DataError(
            f"{source} has depth_unit '{unit}'; the metres of one count were expected, e.g. 0.001 "
            "for a depth image in millimetres."
        )
    facts = {"depth_unit": unit}
    if not row.get("intrinsics"):
        text = {column: row.get(column, "") for column in CAMERA_COLUMNS}
        camera_from_text(text, source)
        facts |= text
    return facts


def _label_of_row(text: str, kind: str, source: str) -> tuple[int | None, str]:
    """Return label and kind; one that is missing follows from the other."""
    kind = GOOD if is_good(kind) else kind
    if not text:
        return (None, "") if not kind else (int(kind != GOOD), kind)
    label = _label(text, source)
    if kind and (kind == GOOD) != (label == 0):
        raise DataError(
            f"{source} has label {label} and kind '{kind}', which contradict each other: kind is "
            "'good' for label 0 and the kind of defect for label 1."
        )
    return label, kind or (GOOD if label == 0 else "defect")


def _label(text: str, source: str) -> int:
    if is_good(text):
        return 0
    if is_defective(text):
        return 1
    try:
        value = float(text)  # Parquet keeps whole numbers beside gaps as 1.0
    except ValueError:
        value = -1.0
    if value not in (0, 1):
        raise DataError(
            f"{source} has label '{text}'; 0, good or ok, and 1, defective or nok, or nothing was "
            "expected. The kind of a defect belongs into the column kind."
        )
    return int(value)


def _whole_number(text: str, source: str) -> int:
    try:
        value = float(text)  # Parquet keeps whole numbers beside gaps as 1.0
        if value.is_integer():
            return int(value)
    except ValueError:
        pass
    raise DataError(f"{source}: '{text}' was found, a whole number was expected.")


def _depth_settings(ref: SampleRef) -> RangeSettings:
    if "intrinsics" in ref.files:
        camera = read_intrinsics(ref.files["intrinsics"])
    else:
        camera = camera_from_text(ref.extra, ref.source)
    unit = ref.extra.get("depth_unit")
    return RangeSettings(unit_m=None if unit is None else float(unit), camera=camera)
