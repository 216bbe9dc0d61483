"""The script that checks a GPU runs, with a processor in its place."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "results" / "scripts" / "gpu_check.py"


@pytest.mark.parametrize("model", ["btf", "fused_small"])
def test_the_check_of_a_gpu_passes_on_a_processor(tmp_path, capsys, model):
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    given = ["--device", "cpu", "--tiny", "--models", model, "--out", str(tmp_path / "check")]
    assert script.main(given) == 0
    report = json.loads((tmp_path / "check" / "gpu_check.json").read_text())
    assert report["passed"] and report["models"][model]["difference"] == 0
    assert all(row["seconds"] > 0 for row in report["steps"].values())
