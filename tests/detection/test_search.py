"""A search of parts: disjoint parts, enough anomalies, equal steps, both sensors, little time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.opening import ANOMALIES_TO_CHOOSE_BY, open_data
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.search import search
from chiasm.detection.train import train
from chiasm.detection.training.search import FusionSearch
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.fusion.genotype import Genotype
from stub_crew import InTwos

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SLIM = {
    "model": "adnas_slim",
    "image_size": 64,
    "train_epochs": 1,
    "batch": 2,
    "search": {"epochs": 2, "finalists": 3, "final_epochs": 2, "final_steps": 1},
}
LIGHT = SLIM | {"model": "adnas_light", "rounds": 1, "memory_entries": 1000, "rotate": False}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    counts = {"train": 8, "validation": 2, "test_good": 1, "test_per_defect": 1}
    return make_scenes(folder, products=("flange",), size=96, **counts)[0]


def opened(parts: Path, folder: Path, **settings: Any) -> DetectionDataModule:
    folder.mkdir(exist_ok=True)
    return open_data(DetectionConfig.make(data=parts, out=folder, **settings))


def count_batches(data: DetectionDataModule, purpose: str) -> tuple[int, int]:
    """Return how many parts the batches of a purpose hold, and how many are anomalous."""
    masks = torch.cat([batch.mask for batch in data.loader(purpose)])
    return len(masks), int(masks.flatten(1).any(dim=1).sum())


@pytest.mark.parametrize("settings", [SLIM, LIGHT], ids=["slim", "light"])
def test_weights_architecture_and_selection_see_other_parts(
    parts: Path, tmp_path: Path, settings: dict[str, Any], monkeypatch
):
    data = opened(parts, tmp_path, **settings)
    three = [data.indices(purpose) for purpose in ("weights", "architecture", "validate")]
    assert sorted(i for some in three for i in some) == list(range(8))
    assert sorted(three[0] + three[1]) == data.indices("train") == data.indices("final")
    given: dict[str, Any] = {}

    def fitted(module, train, validation, **_):
        given.update(weights=train, architecture=module.steps._batches, validate=validation)

    monkeypatch.setattr("chiasm.detection.search.fit", fitted)
    monkeypatch.setattr("chiasm.detection.search.final_round", lambda *_, **__: None)
    with pytest.raises(AttributeError):  # the search ends where the final round has no result
        search(data.config, data=data)
    lengths = {purpose: len(loader.sampler) for purpose, loader in given.items()}
    rounds = 2 if settings is LIGHT else 1  # of held-out parts, at least
    assert lengths["weights"] == len(three[0])
    assert lengths["architecture"] == len(three[1]) * rounds
    assert lengths["validate"] == len(three[2]) * max(rounds, data.selection_rounds)


@pytest.mark.parametrize("settings", [SLIM, LIGHT], ids=["slim", "light"])
@pytest.mark.parametrize(("shots", "seed"), [(5, 0), (5, 3), (2, 1)])
def test_selection_has_enough_anomalies_however_few_parts(
    parts: Path, tmp_path: Path, settings: dict[str, Any], shots: int, seed: int
):
    data = opened(parts, tmp_path, **settings, shots=shots, seed=seed)
    shown, anomalous = count_batches(data, "validate")
    assert anomalous >= ANOMALIES_TO_CHOOSE_BY
    assert shown > anomalous
    assert count_batches(data, "validate") == (shown, anomalous)


def test_shared_parts_are_said(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    opened(parts, tmp_path, **SLIM, shots=2)
    assert "weights and architecture on the same" in " ".join(capsys.readouterr().out.split())
    opened(parts, tmp_path, **SLIM, shots=5)
    assert "on the same" not in capsys.readouterr().out


@pytest.mark.parametrize("settings", [SLIM, LIGHT], ids=["slim", "light"])
def test_the_final_weights_can_be_trained_on_all_normals(
    parts: Path, tmp_path: Path, settings: dict[str, Any]
):
    some = opened(parts, tmp_path / "some", **settings)
    everything = opened(parts, tmp_path / "all", **settings, final_data="all")
    assert everything.indices("final") == list(range(8))
    assert len(everything.loader("final").sampler) == 8
    for purpose in ("weights", "architecture", "train", "validate"):
        assert everything.indices(purpose) == some.indices(purpose)
        count = len(some.loader(purpose).sampler)
        assert len(everything.loader(purpose).sampler) == count
    # The parts that both train on have the same anomalies, in the same order.
    for batch, same in zip(some.loader("train"), everything.loader("train"), strict=True):
        assert torch.equal(batch.mask, same.mask)


PUBLISHED = SLIM | {"search": {"selection": "validation", "held_out": 0.5}}


@pytest.mark.parametrize("model", ["adnas_slim", "adnas_light"])
def test_the_data_sets_validation_split_selects(parts: Path, tmp_path: Path, model: str):
    settings = (LIGHT if model == "adnas_light" else SLIM) | {"search": PUBLISHED["search"]}
    data = opened(parts, tmp_path, **settings, final_data="all")
    assert data.selected_on_calibration and not data.held_out
    assert sorted(data.weights + data.architecture) == data.indices("final") == list(range(8))
    chosen = {part.source for part in data.synthetic("validate").parts}
    assert chosen == {part.source for part in data.calibration}
    assert not chosen & {part.source for part in data.parts}
    shown, anomalous = count_batches(data, "validate")
    assert anomalous >= ANOMALIES_TO_CHOOSE_BY
    assert count_batches(data, "validate") == (shown, anomalous)  # a fixed seed


def test_few_shots_read_no_validation_split_to_select(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = opened(parts, tmp_path, **PUBLISHED, shots=4, final_data="all")
    assert not data.selected_on_calibration
    assert data.held_out == data.architecture and len(data.weights) == 2
    assert data.indices("final") == list(range(4))
    assert "the search selects on the 2" in " ".join(capsys.readouterr().out.split())


class Starts:
    """Collects what the first weight of the source is where stages start and end."""

    def __init__(self, patch: pytest.MonkeyPatch, *, killed_at: int | None = None) -> None:
        self.finalists: list[float] = []
        self.relaxed: list[float] = []

        def started(module: SegmentationTraining) -> None:
            if len(self.finalists) == killed_at:
                raise RuntimeError("killed")
            self.finalists.append(self.first(module))

        patch.setattr(SegmentationTraining, "on_fit_start", started)
        patch.setattr(FusionSearch, "on_fit_end", lambda m: self.relaxed.append(self.first(m)))

    @staticmethod
    def first(module: FusionSearch | SegmentationTraining) -> float:
        return float(next(module.detector.source.parameters()).detach().flatten()[0])


@pytest.fixture(scope="module")
def whole(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Starts]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        starts = Starts(patch)
        data = opened(parts, folder, **SLIM)
        search(data.config, data=data)
    return folder, starts


def test_finalists_make_equal_steps_and_start_with_the_relaxed_weights(
    whole: tuple[Path, Starts],
):
    folder, starts = whole
    rows = json.loads((folder / "finalists.json").read_text())
    steps = rows[0]["steps"]
    assert steps == 3  # batches of two of six parts
    assert [row["steps"] for row in rows] == [steps] * 3 + [2 * steps] * 2
    assert starts.finalists[:3] == starts.relaxed * 3
    best = max(rows[3:], key=lambda row: row["validation_ap"])
    genotype = Genotype.load(folder / "genotype.json")
    assert genotype.provenance["steps"] == 2 * steps
    assert genotype.provenance["validation_ap"] == round(best["validation_ap"], 5)
    assert not list((folder / "checkpoints").glob("finalist_*"))


@pytest.mark.parametrize("killed_at", [1, 4])
def test_a_search_killed_in_the_final_round_finds_the_same(
    whole: tuple[Path, Starts], parts: Path, tmp_path: Path, killed_at: int
):
    data = opened(parts, tmp_path / "cut", **SLIM)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        Starts(patch, killed_at=killed_at)
        search(data.config, data=data)
    assert len(json.loads((tmp_path / "cut" / "finalists.json").read_text())) == killed_at
    search(data.config, data=data)
    for name in ("genotype.json", "finalists.json"):
        assert (tmp_path / "cut" / name).read_text() == (whole[0] / name).read_text()


def test_a_crew_finds_the_same(whole: tuple[Path, Starts], parts: Path, tmp_path: Path):
    crew = InTwos()
    data = replace(opened(parts, tmp_path / "run", **SLIM), crew=crew)
    search(data.config, data=data)
    assert crew.computed == 5
    genotypes = [Genotype.load(run / "genotype.json") for run in (tmp_path / "run", whole[0])]
    assert genotypes[0] == genotypes[1]
    rows = [
        sorted(map(str, json.loads((run / "finalists.json").read_text())))
        for run in (tmp_path / "run", whole[0])
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("seed", [3, 4, 6])  # of these, plain draws lack a sensor
def test_a_random_fusion_reads_both_sensors(parts: Path, tmp_path: Path, seed: int):
    train(DetectionConfig.make(data=parts, out=tmp_path, fusion="random", seed=seed, **SLIM))
    required = Genotype.load(tmp_path / "genotype.json").required
    assert {name.split("/")[0] for name in required} == {"rgb", "geometry"}


def test_a_run_without_time_left_trains_the_hand_made_fusion(
    parts: Path, tmp_path: Path, monkeypatch
):
    steps: list[str] = []
    for stage in (FusionSearch, SegmentationTraining):

        def counted(self, batch, number, step=stage.training_step):
            steps.append(type(self).__name__)
            return step(self, batch, number)

        monkeypatch.setattr(stage, "training_step", counted)
    monkeypatch.setattr(DetectionDataModule, "seconds_left", lambda self: 0.0)
    long = SLIM | {"minutes": 0.01, "search": SLIM["search"] | {"epochs": 500}}
    result = train(DetectionConfig.make(data=parts, out=tmp_path, **long))
    assert result.genotype is not None
    assert "FusionSearch" not in steps
    assert len(result.genotype.cells) == 1
    assert not (tmp_path / "finalists.json").exists()
    assert not (tmp_path / "genotype.json").exists()  # so that more minutes search
