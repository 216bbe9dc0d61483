"""Search a fusion architecture: a differentiable search proposes, a final round decides."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from typing import Any

import torch

from chiasm.artifact import library_versions
from chiasm.config import RunConfig
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.genotype import Genotype, random_genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.training.search import FusionSearch
from chiasm.training.segment import SegmentationTraining
from chiasm.training.trainer import Budget, fit
from chiasm.workflows.console import say
from chiasm.workflows.workbench import Workbench, open_workbench

SEARCH_SHARE = 0.5  # of a run's budget; the rest trains the genotype that was found
DRAW_TEMPERATURE = 2.0  # finalists are to differ more than the relaxed choices do
RELAXED_SHARE = 0.5  # of the search's budget; the rest is the final round


def search(config: RunConfig, *, bench: Workbench | None = None) -> Genotype:
    """Search the fusion architecture.

    The relaxed network is searched first. Its strongest architecture and others drawn from its
    choices are the finalists: each is trained from scratch for a few epochs, and the one with the
    highest pixel AP on held-out normals wins. With ``finalists=1`` the strongest is taken as it
    is, which is the paper's way.

    Writes ``genotype.json`` and its drawing, ``search_history.json`` and ``finalists.json`` to the
    run's folder.
    """
    bench = bench or open_run(config)
    left = bench.seconds_left()
    limited = left != float("inf")
    share = SEARCH_SHARE * (RELAXED_SHARE if config.finalists > 1 else 1.0)
    module = _relaxed(config, bench, Budget(share * left / 60 if limited else None))
    (config.out / "search_history.json").write_text(json.dumps(module.history, indent=2) + "\n")
    proposed = propose(module, config)
    budget = SEARCH_SHARE * (1 - RELAXED_SHARE) * left if limited else float("inf")
    scores = (
        _final_round(proposed, bench, seconds=budget) if len(proposed) > 1 else [module.best_ap]
    )
    winner = max(range(len(proposed)), key=lambda number: scores[number])
    genotype = replace(
        proposed[winner],
        provenance={
            "model": config.model,
            "data": bench.source.name,
            "seed": config.seed,
            "order": config.order,
            "finalists": len(proposed),
            "validation_ap": round(scores[winner], 5),
            "chiasm": library_versions()["chiasm"],
        },
    )
    write_genotype(genotype, bench)
    say(genotype.summary())
    return genotype


def _relaxed(config: RunConfig, bench: Workbench, budget: Budget) -> FusionSearch:
    module = FusionSearch(
        bench.detector("supernet"),
        architecture_batches=bench.loader("architecture"),
        budget=budget,
        epochs=config.search_epochs,
        learning_rate=config.learning_rate,
        architecture_rate=config.architecture_rate,
        order=config.order,
        dice=config.model != "adnas_paper",
    )
    say("Searching how to fuse ...")
    fit(
        module,
        bench.loader("learn"),
        bench.loader("validate"),
        folder=config.out,
        name="search",
        epochs=config.search_epochs,
        budget=budget,
    )
    return module


def propose(module: FusionSearch, config: RunConfig) -> list[Genotype]:
    """The best epoch's architecture, the last one, then draws, half of them uniform.

    Draws come in turn from the relaxed choices and from the whole space: one search leans one way,
    and the final round can only choose among what it is offered. No two read the same features:
    that matters more than the operations do. There may be fewer than ``finalists`` where the
    choices leave fewer.
    """
    supernet: FusionSupernet = module.supernet
    count = config.finalists
    generator = torch.Generator().manual_seed(config.seed)
    found: list[Genotype] = []
    tries = [module.best or supernet.genotype(), supernet.genotype()]
    for number in range(20 * count):
        if len(found) >= count:
            break
        if number < len(tries):
            one = tries[number]
        elif number % 2:
            one = random_genotype(
                supernet.pools,
                nodes=config.nodes,
                seed=1000 * config.seed + number,
                operations=config.operations,
            )
        else:
            one = supernet.genotype(generator=generator, temperature=DRAW_TEMPERATURE)
        if all(one.required != other.required for other in found):
            found.append(one)
    return found


def _final_round(proposed: list[Genotype], bench: Workbench, *, seconds: float) -> list[float]:
    """Pixel AP of each finalist after a short training; finished ones are not trained again."""
    config = bench.config
    record = config.out / "finalists.json"
    known: list[dict[str, Any]] = json.loads(record.read_text()) if record.exists() else []
    wanted = [config.final_epochs, config.final_steps]
    scores = []
    for number, genotype in enumerate(proposed):
        cells = json.loads(genotype.to_json())["cells"]
        done = [k for k in known if k["cells"] == cells and k["steps"] == wanted]
        if not done:
            say(f"Final round, {number + 1} of {len(proposed)} ...")
            ap = _short_training(genotype, bench, number, seconds=seconds / len(proposed))
            known.append({"cells": cells, "steps": wanted, "validation_ap": ap})
            record.write_text(json.dumps(known, indent=2) + "\n")
            done = known[-1:]
        scores.append(float(done[0]["validation_ap"]))
    return scores


def _short_training(genotype: Genotype, bench: Workbench, number: int, *, seconds: float) -> float:
    config = bench.config
    detector = bench.detector(genotype)
    budget = Budget(None if seconds == float("inf") else seconds / 60)
    required = detector.fusion.required
    learn = bench.loader("learn", required=required)
    epochs = max(config.final_epochs, math.ceil(config.final_steps / len(learn)))
    module = SegmentationTraining(
        detector,
        budget=budget,
        epochs=epochs,
        learning_rate=config.learning_rate,
        dice=config.model != "adnas_paper",
    )
    name = f"final_{number}"
    fit(
        module,
        learn,
        bench.loader("validate", required=required),
        folder=config.out,
        name=name,
        epochs=epochs,
        budget=budget,
    )
    # A finished finalist is never resumed: its checkpoint only takes room.
    shutil.rmtree(config.out / "checkpoints" / name, ignore_errors=True)
    return module.validation_ap[-1]


def open_run(config: RunConfig) -> Workbench:
    """Make the run's folder, keep its settings in it and open the workbench."""
    config.out.mkdir(parents=True, exist_ok=True)
    config.save(config.out / "config.yaml")
    return open_workbench(config)


def write_genotype(genotype: Genotype, bench: Workbench) -> None:
    """Write the genotype and its drawing to the run's folder."""
    folder = bench.config.out
    genotype.save(folder / "genotype.json")
    draw_genotype(genotype, path_svg=folder / "genotype.svg", path_png=folder / "genotype.png")
