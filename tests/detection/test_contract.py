"""A contract holds the preparation's own records; version 1 is read, version 2 is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chiasm.detection.contract import DetectionContract, read_contract, upgrade_contract
from chiasm.detection.layers.image_score import ImageScoreRule, Term
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.errors import ArtifactError

VERSION_1 = Path(__file__).parents[1] / "version_1" / "light" / "contract.json"


@pytest.fixture
def earlier() -> dict:
    return json.loads(VERSION_1.read_text())


def written(folder: Path, content: dict) -> Path:
    (folder / "contract.json").write_text(json.dumps(content))
    return folder


def test_version_1_becomes_the_records_of_the_preparation(earlier, tmp_path: Path):
    contract = read_contract(written(tmp_path, earlier))
    retyped = earlier["preparation"]
    assert contract.preparation == PreparationSettings(
        size=retyped["size"], crop_fraction=retyped["crop_fraction"]
    )
    assert contract.geometry == GeometryScale(height=retyped["geometry_height"])
    assert contract.arguments["memory_entries"] == earlier["arguments"]["capacity"]
    assert contract.calibration_scores == tuple(earlier["calibration_scores"])


def test_what_is_written_is_version_2_and_keeps_every_field(earlier, tmp_path: Path):
    contract = read_contract(written(tmp_path, earlier))
    contract = contract.model_copy(
        update={"preparation": replace(contract.preparation, margin=0.25, plane_distance=0.004)}
    )
    content = json.loads(contract.model_dump_json(by_alias=True))
    assert (content["version"], content["wing"]) == (2, "detector")
    assert content["preparation"]["margin"] == 0.25
    assert upgrade_contract(content) is content
    assert read_contract(written(tmp_path, content)) == contract


@pytest.mark.parametrize(
    "change",
    [
        {"preparation": None},
        {"preparation": {"crop_fraction": 0.5}},
        {"preparation": {"size": 64, "colour": "blue"}},
        {"arguments": None, "method": None},
        {"version": 3},
    ],
)
def test_a_contract_that_is_wrong_is_named(earlier, tmp_path: Path, change):
    folder = written(tmp_path, earlier | change)
    with pytest.raises(ArtifactError, match=r"contract\.json"):
        read_contract(folder)


def test_the_rule_of_the_image_s_score_is_a_record_and_its_absence_the_common_rule(
    earlier, tmp_path: Path
):
    contract = read_contract(written(tmp_path, earlier))
    assert contract.image_score == ImageScoreRule()
    rule = ImageScoreRule(
        (Term("top_share", 0.01, 0.7), Term(weight=0.3)), "softplus", 1.0, -2.5, usual_spread=0.4
    )
    content = json.loads(
        contract.model_copy(update={"image_score": rule}).model_dump_json(by_alias=True)
    )
    assert read_contract(written(tmp_path, content)).image_score == rule


@pytest.mark.parametrize(
    "change",
    [
        {"terms": []},
        {"terms": [{"statistic": "top_share", "size": 0.0, "weight": 1.0}]},
        {"terms": [{"statistic": "mode", "size": 0.1, "weight": 1.0}]},
        {"usual_spread": -1.0},
        {"colour": "blue"},
    ],
)
def test_a_rule_that_is_wrong_is_named(earlier, tmp_path: Path, change):
    content = json.loads(read_contract(written(tmp_path, earlier)).model_dump_json(by_alias=True))
    content["image_score"] |= change
    with pytest.raises(ArtifactError, match="image_score"):
        read_contract(written(tmp_path, content))


def test_fields_have_the_same_names_in_both_wings():
    from chiasm.diagnosis.contract import DiagnosisContract

    shared = {"schema_name", "version", "wing", "method", "arguments", "modalities", "seed"}
    shared |= {"metric_versions", "libraries", "weights_sha256"}
    assert shared <= set(DetectionContract.model_fields) & set(DiagnosisContract.model_fields)
