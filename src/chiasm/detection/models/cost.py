"""What a detector costs: parameters, and multiply-accumulates of one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.fusion.genotype import random_genotype
from chiasm.fusion.pools import Pools
from chiasm.registry import find_model
from chiasm.samples import RGBDBatch


@dataclass(frozen=True, slots=True)
class Cost:
    """What one part costs.

    Attributes:
        parameters: learnt or frozen weights; the entries of memories are not among them.
        macs: multiply-accumulates of convolutions, matrix products and attention in one pass,
            the search for nearest normals included.
    """

    parameters: int
    macs: int


def cost_of(detector: nn.Module, batch: RGBDBatch) -> Cost:
    """Count a pass over a batch; the figures are per part.

    A floating-point operation count is twice the multiply-accumulates; element-wise work is not
    counted, as is usual.
    """
    training = detector.training
    detector.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        detector(batch)
    detector.train(training)
    parts = len(batch.foreground)
    parameters = sum(p.numel() for p in detector.parameters())
    return Cost(parameters, counter.get_total_flops() // 2 // parts)


def typical_cost(name: str, *, pools: Pools, image_size: int = 256) -> tuple[Cost, Cost]:
    """Cost of a named detector with a random genotype, before and after pruning.

    Nothing is computed for detectors that learn from scratch (meta tensors). A memory is taken to
    be full and the object to fill the crop: the most that it can cost.
    """
    genotype = random_genotype(pools, seed=0)
    builder = find_model(name).builder
    light = name == "adnas_light"
    with torch.device("cpu" if light else "meta"):
        extra = {"pretrained": False} if light else {}
        detector: AdnasDetector = builder(genotype, image_size=image_size, **extra)
        picture = torch.zeros(1, 3, image_size, image_size)
        batch = RGBDBatch(
            rgb=picture, geometry=picture, foreground=torch.ones(1, 1, image_size, image_size)
        )
    if isinstance(detector.source, NormalityFeatures):
        for memory in detector.source.memories.values():
            assert isinstance(memory, NormalMemory)
            memory.bank = torch.zeros(memory.memory_entries, memory.dimension)
            memory.owner = torch.zeros(memory.memory_entries, dtype=torch.int64)
            memory.usual = torch.ones(memory.memory_entries)
    before = cost_of(detector, batch)
    detector.source.prune(detector.fusion.required, normality=light)
    return before, cost_of(detector, batch)
