"""Made-up verdicts on made-up parts; no model, no files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from chiasm.detection.report.scored import ScoredSample
from chiasm.samples import AnomalyMap, RGBDSample, Verdict

SIDE = 48
Maker = Callable[..., ScoredSample]


def make_part(
    number: int,
    *,
    label: int | None = 0,
    kind: str = "good",
    score: float = 1.0,
    alarm: bool | None = False,
    noise: float = 1.0,
) -> ScoredSample:
    """A disc on a table; a defective one has a bright square with a brighter map."""
    draw = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    foreground = (rows - SIDE / 2) ** 2 + (columns - SIDE / 2) ** 2 < (SIDE / 3) ** 2
    mask = np.zeros((SIDE, SIDE), bool)
    if label == 1:
        top, left = draw.integers(18, 26, 2)
        mask[top : top + 6, left : left + 5] = True
    scores = (noise * draw.random((SIDE, SIDE)) * foreground + mask).astype(np.float32)
    xyz = np.stack([columns, rows, 500 + draw.random((SIDE, SIDE))], -1).astype(np.float32) / 1000
    sample = RGBDSample(
        rgb=draw.random((SIDE, SIDE, 3)).astype(np.float32),
        xyz=xyz,
        valid=draw.random((SIDE, SIDE)) > 0.05,
        mask=mask,
        label=label,
        kind=kind,
        source=f"test/{kind}/rgb/{number:03d}.png",
    )
    found = AnomalyMap(scores, foreground, score, sample.source)
    return ScoredSample(Verdict(sample.source, score, 0.1, alarm, found), sample)


def make_failed(number: int) -> ScoredSample:
    """A part whose file could not be read."""
    source = f"test/good/rgb/broken{number}.png"
    verdict = Verdict(
        source, float("nan"), float("nan"), None, None, error="It is <not> a picture."
    )
    return ScoredSample(verdict, RGBDSample(None, None, np.zeros((1, 1), bool), source=source))


@pytest.fixture
def part() -> Maker:
    return make_part


@pytest.fixture
def failed() -> Maker:
    return make_failed


@pytest.fixture(scope="session")
def scored() -> list[ScoredSample]:
    """Eight good and nine defective parts of two kinds; two misses and one false alarm."""
    draw = np.random.default_rng(7)
    parts = []
    for number in range(8):
        alarm = number == 7
        score = 2.5 if alarm else float(draw.uniform(0, 1.9))
        parts.append(make_part(number, score=score, alarm=alarm))
    for number in range(9):
        missed = number < 2
        score = float(draw.uniform(0, 1.9) if missed else draw.uniform(2.1, 4))
        kind = "cut" if number % 2 else "dent"
        parts.append(make_part(100 + number, label=1, kind=kind, score=score, alarm=not missed))
    return parts
