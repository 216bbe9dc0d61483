"""One suite for every baseline: each keeps what every detector promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import chiasm.detection.models.named  # noqa: F401  (importing registers the baselines)
from chiasm.detection.scenes.maker import make_scenes
from chiasm.registry import find_model, models

SIZE = 64
# Options of a small version of each baseline; a new baseline gets one row here.
SMALL: dict[str, dict[str, Any]] = {
    "area": {},
    "ast": {"hidden": 8, "couplings": 2, "blocks": 1, "teacher_epochs": 3, "student_epochs": 6},
    "brightness": {},
    "btf": {"bank_mb": 0.5, "step": 1},
    "crossmodal_mapping": {"hidden": 64, "epochs": 100},
    "easynet_slim": {"variant": "gated", "epochs": 2},
    "m3dm": {"bank_mb": 1.0, "fused": 16, "epochs": 2, "step": 1},
    "missing_points": {},
    "pixel_gaussian": {},
    "shape_guided": {"bank_mb": 1.0, "points": 16, "neighbours": 2, "epochs": 6, "step": 1},
}
TRIVIAL = {"area", "brightness", "missing_points"}
# Too large to train here; the slim one differs in width only.
LARGE = {"easynet"}
FROM_SCRATCH = {"easynet_slim"}
NAMES = sorted(m.name for m in models("detector") if m.baseline and m.name not in LARGE)


def test_every_baseline_has_a_row():
    assert set(SMALL) == set(NAMES)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Prepared parts: eight normal ones, and two with a piece gone that both sensors miss."""
    from chiasm.detection.preparation.prepare import PreparationSettings, prepare
    from chiasm.detection.readers.opening import open_source

    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(
        folder, products=("flange",), train=8, validation=2, test_good=1, test_per_defect=1, size=96
    )
    source = open_source(folder / "flange")
    settings = PreparationSettings(size=SIZE)
    normal = [prepare(source.load(r), settings) for r in source.refs if r.split == "train"]
    return normal, [spoiled(part) for part in normal[:2]]


def spoiled(part):
    """A part with a bright lump on it."""
    rows, columns = np.nonzero(part.foreground & part.valid)
    middle = len(rows) // 2
    r, c = rows[middle], columns[middle]
    here = np.zeros_like(part.foreground)
    here[max(r - 7, 0) : r + 7, max(c - 7, 0) : c + 7] = True
    here &= part.foreground
    rgb, xyz, height = part.rgb.copy(), part.xyz.copy(), part.height.copy()
    rgb[here] = 1 - rgb[here]
    ripple = np.random.default_rng(0).uniform(0, 0.02, here.sum()).astype(np.float32)
    height[here & part.valid] += ripple[part.valid[here]]
    xyz[..., 2][here & part.valid] -= ripple[part.valid[here]]
    return replace(part, rgb=rgb, xyz=xyz, height=height, mask=here)


@pytest.fixture(scope="module")
def scale(parts):
    from chiasm.detection.preparation.geometry import estimate_geometry_scale

    return estimate_geometry_scale(parts[0])


@pytest.fixture(scope="module", params=NAMES)
def baseline(request, parts, scale, tmp_path_factory):
    """A baseline that is fitted to the eight normal parts."""
    from chiasm.detection.anomalies.generators import training_generator
    from chiasm.detection.training.baseline import train_in_steps
    from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader

    torch.manual_seed(0)
    built = build(request.param)

    def synthetic(batch):
        anomalous = SyntheticParts(
            parts[0], numbers=range(8), generator=training_generator(None), seed=0
        )
        return fresh_loader(
            anomalous, batch=batch, scale=scale, modalities=built.modalities, shuffle=True
        )

    train_in_steps(
        built,
        parts[0],
        scale=scale,
        folder=tmp_path_factory.mktemp(request.param),
        synthetic=synthetic,
    )
    built.name = request.param
    return built


def build(name, **more):
    return find_model(name).builder(image_size=SIZE, **SMALL[name], **more)


def batch_of(parts, scale, baseline):
    from chiasm.detection.preparation.batch import to_batch

    return to_batch(parts, scale, modalities=baseline.modalities)


@torch.no_grad()
def scored(baseline, batch):
    output = baseline(batch)
    maps = baseline.scores(output, batch.foreground)
    return maps, baseline.image_scores(output, maps, batch.foreground)


def test_maps_have_the_inputs_size_and_are_zero_away_from_the_object(baseline, parts, scale):
    batch = batch_of(parts[0][:3], scale, baseline)
    maps, scores = scored(baseline, batch)
    assert maps.shape == (3, 1, SIZE, SIZE)
    assert scores.shape == (3,)
    assert torch.isfinite(maps).all()
    assert torch.isfinite(scores).all()
    assert (maps >= 0).all()
    far = torch.nn.functional.max_pool2d(batch.foreground, 5, 1, 2) == 0
    assert (maps[far] == 0).all()


def test_the_same_part_has_the_same_score_alone_and_among_others(baseline, parts, scale):
    together, scores = scored(baseline, batch_of(parts[0][:3], scale, baseline))
    alone, score = scored(baseline, batch_of(parts[0][1:2], scale, baseline))
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(score[0], scores[1], rtol=1e-3, atol=1e-4)
    again, _ = scored(baseline, batch_of(parts[0][1:2], scale, baseline))
    assert torch.equal(alone, again)


def test_a_stored_baseline_says_the_same(baseline, parts, scale, tmp_path):
    from safetensors.torch import load_file, save_file

    batch = batch_of(parts[1], scale, baseline)
    before = scored(baseline, batch)
    state = {name: value.contiguous() for name, value in baseline.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    more = {"pretrained": False} if baseline.pretrained_weights else {}
    other = build(baseline.name, **more).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    after = scored(other, batch)
    torch.testing.assert_close(before[0], after[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(before[1], after[1], rtol=1e-5, atol=1e-6)


def test_a_spoiled_part_is_less_normal_where_it_is_spoiled(baseline, parts, scale):
    if baseline.name in TRIVIAL:
        pytest.skip("a trivial baseline does not localise")
    if baseline.name in FROM_SCRATCH:
        pytest.skip("eight parts are too few to learn from scratch; its own tests overfit it")
    good, _ = scored(baseline, batch_of(parts[0][:2], scale, baseline))
    bad, _ = scored(baseline, batch_of(parts[1], scale, baseline))
    for number in range(2):
        here = torch.from_numpy(parts[1][number].mask)
        assert bad[number, 0][here].mean() > 1.05 * good[number, 0][here].mean()


def test_a_part_without_any_object_scores_zero_and_finite(baseline, parts, scale):
    batch = batch_of(parts[0][:1], scale, baseline)
    nothing = torch.zeros_like(batch.foreground)
    maps, scores = scored(baseline, replace(batch, foreground=nothing))
    assert (maps == 0).all()
    assert torch.isfinite(scores).all()
