import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from overlap_reference import smooth_maps

import chiasm.metrics
from chiasm.errors import DataError
from chiasm.metrics import aupro, auroc, average_precision
from chiasm.metrics.stateful import RegionOverlap, image_auroc, image_average_precision


def _reduced(parts):
    """Reduce the states of several processes into one metric as torchmetrics does."""
    whole = parts[0].clone()
    for name, reduction in whole._reductions.items():
        states = [getattr(part, name) for part in parts]
        if isinstance(states[0], list):
            setattr(whole, name, reduction([torch.cat(state) for state in states]))
        else:
            setattr(whole, name, reduction(torch.stack(states)))
    return whole


def test_region_overlap_over_batches_and_processes_is_that_of_all_images():
    maps, masks, foregrounds = (torch.from_numpy(np.array(a)) for a in smooth_maps(6, 48))
    parts = [RegionOverlap(), RegionOverlap()]
    for part, chosen in zip(parts, (slice(0, 2), slice(2, 6))):
        part.update(maps[chosen, None], masks[chosen, None].float(), foregrounds[chosen, None])
    exact = aupro(maps.numpy(), masks.numpy(), foregrounds=foregrounds.numpy())
    for limit, area in _reduced(parts).compute().items():
        assert area.item() == pytest.approx(exact[float(limit)], abs=2e-3)


@pytest.mark.parametrize(
    ("make", "figure"), [(image_auroc, auroc), (image_average_precision, average_precision)]
)
def test_image_figures_over_batches_and_processes_are_those_of_all_images(make, figure):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % 3 == 0
    scores = torch.randn(30, generator=generator) + labels
    parts = [make(), make()]
    for first in range(0, 30, 5):
        parts[first % 2].update(scores[first : first + 5], labels[first : first + 5])
    assert _reduced(parts).compute().item() == pytest.approx(figure(scores, labels))


def test_reset_forgets():
    overlap, ranking = RegionOverlap(), image_auroc()
    good = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        overlap.update(good, torch.zeros(2, 8, 8))
        ranking.update(torch.tensor([1.0]), torch.tensor([1]))
        assert math.isnan(overlap.compute()["0.3"])
        assert math.isnan(ranking.compute())
        assert overlap.good.sum() == good.numel()
        overlap.reset()
        ranking.reset()


def test_bad_input_is_named():
    with pytest.raises(DataError, match="one label per image"):
        image_auroc().update(torch.zeros(2), torch.zeros(3))
    with pytest.raises(DataError, match="2 maps came with 1 masks"):
        RegionOverlap().update(torch.zeros(2, 4, 4), torch.zeros(1, 4, 4))


def test_every_versioned_figure_exists():
    for name, version in chiasm.metrics.VERSIONS.items():
        assert callable(getattr(chiasm.metrics, name))
        assert version >= 1


def test_the_metrics_need_no_torch():
    code = "import sys, chiasm.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
