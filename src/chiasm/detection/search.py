"""Search a fusion architecture: a differentiable search proposes, a final round decides."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import library_versions
from chiasm.detection.datamodule import DetectionDataModule, open_run
from chiasm.detection.training.search import FusionSearch
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.finalists import propose
from chiasm.fusion.genotype import Genotype
from chiasm.runs.console import say
from chiasm.runs.final_round import final_round
from chiasm.training.trainer import Budget, fit

SEARCH_SHARE = 0.5  # of a run's budget; the rest trains the genotype that was found

RELAXED_SHARE = 0.5  # of the search's budget; the rest is the final round

CONCATENATION: Final = "concatenation"  # name of the fusion that is made by hand


def search(config: DetectionConfig, *, data: DetectionDataModule | None = None) -> Genotype:
    """Search the fusion architecture.

    The relaxed network is searched first. Its strongest architecture and others drawn from its
    choices are the finalists: each is trained from scratch for a few epochs, and the one with the
    highest pixel AP on held-out normals wins. With ``finalists=1`` the strongest is taken as it
    is, which is the paper's way.

    Writes ``genotype.json`` and its drawing, ``search_history.json`` and ``finalists.json`` to the
    run's folder.
    """
    found = _winner(config, data or open_run(config), beside=())
    assert isinstance(found, Genotype)
    return found


def search_or_concatenate(config: DetectionConfig, *, data: DetectionDataModule) -> Genotype | str:
    """As ``search``, with the hand-made concatenation among the finalists.

    Returns ``"concatenation"``, and writes no genotype, where that wins.
    """
    return _winner(config, data, beside=(CONCATENATION,))


def _winner(
    config: DetectionConfig, data: DetectionDataModule, *, beside: Sequence[str]
) -> Genotype | str:
    left = data.seconds_left()
    limited = left != float("inf")
    several = config.finalists > 1 or bool(beside)
    share = SEARCH_SHARE * (RELAXED_SHARE if several else 1.0)
    module = _relaxed(config, data, Budget(share * left / 60 if limited else None))
    (config.out / "search_history.json").write_text(
        json.dumps(module.found.history, indent=2) + "\n"
    )
    proposed: list[Genotype | str] = [
        *propose(
            module.supernet,
            best=module.found.genotype,
            count=config.finalists,
            seed=config.seed,
        ),
        *beside,
    ]
    budget = SEARCH_SHARE * (1 - RELAXED_SHARE) * left if limited else float("inf")
    scores = [{"validation_ap": module.found.value}]
    if len(proposed) > 1:
        scores = final_round(
            proposed,
            record=config.out / "finalists.json",
            wanted=[config.final_epochs, config.final_steps],
            judge=lambda fusion, number: _short_training(
                fusion, data, number, seconds=budget / len(proposed)
            ),
        )
    winner = max(range(len(proposed)), key=lambda number: scores[number]["validation_ap"])
    found = proposed[winner]
    if isinstance(found, str):
        say(f"The hand-made {found} did better than {winner} searched ways to fuse.")
        return found
    genotype = replace(
        found,
        provenance={
            "model": config.model,
            "data": data.source.name,
            "seed": config.seed,
            "order": config.order,
            "finalists": len(proposed),
            "validation_ap": round(scores[winner]["validation_ap"], 5),
            "chiasm": library_versions()["chiasm"],
        },
    )
    write_genotype(genotype, data)
    say(genotype.summary())
    return genotype


def _relaxed(config: DetectionConfig, data: DetectionDataModule, budget: Budget) -> FusionSearch:
    module = FusionSearch(
        data.detector("supernet"),
        architecture_batches=data.loader("architecture"),
        budget=budget,
        epochs=config.search_epochs,
        learning_rate=config.learning_rate,
        architecture_rate=config.architecture_rate,
        order=config.order,
    )
    say("Searching how to fuse ...")
    fit(
        module,
        data.loader("learn"),
        data.loader("validate"),
        folder=config.out,
        name="search",
        epochs=config.search_epochs,
        budget=budget,
    )
    return module


def _short_training(
    fusion: Genotype | str, data: DetectionDataModule, number: int, *, seconds: float
) -> dict[str, float]:
    config = data.config
    detector = data.detector(fusion)
    budget = Budget(None if seconds == float("inf") else seconds / 60)
    required = detector.fusion.required
    learn = data.loader("learn", required=required)
    epochs = max(config.final_epochs, math.ceil(config.final_steps / len(learn)))
    module = SegmentationTraining(
        detector,
        budget=budget,
        epochs=epochs,
        learning_rate=config.learning_rate,
    )
    name = f"final_{number}"
    fit(
        module,
        learn,
        data.loader("validate", required=required),
        folder=config.out,
        name=name,
        epochs=epochs,
        budget=budget,
    )
    # A finished finalist is never resumed: its checkpoint only takes room.
    shutil.rmtree(config.out / "checkpoints" / name, ignore_errors=True)
    return {"validation_ap": module.validation_ap[-1]}


def write_genotype(genotype: Genotype, data: DetectionDataModule) -> None:
    """Write the genotype and its drawing to the run's folder."""
    folder = data.config.out
    genotype.save(folder / "genotype.json")
    draw_genotype(genotype, path_svg=folder / "genotype.svg", path_png=folder / "genotype.png")
