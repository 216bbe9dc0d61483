"""Hidden defects among normal parts are found by votes, and good parts are left in peace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from chiasm.detection.layers.backbones import FrozenEfficientNetLite
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.training.contamination import FEWEST, _votes, vote_on_parts
from chiasm.errors import SplitError

COUNT, HIDDEN = 40, (3, 17, 30)


def source():
    torch.manual_seed(0)
    backbone = FrozenEfficientNetLite(pretrained=False)
    return NormalityFeatures(
        backbone=backbone, memories={"rgb": NormalMemory(channels=backbone.channels)}
    ).eval()


def normals(parts, *, hidden=HIDDEN, count=COUNT, rows=(16, 10)):
    """Parts of smooth noise; the hidden ones have a white square at one of two places."""
    rng = np.random.default_rng(5)
    found = []
    for number in range(count):
        rgb = parts[0].rgb + 0.05 * rng.standard_normal(parts[0].rgb.shape).astype(np.float32)
        rgb = np.clip(rgb, 0, 1) * parts[0].foreground[..., None]
        if number in hidden:
            row = rows[number % 2]
            rgb[row : row + 6, 12:18] = 1
        found.append(replace(parts[0], rgb=rgb, source=f"part {number}"))
    return found


def judged(parts, scale, *, others=(), **given):
    return vote_on_parts(
        source(),
        parts,
        groups=given.pop("groups", list(range(len(parts)))),
        contamination=given.pop("contamination", 0.1),
        scale=scale,
        others=others,
    )


def test_hidden_defects_are_found_and_good_parts_are_not(parts, scale):
    training, others = judged(
        normals(parts), scale, others=normals(parts, hidden=(0,), count=2, rows=(13, 13))
    )
    suspicious = [i for i, found in enumerate(training) if found.suspicious]
    assert set(HIDDEN) <= set(suspicious)
    assert len(suspicious) <= len(HIDDEN) + 2
    usual = max(training[i].deviation for i in range(COUNT) if i not in suspicious)
    assert min(training[i].deviation for i in HIDDEN) > 2 * usual
    # Halves in pairs: equally many memories judge every part.
    assert len({found.memories for found in training}) == 1
    assert [found.suspicious for found in others] == [True, False]
    assert [found.source for found in training] == [f"part {i}" for i in range(COUNT)]
    # No memory holds the others; each of the training parts is in some memories.
    assert others[0].memories > max(found.memories for found in training)


def test_without_hidden_defects_hardly_any_part_is_suspicious(parts, scale):
    training, _ = judged(normals(parts, hidden=()), scale)
    assert sum(found.suspicious for found in training) <= 0.1 * COUNT


def test_a_group_is_in_a_memory_as_a_whole(parts, scale):
    # The same defect on both parts of a group: neither can vouch for the other.
    pair = (6, 7)
    groups = [i // 2 for i in range(COUNT)]
    training, _ = judged(normals(parts, hidden=pair), scale, groups=groups)
    assert all(training[i].suspicious for i in pair)
    assert training[6].memories == training[7].memories


def test_few_parts_cannot_vote(parts, scale):
    with pytest.raises(SplitError, match=f"{FEWEST} are needed"):
        judged(normals(parts, count=FEWEST - 1), scale)


def test_more_than_the_expected_share_is_never_suspicious():
    rng = np.random.default_rng(0)
    deviations = rng.standard_normal((16, 100)) + np.linspace(0, 20, 100)
    deviations[:, ::4][rng.random((16, 25)) < 0.3] = np.nan
    names = [f"{i}" for i in range(100)]
    found = _votes(deviations, names, training=100, contamination=0.1)
    suspicious = [i for i, one in enumerate(found) if one.suspicious]
    assert 5 <= len(suspicious) <= 17
    assert min(suspicious) > 80
    assert all(one.votes <= one.memories <= 16 for one in found)


def test_relative_distances_are_those_of_the_maps(parts, scale):
    from chiasm.detection.preparation.batch import to_batch

    features = source()
    memory = features.memories["rgb"]
    batch = to_batch(normals(parts, count=2), scale, modalities=("rgb",))
    with torch.no_grad():
        maps = features.backbone(batch.rgb)
        rows = memory.describe(maps).permute(0, 2, 3, 1).flatten(0, 2)
        memory.fit(rows[:16], torch.arange(2).repeat_interleave(8))
        relative = memory(maps, torch.ones_like(batch.foreground)).relative.flatten()
        torch.testing.assert_close(memory.relative_distances(rows), relative)
