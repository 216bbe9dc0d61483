"""Search how to fuse the features of recordings: the same space and rounds as for parts."""

from __future__ import annotations

import inspect
import json
import shutil
from dataclasses import replace
from itertools import count
from typing import cast

from chiasm.diagnosis.config import DiagnosisConfig, SearchSettings
from chiasm.diagnosis.datamodule import GIVEN, DiagnosisDataModule, group_of, open_data, open_folder
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.diagnosis.readers.splits import RecordingSplit, split_recordings
from chiasm.diagnosis.training.classify import ClassTraining
from chiasm.diagnosis.training.search import ClassSearch
from chiasm.errors import ConfigurationError
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.finalists import propose, reads
from chiasm.fusion.genotype import Genotype, random_genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.pools import Pools
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runs.final_round import final_round
from chiasm.runs.model_folder import GENOTYPE, library_versions
from chiasm.training.keep_best import KeepBest
from chiasm.training.trainer import Budget, fit

RELAXED_SHARE = 0.5  # of the search's budget; the rest is the final round


def with_fusion(data: DiagnosisDataModule) -> DiagnosisDataModule:
    """The data with its fusion decided: searched unless the settings say otherwise.

    Nothing changes for a model that has no fusion to choose. A search that is finished, of this
    run, is not done again; its share of the minutes is no longer there for training either way.

    Raises:
        ConfigurationError: the settings name a fusion for a model that has none to choose.
        GenotypeError: the named file cannot be read, or does not fit the model.
    """
    config = data.config
    if not has_fusion(config.model):
        if config.fusion is not None or config.search is not None:
            raise ConfigurationError(
                f"{config.model} has no fusion to choose; leave 'fusion' and 'search' out, or "
                "train fused_small."
            )
        return data
    asked = config.fusion or "search"
    fusion: Genotype | str
    if asked == "search":
        found = config.out / GENOTYPE
        fusion = Genotype.load(found) if found.exists() else search_classes(data)
        if config.minutes is not None:
            share = 1 - (config.search or SearchSettings()).share
            config = config.model_copy(update={"minutes": share * config.minutes})
    elif asked == "concatenation":
        fusion = asked
    else:
        pools = cast(FusionSupernet, _supernet(data).fusion).pools
        if asked == "random":
            options = {k: v for k, v in config.options.items() if k in ("nodes", "operations")}
            draws = (random_genotype(pools, seed=seed, **options) for seed in count(config.seed))
            fusion = next(one for one in draws if reads(one, _sensors(pools)))
        else:
            fusion = Genotype.load(asked)
            fusion.validate(pools)
        _write(fusion, config)
    return replace(data, config=config, fusion=fusion)


def has_fusion(model: str) -> bool:
    """Whether a classifier's fusion can be chosen."""
    return "fusion" in inspect.signature(find_model(model).builder).parameters


def search_classes(data: DiagnosisDataModule) -> Genotype:
    """Search the fusion on the training recordings.

    Every finalist reads all sensors: with one absent, it still has something to go by. The weights
    learn from some sessions, the architecture from others; the relaxed network's best epoch and
    the finalists are chosen on the validation recordings: by macro-F1 (where modalities are
    dropped, its mean over all of them and each alone), then by cross-entropy. The test recordings
    have no part in it.

    Writes ``genotype.json`` and its drawing, ``search_history.json`` and ``finalists.json`` to the
    run's folder.
    """
    config = data.config
    wanted = config.search or SearchSettings()
    several = wanted.finalists > 1
    minutes = config.minutes and config.minutes * wanted.share
    module = _relaxed(data, wanted, minutes and minutes * (RELAXED_SHARE if several else 1.0))
    history = json.dumps(module.best.history, indent=2) + "\n"
    (config.out / "search_history.json").write_text(history)
    proposed = propose(
        module.supernet,
        best=module.best.genotype,
        count=wanted.finalists,
        seed=config.seed,
        sensors=_sensors(module.supernet.pools),
    )
    figures: list[dict[str, float]] = [{"validation_loss": -module.best.value}]
    if len(proposed) > 1:
        each = minutes and minutes * (1 - RELAXED_SHARE) / len(proposed)
        figures = final_round(
            proposed,
            record=config.out / "finalists.json",
            wanted=[wanted.final_epochs],
            judge=lambda genotype, number: _short_training(
                replace(data, fusion=genotype), wanted, number, each
            ),
        )
    winner = max(range(len(proposed)), key=lambda number: _rank(figures[number]))
    genotype = replace(
        proposed[winner].pruned(),
        provenance={
            "model": config.model,
            "data": data.store.name,
            "seed": config.seed,
            "order": wanted.order,
            "finalists": len(proposed),
            **{name: round(value, 5) for name, value in figures[winner].items()},
            "chiasm": library_versions()["chiasm"],
        },
    )
    _write(genotype, config)
    say(genotype.summary())
    return genotype


