"""Train a detector from a folder of normal parts, searching its fusion first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chiasm.detection.building import builder_arguments, trains_features
from chiasm.detection.calibrate import calibrate_and_save
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import read_contract
from chiasm.detection.cross_calibration import check_refits, cross_scores, remove_folds
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.evolution import MeasureCosts
from chiasm.detection.fusion_search.fixed_fusion import train_fusion, write_genotype
from chiasm.detection.models.cost import cost_of
from chiasm.detection.opening import open_run
from chiasm.detection.prediction.known_defects import choose_by_defects, is_own
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.score_rule import choose_score_rule, score_rule_in_words, set_image_rule
from chiasm.detection.search import (
    CONCATENATION,
    search,
    search_or_concatenate,
)
from chiasm.detection.train_baseline import train_baseline
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.errors import ConfigurationError
from chiasm.fusion.finalists import random_architecture
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.metrics.ranking import nan_loses
from chiasm.registry import find_model, models
from chiasm.runs.console import say
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.data_parallel import check_device, check_rows, is_several
from chiasm.runs.model_folder import write_contract
from chiasm.training.device import device_errors, find_device
from chiasm.training.trainer import LOWER

FUSIONS = ("search", "best", CONCATENATION, "random")
# Of the seconds that are left; the choice of the score rule takes the rest.
TRAINING_SHARE = 0.9
# A training has these seconds, or this share of the minutes if that is less, whatever is left.
LEAST_SECONDS, LEAST_SHARE = 6.0, 0.05


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Result of a run.

    Attributes:
        folder: the run's folder; ``folder/model`` is the model.
        genotype: of a fusion that has one.
        minutes: of the whole run.
        validation_ap: pixel AP on held-out normals with anomalies of other generators; NaN of
            a baseline.
    """

    folder: Path
    genotype: Genotype | None
    minutes: float
    validation_ap: float


def train(
    config: DetectionConfig,
    *,
    data: DetectionDataModule | None = None,
    measure: MeasureCosts | None = None,
    crew: Crew = ALONE,
    started: float | None = None,
) -> TrainResult:
    """Train a detector and save it; search its fusion first where ``config.fusion`` asks for that.

    A baseline is trained in its own steps. An interrupted run continues where it stopped when it
    is started again with the same folder.

    Args:
        config: of the run.
        data: of the run; None opens them.
        measure: measures what pieces of a detector cost, for ``search.method=evolution``.
        crew: processes that store features, judge architectures and train finalists and, together,
            the final weights of a model that trains its features.
        started: ``time.monotonic()`` from which the minutes count; None is now.

    Raises:
        ConfigurationError: the fusion is neither a known name nor a file, there are options for
            a model that has none, the model cannot be calibrated as configured, or one process
            trains it and several were asked for.
    """
    if config.fusion not in FUSIONS and not Path(config.fusion).is_file():
        raise ConfigurationError(
            f"fusion is {', '.join(FUSIONS)} or a genotype's file; {config.fusion!r} is neither."
        )
    check_refits(config)  # before any search or training
    _check_crew(config, crew)
    if data is None:
        with device_errors(find_device(config.device), remedy=LOWER):
            data = open_run(config, crew=crew, started=started)
            result = train(data.config, data=data, measure=measure)
        # An interrupted run keeps them, and reads them when it is resumed.
        data.remove_stored()
        remove_folds(config)
        if config.defects is not None:
            _let_defects_choose(config, data)
        say(read_contract(config.out / "model").alarm_rule.promise)
        return result
    if find_model(config.model).pools is None:
        cross = cross_scores(data, train=train)
        minutes = train_baseline(data, seconds=_training_seconds(data), cross=cross)
        return TrainResult(config.out, None, minutes, math.nan)
    if config.options:
        raise ConfigurationError(
            f"{config.model} has no options; its settings are those of the run. Remove "
            f"{', '.join(sorted(config.options))} from options."
        )
    if trains_features(find_model(config.model)):
        check_rows(data.crew, data.loader("final"), micro=config.accumulate)
    fusion = _fusion_of(config, data, measure)
    fusion, module, validation_ap = _trained(_compared(fusion, data), data)
    detector = module.detector
    set_image_rule(detector, data, held_out=True)
    example = to_batch(
        data.calibration[:1], data.geometry, modalities=config.modalities, device=data.device
    )
    figures = {
        "validation_ap": validation_ap,
        "rotations": data.rotations,
        "steps": module.steps,
        "final_data": config.final_data,
        "selection": "validation" if data.selected_on_calibration else "held_out",
        "precision": data.multiplied,
        "macs_before_pruning": cost_of(detector, example).macs,
    }
    detector.prune()
    genotype = fusion if isinstance(fusion, Genotype) else None
    minutes = calibrate_and_save(
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
    return TrainResult(config.out, genotype, minutes, validation_ap)


def _let_defects_choose(config: DetectionConfig, data: DetectionDataModule) -> None:
    """Write the threshold that the configured known defects choose into the run's contract."""
    assert config.defects is not None
    own = is_own(config.defects)
    model = config.out / "model"
    known = choose_by_defects(
        DetectionPredictor.load(config.out, device=config.device),
        config.data if own else config.defects,
        miss_rate=config.miss_rate,
        own=own,
        left_out=frozenset(part.source for part in data.defects),
    )
    contract = read_contract(model)
    write_contract(model, contract.model_copy(update={"known_defects": known}))


def _compared(fusion: Genotype | str, data: DetectionDataModule) -> list[Genotype | str]:
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


def _check_crew(config: DetectionConfig, crew: Crew) -> None:
    """Refuse several processes for a model that has no work for them, and one GPU for all."""
    model = find_model(config.model)
    if model.pools is None and is_several(crew):
        raise ConfigurationError(
            f"{config.model} is fitted in steps of its own, in one process; leave out --workers "
            "and --ray. Models with work for several: "
            f"{', '.join(m.name for m in models('detector') if m.pools is not None)}."
        )
    if trains_features(model):
        check_device(crew, config.device)


def _trained(
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
            seconds=_training_seconds(data) / (len(fusions) - number),
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


def _training_seconds(data: DetectionDataModule) -> float:
    least = min(LEAST_SECONDS, LEAST_SHARE * 60 * (data.config.minutes or math.inf))
    return TRAINING_SHARE * max(data.seconds_left(), least)


def _fusion_of(
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
