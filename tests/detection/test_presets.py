"""Presets: the paper's numbers, step by step, and that what is given wins."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from typer.testing import CliRunner

from chiasm.cli.main import app
from chiasm.detection.config import DetectionConfig, preset_text, preset_values
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.layers.segmentation import (
    focal_loss,
    segmentation_loss,
    structural_dissimilarity,
)
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train
from chiasm.detection.training import segment
from chiasm.detection.training.search import FusionSearch
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.errors import ConfigurationError

HERE = {"data": Path("parts"), "out": Path("run")}

# shared/spec of the paper, sections 1 to 3; each is a fact of the paper, of EasyNet or of BM-NAS.
PUBLISHED = {
    "model": "adnas_paper",
    "fusion": "search",
    "image_size": 256,
    "geometry": "depth",
    "lamp": "all",
    "anomalies": "paper",
    "loss": "focal",
    "residual": False,
    "optimiser": "adam",
    "learning_rate": 2e-4,
    "weight_decay": 0.0,
    "schedule": "steps",
    "batch": 4,
    "train_epochs": 600,
    "final_data": "all",
    "nodes": 2,
    "search.epochs": 80,
    "search.order": 1,
    "search.rate": 3e-4,
    "search.warm_up": 0.0,
    "search.held_out": 0.5,
    "search.selection": "validation",
    "search.finalists": 1,
}


def read(config: DetectionConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_the_papers_preset_has_the_papers_numbers():
    config = DetectionConfig.make(**HERE, preset="paper")
    assert {name: read(config, name) for name in PUBLISHED} == PUBLISHED


def test_the_recommended_preset_is_the_default_of_every_setting():
    assert DetectionConfig.make(**HERE, preset="recommended") == DetectionConfig(**HERE)
    assert DetectionConfig.make(**HERE) == DetectionConfig(**HERE)


@pytest.mark.parametrize("preset", ["paper", "recommended"])
def test_a_preset_names_settings_that_exist_and_is_printed(preset):
    values = preset_values(preset)
    assert values.keys() < DetectionConfig.model_fields.keys()
    search = DetectionConfig.model_fields["search"].default
    assert values["search"].keys() <= type(search).model_fields.keys()
    printed = CliRunner().invoke(app, ["settings", "adnas_slim"]).output
    assert f"preset={preset}" in printed
    for line in preset_text(preset).splitlines():
        assert line in printed


def test_presets_of_classifiers_are_printed():
    printed = CliRunner().invoke(app, ["settings", "mad_small"]).output
    for name in ("paper", "recommended", "quick"):
        assert f"preset={name}" in printed
    assert "preset=fitted" not in printed


def test_a_network_from_scratch_has_its_own_section_of_the_recommended_preset():
    section = yaml.safe_load(preset_text("recommended"))["models"]["adnas_slim"]
    assert section
    slim = DetectionConfig.make(**HERE, model="adnas_slim")
    assert {name: read(slim, name) for name in section} == section
    assert DetectionConfig.make(**HERE, overrides=["model=adnas_slim"]) == slim
    given = DetectionConfig.make(**HERE, model="adnas_slim", learning_rate=0.1)
    assert given == slim.model_copy(update={"learning_rate": 0.1})
    paper = DetectionConfig.make(**HERE, model="adnas_slim", preset="paper")
    assert paper.learning_rate == PUBLISHED["learning_rate"]


def test_what_is_given_wins_over_the_preset_in_every_way(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"preset": "paper", "batch": 2, "search": {"epochs": 3}}))
    for config in (
        DetectionConfig.make(**HERE, file=file),
        DetectionConfig.make(**HERE, overrides=["preset=paper", "batch=2", "search.epochs=3"]),
        DetectionConfig.make(**HERE, preset="paper", batch=2, search={"epochs": 3}),
        DetectionConfig.make(**HERE, preset="paper", batch=2, search_epochs=3),
    ):
        given = {"batch": 2, "search.epochs": 3}
        assert {name: read(config, name) for name in PUBLISHED} == {**PUBLISHED, **given}


def test_saved_settings_repeat_the_run(tmp_path: Path):
    config = DetectionConfig.make(**HERE, preset="paper", model="adnas_slim", batch=8)
    config.save(tmp_path / "config.yaml")
    assert DetectionConfig.make(file=tmp_path / "config.yaml") == config


def test_a_preset_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match=r"preset: .*'paper' or 'recommended'"):
        DetectionConfig.make(**HERE, preset="published")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What a tiny run with the paper's preset does, step by step."""
    folder = tmp_path_factory.mktemp("paper")
    make_scenes(
        folder,
        products=("flange",),
        train=16,
        validation=4,
        test_good=2,
        test_per_defect=1,
        size=96,
    )
    seen: dict[str, list[Any]] = {
        name: [] for name in ("trained", "searched", "losses", "optimisers", "data")
    }

    def recorded(method: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **more: Any) -> Any:
            result = method(*args, **more)
            note(result, *args, **more)
            return result

        return call

    def rates(name: str) -> Callable[..., None]:
        def note(_: Any, module: Any, batch: Any, number: int) -> None:
            made = module.optimizers()
            weights = made[0] if isinstance(made, list) else made
            seen[name].append(
                (module.current_epoch, weights.param_groups[0]["lr"], len(batch.foreground))
            )

        return note

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIASM_CACHE", str(folder / "cache"))
        for module, name in ((SegmentationTraining, "trained"), (FusionSearch, "searched")):
            patch.setattr(module, "training_step", recorded(module.training_step, rates(name)))
            patch.setattr(
                module,
                "configure_optimizers",
                recorded(
                    module.configure_optimizers,
                    lambda made, module: seen["optimisers"].append((type(module), made)),
                ),
            )
        patch.setattr(
            segment,
            "total_loss",
            recorded(
                segment.total_loss,
                lambda total, output, batch, with_reconstruction=True, **_: (
                    seen["losses"].append((total, output, batch)) if with_reconstruction else None
                ),
            ),
        )
        patch.setattr(
            DetectionDataModule,
            "loader",
            recorded(
                DetectionDataModule.loader,
                lambda made, data, purpose, **more: seen["data"].append((data, purpose, made)),
            ),
        )
        config = DetectionConfig.make(
            data=folder / "flange",
            out=folder / "run",
            preset="paper",
            model="adnas_slim",
            image_size=64,
            train_epochs=10,
            search={"epochs": 2},
            precision="32",
        )
        train(config)
    return seen


