"""Final training of a fusion that is searched, drawn, read or made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chiasm.detection.building import builder_arguments
from chiasm.detection.calibrate import calibrate_and_save
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.evolution import MeasureCosts
from chiasm.detection.fusion_search.fixed_fusion import train_fusion, write_genotype
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.models.cost import cost_of
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.score_rule import choose_score_rule, score_rule_in_words, set_image_rule
from chiasm.detection.search import (
    CONCATENATION,
    search,
    search_or_concatenate,
)
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.fusion.finalists import random_architecture
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.metrics.ranking import nan_loses
from chiasm.runs.console import say

# Of the seconds that are left; the choice of the score rule takes the rest.
TRAINING_SHARE = 0.9
# A training has these seconds, or this share of the minutes if that is less, whatever is left.
LEAST_SECONDS, LEAST_SHARE = 6.0, 0.05


def compared(fusion: Genotype | str, data: DetectionDataModule) -> list[Genotype | str]:
    """Return the fusions that are trained for good: after an evolution the hand-made one, too.

    Finalists are compared after few steps, where a small network may lead that does not in the end.
    With the final weights trained on all parts there are none left to compare on, and the knee of
    the trade-offs is not chosen by validation AP alone.
    """
    config = data.config
    if config.fusion != "search" or not config.search.evolves or config.final_data == "all":
        return [fusion]
    made_by_hand = concatenation(data.pools)
    if config.bounds_cost or not isinstance(fusion, Genotype):
        return [fusion]
    return [fusion] if fusion.cells == made_by_hand.cells else [fusion, made_by_hand]


def trained(
    fusions: Sequence[Genotype | str], data: DetectionDataModule
) -> tuple[Genotype | str, SegmentationTraining, float]:
    """Train detectors with some fusions; return the best by validation AP, and that AP."""
    config = data.config
    made_by_hand = concatenation(data.pools).cells
    best: tuple[float, Genotype | str, SegmentationTraining] | None = None
    for number, fusion in enumerate(fusions):
        by_hand = isinstance(fusion, Genotype) and fusion.cells == made_by_hand
        say("Training the hand-made concatenation ..." if by_hand else "Training the detector ...")
        module = train_fusion(
            fusion,
            data,
            name=f"train_{CONCATENATION}" if by_hand else "train",
            epochs=config.train_epochs,
            seconds=training_seconds(data) / (len(fusions) - number),
        )
        module.detector.eval()
        validation_ap = choose_score_rule(module.detector, data)
        if len(fusions) > 1:
            say(f"Validation AP {validation_ap:.3f}.")
        if best is None or nan_loses(validation_ap) > nan_loses(best[0]):
            best = validation_ap, fusion, module
    assert best is not None
    if best[1] is not fusions[-1]:
        choose_score_rule(best[2].detector, data)  # its rule is the one that is written
    if len(fusions) > 1 and isinstance(best[1], Genotype):
        write_genotype(best[1], data)
    return best[1], best[2], best[0]


def training_seconds(data: DetectionDataModule) -> float:
    """Return the seconds that the training of one fusion may take."""
    least = min(LEAST_SECONDS, LEAST_SHARE * 60 * (data.config.minutes or math.inf))
    return TRAINING_SHARE * max(data.seconds_left(), least)


def fusion_of(
    config: DetectionConfig, data: DetectionDataModule, measure: MeasureCosts | None
) -> Genotype | str:
    """Return the configured fusion: searched, drawn or read, and written to the run's folder."""
    searched = config.out / "genotype.json"
    if config.fusion in ("search", "best") and searched.exists():
        return Genotype.load(searched)
    if config.fusion == "search":
        return search(config, data=data, measure=measure)
    if config.fusion == "best":
        return search_or_concatenate(config, data=data, measure=measure)
    if config.fusion == CONCATENATION:
        return CONCATENATION
    if config.fusion == "random":
        genotype = random_architecture(
            data.pools, nodes=config.nodes, seed=config.seed, operations=config.operations
        )
    else:
        genotype = Genotype.load(config.fusion)
        genotype.validate(data.pools)
    write_genotype(genotype, data)
    return genotype


def finish(
    fusion: Genotype | str,
    detector: AdnasDetector,
    validation_ap: float,
    data: DetectionDataModule,
    *,
    steps: int,
) -> float:
    """Choose the image's score of a trained detector, calibrate it and save it.

    Returns the minutes since the start of the run.

    Args:
        fusion: that it has.
        detector: trained, with its rule of the map.
        validation_ap: of that rule.
        data: of the run.
        steps: of the training.
    """
    config = data.config
    set_image_rule(detector, data, held_out=True)
    example = to_batch(
        data.calibration[:1] if data.tiles is None else [data.parts[0]],
        data.geometry,
        modalities=config.modalities,
        device=data.device,
    )
    figures = {
        "validation_ap": validation_ap,
        "rotations": data.rotations,
        "steps": steps,
        "final_data": config.final_data,
        "selection": "validation" if data.selected_on_calibration else "held_out",
        "precision": data.multiplied,
        "macs_before_pruning": cost_of(detector, example).macs,
    }
    detector.prune()
    genotype = fusion if isinstance(fusion, Genotype) else None
    return calibrate_and_save(
        detector,
        data,
        arguments={
            name: value
            for name, value in builder_arguments(config).items()
            if name not in ("modalities", "operations")  # a field of the contract; the genotype's
        }
        | ({} if detector.frozen_source is None else {"score_distance": detector.score_distance}),
        fusion="genotype" if genotype is not None else CONCATENATION,
        score_rule=score_rule_in_words(detector),
        genotype=genotype,
        figures=figures,
    )
