"""Architectures that read every sensor: those that a search proposes, and uniform draws."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from chiasm.errors import ConfigurationError
from chiasm.fusion.genotype import Genotype, random_genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.operations import OPERATIONS
from chiasm.fusion.pools import CROSS, Pools

DRAW_TEMPERATURE = 2.0  # so that finalists differ more than the relaxed choices
DRAWS = 400  # at most; of the spaces of both wings a third of the draws lack a sensor
REDRAW = 1_000_003  # between the seeds of redraws, so that runs of neighbouring seeds share none


def propose(
    supernet: FusionSupernet, *, best: Genotype | None, count: int, seed: int = 0
) -> list[Genotype]:
    """Propose the best epoch's architecture, the last one, and draws, half of them uniform.

    Draws alternate between the relaxed choices and the whole space, because a search has a bias
    and the final round chooses among the proposals only. Every proposal reads every sensor of the
    pools: an architecture that does not is drawn again. No two proposals read the same features,
    which matter more than the operations. There are fewer than ``count`` if the space has fewer.

    Args:
        supernet: at the end of the search.
        best: architecture of its best epoch; None where there was no epoch after the warm-up.
        count: of finalists.
        seed: of the draws.

    Raises:
        ConfigurationError: no architecture that was drawn reads every sensor.
    """
    cell = next(iter(supernet.cells.values()))
    sensors = supernet.pools.sensors
    generator = torch.Generator().manual_seed(seed)
    finalists: list[Genotype] = []
    strongest = [best or supernet.genotype(), supernet.genotype()]
    for number in range(DRAWS):
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
    if not finalists:
        raise _no_architecture(supernet.pools)
    return finalists


def random_architecture(
    pools: Pools, *, nodes: int = 2, seed: int = 0, operations: Sequence[str] = tuple(OPERATIONS)
) -> Genotype:
    """Draw uniformly among the architectures that read every sensor of the pools.

    The first draw is that of ``random_genotype``; a draw that lacks a sensor is repeated with
    another seed, which its provenance states.

    Raises:
        ConfigurationError: no architecture that was drawn reads every sensor.
    """
    draws = (
        random_genotype(pools, nodes=nodes, seed=seed + REDRAW * number, operations=operations)
        for number in range(DRAWS)
    )
    complete = next((draw for draw in draws if reads(draw, pools.sensors)), None)
    if complete is None:
        raise _no_architecture(pools)
    return complete


def reads(genotype: Genotype, sensors: Collection[str]) -> bool:
    """Whether a genotype reads every sensor, named before the slash of a feature.

    A feature of ``cross/`` is computed from every sensor.
    """
    names = {name.split("/")[0] for name in genotype.required}
    return CROSS in names or set(sensors) <= names


def _no_architecture(pools: Pools) -> ConfigurationError:
    return ConfigurationError(
        f"Of {DRAWS} architectures, none reads every one of {', '.join(sorted(pools.sensors))}. "
        "Give candidates of each of them to the cells, or fewer modalities."
    )
