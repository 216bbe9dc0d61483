"""Cost of a detector: parameters, and multiply-accumulates of one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from chiasm.detection.layers.candidates import MODALITIES
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.fusion.genotype import random_genotype
from chiasm.registry import find_model
from chiasm.samples import RGBDBatch


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one part.

    Attributes:
        parameters: trained and frozen weights, without the entries of memories.
        macs: multiply-accumulates of convolutions, matrix products and attention in one pass,
            the search for nearest normals included.
    """

    parameters: int
    macs: int


def cost_of(detector: nn.Module, batch: RGBDBatch) -> Cost:
    """Count a pass over a batch; the figures are per part.

    A count of floating-point operations is twice that of multiply-accumulates. Element-wise work
    is not counted, as is common.
    """
    training = detector.training
    detector.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        detector(batch)
    detector.train(training)
    parts = len(batch.foreground)
    parameters = sum(p.numel() for p in detector.parameters())
    return Cost(parameters, counter.get_total_flops() // 2 // parts)


def typical_cost(name: str, *, image_size: int = 256) -> tuple[Cost, Cost]:
    """Count the cost of a named detector with a random genotype, before and after pruning.

    A detector that trains its source is counted without computing anything (meta tensors). A
    memory counts as full and the object as filling the crop, which is the upper bound.
    """
    model = find_model(name)
    assert model.pools is not None
    genotype = random_genotype(model.pools(MODALITIES), seed=0)
    with torch.device("meta"):
        detector: AdnasDetector = model.builder(genotype, image_size=image_size)
    device, frozen = "meta", detector.frozen_source
    if frozen is not None:
        # A memory selects the pixels of the object by their values, which meta tensors lack.
        device = "cpu"
        detector.to_empty(device=device)
        for memory in frozen.memories.values():
            assert isinstance(memory, NormalMemory)
            memory.bank = torch.zeros(memory.memory_entries, memory.dimension)
            memory.owner = torch.zeros(memory.memory_entries, dtype=torch.int64)
            memory.usual = torch.ones(memory.memory_entries)
    picture = torch.zeros(1, 3, image_size, image_size, device=device)
    batch = RGBDBatch(picture, picture, torch.ones_like(picture[:, :1]))
    before = cost_of(detector, batch)
    detector.source.prune(detector.fusion.required, normality=frozen is not None)
    return before, cost_of(detector, batch)
