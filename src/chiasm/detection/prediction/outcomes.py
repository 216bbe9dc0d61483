"""What a table says of a part, and what the console says of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chiasm.runs.console import failure_reason, report_failures, say
from chiasm.runs.tally import Outcome, Tally
from chiasm.samples import Region, Verdict

_PLACE = {
    "left": ("int32", "first column of the region's box, pixels of the frame"),
    "top": ("int32", "first row of the region's box, pixels of the frame"),
    "width": ("int32", "columns of the region's box"),
    "height": ("int32", "rows of the region's box"),
    "x": ("double", "column of the region's centroid; the centre of the first pixel is 0"),
    "y": ("double", "row of the region's centroid"),
    "pixels": ("int32", "number of the region's pixels"),
    "peak": ("double", "largest score of the region's pixels"),
    "x_mm": ("double", "median x of the region's points in the camera frame, millimetres"),
    "y_mm": ("double", "median y of the region's points, millimetres"),
    "z_mm": ("double", "median z of the region's points, the distance from the camera"),
    "area_mm2": ("double", "area as seen along the normal of the support plane, holes included"),
    "height_mm": ("double", "median height of the region above the support plane"),
    "relief_mm": ("double", "height over the object about the region: bump > 0, dent < 0"),
}
REGION = {name: kind for name, (kind, _) in _PLACE.items()}
# Counts of a run-length code, column by column as COCO has them, from outside on.
RUNS = {"size": ["int32"], "counts": ["int32"]}
COLUMNS: dict[str, Any] = {
    "source": "string",
    "score": "double",
    "threshold": "double",
    "p_value": "double",
    "defective": "bool",
    "frame_height": "int32",
    "frame_width": "int32",
    "pixel_threshold": "double",
    "regions": [{**REGION, "runs": RUNS}],
    "notes": "string",
    "error": "string",
}
_MEANING = {
    "source": "file of the part",
    "score": "raw score of the part; comparable within one model only",
    "threshold": "score above which the model calls a part defective; empty where it has none",
    "p_value": "conformal p-value against the calibration parts: small is suspicious",
    "defective": "the decision; empty where the part is undecided or could not be judged",
    "frame_height": "rows of the frame",
    "frame_width": "columns of the frame",
    "pixel_threshold": (
        "score that all pixels of a region exceed. It is the score of a typical good part (median "
        "of the calibration parts), from which on heat maps are coloured; one pixel of a region at "
        "least exceeds the threshold of the part's score, which shows as a third of full heat, or "
        "the largest calibration score where the model has no threshold. Where the part is "
        "defective and no pixel exceeds that, there is one region about the highest pixel. Empty "
        "of a good part, which has no regions"
    ),
    "regions": "number of the part's regions; the columns after it are of the one with the highest "
    "peak. Pixels that touch at a corner are of one region",
    "notes": "remarks of the model on the input",
    "error": "why the part could not be judged; empty where it was",
    "picture": "heat map over the part",
    "product": "of a model of several products, the one by whose model the part was judged",
    "map": "raw scores (H, W), 0 outside the object",
    "mask": "numbers of the regions as grey values: 0 outside, 255 inside",
}
TABLE = (
    *(name for name in COLUMNS if name not in ("notes", "error")),
    *REGION,
    *("notes", "error", "picture", "map", "mask"),
)
REGION_TABLE = ("source", "region", "pixel_threshold", *REGION)
MEANINGS = "columns.md"
PRODUCT = "product"  # column of models of several products
_BAD, _UNDECIDED = "defective", "undecided"


def outcome_of(
    verdict: Verdict, *, picture: bytes | None = None, row: Mapping[str, Any] | None = None
) -> Outcome:
    """Return what a verdict counts as, with its row.

    Args:
        verdict: on one part.
        picture: PNG of its heat map.
        row: of the table; None is ``row_of``.
    """
    kinds: tuple[str, ...] = ()
    if verdict.defective is True:
        kinds = (_BAD,)
    elif verdict.defective is None and not verdict.error:
        kinds = (_UNDECIDED,)
    return Outcome(
        row_of(verdict) if row is None else row,
        kinds=kinds,
        notes=verdict.notes,
        failure=failure_reason(verdict) if verdict.error else "",
        line="" if verdict.error else f"{verdict.source}: {_in_words(verdict)}",
        picture=picture,
    )


def row_of(verdict: Verdict) -> dict[str, Any]:
    """Return the row of a table by the names of ``COLUMNS``; what is not known is None.

    Of a model of several products there is a column ``product``, too.
    """
    size: tuple[int | None, ...] = (None, None)
    if verdict.anomaly_map is not None:
        size = verdict.anomaly_map.scores.shape
    return {
        "source": verdict.source,
        "score": _known(verdict.score),
        "threshold": verdict.threshold,
        "p_value": _known(verdict.p_value),
        "defective": verdict.defective,
        "frame_height": size[0],
        "frame_width": size[1],
        "pixel_threshold": verdict.pixel_threshold,
        "regions": [region_row(region) for region in verdict.regions],
        "notes": " ".join(verdict.notes),
        "error": verdict.error,
        **({PRODUCT: verdict.product} if verdict.product else {}),
    }


def region_row(region: Region) -> dict[str, Any]:
    """Return a region by the names of ``REGION``; ``runs`` is for who draws it."""
    x_mm, y_mm, z_mm = region.centroid_mm or (None, None, None)
    values = (
        *(*region.box, *region.centroid, region.pixels, region.peak),
        *(x_mm, y_mm, z_mm, region.area_mm2, region.height_mm, region.relief_mm),
    )
    return {**dict(zip(REGION, values, strict=True)), "runs": None}


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for a table of text: the number of regions, and the first of them."""
    regions = row["regions"]
    first = regions[0] if regions else {}
    flat = {**row, "regions": len(regions), **{name: first.get(name) for name in REGION}}
    return {name: flat.get(name, "") for name in (*TABLE, PRODUCT)}


