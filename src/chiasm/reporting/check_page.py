"""The page of a check of data: what was found, what to do, pictures and small plots."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from numpy.typing import NDArray

from chiasm.files.appearing import appearing
from chiasm.files.audit_text import Finding, TrivialScore

JPEG_QUALITY = 86
_LEVELS = {"wrong": ("Mend", 0), "look": ("Look at", 1), "know": ("Know", 2)}
_BINS = 24
_LISTED = 200  # entries of a list; the command line and JSON have all


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a sample with its caption.

    Attributes:
        pixels: ``(H, W, 3)`` uint8, RGB.
        name: of the sample.
        caption: in a few words; "" for none.
    """

    pixels: NDArray[np.uint8]
    name: str
    caption: str = ""

    @property
    def link(self) -> str:
        """The picture as the address of an image."""
        bgr = cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR)
        encoded, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert encoded
        return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of numbers; the first column is words."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Card:
    """A figure with its name and what it means."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, eq=False)
class CheckPage:
    """Everything that the page of a check shows.

    Attributes:
        title: name of the data.
        subject: what is counted, e.g. ``"parts"``.
        count: of these.
        scope: which of them were looked at, as a sentence.
        findings: of the check; shown by level.
        cards: key figures.
        views: pictures that explain what a training sees, with ``views_say``.
        odd: pictures of samples that differ from the others.
        odd_count: how many there are; more than pictures.
        typical: pictures of samples as they come.
        distributions: numbers of samples by title; ``distributions_say`` explains them.
        tables: counts.
        distributions_title: heading of these.
        shortcuts: trivial scores, strongest first; ``shortcuts_say`` explains them, and
            from ``shortcut_from`` on they are strong.
        facts: sentences.
        lists: titles to entries, e.g. damaged files.
        repeat: the command that writes this page.
    """

    title: str
    subject: str
    count: int
    scope: str
    findings: Sequence[Finding]
    cards: Sequence[Card]
    repeat: str
    views: Sequence[Picture] = ()
    views_say: str = ""
    odd: Sequence[Picture] = ()
    odd_count: int = 0
    typical: Sequence[Picture] = ()
    distributions: Mapping[str, Sequence[float]] = field(default_factory=dict)
    distributions_say: str = ""
    distributions_title: str = "How the samples are distributed"
    tables: Sequence[Table] = ()
    shortcuts: Sequence[TrivialScore] = ()
    shortcuts_say: str = ""
    shortcut_from: float = 0.8
    facts: Sequence[str] = ()
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)


def write_check_page(page: CheckPage, path: Path | str) -> Path:
    """Write the page as one self-contained HTML file; return its path.

    The file appears whole; its folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    findings = sorted(page.findings, key=lambda finding: _LEVELS[finding.level][1])
    # Names come from files, so all text is escaped.
    environment = Environment(
        loader=PackageLoader("chiasm.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = environment.get_template("check.html.j2").render(
        page=page,
        lead=lead(page),
        findings=[(finding, _LEVELS[finding.level][0]) for finding in findings],
        plots=[(title, histogram(values)) for title, values in page.distributions.items()],
        lists={title: entries for title, entries in page.lists.items() if entries},
        listed=_LISTED,
    )
    with appearing(path) as half:
        half.write_text(content, encoding="utf-8")
    return path


def lead(page: CheckPage) -> str:
    """Return the outcome in one or two sentences."""
    number = {level: sum(f.level == level for f in page.findings) for level in _LEVELS}
    subject = f"{counted(page.count, page.subject)} checked."
    if number["wrong"]:
        things = "one thing" if number["wrong"] == 1 else f"{number['wrong']} things"
        more = f" {_times(number['look'])} worth a look." if number["look"] else ""
        return f"{subject} Mend {things} before training.{more}"
    if number["look"]:
        return f"{subject} Nothing stands against training; {_times(number['look'])} worth a look."
    return f"{subject} Nothing stands against training."


def counted(number: int, nouns: str) -> str:
    """Return a number of things with the verb, e.g. ``"1 part was"`` or ``"2 parts were"``."""
    return f"1 {nouns.removesuffix('s')} was" if number == 1 else f"{number:,} {nouns} were"


def _times(number: int) -> str:
    return "one thing is" if number == 1 else f"{number} things are"


def histogram(values: Sequence[float]) -> Markup:
    """Draw a histogram as an SVG that takes the page's colours, with least, median and most."""
    numbers = np.asarray(values, np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    middle = float(np.median(numbers))
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(numbers, bins=_BINS, range=(low, high))
    width, height, base = 264, 96, 78
    step = width / _BINS
    bars = "".join(
        f'<rect x="{i * step + 0.5:.1f}" y="{base - 66 * n / counts.max():.1f}" '
        f'width="{step - 1:.1f}" height="{66 * n / counts.max():.1f}" rx="1"/>'
        for i, n in enumerate(counts)
        if n
    )
    x = (middle - low) / (high - low) * width
    least, median, most = (_short(v) for v in (low, middle, high))
    # Numbers alone enter it, so that nothing needs to be escaped.
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="from {least} to {most}, '
        f'median {median}"><g class="bars">{bars}</g>'
        f'<line class="axis" x1="0" x2="{width}" y1="{base + 0.5}" y2="{base + 0.5}"/>'
        f'<line class="middle" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{base}"/>'
        f'<text x="0" y="93">{least}</text><text x="{width}" y="93" text-anchor="end">{most}</text>'
        f'<text class="median" x="{min(max(x, 60), width - 60):.1f}" y="93" '
        f'text-anchor="middle">{median}</text></svg>'
    )


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
