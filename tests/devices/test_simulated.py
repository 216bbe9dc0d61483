"""The simulated device fails where a real second device would, and computes the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from devices.simulated import DeviceTensor, simulated_device


def test_operands_on_two_devices_are_refused(device: torch.device):
    here, there = torch.ones(3), torch.ones(3, device=device)
    number = torch.tensor([1], device=device)
    for mixed in (
        lambda: here + there,
        lambda: there + here,
        lambda: there[torch.tensor([1])],
        lambda: here[number],
        lambda: here.index_select(0, number),
        lambda: torch.cat([here, there]),
        lambda: nn.Linear(3, 2)(there),
        lambda: torch.zeros(()).add_(there.sum()),
    ):
        with pytest.raises(RuntimeError, match="two devices"):
            mixed()
    assert (there + torch.ones(())).device == device  # a number may come from the processor
    assert here.copy_(there).device.type == "cpu"


def test_arrays_and_generators_are_of_the_processor(device: torch.device):
    there = torch.ones(3, device=device)
    with pytest.raises(TypeError, match="to numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=device, generator=torch.Generator())
    assert there.cpu().numpy().tolist() == there.tolist() == [1, 1, 1]
    assert {t.device for t in (there.new_zeros(2), torch.zeros_like(there), there[there > 0])} == {
        device
    }


def test_a_training_is_that_of_the_processor(device: torch.device):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3))
    twin, pictures = copy.deepcopy(network).to(device), torch.rand(2, 3, 9, 9)
    parameters = list(twin.parameters())
    assert all(isinstance(parameter, DeviceTensor) for parameter in parameters)
    for net, x in ((network, pictures), (twin, pictures.to(device))):
        optimiser = torch.optim.AdamW(net.parameters())
        for _ in range(2):
            optimiser.zero_grad()
            net(x).square().mean().backward()
            optimiser.step()
    twin.cpu()
    assert all(a is b for a, b in zip(twin.parameters(), parameters))  # as ``Module.to`` keeps them
    for name, value in network.state_dict().items():
        assert torch.equal(twin.state_dict()[name], value)


def test_gradients_cross_between_devices(device: torch.device):
    weight = torch.ones(2, requires_grad=True)
    (2 * weight.to(device)).sum().backward()
    assert weight.grad is not None and weight.grad.device.type == "cpu"


def test_the_gpu_of_apple_has_no_double_precision(monkeypatch: pytest.MonkeyPatch):
    with simulated_device(monkeypatch, "mps:0") as place, pytest.raises(TypeError, match="float64"):
        torch.ones(3, device=place).double()
