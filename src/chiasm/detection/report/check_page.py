"""The page of a check of parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from chiasm.detection.check.audit import AuditReport
from chiasm.detection.check.findings import SHORTCUT_AUROC, short_name
from chiasm.detection.check.part_statistics import VISIBLE
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.detection.report.check_pictures import crop_pictures, frame_picture
from chiasm.errors import ChiasmError
from chiasm.files.audit_text import Finding
from chiasm.reporting.check_page import Card, CheckPage, Picture, Table, counted, write_check_page

ODD, TYPICAL = 24, 12  # pictures


def write_page(report: AuditReport, source: SampleSource, path: Path | str, *, repeat: str) -> Path:
    """Write the page of a check of parts; return its path.

    Args:
        report: of the check.
        source: of the parts, whose pictures are read again.
        path: of the HTML file.
        repeat: the command that writes it.
    """
    refs = {ref.source: ref for ref in source.refs}
    statistics, settings = report.statistics, report.settings
    odd = () if statistics is None else statistics.odd
    captions = {part.source: ", ".join(part.reasons) for part in odd}
    page = CheckPage(
        title=report.name,
        subject="parts",
        count=report.parts,
        scope=_scope(report),
        findings=_findings(report),
        cards=_cards(report),
        views=list(_views(report, source, settings)),
        views_say=(
            "Outside the crop (white square) nothing is looked at. The outline is the part as it "
            "is told from its background; on the right is what the network gets. Dark grey is "
            "missing 3D."
        ),
        odd=list(_pictures(source, [refs[p.source] for p in odd[:ODD]], settings, captions)),
        odd_count=len(odd),
        typical=list(_pictures(source, _typical(source), settings)),
        distributions={} if statistics is None else statistics.distributions,
        distributions_title="How alike good parts are",
        distributions_say=(
            "Each bar counts parts; the line is the median. A lonely bar far from the others is "
            "worth a look."
        ),
        tables=[_counts(report)],
        shortcuts=report.trivial,
        shortcut_from=SHORTCUT_AUROC,
        shortcuts_say=(
            "How well one simple number tells good from defective test parts, pixels labelled "
            "defective left out. Such a number knows nothing of defects: where it is strong, a "
            "detector may look good without seeing any. By chance: how often the strongest of all "
            "these numbers would be as strong if labels were drawn at random."
        ),
        facts=[fact for fact in (report.background, report.calibration) if fact],
        lists={
            "Files without a partner": [str(problem) for problem in report.problems],
            "Parts that cannot be read": list(report.unreadable),
            "Files in two splits": [f"{a} ({s}) = {b} ({t})" for s, a, t, b in report.duplicates],
            "Groups in several splits": list(report.divided_groups),
        },
        repeat=repeat,
    )
    return write_check_page(page, path)


def _scope(report: AuditReport) -> str:
    measured = 0 if report.statistics is None else report.statistics.measured
    if report.read < report.parts:
        return (
            f"The pixels of {report.read:,} of {report.parts:,} parts were read, a random sample "
            f"of every split and kind; {measured:,} of these were prepared as for a training. Of "
            "all others, names and the ends of files were checked."
        )
    return f"All parts were read; {measured:,} of them were prepared as for a training."


def _findings(report: AuditReport) -> list[Finding]:
    findings = []
    if report.unreadable:
        findings.append(
            Finding(
                "wrong",
                "Damaged parts",
                f"{counted(len(report.unreadable), 'parts')} found that cannot be read. The first: "
                f"{report.unreadable[0]}",
                "Copy these files again or remove the parts; a training leaves out a few and says "
                "so.",
            )
        )
    if report.problems:
        findings.append(
            Finding(
                "wrong",
                "Incomplete parts",
                f"{counted(len(report.problems), 'files')} left out. The first: "
                f"{report.problems[0]}",
            )
        )
    shortcuts = [f for f in report.cautions if f.title.startswith("Shortcut: ")]
    others = [f for f in report.cautions if not f.title.startswith("Shortcut: ")]
    if len(shortcuts) > 1:  # the section of shortcuts lists all
        names = ", ".join(f.title.removeprefix("Shortcut: ") for f in shortcuts)
        others.insert(
            0,
            Finding(
                "look",
                "Shortcuts",
                f"{len(shortcuts)} simple numbers tell good from defective test parts: {names}.",
            ),
        )
    else:
        others = [*shortcuts, *others]
    return [*findings, *others, *report.findings]


def _cards(report: AuditReport) -> list[Card]:
    good = report.counts.get("train", {}).get("good", 0)
    test = sum(report.counts.get("test", {}).values())
    cards = [
        Card("Parts", f"{report.parts:,}", f"{good:,} good ones to train on, {test:,} to test")
    ]
    statistics = report.statistics
    if statistics is not None:
        cards.append(
            Card(
                "Looked at",
                f"{statistics.share:.0%}",
                f"of the frame is the part; {statistics.outside:.0%} lies outside the crop",
            )
        )
        cards.append(
            Card(
                "Crop",
                f"{statistics.crop} px",
                f"of the frame become {statistics.size}: one pixel of the crop is "
                f"{statistics.scale:.2g} of the frame",
            )
        )
        fine = statistics.smallest_mm
        pixels = f"{statistics.smallest_pixels:.1f}"
        cards.append(
            Card(
                "Smallest defect",
                f"{pixels} px" if fine is None else f"{fine:.2g} mm",
                f"that could be seen, {VISIBLE:g} pixels of the crop"
                + ("" if fine is None else f" or {pixels} of the frame"),
            )
        )
    return cards


def _views(
    report: AuditReport, source: SampleSource, settings: PreparationSettings | None
) -> Iterable[Picture]:
    """Yield one good part as a frame, and as the network gets it."""
    if settings is None or report.statistics is None:
        return
    odd = {part.source for part in report.statistics.odd}
    good = [ref for ref in source.refs if ref.label != 1 and ref.source not in odd]
    for ref in good[:10]:
        try:
            sample = source.load(ref)
            crops = crop_pictures(sample, settings)
        except (ChiasmError, OSError):
            continue
        yield Picture(
            frame_picture(sample, settings, height=256)[:, : _first_panel(sample.valid.shape)],
            short_name(ref.source),
            "the frame",
        )
        for words, pixels in crops:
            yield Picture(pixels, f"{settings.size} x {settings.size} pixels", words)
        return


def _first_panel(shape: tuple[int, ...]) -> int:
    return max(round(shape[1] * 256 / shape[0]), 1)


def _typical(source: SampleSource) -> list[SampleRef]:
    """Return some parts of every split and kind, as evenly as they fit."""
    strata: dict[tuple[str, str], list[SampleRef]] = {}
    for ref in source.refs:
        strata.setdefault((ref.split, ref.kind), []).append(ref)
    each = max(1, TYPICAL // max(len(strata), 1))
    return [
        refs[number * len(refs) // each]
        for refs in list(strata.values())[:TYPICAL]
        for number in range(min(each, len(refs)))
    ]


def _pictures(
    source: SampleSource,
    refs: Sequence[SampleRef],
    settings: PreparationSettings | None,
    captions: dict[str, str] | None = None,
) -> Iterable[Picture]:
    for ref in refs:
        try:
            picture = frame_picture(source.load(ref), settings)
        except (ChiasmError, OSError):
            continue  # the lists of damaged parts name it
        caption = (captions or {}).get(ref.source) or " ".join(filter(None, (ref.split, ref.kind)))
        yield Picture(picture, short_name(ref.source), caption)


def _counts(report: AuditReport) -> Table:
    kinds = list(dict.fromkeys(kind for row in report.counts.values() for kind in row))
    kinds.sort(key=lambda kind: (kind != "good", kind))
    rows = [[kind, *(row.get(kind, 0) or "–" for row in report.counts.values())] for kind in kinds]
    rows.append(["all", *(sum(row.values()) for row in report.counts.values())])
    return Table("Parts by split and kind", ["kind", *report.counts], rows)
