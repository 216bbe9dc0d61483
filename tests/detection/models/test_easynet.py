"""EasyNet: the published sizes, its gate, and that it learns."""

from __future__ import annotations

import pytest
import torch

from chiasm.detection.layers.segmentation import segmentation_loss
from chiasm.detection.models.easynet import easynet, easynet_slim, entropy
from chiasm.errors import ConfigurationError
from chiasm.samples import RGBDBatch

BOTH, COLOUR = ("rgb", "geometry"), ("rgb",)


@pytest.mark.parametrize(
    ("modalities", "layers", "variant", "parameters"),
    [
        (COLOUR, 1, "joint", 69_382_153),
        (COLOUR, 2, "joint", 70_037_513),
        # The published class also holds projections of depth that are never used.
        (COLOUR, 3, "joint", 71_419_913 - 725_504),
        (BOTH, 1, "joint", 138_496_268),
        (BOTH, 2, "joint", 139_941_132),
        (BOTH, 3, "joint", 141_254_924),
        (BOTH, 1, "gated", 138_829_842),
        (BOTH, 2, "gated", 140_599_314),
        (BOTH, 3, "gated", 142_175_250),
    ],
)
def test_sizes_are_the_published_ones(modalities, layers, variant, parameters):
    with torch.device("meta"):
        network = easynet(modalities=modalities, layers=layers, variant=variant)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_entropy_is_that_of_the_histogram():
    row = torch.tensor([[0.1, 0.1, 0.6, 0.9, -3.0, 7.0]])
    assert entropy(row).item() == pytest.approx(1.5)
    assert entropy(torch.full((1, 9), 0.3)).item() == 0
    assert entropy(torch.full((1, 9), 3.0)).item() == 0
    assert entropy(torch.arange(256)[None] / 256).item() == pytest.approx(8, abs=1e-4)


def batch():
    torch.manual_seed(0)
    mask = torch.zeros(4, 1, 64, 64)
    mask[1, :, 10:30, 10:30] = mask[3, :, 30:50, 20:44] = 1
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4), 64, mode="bilinear")
    spoiled = torch.where(mask > 0, torch.rand(4, 3, 64, 64), smooth)
    return RGBDBatch(
        rgb=spoiled,
        geometry=spoiled.flip(1),
        foreground=torch.ones(4, 1, 64, 64),
        mask=mask,
        clean_rgb=smooth,
        clean_geometry=smooth.flip(1),
    )


def test_to_restore_the_clean_part_costs_less_than_to_copy_the_defect(monkeypatch):
    torch.manual_seed(0)
    network, inputs = easynet_slim(image_size=64).train(), batch()
    logits = {"joint": torch.zeros(4, 2, 16, 16)}
    monkeypatch.setattr(network, "_logits", lambda layers: logits)
    costs = []
    for rgb, geometry in (
        (inputs.clean_rgb, inputs.clean_geometry),
        (inputs.rgb, inputs.geometry),
    ):
        answer = {}, {"rgb": rgb, "geometry": geometry}
        monkeypatch.setattr(network, "_layers", lambda pictures, answer=answer: answer)
        costs.append(network.loss("segmentation", inputs).item())
    mask = torch.nn.functional.adaptive_max_pool2d(inputs.mask, 16)
    inside = torch.nn.functional.adaptive_max_pool2d(inputs.foreground, 16) > 0
    segmentation = segmentation_loss(logits["joint"], mask, dice=True, inside=inside).item()
    assert costs[0] == pytest.approx(segmentation, abs=1e-6) and costs[1] > costs[0] + 0.01


@pytest.mark.parametrize("variant", ["joint", "gated"])
def test_it_learns_four_parts_by_heart(variant):
    torch.manual_seed(0)
    network, inputs = easynet_slim(image_size=64, variant=variant).train(), batch()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = network.loss("segmentation", inputs)
        loss.backward()
        losses.append(loss.item())
        assert all(p.grad is not None for p in network.parameters())
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]
    network.eval()
    with torch.no_grad():
        maps = network(inputs).raw
    mask = torch.nn.functional.adaptive_max_pool2d(inputs.mask, 16) > 0
    assert maps[mask].mean() > 0.5 > 2 * maps[~mask].mean()


def test_the_gate_opens_for_usual_parts_and_not_for_others():
    torch.manual_seed(0)
    network, inputs = easynet_slim(image_size=64, variant="gated").eval(), batch()
    with torch.no_grad():
        features = network.extract_features(inputs)
        network.partial_fit("gate", features, torch.arange(4))
        network.finish_fit("gate")
        layers, _ = network._layers({m: features[m].float() for m in BOTH})
        maps = {n: z.softmax(1)[:, 1:] for n, z in network._logits(layers).items()}
        opened = network._difference(layers) >= network.threshold
        chosen = network.predict(features).raw
        assert opened.sum() == 3
        for number in range(4):
            expected = maps["joint" if opened[number] else "colour"][number]
            torch.testing.assert_close(chosen[number], expected)


def test_settings_that_are_wrong_are_told():
    with pytest.raises(ConfigurationError, match="1, 2 or 3"):
        easynet_slim(layers=4)
    with pytest.raises(ConfigurationError, match="needs both"):
        easynet_slim(modalities=COLOUR, variant="gated")
    with pytest.raises(ConfigurationError, match="'joint' or 'gated'"):
        easynet_slim(variant="late")
