"""The page of a check of recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.readers.audit import SHORTCUT_AUROC, AuditReport
from chiasm.diagnosis.readers.source import RecordingRef, RecordingSource
from chiasm.errors import ChiasmError
from chiasm.files.audit_text import Finding
from chiasm.reporting.check_page import (
    Card,
    CheckPage,
    Picture,
    Table,
    counted,
    write_check_page,
)
from chiasm.samples import FloatArray, RecordingSample

TYPICAL = 12  # pictures
_SIDE = 180  # pixels of a picture
_AMPLITUDES = 64  # rows of a pattern that is drawn from a series
_GAP = 4


def write_page(
    report: AuditReport, source: RecordingSource, path: Path | str, *, repeat: str
) -> Path:
    """Write the page of a check of recordings; return its path.

    Args:
        report: of the check.
        source: of the recordings, of which a few are read again for their pictures.
        path: of the HTML file.
        repeat: the command that writes it.
    """
    page = CheckPage(
        title=report.name,
        subject="recordings",
        count=report.recordings,
        scope="All recordings were read.",
        findings=_findings(report),
        cards=_cards(report),
        typical=list(_pictures(source, _typical(source.refs))),
        distributions=report.distributions,
        distributions_title="How recordings differ",
        distributions_say=(
            "Each bar counts recordings; the line is the median. A lonely bar far from the others "
            "is worth a look: another gain, unit or range."
        ),
        tables=[_counts(report)],
        shortcuts=report.shortcuts,
        shortcut_from=SHORTCUT_AUROC,
        shortcuts_say=(
            "How well one simple number tells one class from all others; it ignores the pattern. "
            "Where it is strong, a classifier may look good without looking at discharges. By "
            "chance: how often the strongest of these numbers would be as strong for a class if "
            "sessions were drawn at random."
        ),
        facts=_facts(report),
        lists={
            **report.problem_lists(),
            "Recordings that cannot be read": list(report.unreadable),
            "Copies in other sessions": [f"{a} = {b}" for a, b in report.copies],
        },
        repeat=repeat,
    )
    return write_check_page(page, path)


def _findings(report: AuditReport) -> list[Finding]:
    findings = []
    left_out = [problem for problem in report.problems if problem.left_out]
    if report.unreadable:
        findings.append(
            Finding(
                "wrong",
                "Damaged recordings",
                f"{counted(len(report.unreadable), 'recordings')} found that cannot be read. The "
                f"first: {report.unreadable[0]}",
                "Copy these files again or remove them; a training leaves out a few and says so.",
            )
        )
    if left_out:
        findings.append(
            Finding(
                "wrong",
                "Left out",
                f"{counted(len(left_out), 'recordings')} left out. The first: "
                f"{left_out[0].sentence}",
            )
        )
    repaired = len(report.problems) - len(left_out)
    if repaired:
        first = next(problem for problem in report.problems if not problem.left_out)
        findings.append(
            Finding(
                "know",
                "Assumed or repaired",
                f"{repaired:,} sentence{'s' * (repaired > 1)} about what was assumed or repaired "
                f"on reading, all listed below. The first: {first.sentence}",
            )
        )
    return [*findings, *report.cautions]


def _cards(report: AuditReport) -> list[Card]:
    classes = [kind for kind in report.counts if kind != "(unknown)"]
    sessions = sum(counts.get("session", 0) for counts in report.counts.values())
    fewest = min(
        (counts.get("session", 0) for kind, counts in report.counts.items() if kind in classes),
        default=0,
    )
    unlabelled = report.counts.get("(unknown)", {}).get("recordings", 0)
    both = report.parts.get("image and series", 0)
    return [
        Card(
            "Recordings",
            f"{report.recordings:,}",
            f"{unlabelled:,} of them without a class" if unlabelled else "all with a class",
        ),
        Card("Classes", str(len(classes)), ", ".join(classes[:6]) or "none is named"),
        Card("Sessions", f"{sessions:,}", f"{fewest} of the class that has fewest"),
        Card(
            "Both sensors",
            f"{both / max(report.recordings, 1):.0%}",
            "of the recordings have picture and series",
        ),
    ]


def _facts(report: AuditReport) -> list[str]:
    lengths = ", ".join(f"{length} ({n})" for length, n in report.lengths.items())
    parts = ", ".join(f"{name} ({n})" for name, n in report.parts.items())
    facts = [f"Mains cycles of the series: {lengths or 'none readable'}."]
    return [*facts, f"Recordings with {parts}."] if parts else facts


def _counts(report: AuditReport) -> Table:
    groups = list(
        dict.fromkeys(
            by for counts in report.counts.values() for by in counts if by != "recordings"
        )
    )
    plural = [by if by.endswith("t") else f"{by}s" for by in groups]
    rows = [
        [kind, counts["recordings"], *(counts.get(by, "–") for by in groups)]
        for kind, counts in report.counts.items()
    ]
    return Table("Recordings by class", ["class", "recordings", *plural], rows)


def _typical(refs: Sequence[RecordingRef]) -> list[RecordingRef]:
    """Return some recordings of every class, as evenly as they fit."""
    classes: dict[str, list[RecordingRef]] = {}
    for ref in refs:
        classes.setdefault(ref.kind, []).append(ref)
    each = max(1, TYPICAL // max(len(classes), 1))
    return [
        some[number * len(some) // each]
        for some in list(classes.values())[:TYPICAL]
        for number in range(min(each, len(some)))
    ]


def _pictures(source: RecordingSource, refs: Sequence[RecordingRef]) -> Iterable[Picture]:
    for ref in refs:
        try:
            sample = source.load(ref)
        except (ChiasmError, OSError):
            continue  # the lists of the page name it
        name = "/".join(Path(ref.source).parts[-3:])
        yield Picture(recording_picture(sample), name, ref.kind or "without a class")


def recording_picture(sample: RecordingSample, *, side: int = _SIDE) -> NDArray[np.uint8]:
    """Draw a recording: its picture, and the series by phase and amplitude, side by side.

    Returns:
        ``(side, W, 3)`` uint8, RGB.
    """
    panels = []
    if sample.image is not None:
        image = (255 * np.clip(sample.image, 0, 1)).astype(np.uint8)
        panels.append(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))
    if sample.series is not None:
        pattern = _pattern(sample.series[0], sample.samples_per_cycle)
        panels.append(cv2.resize(pattern, (side, side), interpolation=cv2.INTER_NEAREST))
    gap = np.full((side, _GAP, 3), 128, np.uint8)
    joined = [panel for both in panels for panel in (gap, both)][1:]
    return np.concatenate(joined, axis=1).astype(np.uint8, copy=False)


def _pattern(series: FloatArray, per_cycle: int) -> NDArray[np.uint8]:
    """Count values by amplitude (rows, upwards) and phase (columns), drawn by their logarithm."""
    cycles = series[: len(series) // per_cycle * per_cycle].reshape(-1, per_cycle)  # (cycle, phase)
    if not cycles.size:
        return np.zeros((_AMPLITUDES, max(per_cycle, 1), 3), np.uint8)
    low, high = float(cycles.min()), float(cycles.max())
    rows = ((cycles - low) / max(high - low, 1e-12) * (_AMPLITUDES - 1)).astype(np.int64)
    counts = np.zeros((_AMPLITUDES, per_cycle))
    np.add.at(counts, (rows, np.broadcast_to(np.arange(per_cycle), rows.shape)), 1)
    logarithms = np.log1p(counts[::-1])
    grey = (255 * logarithms / max(logarithms.max(), 1e-12)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8)
