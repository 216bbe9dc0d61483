"""Settings of a run of recordings: presets are filled in, wrong ones are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import chiasm.diagnosis.models.named  # noqa: F401  (registers the models)
from chiasm.diagnosis.config import PRESETS, DiagnosisConfig
from chiasm.errors import ConfigurationError
from chiasm.registry import find_model, models
from chiasm.runs.run_folder import open_run_folder

PLACES = {"data": "a", "out": "b"}


def test_settings_that_are_wrong_are_told():
    with pytest.raises(ConfigurationError, match="sum to 1"):
        DiagnosisConfig.make(data="a", out="b", shares=(0.5, 0.1, 0.1))
    with pytest.raises(ConfigurationError, match="model"):
        DiagnosisConfig.make(data="a", out="b", model="mad_medium")
    quick = DiagnosisConfig.make(data="a", out="b", preset="quick")
    assert (quick.image_size, quick.seconds) == (32, 0)
    assert quick.fold > 1
    part = DiagnosisConfig.make(data="a", out="b", preset="quick", seconds=2, fold=1)
    assert (part.seconds, part.fold) == (2.0, 1)
    # Values themselves cannot be added up, only counts of pulses.
    plain = DiagnosisConfig.make(data="a", out="b", preset="quick", inputs="plain")
    assert plain.fold == 1
    config = DiagnosisConfig.make(data="a", out="b", preset="paper", modalities="image")
    assert (config.learning_rate, config.modalities) == (5e-6, ("image",))


def test_a_preset_fills_in_what_was_not_given() -> None:
    usual = DiagnosisConfig.make(data="a", out="b")
    assert usual.contrast == ("joint", "image", "series")
    assert usual.inputs == "relative" and usual.modality_dropout == 0.6
    paper = DiagnosisConfig.make(data="a", out="b", preset="paper")
    assert paper.contrast == ("joint",)
    assert paper.modality_dropout == 0 and paper.inputs == "plain"
    own = DiagnosisConfig.make(overrides=["contrast=joint,series"], data="a", out="b")
    assert own.contrast == ("joint", "series")
    assert DiagnosisConfig.make(data="a", out="b", modality_dropout=0.0).modality_dropout == 0


def test_one_modality_is_contrasted_once() -> None:
    for modalities in ("image", "series"):
        config = DiagnosisConfig.make(data="a", out="b", modalities=modalities)
        assert config.contrast == ("joint",)


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize("model", [model.name for model in models("classifier")])
def test_saved_settings_are_filled_in_and_are_read_as_they_were(
    model: str, preset: str | None, tmp_path: Path
):
    config = DiagnosisConfig.make(**PLACES, model=model, preset=preset)
    config.save(tmp_path / "config.yaml")
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    empty = {name for name, value in saved.items() if value is None}
    assert empty == {"test_group", "windows", "minutes", "cache", "fusion", "start_from"}
    assert DiagnosisConfig.make(file=tmp_path / "config.yaml") == config


def test_size_and_segment_are_the_models_own():
    base, small, trees = (
        DiagnosisConfig.make(**PLACES, model=name)
        for name in ("mad_base", "mad_small", "histogram_lightgbm")
    )
    assert (base.segment, base.batch, base.learning_rate) == (60, 8, 1e-4)
    assert (small.segment, small.batch, small.learning_rate) == (256, 64, 3e-4)
    assert (trees.preset, trees.batch, trees.inputs) == ("fitted", 16, "plain")


def test_what_was_given_is_told_from_what_was_filled_in():
    config = DiagnosisConfig.make(
        **PLACES, preset="quick", batch=24, segment=128, overrides=["search.finalists=2"]
    )
    assert set(config.overrides()) == {"data", "out", "preset", "segment", "search"}


def test_a_run_whose_settings_were_saved_without_the_presets_values_goes_on(tmp_path: Path):
    config = DiagnosisConfig.make(data="a", out=tmp_path, preset="quick")
    content = config.model_dump(mode="json")
    unfilled = ("image_size", "learning_rate", "batch", "segment", "seconds", "align", "search")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content | dict.fromkeys(unfilled)))
    (tmp_path / "checkpoints").mkdir()
    open_run_folder(config, tmp_path, free=())
    with pytest.raises(ConfigurationError, match=r"other settings \(batch\)"):
        open_run_folder(
            DiagnosisConfig.make(data="a", out=tmp_path, preset="quick", batch=8), tmp_path, free=()
        )


def test_trees_look_at_one_modality_of_two_and_say_how_both_are_taken():
    looked = {
        m: DiagnosisConfig.make(**PLACES, model="excess_trees", modalities=m).modalities
        for m in ("image", "series")
    }
    assert looked == {"image": ("image",), "series": ("series",)}
    assert DiagnosisConfig.make(**PLACES, model="excess_trees").modalities == ("series",)
    with pytest.raises(ConfigurationError, match=r"late_average .options={image: excess_trees"):
        DiagnosisConfig.make(**PLACES, model="excess_trees", modalities="image,series")
    # Both are the average of two, which is what the remedy says.
    both = find_model("late_average").builder(image="excess_trees", series="excess_trees")
    assert both.modalities == ("image", "series")
