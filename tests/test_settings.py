"""Settings are listed in words, and those that are wrong are told with what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from chiasm.api import facts_of
from chiasm.cli.main import app
from chiasm.detection.config import DetectionConfig
from chiasm.detection.train import train
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.errors import ConfigurationError
from chiasm.settings import setting_facts


@pytest.mark.parametrize("settings", [DetectionConfig, DiagnosisConfig])
def test_every_setting_says_what_it_is(settings):
    facts = setting_facts(settings)
    names = [fact.name.partition(".")[0] for fact in facts]
    assert list(dict.fromkeys(names)) == list(settings.model_fields)
    assert [fact.name for fact in facts if not fact.meaning] == []
    assert not any("typing" in fact.kind or "[" in fact.kind for fact in facts)


def test_values_and_defaults_are_in_words():
    facts = {fact.name: fact for fact in setting_facts(DetectionConfig)}
    order = facts["search.order"]
    assert (order.kind, order.default) == ("1 | 2", "1 unless given")
    assert facts["data"].default == "to be given"
    assert facts["modalities"].kind == "rgb | geometry, ..."
    assert facts["rotate"].default == "none unless given"
    assert facts["lamp"].default == "none unless given"
    assert (
        facts["search.final_steps"].meaning
        == facts["search.final_epochs"].meaning
        == "of the last finalists that are compared, at least."
    )


def test_a_models_own_options_are_listed():
    assert "points" in facts_of("m3dm")[1]
    assert facts_of("adnas_light")[1] == ()
    assert facts_of("minirocket")[1] == ("rows", "cycles", "phases")  # the rest is the data's
    said = CliRunner().invoke(app, ["settings", "mad_small"])
    assert said.exit_code == 0 and "modality_dropout" in said.output
    with pytest.raises(ConfigurationError, match="no model named 'adnas'"):
        facts_of("adnas")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("train_epoch=3", "train_epoch: .*'train_epochs' was probably meant"),
        ("points=picture", "points: .*'chiasm settings' lists all.*options="),
        ("image_size=100", "image_size: .*multiple of 32"),
    ],
)
def test_what_was_meant_is_told(tmp_path: Path, given, words):
    with pytest.raises(ConfigurationError, match=words):
        DetectionConfig.make(data=tmp_path, out=tmp_path, overrides=[given])


def test_a_fusion_that_is_none_is_told_before_data_are_read(tmp_path: Path):
    config = DetectionConfig.make(data=tmp_path / "absent", out=tmp_path, fusion="serch")
    with pytest.raises(ConfigurationError, match=r"best, .* or a genotype's file; 'serch'"):
        train(config)


def test_an_options_value_that_is_nothing_to_a_rival_is_told(tmp_path: Path):
    from chiasm.detection.train_baseline import build_baseline

    config = DetectionConfig.make(
        data=tmp_path, out=tmp_path, model="btf", options={"bank_mb": "much"}
    )
    with pytest.raises(ConfigurationError, match=r"btf cannot be built with .* bank_mb: 'much'"):
        build_baseline(config, {"image_size": 64, **config.options})


@pytest.mark.parametrize("wing", [DetectionConfig, DiagnosisConfig])
@pytest.mark.parametrize(
    ("given", "name"),
    [("32", "32"), ("bf16", "bf16"), ("auto", "auto"), ("32-true", "32"), ("bf16-mixed", "bf16")],
)
def test_a_precision_is_read_as_yaml_gives_it_and_under_its_earlier_name(wing, given, name):
    config = wing.make(data="parts", out="run", overrides=[f"precision={given}"])
    assert config.precision == name


def test_another_precision_is_refused():
    with pytest.raises(ConfigurationError, match=r"precision: .*'auto', '32', 'bf16' or 'fp16'"):
        DetectionConfig.make(data="parts", out="run", overrides=["precision=16"])
