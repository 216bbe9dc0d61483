"""Made-up scores of made-up recordings; no model, no training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from chiasm.diagnosis.augmentation.corruptions import CORRUPTIONS
from chiasm.diagnosis.readers.source import KINDS
from chiasm.diagnosis.report.figures import OpenSetCase, TrivialBaseline, evaluate_recordings
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.diagnosis.simulator.image import draw_prpd
from chiasm.diagnosis.simulator.sessions import plan_session
from chiasm.diagnosis.simulator.simulator import simulate_recording
from chiasm.samples import RecordingSample

COST = {"fit_minutes": 7.25, "seconds_per_part_p50": 0.031, "parameters": 2373837}
Maker = Callable[..., ScoredRecordings]


def make_scored(
    count: int = 200,
    *,
    sessions: int = 25,
    skill: float = 2.2,
    seed: int = 0,
    kinds: tuple[str, ...] = KINDS,
    temperature: float = 1.6,
    gap: float = 3.0,
) -> ScoredRecordings:
    """Sessions of one class each; what they have in common blurs their logits."""
    draw = np.random.default_rng(seed)
    session = np.arange(count) % sessions
    labels = session % len(kinds)
    truth = np.eye(len(kinds))[labels]
    session_noise = 1.1 * draw.standard_normal((sessions, len(kinds)))[session]

    def logits(strength: float) -> np.ndarray:
        noise = 0.9 * draw.standard_normal(truth.shape)
        return 1.8 * (strength * truth + session_noise + noise)

    centres = 4 * draw.standard_normal((len(kinds), 12))
    apart = draw.standard_normal(12)
    cloud = centres[labels] + draw.standard_normal((count, 12))
    shift = gap * 4 * apart / np.linalg.norm(apart)
    near = 0.7 * draw.standard_normal((2, count, 12))
    return ScoredRecordings(
        logits=logits(skill),
        labels=labels,
        kinds=kinds,
        groups={
            "session": np.array([f"s{n:03d}" for n in session]),
            "equipment": np.array([f"GIS-{n % 3}" for n in session]),
        },
        sources=tuple(f"data/VS_{kinds[k]}/rec_{n:04d}.png" for n, k in enumerate(labels)),
        embeddings=cloud,
        modality_logits={"image": logits(skill - 0.3), "series": logits(skill - 0.6)},
        before={"image": cloud + shift, "series": 1.5 * near[0] + centres[labels] * 0.4},
        after={"image": cloud + 0.2 * shift, "series": cloud + near[1]},
        flow_nll=np.linalg.norm(cloud, axis=1),
        uncertainty=draw.random(count),
        conflict=draw.random(count),
        temperature=temperature,
    )


def all_groups(scored: ScoredRecordings, **changes: Any) -> dict[str, Any]:
    """Arguments of ``evaluate_recordings`` that fill every group of the metrics."""
    draw = np.random.default_rng(5)
    labels = scored.labels
    worse = {
        name: make_scored(len(scored), skill=2.2 - 0.08 * n, seed=0)
        for n, name in enumerate(CORRUPTIONS)
    }
    unknown = make_scored(40, skill=0.4, seed=9)
    return {
        "by": "session",
        "cost": COST,
        "splits": {
            "equipment": make_scored(180, skill=1.5, seed=3),
            "random": make_scored(200, skill=3.4, seed=2),
        },
        "corruptions": worse,
        "open_set": [
            OpenSetCase(kind, scored, unknown, reference=scored.embeddings)
            for kind in ("void", "noise")
        ],
        "trivial": {
            "mean of the series": TrivialBaseline(
                labels + draw.standard_normal(len(labels)),
                labels,
                labels + draw.standard_normal(len(labels)),
            ),
            "maximum of the series": TrivialBaseline(
                draw.random(len(labels)), labels, draw.random(len(labels))
            ),
        },
        "simulated": True,
        "draws": 40,
    } | changes


def make_recording(index: int) -> RecordingSample:
    """A simulated recording of the class that ``make_scored`` gives this index."""
    kind = KINDS[index % len(KINDS)]
    latents = plan_session(index % 200, 200, tier="hard", seed=3).latents
    counts, _ = simulate_recording(kind, latents=latents, rng=np.random.default_rng(index))
    return RecordingSample(
        image=draw_prpd(counts, latents.look).astype(np.float32) / 255,
        series=counts.reshape(1, -1).astype(np.float32),
        kind=kind,
        label=KINDS.index(kind),
    )


@pytest.fixture
def maker() -> Maker:
    return make_scored


@pytest.fixture(scope="session")
def recordings() -> ScoredRecordings:
    return make_scored()


@pytest.fixture(scope="session")
def every(recordings: ScoredRecordings) -> dict[str, Any]:
    return all_groups(recordings)


@pytest.fixture(scope="session")
def diagnosis(recordings: ScoredRecordings, every: dict[str, Any]) -> dict[str, Any]:
    """The content of metrics.json, every group filled."""
    return evaluate_recordings(recordings, **every)


@pytest.fixture(scope="session")
def load() -> Callable[[int], RecordingSample]:
    return make_recording
