"""The architectures that a search proposes for a final round."""

from __future__ import annotations

from collections.abc import Collection

import torch

from chiasm.fusion.genotype import Genotype, random_genotype
from chiasm.fusion.network import FusionSupernet

DRAW_TEMPERATURE = 2.0  # so that finalists differ more than the relaxed choices


def propose(
    supernet: FusionSupernet,
    *,
    best: Genotype | None,
    count: int,
    seed: int = 0,
    sensors: Collection[str] = (),
) -> list[Genotype]:
    """Propose the best epoch's architecture, the last one, and draws, half of them uniform.

    Draws alternate between the relaxed choices and the whole space, because a search has a bias
    and the final round chooses among the proposals only. No two proposals read the same features,
    which matter more than the operations. There are fewer than ``count`` if the space has fewer.

    Args:
        supernet: at the end of the search.
        best: architecture of its best epoch.
        count: of finalists.
        seed: of the draws.
        sensors: that every finalist reads; if none does, the best epoch's is the only one.
    """
    cell = next(iter(supernet.cells.values()))
    generator = torch.Generator().manual_seed(seed)
    finalists: list[Genotype] = []
    strongest = [best or supernet.genotype(), supernet.genotype()]
    for number in range(20 * count):
        if len(finalists) >= count:
            break
        if number < len(strongest):
            genotype = strongest[number]
        elif number % 2:
            genotype = random_genotype(
                supernet.pools,
                nodes=len(cell.nodes),
                seed=1000 * seed + number,
                operations=cell.names,
            )
        else:
            genotype = supernet.genotype(generator=generator, temperature=DRAW_TEMPERATURE)
        distinct = all(genotype.required != other.required for other in finalists)
        if reads(genotype, sensors) and distinct:
            finalists.append(genotype)
    return finalists or strongest[:1]


def reads(genotype: Genotype, sensors: Collection[str]) -> bool:
    """Whether a genotype reads every sensor, named before the slash of a feature."""
    return set(sensors) <= {name.split("/")[0] for name in genotype.required}
