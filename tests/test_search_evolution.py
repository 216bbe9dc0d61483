"""Search by evolution in both wings, in small size: trade-offs, budgets, and what wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from chiasm.deploy import piece_costs
from chiasm.deploy.fusion_costs import measure_classifier_costs
from chiasm.detection.config import DetectionConfig
from chiasm.detection.fusion_search.evolution import evolve_fusion
from chiasm.detection.opening import open_run as open_parts
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train as train_detector
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import open_run as open_recordings
from chiasm.diagnosis.fusion_search.fixed_fusion import network_of_all
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.search import search_fusion
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.diagnosis.train import train as train_classifier
from chiasm.errors import ConfigurationError
from chiasm.fusion.costs import BASE, Cost, PieceCosts
from chiasm.fusion.genotype import Genotype
from stub_crew import InTwos

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SEARCH = {
    "method": "evolution",
    "epochs": 1,
    "finalists": 3,
    "final_epochs": 1,
    "final_steps": 1,
    "population": 4,
    "generations": 1,
}
PARTS = {
    "image_size": 64,
    "rounds": 1,
    "memory_entries": 1000,
    "rotate": False,
    "train_epochs": 1,
    "batch": 4,
}
RECORDINGS = {
    "model": "fused_small",
    "image_size": 32,
    "seconds": 0.5,
    "windows": 2,
    "shares": (0.7, 0.3, 0.0),
    "pretrain_epochs": 0,
    "epochs": 1,
    "batch": 12,
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    counts = {"train": 8, "validation": 2, "test_good": 1, "test_per_defect": 1}
    return make_scenes(folder, products=("flange",), size=96, **counts)[0]


def one_millisecond_each(detector, data) -> PieceCosts:
    """Count a millisecond for each unit of evidence and nothing for the fusion."""
    units = detector.source.units
    free = [
        *(f"project:{name}" for name in (*data.pools.features, *data.pools.maps())),
        *(f"operation:{name}" for name in data.config.operations),
        "output",
        "join",
    ]
    dear = (*units(frozenset(data.pools.maps())), BASE)
    return PieceCosts(
        dict.fromkeys(free, Cost(0.0, 0.0)) | dict.fromkeys(dear, Cost(1.0, 1.0)), units
    )


def configured(parts: Path, out: Path, **search: Any) -> DetectionConfig:
    return DetectionConfig.make(data=parts, out=out, **PARTS, search=SEARCH | search)


@pytest.fixture(scope="module")
def searched(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Genotype]:
    config = configured(parts, tmp_path_factory.mktemp("searched"))
    data = open_parts(config)
    return config.out, evolve_fusion(config, data, measure=one_millisecond_each, at_knee=False)


def test_every_judged_architecture_has_its_figures_and_its_cost(searched):
    out, genotype = searched
    content = json.loads((out / "pareto.json").read_text())
    assert len(content["judged"]) == 8
    for row in content["judged"]:
        assert 0 <= row["validation_ap"] <= 1
        kinds = [value for name, value in row.items() if name.startswith("ap:")]
        assert row["validation_ap"] == pytest.approx(sum(kinds) / len(kinds))
        assert 1 <= row["milliseconds"] <= 9  # base, and four units of each sensor
    chosen = content["finalists"][content["chosen"]]
    assert chosen["cells"] == json.loads(genotype.to_json())["cells"]
    assert Genotype.load(out / "genotype.json") == genotype


def test_a_crew_stores_judges_and_trains_the_same(searched, parts, tmp_path):
    crew = InTwos()
    config = configured(parts, tmp_path / "run")
    data = open_parts(config, crew=crew)
    stored = crew.computed
    assert stored > 0
    genotype = evolve_fusion(config, data, measure=one_millisecond_each, at_knee=False)
    rows = json.loads((config.out / "finalists.json").read_text())
    assert crew.computed == stored + 8 + len(rows)
    assert genotype == searched[1]
    assert (config.out / "pareto.json").read_text() == (searched[0] / "pareto.json").read_text()


def test_the_hand_made_fusion_is_compared_to_the_end(searched, parts):
    out, _ = searched
    rows = json.loads((out / "finalists.json").read_text())
    last = max(row["steps"] for row in rows)
    at_the_end = [row["cells"] for row in rows if row["steps"] == last]
    joins = [cells for cells in at_the_end if len(cells.get("late", {}).get("inputs", ())) == 14]
    assert joins


def test_a_resumed_search_keeps_its_finalists_though_costs_are_measured_anew(
    parts, searched, monkeypatch
):
    out, genotype = searched

    def dearer(detector, data) -> PieceCosts:
        costs = one_millisecond_each(detector, data)
        pieces = {name: Cost(9 * c.milliseconds, 9.0) for name, c in costs.pieces.items()}
        return PieceCosts(pieces, costs.units)

    monkeypatch.setattr("chiasm.runs.evolution_round.evolve", None)  # not called again
    config = configured(parts, out)
    again = evolve_fusion(config, open_parts(config), measure=dearer, at_knee=False)
    assert again.cells == genotype.cells


def test_a_budget_bounds_what_wins(parts, tmp_path):
    config = configured(parts, tmp_path / "run", budget_ms=6)
    data = open_parts(config)
    genotype = evolve_fusion(config, data, measure=one_millisecond_each, at_knee=False)
    costs = one_millisecond_each(data.detector("one_shot"), data)
    assert costs.of(genotype, maps=data.pools.maps(genotype.required)).milliseconds <= 6
    content = json.loads((config.out / "pareto.json").read_text())
    assert all(row["judged"]["milliseconds"] <= 6 for row in content["finalists"])


def test_the_score_rule_adds_no_memory_to_a_budget(parts, tmp_path):
    config = configured(parts, tmp_path / "run", budget_ms=6)
    train_detector(config, measure=one_millisecond_each)
    model = DetectionPredictor.load(config.out)
    source = model.detector.frozen_source
    needed = source.units(model.detector.fusion.required)  # maps, not groups of them
    read = {unit for unit in needed if unit.endswith("/memory")}
    assert {f"{modality}/memory" for modality in source.memories} == read
    assert len(read) < 2  # base, and all of both sensors with their memories, would be nine


def test_a_budget_below_everything_is_refused_with_the_cheapest(parts, tmp_path):
    config = configured(parts, tmp_path / "run", budget_ms=0.5)
    with pytest.raises(ConfigurationError, match=r"within 0\.5 ms; the nearest takes"):
        evolve_fusion(config, open_parts(config), measure=one_millisecond_each, at_knee=False)


def test_a_budget_without_measured_costs_is_refused(parts, tmp_path):
    config = configured(parts, tmp_path / "run", budget_ms=5)
    with pytest.raises(ConfigurationError, match="needs measured costs"):
        evolve_fusion(config, open_parts(config), measure=None, at_knee=False)


def test_the_better_of_what_evolved_and_the_hand_made_one_is_kept(parts, tmp_path, monkeypatch):
    config = configured(parts, tmp_path / "run")
    said: list[float] = []

    def figures(detector, data) -> float:
        reads_all = len(detector.fusion.required) == 14
        said.append(0.7 if reads_all else 0.2)
        return said[-1]

    monkeypatch.setattr("chiasm.detection.fusion_search.final_training.choose_score_rule", figures)
    result = train_detector(config)
    if len(said) == 1:
        assert said == [0.7]  # the concatenation had won before
    assert result.validation_ap == 0.7
    assert result.genotype is not None
    assert len(result.genotype.required) == 14
    assert Genotype.load(config.out / "genotype.json").cells == result.genotype.cells


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discharges")
    make_recordings(folder, count=36, sessions=18, seed=5, workers=1)
    return folder


def test_a_classifier_evolves_and_is_usable_from_its_folder(recordings, tmp_path):
    config = DiagnosisConfig.make(
        data=recordings, out=tmp_path / "run", **RECORDINGS, search=SEARCH
    )
    train_classifier(config)
    content = json.loads((config.out / "pareto.json").read_text())
    assert content["metric"] == "validation_score"
    assert content["costs"] is None
    assert len(content["judged"]) == 8
    genotype = Genotype.load(config.out / "model" / "genotype.json")
    assert genotype.provenance["method"] == "evolution"
    network = DiagnosisPredictor.load(config.out).network
    assert network.fusion.required >= genotype.required - {"cell:early", "cell:middle"}


def test_the_units_of_recordings_are_what_features_depend_on(recordings, tmp_path):
    config = DiagnosisConfig.make(data=recordings, out=tmp_path / "run", **RECORDINGS)
    network = network_of_all(open_recordings(config), "one_shot").eval()
    source = network.source
    assert source.units({"image/stage2"}) == ("image/stage1", "image/stage2")
    assert source.units({"series/flow"}) == ("series/embedding", "series/flow")
    joint = ("image/embedding", "series/embedding", "image/flow", "series/flow", "layer1", "layer2")
    assert source.units({"image/layer2"}) == joint
    every = source.units(network.fusion.required)
    units = {unit.name: unit for unit in source.evidence_units(network.example_batch(2))}
    assert set(units) == set(every) and "tokens" in units
    with torch.no_grad():
        features = source(network.example_batch(2), network.fusion.required).maps
        for name in ("image/stage2", "series/stage3"):  # of the finest to the coarsest
            value = units[name].network(*units[name].inputs)
            mean = F.adaptive_avg_pool2d(value, features[name].shape[-1])
            torch.testing.assert_close(mean, features[name])


def test_a_search_of_recordings_weighs_measured_costs(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(piece_costs, "_SECONDS", 0.0)
    monkeypatch.setattr(piece_costs, "_FEWEST", 1)
    settings = RECORDINGS | {"search": SEARCH | {"budget_mb": 50.0}, "fusion": "best"}
    config = DiagnosisConfig.make(data=recordings, out=tmp_path / "run", **settings)
    train_classifier(config, measure=measure_classifier_costs)
    content = json.loads((config.out / "pareto.json").read_text())
    pieces = content["costs"]["pieces"]
    # What has weights has a size, and more of it costs more.
    assert pieces["layer1"]["megabytes"] > 0.1 and pieces["image/stage3"]["megabytes"] > 0
    assert pieces[BASE]["megabytes"] < pieces["layer1"]["megabytes"]
    for row in content["finalists"]:
        assert 0 < row["megabytes"] <= 50 and row["milliseconds"] > 0


def test_budgets_and_the_knee_of_recordings_need_measured_costs(recordings, tmp_path):
    for number, wanted in enumerate(({"search": SEARCH | {"budget_mb": 5.0}}, {"fusion": "best"})):
        settings = RECORDINGS | {"search": SEARCH} | wanted
        config = DiagnosisConfig.make(data=recordings, out=tmp_path / str(number), **settings)
        with pytest.raises(ConfigurationError, match="measured costs"):
            search_fusion(open_recordings(config))
    config = DiagnosisConfig.make(
        data=recordings, out=tmp_path / "gradient", **RECORDINGS, fusion="best"
    )
    with pytest.raises(ConfigurationError, match="evolution"):
        search_fusion(open_recordings(config))
