"""Search a fusion architecture: a differentiable search proposes, a final round decides."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule, open_run
from chiasm.detection.training.search import FusionSearch
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.finalists import propose
from chiasm.fusion.genotype import Genotype
from chiasm.runs.console import say
from chiasm.runs.final_round import final_round
from chiasm.runs.model_folder import library_versions
from chiasm.training.trainer import Budget, fit

RELAXED_SHARE = 0.5  # of the search's budget; the rest is the final round

CONCATENATION: Final = "concatenation"  # name of the hand-made fusion


def search(config: DetectionConfig, *, data: DetectionDataModule | None = None) -> Genotype:
    """Search the fusion architecture.

    The relaxed network is searched first. Its strongest architecture and others drawn from its
    choices are the finalists: each is trained from scratch for a few epochs, and the one with the
    highest pixel AP on held-out normals wins. With ``search.finalists=1`` the strongest is taken
    without a final round, as in the paper.

    Writes ``genotype.json`` and its drawing, ``search_history.json`` and ``finalists.json`` to the
    run's folder.

    Raises:
        ConfigurationError: the model has no fusion to search.
    """
    if data is None:
        data = open_run(config)
        genotype = search(config, data=data)
        data.remove_stored()
        return genotype
    best = _best_fusion(config, data, hand_made=())
    assert isinstance(best, Genotype)
    return best


def search_or_concatenate(config: DetectionConfig, *, data: DetectionDataModule) -> Genotype | str:
    """Search as ``search`` does, with the hand-made concatenation among the finalists.

    Returns ``"concatenation"``, and writes no genotype, where that wins.
    """
    return _best_fusion(config, data, hand_made=(CONCATENATION,))


def _best_fusion(
    config: DetectionConfig, data: DetectionDataModule, *, hand_made: Sequence[str]
) -> Genotype | str:
    left = data.seconds_left()
    limited = left != float("inf")
    has_final_round = config.search.finalists > 1 or bool(hand_made)
    share = config.search.share * (RELAXED_SHARE if has_final_round else 1.0)
    relaxed = _search_relaxed(config, data, Budget(share * left / 60 if limited else None))
    (config.out / "search_history.json").write_text(
        json.dumps(relaxed.best.history, indent=2) + "\n"
    )
    finalists: list[Genotype | str] = [
        *propose(
            relaxed.supernet,
            best=relaxed.best.genotype,
            count=config.search.finalists,
            seed=config.seed,
        ),
        *hand_made,
    ]
    seconds = config.search.share * (1 - RELAXED_SHARE) * left if limited else float("inf")
    scores = [{"validation_ap": relaxed.best.value}]
    if len(finalists) > 1:
        scores = final_round(
            finalists,
            record=config.out / "finalists.json",
            lengths=[config.search.final_epochs, config.search.final_steps],
            evaluate=lambda fusion, number: _train_finalist(
                fusion, data, number, seconds=seconds / len(finalists)
            ),
        )
    winner = max(range(len(finalists)), key=lambda number: scores[number]["validation_ap"])
    fusion = finalists[winner]
    if isinstance(fusion, str):
        say(f"The hand-made {fusion} did better than {winner} searched architectures.")
        return fusion
    genotype = replace(
        fusion,
        provenance={
            "model": config.model,
            "data": data.source.name,
            "seed": config.seed,
            "order": config.search.order,
            "finalists": len(finalists),
            "validation_ap": round(scores[winner]["validation_ap"], 5),
            "chiasm": library_versions()["chiasm"],
        },
    )
    write_genotype(genotype, data)
    say(genotype.summary())
    return genotype


def _search_relaxed(
    config: DetectionConfig, data: DetectionDataModule, budget: Budget
) -> FusionSearch:
    module = FusionSearch(
        data.detector("supernet"),
        architecture_batches=data.loader("architecture"),
        budget=budget,
        epochs=config.search.epochs,
        architecture_rate=config.search.rate,
        order=config.search.order,
        warm_up=config.search.warm_up,
        **config.optimisation,
    )
    say("Searching the fusion ...")
    fit(
        module,
        data.loader("train"),
        data.loader("validate"),
        folder=config.out,
        name="search",
        epochs=config.search.epochs,
        budget=budget,
    )
    return module


def train_fusion(
    fusion: Genotype | str,
    data: DetectionDataModule,
    *,
    name: str,
    epochs: int,
    steps: int = 0,
    seconds: float,
) -> SegmentationTraining:
    """Train a detector with a fixed fusion.

    Args:
        fusion: genotype or name of a hand-made fusion.
        data: of the run.
        name: of the stage, for checkpoints and logs.
        epochs: passes over the training data.
        steps: of the weights, at least; they may take more epochs.
        seconds: budget; infinite without one.
    """
    config = data.config
    detector = data.detector(fusion)
    required = detector.fusion.required
    batches = data.loader("train", required=required)
    epochs = max(epochs, math.ceil(steps / len(batches)))
    budget = Budget(None if seconds == float("inf") else seconds / 60)
    module = SegmentationTraining(detector, budget=budget, epochs=epochs, **config.optimisation)
    fit(
        module,
        batches,
        data.loader("validate", required=required),
        folder=config.out,
        name=name,
        epochs=epochs,
        budget=budget,
    )
    return module


def _train_finalist(
    fusion: Genotype | str, data: DetectionDataModule, number: int, *, seconds: float
) -> dict[str, float]:
    name = f"final_{number}"
    settings = data.config.search
    module = train_fusion(
        fusion,
        data,
        name=name,
        epochs=settings.final_epochs,
        steps=settings.final_steps,
        seconds=seconds,
    )
    # A finished finalist is never resumed: its checkpoint only takes space.
    shutil.rmtree(data.config.out / "checkpoints" / name, ignore_errors=True)
    return {"validation_ap": module.validation_ap[-1]}


def write_genotype(genotype: Genotype, data: DetectionDataModule) -> None:
    """Write the genotype and its drawing to the run's folder."""
    folder = data.config.out
    genotype.save(folder / "genotype.json")
    draw_genotype(genotype, path_svg=folder / "genotype.svg", path_png=folder / "genotype.png")
