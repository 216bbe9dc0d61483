"""A searched classifier end to end, in small size: recordings to genotype to diagnosis."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from chiasm.api import search
from chiasm.diagnosis import search as workflow
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import open_data
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.diagnosis.train import train
from chiasm.diagnosis.training.search import ClassSearch
from chiasm.errors import ArtifactError, ConfigurationError, GenotypeError
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.search_steps import ArchitectureSteps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TINY = {
    "model": "fused_small",
    "image_size": 32,
    "seconds": 0.5,
    "windows": 2,
    "shares": (0.7, 0.3, 0.0),
    "pretrain_epochs": 0,
    "epochs": 1,
    "batch": 12,
    "precision": "32-true",
    "search": {"epochs": 2, "finalists": 2, "final_epochs": 1, "held_out": 0.4},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    folder = tmp_path_factory.mktemp("discharges")
    make_recordings(folder, count=36, sessions=18, seed=5, workers=1)
    return open_store(folder, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def run(store: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "searched"
    train(DiagnosisConfig.make(data=store.path, out=out, **TINY))
    return out


def test_a_searched_model_is_usable_from_its_folder_alone(run: Path, store: RecordingStore):
    model = DiagnosisPredictor.load(run)
    genotype = Genotype.load(run / "model" / "genotype.json")
    assert genotype == Genotype.load(run / "genotype.json")
    assert model.contract.arguments["fusion"] == "genotype.json"
    assert model.network.fusion.required == genotype.required
    assert genotype.provenance["model"] == "fused_small"
    assert {"validation_score", "validation_loss"} <= set(genotype.provenance)
    assert len(json.loads((run / "finalists.json").read_text())) == 2
    assert len(json.loads((run / "search_history.json").read_text())) == 2
    assert (run / "genotype.svg").stat().st_size > 1000
    sample = store.load(store.refs[0])
    for absent in ({}, {"image": None}, {"series": None}):
        said = model.predict(replace(sample, **absent))
        assert math.isclose(sum(said.probabilities.values()), 1, abs_tol=1e-9)


def test_a_finished_search_is_not_done_again(run: Path, store: RecordingStore, monkeypatch):
    def never(data):
        raise AssertionError("searched again")

    monkeypatch.setattr(workflow, "search_fusion", never)
    before = (run / "model" / "weights.safetensors").read_bytes()
    train(DiagnosisConfig.make(data=store.path, out=run, **TINY))
    assert (run / "model" / "weights.safetensors").read_bytes() == before


def test_a_model_without_its_genotype_is_refused(run: Path, tmp_path: Path):
    for name in ("weights.safetensors", "contract.json"):
        (tmp_path / name).write_bytes((run / "model" / name).read_bytes())
    with pytest.raises(ArtifactError, match=r"no genotype\.json"):
        DiagnosisPredictor.load(tmp_path)


def test_a_search_killed_in_the_middle_finds_the_same(
    run: Path, store: RecordingStore, tmp_path: Path, monkeypatch
):
    step = ClassSearch.training_step

    def killed(self, batch, number):
        if self.current_epoch == 1:
            raise RuntimeError("killed")
        return step(self, batch, number)

    given = {"data": store.path, "out": tmp_path, **TINY}
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(ClassSearch, "training_step", killed)
        search(**given)
    search(**given)
    assert (tmp_path / "genotype.json").read_bytes() == (run / "genotype.json").read_bytes()


def test_weights_architecture_and_judges_share_no_session(store: RecordingStore, tmp_path: Path):
    data = open_data(DiagnosisConfig.make(data=store.path, out=tmp_path, **TINY))
    seen = {}

    def looked(module, train, validation, **rest):
        seen["weights"] = train.dataset.refs
        seen["architecture"] = module.steps._batches.dataset.refs
        seen["judges"] = validation.dataset.refs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "fit", looked)
        workflow._search_relaxed(data, None)
    sessions = {name: {ref.group["session"] for ref in refs} for name, refs in seen.items()}
    assert all(sessions.values())
    assert sum(map(len, sessions.values())) == len(set().union(*sessions.values()))
    assert sorted(seen["weights"] + seen["architecture"], key=str) == sorted(
        data.split.train, key=str
    )
    assert seen["judges"] == data.split.validation


@pytest.mark.parametrize("fusion", ["concatenation", "random"])
def test_other_fusions_train_too(fusion: str, store: RecordingStore, tmp_path: Path):
    train(DiagnosisConfig.make(data=store.path, out=tmp_path, **TINY | {"fusion": fusion}))
    model = DiagnosisPredictor.load(tmp_path)
    assert (tmp_path / "model" / "genotype.json").exists() is (fusion == "random")
    assert model.predict(store.load(store.refs[0])).kind is not None


def test_what_cannot_be_searched_is_told(store: RecordingStore, tmp_path: Path):
    with pytest.raises(
        ConfigurationError, match=r"no fusion to search; choose one of .*fused_small"
    ):
        search(model="mad-base", data=store.path, out=tmp_path)
    with pytest.raises(ConfigurationError, match="btf has no fusion to search"):
        search(model="btf", data=store.path, out=tmp_path)
    plain = TINY | {"model": "mad_small", "search": None, "fusion": "random"}
    with pytest.raises(ConfigurationError, match="no fusion to choose"):
        train(DiagnosisConfig.make(data=store.path, out=tmp_path / "a", **plain))
    lost = TINY | {"fusion": str(tmp_path / "lost.json")}
    with pytest.raises(GenotypeError, match="cannot be read"):
        train(DiagnosisConfig.make(data=store.path, out=tmp_path / "b", **lost))


def test_mad_small_is_searched_as_the_model_that_fuses_its_features(monkeypatch, tmp_path: Path):
    asked = []
    monkeypatch.setattr("chiasm.diagnosis.search.search", lambda config, **_: asked.append(config))
    search(model="mad-small", data=tmp_path, out=tmp_path)
    assert asked[0].model == "fused_small"


@pytest.mark.parametrize("order", [1, 2])
def test_the_architecture_moves_to_the_feature_that_tells_classes_apart(order: int):
    from torch.utils.data import DataLoader

    from chiasm.fusion.network import FusionSupernet
    from chiasm.fusion.pools import Candidate, Pools

    pools = Pools(late=tuple(Candidate(f"image/{name}", 4, 1, "image") for name in ("a", "b", "c")))
    torch.manual_seed(0)
    supernet = FusionSupernet(pools, width=4, size=4, nodes=1)
    network = torch.nn.ModuleDict({"fusion": supernet, "head": torch.nn.Linear(4, 2)})

    def loss(batch):
        noise, labels = batch
        told = noise[1] + 2.0 * labels.view(-1, 1, 1, 1)
        maps = {"image/a": noise[0], "image/b": told, "image/c": noise[2]}
        logits = network["head"](supernet(maps).mean(dim=(2, 3)))
        return torch.nn.functional.cross_entropy(logits, labels)

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(3, 16, 4, 4, 4, generator=generator)
        return noise, torch.arange(16) % 2

    held_out = DataLoader([drawn(1000 + k) for k in range(4)], batch_size=None)
    steps = ArchitectureSteps(network, supernet, batches=held_out, rate=0.1, order=order)
    assert not steps.due(0.29)
    assert steps.due(0.3)
    weights = torch.optim.Adam(steps.weights(), 1e-2)
    architecture = steps.optimiser()
    before = [p.clone() for p in supernet.architecture_parameters()]
    for number in range(40):
        batch, other = drawn(number), steps.next_batch()
        steps.differentiate(
            training=lambda batch=batch: [loss(batch)],
            validation=lambda other=other: [loss(other)],
            rate=1e-2,
        )
        architecture.step()
        weights.zero_grad()
        loss(batch).backward()
        weights.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, supernet.architecture_parameters()))
    assert "image/b" in supernet.genotype().required
    assert supernet.outer["late"].softmax(dim=1)[:, 1].max() > 0.5
