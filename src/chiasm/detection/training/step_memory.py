"""The memory of a training step, before it is made: counted on tensors without data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from chiasm.detection.config import DetectionConfig
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.segment import step_losses
from chiasm.errors import ConfigurationError
from chiasm.runs.console import say
from chiasm.samples import RGBDBatch
from chiasm.training.device import AUTOCAST, Multiplied, find_device, free_bytes, precision_on
from chiasm.training.memory import AllocationCount
from chiasm.training.schedule import OPTIMISERS, Optimiser

GIB = 2**30
MANY_WEIGHTS = 10**7  # of a network whose memory is to be known on a processor, too
# What a GPU needs beside the tensors: its context and the workspaces of convolutions.
GPU_BASE, GPU_SHARE = GIB, 0.1
PROCESS = 2 * GIB  # libraries, parts and validation; measured with ``adnas_paper``: 1.8


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of a step of the weights.

    Attributes:
        parameters: with buffers.
        optimiser: its state.
        gradients: of the parameters.
        activations: kept for the gradients after the forward pass of a micro-batch, by layer.
        peak: the largest sum of all, with what is temporary.
    """

    parameters: int
    optimiser: int
    gradients: int
    activations: dict[str, int]
    peak: int

    @property
    def temporary(self) -> int:
        """Bytes at the peak that are neither of the network, the optimiser nor kept."""
        kept = self.parameters + self.optimiser + self.gradients + sum(self.activations.values())
        return max(0, self.peak - kept)

    @property
    def on_gpu(self) -> int:
        """The peak with an allowance for context, workspaces and fragmentation."""
        return round(self.peak * (1 + GPU_SHARE)) + GPU_BASE

    @property
    def on_processor(self) -> int:
        """The peak with an allowance for the rest of the process."""
        return self.peak + PROCESS


def step_memory(
    build: Callable[[], AdnasDetector],
    *,
    image_size: int,
    batch: int,
    accumulate: int = 1,
    precision: Multiplied = "32",
    optimiser: Optimiser = "adam",
    gpu: bool = False,
    fake: bool = True,
) -> StepMemory:
    """Count the memory of a step of the weights of a detector that learns its features.

    Args:
        build: makes the detector, with new weights.
        image_size: side of the pictures in pixels.
        batch: parts of a step.
        accumulate: micro-batches of it.
        precision: of products.
        optimiser: by name.
        gpu: whether to count float32 where autocast takes it on a GPU.
        fake: on tensors without data; otherwise the step is made.
    """
    count = AllocationCount()
    with ExitStack() as stack:
        if fake:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(count)
        count.group = "parameters"
        detector = build().train()
        weights = [p for p in detector.parameters() if p.requires_grad]
        count.group = "optimiser"
        steps = OPTIMISERS[optimiser](weights, lr=1e-3)
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        steps.step()  # which makes its state
        steps.zero_grad()
        count.group = "input"
        inputs = _parts(batch, image_size)
        _follow_layers(detector, count)
        if gpu and precision != "32":
            _norm_in_float32(detector)
        kept: dict[str, int] = {}
        half = AUTOCAST.get(precision)
        with torch.autocast("cpu", half, enabled=half is not None):
            count.group = "loss"
            for loss in step_losses(detector, inputs, accumulate=accumulate):
                kept = kept or dict(count.alive)
                count.group = "gradients"
                torch.autograd.backward(loss)
                del loss
                count.group = "loss"
        gradients = sum(p.grad.untyped_storage().nbytes() for p in weights if p.grad is not None)
    return StepMemory(
        parameters=kept.pop("parameters", 0),
        optimiser=kept.pop("optimiser", 0),
        gradients=gradients,
        activations={name: size for name, size in kept.items() if size},
        peak=count.peak,
    )


def _parts(count: int, size: int) -> RGBDBatch:
    def picture(channels: int) -> Tensor:
        return torch.zeros(count, channels, size, size)

    return RGBDBatch(
        picture(3),
        picture(3),
        picture(1),
        picture(1),
        clean_rgb=picture(3),
        clean_geometry=picture(3),
    )


def _norm_in_float32(detector: nn.Module) -> None:
    """Compute group norms as autocast does on a GPU, and on a processor does not."""
    for module in detector.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


def _follow_layers(detector: nn.Module, count: AllocationCount) -> None:
    """Count what is made within a layer under its name: a branch, a cell, projections, the head."""
    outer: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            outer.append(count.group)
            count.group = name

        return hook

    def leave(*_: Any) -> None:
        count.group = outer.pop()

    for path, module in detector.named_modules():
        if path and path != "source":
            name = ".".join(path.split(".")[:3])
            module.register_forward_pre_hook(enter(name))
            module.register_forward_hook(leave)


def check_memory(
    config: DetectionConfig,
    build: Callable[[], AdnasDetector],
    *,
    available: Callable[[], int] | None = None,
) -> None:
    """Say what memory the training of a network from scratch needs; small ones on a processor fit.

    Args:
        config: of the run.
        build: makes the detector that needs most, on the processor.
        available: returns the bytes that there are; None asks the run's device.

    Raises:
        ConfigurationError: there is less, with the settings that need less.
    """
    device = find_device(config.device)
    gpu = device.type != "cpu"
    with torch.random.fork_rng(devices=[]):
        with FakeTensorMode():
            weights = sum(p.numel() for p in build().parameters())
        if weights < MANY_WEIGHTS and not gpu:
            return
        memory = step_memory(
            build,
            image_size=config.image_size,
            batch=config.batch,
            accumulate=config.accumulate,
            precision=precision_on(device, config.precision),
            optimiser=config.optimiser,
            gpu=gpu,
        )
    needed, there = (
        memory.on_gpu if gpu else memory.on_processor,
        (available or partial(free_bytes, device))(),
    )
    place = "The GPU" if gpu else "The machine"
    say(f"Training needs about {in_gib(needed)} of memory. {place} has {in_gib(there)}.")
    if needed > there:
        raise ConfigurationError(
            f"{place} has {in_gib(there)} of memory, and {config.model} with {config.batch} parts "
            f"of {config.image_size} pixels needs {in_gib(needed)}. {_remedy(config)}"
        )


def _remedy(config: DetectionConfig) -> str:
    remedies = []
    if not config.checkpointing:
        remedies.append("checkpointing=true")
    if precision_on(find_device(config.device), config.precision) == "32":
        remedies.append("precision=bf16")
    if 2 * config.accumulate <= config.batch // 2:  # a batch norm needs two parts
        remedies.append(f"accumulate={2 * config.accumulate}")
    remedies += ["a smaller image_size", "model=adnas_slim"]
    return f"Give {', '.join(remedies[:-1])} or {remedies[-1]}."


def in_gib(size: float) -> str:
    """Return bytes in words, e.g. ``"8.1 GiB"``."""
    return f"{size / GIB:.1f} GiB"