def test_the_rate_falls_to_a_fifth_after_eight_and_nine_tenths(records):
    by_epoch = {epoch: rate for epoch, rate, _ in records["trained"]}
    assert set(by_epoch) == set(range(10))
    for epoch, rate in by_epoch.items():
        factor = 1.0 if epoch < 8 else 0.2 if epoch < 9 else 0.04
        assert rate == pytest.approx(2e-4 * factor)
    assert records["searched"][0][1] == 2e-4


def test_steps_are_on_four_parts(records):
    assert {size for _, _, size in records["trained"] + records["searched"]} == {4}


def test_weights_have_adam_without_decay_and_the_architecture_that_of_bm_nas(records):
    trained = [made for kind, made in records["optimisers"] if kind is SegmentationTraining]
    weights, architecture = next(m for kind, m in records["optimisers"] if kind is FusionSearch)
    for optimiser in (*trained, weights):
        assert type(optimiser) is torch.optim.Adam
        assert optimiser.defaults["betas"] == (0.9, 0.999)
        assert optimiser.defaults["lr"] == 2e-4 and optimiser.defaults["weight_decay"] == 0
    assert type(architecture) is torch.optim.Adam
    assert architecture.defaults["betas"] == (0.5, 0.999)
    assert architecture.defaults["lr"] == 3e-4 and architecture.defaults["weight_decay"] == 1e-3


def test_the_loss_is_focal_and_restores_the_normal_part(records):
    loss, output, batch = records["losses"][0]
    mask = F.adaptive_max_pool2d(batch.mask, output.logits.shape[-2:])
    expected = (
        focal_loss(output.logits, mask)
        + F.mse_loss(output.reconstructions["rgb"], batch.clean_rgb)
        + structural_dissimilarity(output.reconstructions["rgb"], batch.clean_rgb)
        + F.mse_loss(output.reconstructions["geometry"], batch.clean_geometry)
    )
    torch.testing.assert_close(loss, expected)
    assert not torch.allclose(loss, expected + segmentation_loss(output.logits, mask, dice=True))


def test_weights_see_the_papers_anomalies_in_half_of_the_parts_and_no_other(records):
    data = next(data for data, _, _ in records["data"])
    parts = data.synthetic("train")
    kinds = [parts.draw(epoch, i).part.kind for epoch in range(12) for i in range(len(parts))]
    assert set(kinds) == {"perlin", "good"}
    share = kinds.count("perlin") / len(kinds)
    assert 0.25 < share < 0.6  # some masks miss the part, which is then good
    clean = parts.draw(0, 0).clean
    np.testing.assert_array_equal(clean.rgb, parts.parts[0].rgb)  # neither turned nor lit


def test_search_divides_the_parts_in_halves_and_selects_on_the_validation_split(records):
    data = next(data for data, _, _ in records["data"])
    assert not data.held_out
    assert len(data.weights) == len(data.architecture) == len(data.parts) // 2
    shown = {part.source for part in data.synthetic("validate").parts}
    assert shown == {part.source for part in data.calibration}
    assert data.indices("final") == list(range(len(data.parts)))


def test_geometry_is_depth_three_times(records):
    _, _, batch = records["losses"][0]
    first, *others = batch.geometry.unbind(1)
    assert all(torch.equal(first, other) for other in others)