def table_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns of the table of some rows: with the product where rows name one."""
    named = any(PRODUCT in row for row in rows)
    return (TABLE[0], PRODUCT, *TABLE[1:]) if named else TABLE


def write_meanings(folder: Path) -> None:
    """Write what the columns of the tables mean, beside them."""
    lines = [f"- `{name}`: {meaning}." for name, meaning in _MEANING.items()]
    lines += [f"- `{name}`: {meaning}." for name, (_, meaning) in _PLACE.items()]
    text = (
        "# Columns\n\nWhat is not known is empty: millimetres without 3D, for example. JSON and "
        "Parquet have all regions of a part as a list in its row.\n\n"
    )
    (folder / MEANINGS).write_text(text + "\n".join(lines) + "\n")


def say_summary(tally: Tally, folder: Path, *, promise: str) -> None:
    """Print what became of all parts.

    Args:
        tally: counts of the outcomes.
        folder: of the results.
        promise: of the model's alarm rule.

    Raises:
        DataError: no part has a verdict.
    """
    undecided = tally.kinds[_UNDECIDED]
    said = [f"{tally.kinds[_BAD]} defective", *([f"{undecided} undecided"] if undecided else [])]
    said.append(f"{tally.failed} not judged")
    say(f"{tally.inputs} parts: {', '.join(said)}. See {folder}.")
    say(promise)
    tally.say_lines()
    tally.say_notes("parts")
    report_failures(
        [reason for _, reason in tally.failures],
        succeeded=tally.succeeded,
        noun="parts",
        failed=tally.failed,
    )


def _known(x: float) -> float | None:
    return None if math.isnan(x) else x


def _in_words(verdict: Verdict) -> str:
    places = _place_in_words(verdict)
    if verdict.defective is None:
        return f"undecided, score {verdict.score:.3g}{places}"
    decision = "defective" if verdict.defective else "good"
    return f"{decision}, score {verdict.score:.3g}, p-value {verdict.p_value:.3f}{places}"


def _place_in_words(verdict: Verdict) -> str:
    """Return how many regions there are, and where the first is and how large."""
    if not verdict.regions:
        return ""
    first = verdict.regions[0]
    words = f"x {first.centroid[0]:.0f}, y {first.centroid[1]:.0f} px"
    if first.area_mm2 is not None:
        words += f", {first.area_mm2:.3g} mm²"
    if first.relief_mm is not None:
        side = "below" if first.relief_mm < 0 else "above"
        words += f", {abs(first.relief_mm):.2f} mm {side} its surroundings"
    count = len(verdict.regions)
    return f", at {words}" if count == 1 else f", {count} regions, the first at {words}"
