"""Reports of baselines: published weights, ignored settings, missing 3D data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chiasm import api
from chiasm.detection.scenes.maker import make_scenes
from chiasm.errors import ConfigurationError


@pytest.fixture(scope="module")
def part(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(
        folder, products=("flange",), train=4, validation=2, test_good=1, test_per_defect=1, size=96
    )
    return folder / "flange"


@pytest.fixture(autouse=True)
def separate_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("model", "has_weights"), [("btf", True), ("area", False)])
def test_the_report_names_published_weights(part, tmp_path, model, has_weights):
    api.train(api.make_config(data=part, out=tmp_path / "run", model=model, image_size=64))
    api.evaluate(tmp_path / "run", data=part)
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert ("Frozen features: efficientnet-lite0, ImageNet" in page) is has_weights
    assert ("its figures are not comparable with these" in page) is has_weights


def test_ignored_settings_and_samples_are_reported(part, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(part, data)
    (data / "test" / "good" / "xyz" / "000.tiff").unlink()
    overrides = ("train_epochs=3", "batch=4", "search.epochs=2")
    api.train(
        api.make_config(
            data=data, out=tmp_path / "run", model="area", image_size=64, overrides=overrides
        )
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "ignored settings: search.epochs, train_epochs, batch" in printed
    api.evaluate(tmp_path / "run", data=data)
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "left out of everything here: 1." in page


def test_a_method_that_needs_3d_refuses_parts_without(part, tmp_path):
    rows = ["rgb,label,kind,split"]
    for split in ("train", "validation"):
        pictures = sorted((part / split / "good" / "rgb").glob("*.png"))
        rows += [f"{picture},0,good,{split}" for picture in pictures]
    table = tmp_path / "colour.csv"
    table.write_text("\n".join(rows) + "\n")
    with pytest.raises(ConfigurationError, match="have no 3D points"):
        settings = {"model": "btf", "image_size": 64, "modalities": "rgb,geometry"}
        api.train(api.make_config(data=table, out=tmp_path / "run", **settings))
