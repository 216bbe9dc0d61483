"""What the measures of many parts say together: odd parts, drift, and the smallest defect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from chiasm.detection.check.part_measures import PartMeasures
from chiasm.detection.preparation.tiles import tile_plan
from chiasm.files.audit_text import Finding

ANOTHER_SIZE = "Another size"
VISIBLE = 3.0  # pixels of the crop that a defect must be wide in order to be learned

# Plain rules of what is odd, against the median of the good parts.
BLURRED = 0.5  # of the usual sharpness
DARKER, BRIGHTER = 0.6, 1.6  # times the usual brightness
OVEREXPOSED = 0.05  # of a part's pixels more than usual at the upper end of the range
SMALLER = 2.0  # times smaller or larger than the usual share of the frame
FARTHER = 1.2  # times nearer or farther than usual
FEWER = 0.5  # of the usual share of measured points
_ALL = 0.5  # of the parts: what so many show is no oddity of single ones
_FEWEST = 5  # good parts, from which on "usual" means something
# Drift: rank correlation with the order of recording, and change from its first to its last fifth.
_DRIFT_PARTS, _DRIFT, _DRIFT_DEVIATIONS, _DRIFT_CHANGE = 20, 0.5, 4.0, 0.1
_TWELVE_BITS = 1 / 15.9  # of the range of 16 bits


@dataclass(frozen=True, slots=True)
class OddPart:
    """A part that differs from the others, and in what.

    Attributes:
        source: of the part.
        reasons: in a few words each.
    """

    source: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartStatistics:
    """What a training will see, from measured parts.

    Attributes:
        measured: number of parts.
        share: of the frame that the part takes, median of good parts.
        crop: side of the crop, pixels of the frame, median.
        outside: share of the frame outside the crop, median.
        scale: pixels of the frame for one of the crop at the default image size.
        size: the default image size.
        pitch: metres from pixel to pixel of the frame, median; None without 3D points.
        smallest_pixels: width of the smallest defect that could be seen, pixels of the frame.
        smallest_mm: the same in millimetres; None without 3D points.
        odd: parts that differ from the good ones, the oddest first.
        findings: sentences on all of it.
        order: what "early" and "late" mean: ``"file dates"`` or ``"names"``.
        distributions: figures of the good parts by title, for histograms; numbers of each part.
    """

    measured: int
    share: float
    crop: int
    outside: float
    scale: float
    size: int
    pitch: float | None
    smallest_pixels: float
    smallest_mm: float | None
    odd: tuple[OddPart, ...]
    findings: tuple[Finding, ...]
    order: str
    distributions: Mapping[str, tuple[float, ...]]

    def in_words(self) -> list[str]:
        """Return crop, scale and smallest defect, a sentence each."""
        lines = [
            f"The crop is {self.crop} x {self.crop} pixels of the frame and becomes {self.size} x "
            f"{self.size}; {self.outside:.0%} of the frame lies outside it (medians)."
        ]
        fine = f" ({self.smallest_mm:.2g} mm)" if self.smallest_mm is not None else ""
        lines.append(
            f"Smallest defect that could be seen: about {self.smallest_pixels:.1f} pixels of the "
            f"frame{fine} wide, {VISIBLE:g} pixels of the crop."
        )
        plan = tile_plan("auto", size=self.size, frame_pixels=self.crop)
        if plan is not None:
            seen = VISIBLE * max(self.crop / plan.side, 1.0)
            lines.append(
                f"In {plan.count} x {plan.count} tiles (tiles=auto) it is about {seen:.1f} pixels "
                f"of the frame, at {plan.number} times the milliseconds of the network a part."
            )
        return lines


def statistics_of(measures: Sequence[PartMeasures], *, size: int) -> PartStatistics | None:
    """Summarise the measures of parts; None without any.

    Args:
        measures: in the order of the listing.
        size: side of the crop in pixels after resizing, by default.
    """
    if not measures:
        return None
    seen = [m for m in measures if not m.fault]
    usual = [m for m in seen if m.split == "train" and m.label == 0]
    usual = usual or [m for m in seen if m.label != 1] or seen or list(measures)
    crop = _median(usual, lambda m: m.crop)
    scale = crop / size
    pitch = _median_or_none(usual, lambda m: m.pitch)
    smallest = VISIBLE * max(scale, 1.0)
    odd, findings = _odd(measures, usual)
    drift, order = _drift(usual)
    findings += _exposure(usual)
    findings += drift
    findings += _small_defects(seen, scale=scale, size=size)
    return PartStatistics(
        measured=len(measures),
        share=_median(usual, lambda m: m.share),
        crop=round(crop),
        outside=_median(usual, lambda m: m.outside),
        scale=scale,
        size=size,
        pitch=pitch,
        smallest_pixels=smallest,
        smallest_mm=None if pitch is None else 1000 * pitch * smallest,
        odd=tuple(odd),
        findings=tuple(findings),
        order=order,
        distributions=_distributions(usual),
    )


def _values(
    measures: Iterable[PartMeasures], figure: Callable[[PartMeasures], float | None]
) -> list[float]:
    return [value for m in measures if (value := figure(m)) is not None]


def _median(measures: Sequence[PartMeasures], figure: Callable[[PartMeasures], float]) -> float:
    return float(np.median([figure(m) for m in measures]))


def _median_or_none(
    measures: Sequence[PartMeasures], figure: Callable[[PartMeasures], float | None]
) -> float | None:
    values = _values(measures, figure)
    return float(np.median(values)) if values else None


def _odd(
    measures: Sequence[PartMeasures], usual: Sequence[PartMeasures]
) -> tuple[list[OddPart], list[Finding]]:
    """Return parts that differ from the usual ones, and what that means, by reason."""
    # A defect may well differ: only parts that should be alike are compared.
    compared = [m for m in measures if m.label != 1]
    by_reason: dict[str, list[tuple[float, str, str]]] = {}  # weight, source, words
    typical = {
        name: _median_or_none(usual, figure) if len(usual) >= _FEWEST else None
        for name, figure in _FIGURES.items()
    }
    for m in compared:
        for reason, weight, words in _reasons(m, typical):
            by_reason.setdefault(reason, []).append((weight, m.source, words))
    findings: list[Finding] = []
    words_of: dict[str, list[tuple[float, str]]] = {}
    for reason, (title, sentence, remedy) in _REASONS.items():
        entries = sorted(by_reason.get(reason, ()), key=lambda entry: -entry[0])
        if not entries:
            continue
        count = len(entries)
        general = count > _ALL * len(compared) and count > 1
        everyone = "All" if count == len(compared) else f"{count} of {len(compared)}"
        subject = f"{everyone} measured parts" if count > 1 else f"{Path(entries[0][1]).name}"
        findings.append(
            Finding(
                level="know" if reason == "cut" and general else "look",
                title=title,
                sentence=f"{subject} {sentence[count > 1]}.",
                remedy=remedy,
                sources=tuple(source for _, source, _ in entries),
            )
        )
        if general:
            continue
        for weight, source, words in entries:
            words_of.setdefault(source, []).append((weight, words))
    ranked = sorted(words_of.items(), key=lambda item: -sum(weight for weight, _ in item[1]))
    odd = [
        OddPart(source, tuple(words for _, words in sorted(reasons, key=lambda r: -r[0])))
        for source, reasons in ranked
    ]
    return odd, findings


_FIGURES: Mapping[str, Callable[[PartMeasures], float | None]] = {
    "share": lambda m: m.share,
    "distance": lambda m: m.distance,
    "sharpness": lambda m: m.sharpness,
    "brightness": lambda m: m.brightness,
    "saturated": lambda m: m.saturated,
    "measured": lambda m: m.measured,
}

# Reason to title, sentence in singular and plural, and remedy.
_REASONS: Mapping[str, tuple[str, tuple[str, str], str]] = {
    "fault": (
        "No part in the frame",
        ("shows no part", "show no part"),
        "It may be an empty place, a flat part or a covered sensor. Remove empty frames; for "
        "flat parts set plane_margin lower or remove_background=false.",
    ),
    "objects": (
        "Several objects in a frame",
        (
            "shows several objects, of which only the largest is looked at",
            "show several objects, of which only the largest is looked at",
        ),
        "If each is a part, train with objects=split; objects=all looks at all together.",
    ),
    "plane": (
        "No support plane",
        (
            "shows no support plane at the frame's border, so that all points are taken for the "
            "part",
            "show no support plane at the frame's border, so that all points are taken for the "
            "part",
        ),
        "Leave some of the table visible around the part, or use remove_background=false.",
    ),
    "cut": (
        "Cut off by the frame",
        ("is cut off by the frame's border", "are cut off by the frame's border"),
        "What lies outside the frame is never inspected; record it again if the part was not in "
        "place.",
    ),
    "share": (
        ANOTHER_SIZE,
        (
            f"takes a share of the frame more than {SMALLER:g} times smaller or larger than usual",
            f"take a share of the frame more than {SMALLER:g} times smaller or larger than usual",
        ),
        "Is it the same product, at the same distance, and is nothing lying beside it?",
    ),
    "distance": (
        "Another distance",
        (
            f"lies more than {FARTHER:g} times nearer or farther than usual",
            f"lie more than {FARTHER:g} times nearer or farther than usual",
        ),
        "Was the camera moved, or are some files in another unit?",
    ),
    "blurred": (
        "Blurred",
        (
            f"has less than {BLURRED:.0%} of the usual sharpness",
            f"have less than {BLURRED:.0%} of the usual sharpness",
        ),
        "Record them again, or remove them: a model learns that blur is normal.",
    ),
    "brightness": (
        "Other exposure",
        (
            f"is darker than {DARKER:g} or brighter than {BRIGHTER:g} times the usual brightness",
            f"are darker than {DARKER:g} or brighter than {BRIGHTER:g} times the usual brightness",
        ),
        "Fix exposure and light; remove frames of a lamp that failed.",
    ),
    "saturated": (
        "Overexposed",
        (
            f"has over {OVEREXPOSED:.0%} more of its pixels at the upper end of the range than "
            "usual, where nothing can be seen",
            f"have over {OVEREXPOSED:.0%} more of their pixels at the upper end of the range than "
            "usual, where nothing can be seen",
        ),
        "Shorten the exposure.",
    ),
    "measured": (
        "Few 3D points",
        (
            "has less than half of the usual share of measured 3D points",
            "have less than half of the usual share of measured 3D points",
        ),
        "Is the sensor covered, or does the surface shine?",
    ),
}


def _reasons(
    m: PartMeasures, typical: Mapping[str, float | None]
) -> Iterable[tuple[str, float, str]]:
    """Yield the reasons why a part is odd: name, weight, and words for this part."""
    if m.fault:
        yield "fault", 10.0, "no part is seen"
        return
    if m.objects is not None and m.objects > 1:
        yield "objects", 6.0, f"{m.objects} objects"
    if m.plane is False:
        yield "plane", 5.0, "no support plane"
    if m.cut:
        yield "cut", 4.0, "cut off by the frame"

    def ratio(name: str, value: float | None) -> float | None:
        usual = typical[name]
        return None if value is None or usual is None or usual <= 0 else value / usual

    share, distance = ratio("share", m.share), ratio("distance", m.distance)
    if share is not None and not 1 / SMALLER <= share <= SMALLER:
        word = "smaller" if share < 1 else "larger"
        yield "share", 3.0 + abs(np.log(max(share, 1e-3))), f"{max(share, 1 / share):.1f} x {word}"
    if distance is not None and not 1 / FARTHER <= distance <= FARTHER:
        word = "nearer" if distance < 1 else "farther"
        yield "distance", 3.0, f"{max(distance, 1 / distance):.2f} x {word}"
    sharpness, brightness = ratio("sharpness", m.sharpness), ratio("brightness", m.brightness)
    if sharpness is not None and sharpness < BLURRED:
        yield "blurred", 2.0 + 1 / max(sharpness, 0.05), f"{sharpness:.0%} of the usual sharpness"
    if brightness is not None and not DARKER <= brightness <= BRIGHTER:
        yield "brightness", 2.0, f"{brightness:.2f} x the usual brightness"
    usual_saturated = typical["saturated"]
    if (
        m.saturated is not None
        and usual_saturated is not None
        and m.saturated > usual_saturated + OVEREXPOSED
    ):
        yield "saturated", 2.0, f"{m.saturated:.0%} overexposed"
    measured = ratio("measured", m.measured)
    if measured is not None and measured < FEWER:
        yield "measured", 3.0, f"{m.measured:.0%} of its 3D points measured"


def _exposure(usual: Sequence[PartMeasures]) -> list[Finding]:
    """Return what is wrong with the exposure of all parts."""
    findings = []
    brightest = _values(usual, lambda m: m.brightest)
    if brightest and max(brightest) <= _TWELVE_BITS:
        findings.append(
            Finding(
                "wrong",
                "Nearly black: a twelve-bit camera in 16-bit files?",
                f"No value of any image is above {max(brightest):.1%} of the full range, as when "
                "a camera of 12 bits or fewer writes files of 16, or no light falls on the part.",
                "'chiasm data convert FOLDER NEW' scales such files by the bits that they use.",
            )
        )
        return findings
    saturated = _median_or_none(usual, lambda m: m.saturated)
    brightness = _median_or_none(usual, lambda m: m.brightness)
    if saturated is not None and saturated > OVEREXPOSED:
        findings.append(
            Finding(
                "look",
                "Overexposed",
                f"{saturated:.0%} of a part's pixels lie at the upper end of the range (median): "
                "nothing can be seen there.",
                "Shorten the exposure or dim the light before more parts are recorded.",
            )
        )
    if brightness is not None and brightness < 0.08:
        findings.append(
            Finding(
                "look",
                "Dark images",
                f"Parts have a mean brightness of {brightness:.0%} of the range (median).",
                "Expose longer: faults drown in the noise of dark images.",
            )
        )
    return findings


def _drift(usual: Sequence[PartMeasures]) -> tuple[list[Finding], str]:
    """Return what changes in the course of the recording, and what its order was taken from."""
    dates = np.array([_date(m.source) for m in usual])
    distinct = len(np.unique(dates.round()))
    dated = len(dates) > 0 and dates.min() > 0 and distinct > len(dates) / 2
    dated = dated and float(np.ptp(dates)) > 60
    order = "file dates" if dated else "names"
    if len(usual) < _DRIFT_PARTS:
        return [], order
    ranked = [usual[i] for i in np.argsort(dates, kind="stable")] if dated else list(usual)
    period = ""
    if dated:
        first, last = (datetime.fromtimestamp(t, UTC).date() for t in (dates.min(), dates.max()))
        period = f" ({first})" if first == last else f" ({first} to {last})"
    findings = []
    for name, figure in _DRIFTING.items():
        values = [figure(m) for m in ranked]
        if any(v is None for v in values):
            continue
        series = np.array(values, np.float64)
        correlation = _rank_correlation(series)
        fifth = max(len(series) // 5, 1)
        early, late = float(np.median(series[:fifth])), float(np.median(series[-fifth:]))
        change = (late - early) / early if early else 0.0
        certain = abs(correlation) * (len(series) - 1) ** 0.5 > _DRIFT_DEVIATIONS
        if abs(correlation) < _DRIFT or not certain or abs(change) < _DRIFT_CHANGE:
            continue
        findings.append(
            Finding(
                "look",
                f"Drift of the {name}",
                f"The {name} of good parts {'rises' if change > 0 else 'falls'} by "
                f"{abs(change):.0%} from the first to the last fifth, in the order of their {order}"
                f"{period}.",
                "Find out what changes (warm-up, lamp, focus, dirt), and train with parts of the "
                "whole time: parts recorded later may lie outside what a model knows.",
            )
        )
    return findings, order


_DRIFTING: Mapping[str, Callable[[PartMeasures], float | None]] = {
    "brightness": lambda m: m.brightness,
    "sharpness": lambda m: m.sharpness,
    "distance from the camera": lambda m: m.distance,
    "share of the frame": lambda m: m.share,
    "share of measured points": lambda m: m.measured,
}


def _date(source: str) -> float:
    try:
        return Path(source).stat().st_mtime
    except OSError:
        return 0.0


def _rank_correlation(series: np.ndarray) -> float:
    """Return Spearman's correlation of a series with its order; 0 of a constant one."""
    _, ranks, counts = np.unique(series, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return 0.0
    middle = (np.cumsum(counts) - (counts - 1) / 2)[ranks]
    return float(np.corrcoef(middle, np.arange(len(series)))[0, 1])


def _small_defects(seen: Sequence[PartMeasures], *, scale: float, size: int) -> list[Finding]:
    """Return whether labelled defects are too small for the crop."""
    widths = {m.source: m.defect / max(scale, 1e-9) for m in seen if m.defect is not None}
    small = {source: width for source, width in widths.items() if width < VISIBLE}
    if not small:
        return []
    smallest = min(small.values())
    wanted = min(int(np.ceil(size * VISIBLE / smallest / 32)) * 32, 1024)
    enough = scale * size >= wanted  # the frame has that many pixels
    remedy = (
        f"Train with image_size={wanted}, or look at the crop in tiles (tiles=auto)."
        if wanted > size and enough
        else "The frame itself has too few pixels: record nearer, or with a finer camera."
    )
    return [
        Finding(
            "look",
            "Defects smaller than the crop shows",
            f"{len(small)} of {len(widths)} labelled defects are less than {VISIBLE:g} pixels wide "
            f"in a crop of {size} pixels; the smallest has {smallest:.1f}.",
            remedy,
            tuple(sorted(small, key=lambda source: small[source])),
        )
    ]


def _distributions(usual: Sequence[PartMeasures]) -> dict[str, tuple[float, ...]]:
    """Return figures of the good parts by title, in percent, millimetres or the full range."""
    figures: dict[str, Callable[[PartMeasures], float | None]] = {
        "share of the frame, %": lambda m: 100 * m.share,
        "brightness, % of the range": lambda m: (
            None if m.brightness is None else 100 * m.brightness
        ),
        "sharpness, % of the brightness": lambda m: (
            None if m.sharpness is None else 100 * m.sharpness
        ),
        "distance, mm": lambda m: None if m.distance is None else 1000 * m.distance,
        "measured points on the part, %": lambda m: (
            None if m.measured is None else 100 * m.measured
        ),
    }
    found = {title: tuple(_values(usual, figure)) for title, figure in figures.items()}
    return {title: values for title, values in found.items() if values}
