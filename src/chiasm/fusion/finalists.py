"""The architectures that a search proposes for a final round."""

from __future__ import annotations

from collections.abc import Collection

import torch

from chiasm.fusion.cell import RelaxedCell
from chiasm.fusion.genotype import Genotype, random_genotype
from chiasm.fusion.network import FusionSupernet

DRAW_TEMPERATURE = 2.0  # finalists are to differ more than the relaxed choices do


def propose(
    supernet: FusionSupernet,
    *,
    best: Genotype | None,
    count: int,
    seed: int = 0,
    sensors: Collection[str] = (),
) -> list[Genotype]:
    """The best epoch's architecture, the last one, then draws, half of them uniform.

    Draws come in turn from the relaxed choices and from the whole space: one search leans one way,
    and the final round can only choose among what it is offered. No two read the same features:
    that matters more than the operations do. There may be fewer than ``count`` where the choices
    leave fewer.

    Args:
        supernet: at the end of the search.
        best: architecture of its best epoch.
        count: of finalists.
        seed: of the draws.
        sensors: that each of them has to read; where none does, the best epoch's stands alone.
    """
    cell = next(iter(supernet.cells.values()))
    assert isinstance(cell, RelaxedCell)
    generator = torch.Generator().manual_seed(seed)
    found: list[Genotype] = []
    tries = [best or supernet.genotype(), supernet.genotype()]
    for number in range(20 * count):
        if len(found) >= count:
            break
        if number < len(tries):
            one = tries[number]
        elif number % 2:
            one = random_genotype(
                supernet.pools,
                nodes=len(cell.nodes),
                seed=1000 * seed + number,
                operations=cell.names,
            )
        else:
            one = supernet.genotype(generator=generator, temperature=DRAW_TEMPERATURE)
        if reads(one, sensors) and all(one.required != other.required for other in found):
            found.append(one)
    return found or tries[:1]


def reads(genotype: Genotype, sensors: Collection[str]) -> bool:
    """Whether features of each of the sensors, the part of a name before the slash, are read."""
    return set(sensors) <= {name.split("/")[0] for name in genotype.required}
