"""Steps in micro-batches and with recomputed activations: the same gradients and statistics."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from chiasm.detection.layers.candidates import reconstruction_pools
from chiasm.detection.models.adnas import SLIM_BRANCH, AdnasDetector, adnas_slim
from chiasm.detection.training import search as search_module
from chiasm.detection.training.search import FusionSearch
from chiasm.detection.training.segment import micro_batches, step_losses
from chiasm.fusion.finalists import random_architecture
from chiasm.fusion.search_steps import ArchitectureSteps
from chiasm.samples import RGBDBatch
from chiasm.training.trainer import Budget

FUSIONS = ("supernet", "concatenation", "genotype")


def parts(count: int = 4, seed: int = 0) -> RGBDBatch:
    generator = torch.Generator().manual_seed(seed)

    def picture(channels: int) -> Tensor:
        return torch.rand(count, channels, 64, 64, generator=generator)

    return RGBDBatch(
        picture(3),
        picture(3),
        torch.ones(count, 1, 64, 64),
        (picture(1) > 0.9).float(),
        clean_rgb=picture(3),
        clean_geometry=picture(3),
    )


def detector(fusion: str) -> AdnasDetector:
    torch.manual_seed(0)
    genotype = random_architecture(reconstruction_pools(**SLIM_BRANCH), nodes=2, seed=1)
    made = adnas_slim(genotype if fusion == "genotype" else fusion, image_size=64)
    made.loss = "focal"  # of all losses, it alone is a mean over parts
    return made


def gradients(network: AdnasDetector, accumulate: int, **options: Any) -> dict[str, Tensor]:
    network.zero_grad()
    for loss in step_losses(network, parts(**options), accumulate=accumulate):
        loss.backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(fusion: str, accumulate: int):
    network = detector(fusion)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # in training they see the micro-batch
    network = network.double()

    def in_double(count: int) -> dict[str, Tensor]:
        network.zero_grad()
        batch = parts()
        wide = RGBDBatch(
            **{
                name: getattr(batch, name).double()
                for name in ("rgb", "geometry", "foreground", "mask")
            },
            clean_rgb=batch.clean_rgb.double(),
            clean_geometry=batch.clean_geometry.double(),
        )
        for loss in step_losses(network, wide, accumulate=count):
            loss.backward()
        return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    whole, added = in_double(1), in_double(accumulate)
    assert whole.keys() == added.keys()
    for name, gradient in whole.items():
        # The losses themselves are computed in float32.
        torch.testing.assert_close(added[name], gradient, rtol=1e-3, atol=1e-7, msg=name)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_micro_batches_hold_each_part_once(count: int):
    batch = parts()
    cut = micro_batches(batch, count)
    assert len(cut) <= count
    assert torch.equal(torch.cat([b.rgb for b in cut]), batch.rgb)
    assert torch.equal(torch.cat([b.mask for b in cut]), batch.mask)
    assert all(b.index is None for b in cut)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_recomputed_activations_change_no_bit(fusion: str, precision: str):
    kept = detector(fusion)
    recomputed = copy.deepcopy(kept)
    recomputed.recompute_activations()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        expected, found = gradients(kept, 1), gradients(recomputed, 1)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    for name, value in kept.state_dict().items():  # running statistics among them
        assert torch.equal(recomputed.state_dict()[name], value), name


def saved_bytes(network: AdnasDetector) -> int:
    """Return the bytes that autograd keeps for the gradients of a step."""
    kept: dict[int, Tensor] = {}
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def keep(value: Tensor) -> Tensor:
        kept.setdefault(value.untyped_storage().data_ptr(), value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        losses = list(step_losses(network, parts(), accumulate=1))
    sizes = {k: v.untyped_storage().nbytes() for k, v in kept.items() if k not in weights}
    assert losses
    return sum(sizes.values())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_recomputed_activations_are_not_kept(fusion: str):
    network = detector(fusion)
    before = saved_bytes(network)
    network.recompute_activations()
    assert saved_bytes(network) < before / 2
    network.recompute_activations(False)
    assert saved_bytes(network) == before


def test_attention_does_not_keep_its_scores():
    network = adnas_slim("supernet", image_size=256).fusion.cells["early"].nodes[0]
    x, y = (torch.rand(1, 32, 64, 64, requires_grad=True) for _ in range(2))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: kept.append(value.numel()) or value, lambda value: value
    ):
        network["guided_attention"](x, y)
    assert max(kept) < 64 * 64 * 16 * 16  # pixels by tokens


def search_of(network: AdnasDetector, order: int, accumulate: int) -> FusionSearch:
    return FusionSearch(
        network,
        architecture_batches=[],  # type: ignore[arg-type]
        budget=Budget(None),
        epochs=1,
        order=order,
        accumulate=accumulate,
    )


@pytest.mark.parametrize("order", [1, 2])
def test_the_architecture_has_the_same_gradient_in_micro_batches(order: int):
    found = []
    for accumulate, recompute in ((1, False), (2, False), (2, True)):
        network = detector("supernet").eval()
        network.recompute_activations(recompute)
        module = search_of(network, order, accumulate)
        module.steps.differentiate(
            training=lambda m=module: m._losses(parts(), with_reconstruction=True),
            validation=lambda m=module: m._losses(parts(seed=1), with_reconstruction=False),
            rate=1e-3,
        )
        found.append([p.grad for p in module.supernet.architecture_parameters()])
    for other in found[1:]:
        for gradient, expected in zip(other, found[0], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-7)


def test_the_architectures_parts_are_moved_to_the_device_of_the_weights(monkeypatch):
    moved: list[tuple[Any, torch.device]] = []
    module = search_of(detector("supernet"), order=1, accumulate=1)
    held_out, batch = parts(seed=1), parts()

    def move(record: Any, device: torch.device) -> Any:
        moved.append((record, device))
        return record

    class Step:
        def __init__(self) -> None:
            self.param_groups = [{"lr": 0.0}]

        def zero_grad(self) -> None: ...

        def step(self) -> None: ...

    monkeypatch.setattr(search_module, "to_device", move)
    monkeypatch.setattr(search_module, "training_progress", lambda *_, **__: 0.9)
    monkeypatch.setattr(ArchitectureSteps, "next_batch", lambda self: held_out)
    monkeypatch.setattr(module, "optimizers", lambda: [Step(), Step()])
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(FusionSearch, "trainer", None)
    module.training_step(batch, 0)
    assert moved == [(held_out, module.device)]
