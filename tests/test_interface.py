"""What a user sees of the package: names, help, completion, and one function for both wings."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

import chiasm
from chiasm.errors import ConfigurationError

FUNCTIONS = ["demo", "evaluate", "export", "load", "predict", "search", "train"]


def test_help_and_completion_show_the_interface():
    text = pydoc.plain(pydoc.render_doc(chiasm))
    for name in FUNCTIONS:
        assert name in dir(chiasm)
        assert f"\n    {name}(" in text
    for name in ("DetectionConfig", "DiagnosisConfig"):
        assert name in dir(chiasm) and f"class {name}" in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_documents_every_argument(name: str):
    function = getattr(chiasm, name)
    text = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        assert parameter in text, f"{name}: {parameter}"


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, chiasm; "
        "print(*{'torch', 'pydantic', 'pandas', 'matplotlib', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_settings_go_to_the_wing_of_their_model(tmp_path):
    from chiasm.api import make_config

    places = {"data": tmp_path, "out": tmp_path / "run"}
    assert isinstance(make_config(**places), chiasm.DetectionConfig)
    assert isinstance(make_config(**places, model="mad_small"), chiasm.DiagnosisConfig)
    file = tmp_path / "config.yaml"
    file.write_text("model: fused_small\n")
    assert isinstance(make_config(**places, file=file), chiasm.DiagnosisConfig)
    overrides = ["model=minirocket"]
    assert isinstance(make_config(**places, overrides=overrides), chiasm.DiagnosisConfig)


def test_recordings_are_told_from_parts_where_no_model_is_named(tmp_path):
    from chiasm.api import make_config

    table = tmp_path / "recordings.csv"
    table.write_text("series,label\n" + "".join(f"{n}.csv,corona\n" for n in range(3)))
    places = {"data": table, "out": tmp_path / "run"}
    assert make_config(**places).model == "auto"
    assert make_config(**places, searched=True).model == "fused_small"
    assert make_config(out=tmp_path / "run", overrides=[f"data={table}"]).model == "auto"
    parts = tmp_path / "parts.csv"
    parts.write_text("rgb,xyz\na.png,a.tiff\n")
    assert make_config(data=parts, out=tmp_path / "run").model == "adnas_light"


def test_search_takes_the_settings_of_either_wing(tmp_path, monkeypatch):
    for wing in ("detection", "diagnosis"):
        monkeypatch.setattr(f"chiasm.{wing}.search.search", lambda config, wing=wing, **_: wing)
    places = {"data": tmp_path, "out": tmp_path / "run"}
    assert chiasm.search(chiasm.DetectionConfig.make(**places)) == "detection"
    assert chiasm.search(chiasm.DiagnosisConfig.make(**places, model="fused_small")) == "diagnosis"
    assert chiasm.search(**places, model="mad-small") == "diagnosis"
    with pytest.raises(ConfigurationError, match="btf has no fusion to search; choose one of adn"):
        chiasm.search(**places, model="btf")
    with pytest.raises(ConfigurationError, match="not both: model"):
        chiasm.search(chiasm.DetectionConfig.make(**places), model="adnas_slim")


def test_there_is_no_third_wing(tmp_path):
    with pytest.raises(ConfigurationError, match="no wing 'sound'; there are: detection, diag"):
        chiasm.demo(tmp_path, wing="sound")
    assert not any(tmp_path.iterdir())


def test_the_command_line_tells_its_version():
    code = "from chiasm.cli.main import main; main()"
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"chiasm {chiasm.__version__}"
