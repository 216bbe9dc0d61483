"""Few recordings of one's own adapt a model that was trained on others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chiasm.api import make_config
from chiasm.diagnosis.contract import load_model
from chiasm.diagnosis.datamodule import open_data
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.diagnosis.train import train
from chiasm.diagnosis.unseen import evaluation_split
from chiasm.errors import ConfigurationError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NETWORK = {"model": "residual_cnn_small", "image_size": 32, "pretrain_epochs": 0, "epochs": 1}
TREES = {"model": "excess_trees", "options": {"trees": 8}}


def _made(folder: Path, classes: tuple[str, ...], seed: int) -> Path:
    return make_recordings(
        folder,
        tier="field",
        count=6 * len(classes),
        sessions=6 * len(classes),
        cycles=20,
        seed=seed,
        classes=classes,
        workers=1,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt")
    _made(folder / "simulated", ("floating", "particle"), 1)
    # Another order, and a class that the first model does not know.
    _made(folder / "own", ("particle", "floating", "corona"), 2)
    _made(folder / "one", ("particle",), 3)
    return folder


def _train(place: Path, out: str, data: str, **settings: Any) -> Path:
    values = {"shares": (0.5, 0.5, 0.0), "batch": 4, "cache": place / "cache", **settings}
    config = make_config(data=place / data / "recordings.csv", out=place / out, **values)
    train(config)  # type: ignore[arg-type]
    return place / out


@pytest.fixture(scope="module")
def first(place: Path) -> dict[str, Path]:
    return {
        "network": _train(place, "first", "simulated", **NETWORK),
        "trees": _train(place, "trees", "simulated", **TREES),
    }


def test_a_network_goes_on_with_its_weights_inputs_and_classes(
    place: Path, first: dict[str, Path]
) -> None:
    run = _train(place, "fine", "own", start_from=first["network"])
    (before, old), (after, new) = (
        load_model(folder / "model") for folder in (first["network"], run)
    )
    assert old.kinds == ("floating", "particle")
    assert new.kinds == ("floating", "particle", "corona")
    assert new.recording == old.recording
    same = {name: value.detach() for name, value in before.named_parameters()}
    changed = [
        float((value[: len(same[name])] - same[name]).abs().max())
        for name, value in after.state_dict().items()
        if value.is_floating_point() and name in same
    ]
    # A step at a low rate: near the first weights, and not at them.
    assert 0 < max(changed) < 0.05
    assert set(old.split.training_groups) < set(new.split.training_groups)


@pytest.fixture(scope="module")
def nearest(place: Path, first: dict[str, Path]) -> Path:
    return _train(place, "nearest", "own", start_from=first["network"], adaptation="nearest")


def test_recordings_of_the_first_training_stay_seen(
    place: Path, first: dict[str, Path], nearest: Path
) -> None:
    _, contract = load_model(nearest / "model")
    data = open_data(make_config(file=nearest / "config.yaml"))  # type: ignore[arg-type]
    store = open_data(make_config(file=first["network"] / "config.yaml")).store  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not trained on"):
        evaluation_split(nearest, contract, store, place / "simulated" / "recordings.csv")
    assert data.store.kinds == contract.kinds


def test_the_nearest_mean_of_the_embedding_decides(first: dict[str, Path], nearest: Path) -> None:
    model = DiagnosisPredictor.load(nearest)
    data = open_data(make_config(file=nearest / "config.yaml"))  # type: ignore[arg-type]
    training = model.outputs([data.store.load(ref) for ref in data.split.train])
    means = np.stack(
        [training.pooled["image"][training.labels == k].mean(axis=0) for k in range(3)]
    )
    refs = data.split.validation
    found = model.outputs([data.store.load(ref) for ref in refs])
    distance = np.linalg.norm(found.pooled["image"][:, None] - means, axis=2)
    assert np.array_equal(found.logits["image"].argmax(axis=1), distance.argmin(axis=1))
    before, _ = load_model(first["network"] / "model")
    kept = dict(before.named_parameters())
    for name, value in model.network.named_parameters():
        if not name.startswith("head."):
            assert torch.equal(value, kept[name])


def test_a_class_without_a_recording_keeps_the_mean_of_the_first_training(
    place: Path, first: dict[str, Path]
) -> None:
    run = _train(place, "particle_alone", "one", start_from=first["network"], adaptation="nearest")
    model = DiagnosisPredictor.load(run)
    assert model.kinds == ("floating", "particle")
    earlier = open_data(make_config(file=first["network"] / "config.yaml"))  # type: ignore[arg-type]
    outputs = model.outputs([earlier.store.load(ref) for ref in earlier.split.train])
    layer = model.network.class_layer
    assert layer is not None
    floating = outputs.pooled["image"][outputs.labels == 0].mean(axis=0)
    weight = layer.weight[0].detach().numpy()
    assert np.corrcoef(weight, floating)[0, 1] == pytest.approx(1, abs=1e-4)


def test_trees_are_fitted_to_both(
    place: Path, first: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = _train(place, "both", "own", start_from=first["trees"])
    assert "of " + str(first["trees"]) in "".join(capsys.readouterr())
    model = DiagnosisPredictor.load(run)
    for settings in (first["trees"] / "config.yaml", run / "config.yaml"):
        data = open_data(make_config(file=settings))  # type: ignore[arg-type]
        for ref in data.split.train:
            probabilities = model.predict(data.store.load(ref)).probabilities
            assert max(probabilities, key=probabilities.__getitem__) == ref.kind


def test_what_cannot_go_on_is_refused(place: Path, first: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot go on as"):
        _train(
            place, "other", "own", start_from=first["network"], model="excess_trees", preset=None
        )
    with pytest.raises(ConfigurationError, match="holds no classifier"):
        make_config(data=tmp_path, out=tmp_path, start_from=tmp_path)
    moved = tmp_path / "moved"
    (moved / "model").mkdir(parents=True)
    for path in (first["trees"] / "model").iterdir():
        (moved / "model" / path.name).write_bytes(path.read_bytes())
    text = (first["trees"] / "config.yaml").read_text()
    (moved / "config.yaml").write_text(text.replace("simulated", "gone"))
    (moved / "split.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match="are needed, too"):
        _train(place, "gone", "own", start_from=moved)
