"""The reference is made from the code: schemas are in sync and judge as the code does."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import chiasm
from chiasm.errors import GUIDE, ChiasmError, GenotypeError
from chiasm.fusion.genotype import Genotype, concatenation, random_genotype
from chiasm.fusion.pools import Candidate, Pools, joined

ROOT = Path(__file__).parents[2]
if not (ROOT / "tools").is_dir():
    pytest.skip("Only the sources have the tools.", allow_module_level=True)
jsonschema = pytest.importorskip("jsonschema")


def load(name: str) -> ModuleType:
    """Import a script of ``tools``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


reference = load("reference")


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    return reference.schemas()


def test_the_schemas_are_those_of_the_code(schemas):
    for name, schema in schemas.items():
        written = (reference.SCHEMAS / name).read_text()
        assert written == reference.schema_text(schema), "run: python tools/reference.py"
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("wing", "kept"), [("detection", "btf"), ("diagnosis", "mad")])
def test_a_contract_that_was_written_is_one_of_the_schema(schemas, wing, kept, tmp_path):
    from chiasm.detection import contract as of_parts
    from chiasm.diagnosis import contract as of_recordings

    module = of_parts if wing == "detection" else of_recordings
    folders = sorted((ROOT / "tests/version_1" / kept).rglob("contract.json"))
    assert folders
    for path in folders:
        content = json.loads(path.read_text())
        contract = module.read_contract(path.parent)
        present = json.loads(contract.model_dump_json(by_alias=True))
        schema = schemas[f"contract-{wing}.schema.json"]
        jsonschema.validate(present, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(present | {"version": 99}, schema)
        assert content["schema"] == present["schema"]


def pools() -> Pools:
    names = ("rgb/a", "rgb/b", "geometry/a")
    features = tuple(Candidate(n, 4, 4, n.partition("/")[0]) for n in names)
    all_of_rgb = joined("rgb/all", *features[:2])
    return Pools(early=features, middle=features, late=(*features, all_of_rgb))


def test_genotypes_are_valid_where_the_code_takes_them(schemas):
    schema = schemas["genotype.schema.json"]
    for genotype in (concatenation(pools()), *(random_genotype(pools(), seed=s) for s in range(8))):
        jsonschema.validate(json.loads(genotype.to_json()), schema)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other"},
        {"version": 3},
        {"output": "last"},
        {"cells": {"last": {"inputs": ["a", "b"], "nodes": []}}},
        {
            "cells": {
                "late": {"inputs": ["rgb/a"], "nodes": [{"inputs": ["x"], "operation": "glu"}]}
            }
        },
        {"cells": {"late": {"inputs": ["a", "b"], "nodes": [{"inputs": ["x", "y"]}]}}},
        {"cells": {"late": {"inputs": ["a", "a"], "nodes": []}}},
        {"cells": {}},
    ],
    ids=str,
)
def test_what_the_code_refuses_the_schema_refuses(schemas, change):
    content = json.loads(random_genotype(pools()).to_json()) | change
    with pytest.raises(GenotypeError):
        Genotype.from_json(json.dumps(content))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schemas["genotype.schema.json"])


def test_the_page_of_commands_has_every_command_and_option():
    from typer.testing import CliRunner

    from chiasm.cli.main import EXIT_STATUSES, app

    page = reference.command_page()
    for name, function in reference.commands():
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert section
        said = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "300"}).output
        shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", said)) - {"--help"}
        listed = set(re.findall(r"`(--?[a-z0-9-]+)`", section))
        options = {
            form for one in reference.parameters(function)[1] for form in one.name.split(", ")
        }
        assert listed == {option.strip("`") for option in options}
        assert listed <= shown, name
    assert all(f"| {status} |" in page for status in EXIT_STATUSES)


def anchors() -> set[str]:
    text = (ROOT / GUIDE).read_text()
    headings = re.findall(r"^### ([A-Za-z ]+)$", text, re.MULTILINE)
    return {heading.lower().replace(" ", "-") for heading in headings}


def test_every_error_that_names_a_section_names_one_that_is_there():
    named = {
        anchor
        for path in (ROOT / "src").rglob("*.py")
        for anchor in re.findall(r"""see="([^"]*)\"""", path.read_text())
    }
    assert len(named) >= 15
    assert named <= anchors()
    assert anchors() <= named | {"missing-extra"}


def test_an_error_keeps_its_section_in_another_process():
    import pickle

    error = pickle.loads(pickle.dumps(ChiasmError("The unit is wrong.", see="unit")))
    assert str(error) == "The unit is wrong." and error.see == "unit"
    assert error.__notes__ == ["More: chiasm explain unit"]
    assert not hasattr(ChiasmError("Plain."), "__notes__")


def test_workflows_call_what_the_makefile_has():
    import yaml

    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs: dict[str, Any] = {}
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        jobs |= yaml.safe_load(path.read_text())["jobs"]
    assert jobs.keys() >= {"lint", "test", "docs", "wheel", "tutorials", "packages", "benchmarks"}
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = {word for run in runs if run.startswith("make ") for word in run.split()[1:]}
    assert called - {"<", "/dev/null"} <= targets
    for script in re.findall(r"(?:python|bash) ((?:tools|\.ci)/\S+)", "\n".join(runs)):
        assert (ROOT / script).is_file(), script
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(path.read_text())
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    page = json.loads((ROOT / "web/package.json").read_text())["version"]
    assert cited == page == chiasm.__version__
    assert f"## [{chiasm.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_a_fall_below_the_last_interval_is_found():
    compare = load("compare_runs").compare
    last = {"image": {"auroc": {"value": 0.9, "low": 0.85, "high": 0.95}}, "cost": {"s": 3}}
    same = {"image": {"auroc": {"value": 0.86, "low": 0.8, "high": 0.9}}}
    worse = {"image": {"auroc": {"value": 0.84, "low": 0.8, "high": 0.9}}}
    assert compare(same, last) == ([f"{'image.auroc':40} 0.900 -> 0.860"], [])
    assert compare(worse, last)[1] == ["image.auroc"]
    assert compare(worse, {})[0] == []
