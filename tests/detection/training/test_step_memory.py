"""The memory of a step: counted as an allocator counts it, said before a run, refused in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from chiasm.detection.config import DetectionConfig
from chiasm.detection.models.adnas import AdnasDetector, adnas_paper, adnas_slim
from chiasm.detection.training import step_memory as step_memory_module
from chiasm.detection.training.step_memory import GIB, check_memory, step_memory
from chiasm.errors import ConfigurationError
from chiasm.training.memory import AllocationCount

SMALL: dict[str, Any] = {"image_size": 64, "batch": 4}


def builder(fusion: str, *, recompute: bool = False) -> Callable[[], AdnasDetector]:
    def build() -> AdnasDetector:
        made = adnas_slim(fusion, image_size=64)
        made.recompute_activations(recompute)
        return made

    return build


def allocations(event: Any) -> Iterator[tuple[int, int]]:
    if event.tag == _EventType.Allocation:
        yield event.start_time_ns, event.extra_fields.alloc_size
    for child in event.children:
        yield from allocations(child)


def allocator_peak(step: Callable[[], object]) -> int:
    """Return the peak of torch's own allocator, as its profiler records it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    assert record.profiler is not None
    roots = record.profiler.kineto_results.experimental_event_tree()
    now = peak = 0
    for _, size in sorted(a for root in roots for a in allocations(root)):
        now += size
        peak = max(peak, now)
    return peak


# Kernels of convolutions and batch norms have buffers of their own, which are small beside maps.
@pytest.mark.parametrize("fusion", ["supernet", "concatenation"])
def test_the_count_agrees_with_the_allocator(fusion: str):
    real = allocator_peak(lambda: step_memory(builder(fusion), fake=False, **SMALL))
    assert step_memory(builder(fusion), **SMALL).peak == pytest.approx(real, rel=0.15)


def test_less_is_kept_in_bfloat16_recomputed_and_in_micro_batches():
    whole = step_memory(builder("concatenation"), **SMALL)
    less = [
        step_memory(builder("concatenation"), precision="bf16", **SMALL),
        step_memory(builder("concatenation", recompute=True), **SMALL),
        step_memory(builder("concatenation"), accumulate=2, **SMALL),
    ]
    for memory in less:
        assert memory.peak < whole.peak
        assert sum(memory.activations.values()) < 0.8 * sum(whole.activations.values())
        fixed = (memory.parameters, memory.optimiser, memory.gradients)
        assert fixed == (whole.parameters, whole.optimiser, whole.gradients)


def test_what_is_freed_is_not_counted():
    with AllocationCount() as count:
        first = torch.zeros(1000)
        del first
        second = torch.zeros(500)
        view = second[10:]
    assert count.peak == 4000
    assert count.alive[""] == 2000
    assert view.numel() == 490


def test_the_published_network_is_too_large_for_a_small_gpu_and_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config = DetectionConfig.make(
        data="d", out="o", preset="paper", precision="32", checkpointing=False
    )

    def build() -> AdnasDetector:
        return adnas_paper("concatenation", image_size=256)

    counted = step_memory_module.StepMemory(GIB, 2 * GIB, GIB, {"head": 20 * GIB}, 30 * GIB)
    assert counted.temporary == 6 * GIB
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(step_memory_module, "step_memory", lambda *_, **__: counted)
    with pytest.raises(ConfigurationError, match=r"has 24\.0 GiB.*needs 32\.0 GiB") as refusal:
        check_memory(config, build, available=lambda: 24 * GIB)
    for remedy in ("checkpointing=true", "precision=bf16", "accumulate=2"):
        assert remedy in str(refusal.value)
    check_memory(config, build, available=lambda: 64 * GIB)
    assert "needs about 32.0 GiB" in capsys.readouterr().out


def test_a_small_network_on_a_processor_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(step_memory_module, "step_memory", None)
    config = DetectionConfig.make(data="d", out="o", model="adnas_slim", image_size=64)
    check_memory(config, builder("supernet"), available=lambda: 0)