def _relaxed(
    data: DiagnosisDataModule, wanted: SearchSettings, minutes: float | None
) -> ClassSearch:
    config = data.config
    by = group_of(GIVEN, data.split.train)
    parts = split_recordings(
        data.split.train, by=by, shares=(1 - wanted.held_out, wanted.held_out, 0), seed=config.seed
    )
    learn = replace(data, split=RecordingSplit(parts.train, data.split.validation, ()))
    held_out = replace(data, split=RecordingSplit(parts.validation, (), ()))
    budget = Budget(minutes)
    module = ClassSearch(
        _supernet(data),
        architecture_batches=held_out.loader("classify"),
        budget=budget,
        epochs=wanted.epochs,
        learning_rate=config.rate,
        architecture_rate=wanted.rate,
        order=wanted.order,
        modality_dropout=config.dropout,
        seed=config.seed,
    )
    say("Searching how to fuse ...")
    fit(
        module,
        learn.loader("classify"),
        learn.loader("classify_check"),
        folder=config.out,
        name="search",
        epochs=wanted.epochs,
        budget=budget,
        precision="32-true",
    )
    return module


def _short_training(
    data: DiagnosisDataModule, wanted: SearchSettings, number: int, minutes: float | None
) -> dict[str, float]:
    config = data.config
    network = data.network()
    budget = Budget(minutes)
    module = ClassTraining(
        network,
        budget=budget,
        epochs=wanted.final_epochs,
        learning_rate=config.rate,
        modality_dropout=config.dropout,
        seed=config.seed + 1,
    )
    best = KeepBest(network, metric="validation_score", tie="validation_loss")
    name = f"final_{number}"
    fit(
        module,
        data.loader("classify"),
        data.loader("classify_check"),
        folder=config.out,
        name=name,
        epochs=wanted.final_epochs,
        budget=budget,
        precision="32-true",
        gradient_clip=1.0,
        callbacks=[best],
    )
    # A finished finalist is never resumed: its checkpoint only takes room.
    shutil.rmtree(config.out / "checkpoints" / name, ignore_errors=True)
    return {"validation_score": best.best[0], "validation_loss": -best.best[1]}


def _rank(figures: dict[str, float]) -> tuple[float, float]:
    return figures.get("validation_score", 0.0), -figures["validation_loss"]


def _supernet(data: DiagnosisDataModule) -> FusedClassifier:
    network = replace(data, fusion="supernet").network()
    assert isinstance(network, FusedClassifier)
    return network


def _sensors(pools: Pools) -> frozenset[str]:
    return frozenset(candidate.modality for candidate in pools.features.values())


def _write(genotype: Genotype, config: DiagnosisConfig) -> None:
    genotype.save(config.out / GENOTYPE)
    draw_genotype(
        genotype,
        path_svg=config.out / "genotype.svg",
        path_png=config.out / "genotype.png",
        head="class",
    )


def search(config: DiagnosisConfig) -> Genotype:
    """Search the fusion of a model in a run's folder, in which training may go on from it.

    Raises ``ConfigurationError`` for a model that has no fusion to choose, or where the folder
    holds a run with other settings.
    """
    if not has_fusion(config.model):
        raise ConfigurationError(
            f"{config.model} has no fusion to search; fused_small fuses the features of mad_small."
        )
    open_folder(config)
    return search_classes(open_data(config))
