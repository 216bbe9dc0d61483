"""Scored samples on disk: the same samples, of which memory holds none."""

from __future__ import annotations

import weakref
from dataclasses import fields
from pathlib import Path

import numpy as np

from chiasm.detection.report.figures import evaluate_scores
from chiasm.detection.report.scored import ScoredFile, ScoredSample, framed, framed_all
from chiasm.samples import AnomalyMap, RGBDSample, Verdict

SIZE = 40


def made(number: int) -> tuple[Verdict, RGBDSample]:
    rng = np.random.default_rng(number)
    mask = np.zeros((SIZE, SIZE + 8), bool)
    mask[5:9, 5 : 9 + number] = number % 2
    rgb = rng.random((*mask.shape, 3)).astype(np.float32)
    scores = (rgb[..., 0] + mask).astype(np.float32)
    found = AnomalyMap(scores, rng.random(mask.shape) > 0.2, float(scores.max()))
    sample = RGBDSample(rgb, None, np.ones_like(mask), mask, int(mask.any()), source=f"{number}")
    return Verdict(f"{number}", found.image_score, 0.5, False, found), sample


def assert_equal(one, other) -> None:
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, AnomalyMap):
            assert_equal(a, b)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and np.array_equal(a, b), field.name
        else:
            assert a == b, field.name


def test_samples_are_those_that_were_appended(tmp_path: Path):
    failed = Verdict("bad", float("inf"), 1.0, None, error="It is empty.")
    nothing = RGBDSample(None, None, np.zeros((1, 1), bool), source="bad")
    pairs = [*(made(number) for number in range(4)), (failed, nothing)]
    with ScoredFile(tmp_path) as file:
        for pair in pairs:
            file.append(*pair)
        samples = file.samples()
    assert list(tmp_path.iterdir()) == []
    for scored, (verdict, sample) in zip(samples, pairs, strict=True):
        assert_equal(scored.verdict, verdict)
        assert_equal(scored.sample, sample)


def test_memory_holds_no_map_of_earlier_samples(tmp_path: Path):
    references = []
    with ScoredFile(tmp_path) as file:
        for number in range(6):
            verdict, sample = made(number)
            references += [weakref.ref(a) for a in (verdict.anomaly_map.scores, sample.rgb)]
            file.append(verdict, sample)
            del verdict, sample
        assert not any(reference() is not None for reference in references)
        for scored in file.samples():
            assert not scored.sample.rgb.flags.owndata
            assert not scored.sample.rgb.flags.writeable


def test_frames_and_figures_are_the_same_from_disk(tmp_path: Path):
    pairs = [made(number) for number in range(6)]
    plain = [ScoredSample(*pair) for pair in pairs]
    with ScoredFile(tmp_path) as file:
        for pair in pairs:
            file.append(*pair)
        stored = file.samples()
    for one, other in zip(framed_all(stored), map(framed, plain), strict=True):
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other))
        assert not one[0].flags.owndata
    assert evaluate_scores(stored, cost={}, draws=5) == evaluate_scores(plain, cost={}, draws=5)


def test_no_sample_is_an_empty_list(tmp_path: Path):
    with ScoredFile(tmp_path) as file:
        assert file.samples() == []
    assert framed_all([]) == []
