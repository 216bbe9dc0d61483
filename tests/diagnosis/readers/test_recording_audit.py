"""The audit of recordings finds what was put there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from chiasm.cli.main import app
from chiasm.diagnosis.readers.audit import audit
from chiasm.diagnosis.readers.opening import is_diagnosis_data, open_source
from chiasm.diagnosis.simulator.simulator import make_recordings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audit") / "recordings"
    make_recordings(root, count=30, sessions=15, seed=4, workers=1)
    return root


def test_sound_recordings_are_counted_by_class_and_session(folder: Path) -> None:
    report = audit(open_source(folder))
    assert set(report.counts) == {"normal", "noise", "surface", "corona", "void"}
    assert all(n["recordings"] == 6 and n["session"] == 3 for n in report.counts.values())
    assert report.parts == {"image and series": 30}
    assert report.lengths == {"1200": 30}
    assert not report.unreadable and not report.copies
    assert len(report.shortcuts) == 5
    assert not any("name no session" in w or w.startswith("Shortcut") for w in report.warnings)


def test_a_copy_under_another_class_and_a_broken_file_are_told(
    folder: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "own"
    shutil.copytree(folder, copied)
    voids = sorted(copied.glob("VS_void_*/*.csv"))
    corona = sorted(copied.glob("VS_corona_*/*.csv"))
    for suffix in (".csv", ".png"):
        shutil.copy(voids[0].with_suffix(suffix), corona[0].with_suffix(suffix))
    voids[1].write_text("1,2,3\n")
    report = audit(open_source(copied))
    assert len(report.copies) == 1
    assert {voids[0].stem, corona[0].stem} == {Path(one).stem for one in report.copies[0]}
    assert len(report.unreadable) == 1 and voids[1].name in report.unreadable[0]
    assert any("copies" in warning for warning in report.warnings)


def test_a_recording_that_is_left_out_makes_the_audit_unsound(folder: Path, tmp_path: Path) -> None:
    assert audit(open_source(folder)).sound
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    series = min(copied.glob("VS_void_*/*.csv"))
    series.unlink()
    report = audit(open_source(copied))
    assert not report.sound
    assert f"no partner {series.name}" in report.to_text()
    assert "Left out" in report.to_text()
    (problem,) = json.loads(report.to_json())["problems"]
    assert problem["left_out"] and problem["source"] == str(series.with_suffix(".png"))


def test_a_number_that_tells_a_class_is_a_shortcut(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "own"
    shutil.copytree(folder, copied)
    for file in copied.glob("VS_void_*/*.csv"):
        counts = np.loadtxt(file, delimiter=",", dtype=int)
        np.savetxt(file, np.minimum(counts + 100, 255), fmt="%d", delimiter=",")
    report = audit(open_source(copied))
    mean = next(one for one in report.shortcuts if one.name == "mean of the series")
    assert (mean.kind, mean.auroc) == ("void", 1.0)
    (warning,) = (w for w in report.warnings if w.startswith("Mean of the series alone"))
    assert "chance" in warning  # with three sessions of each class


def test_the_command_prints_the_audit(folder: Path) -> None:
    text = CliRunner().invoke(app, ["data", "check", str(folder)])
    assert text.exit_code == 0 and "Audit of" in text.output and "void: 6" in text.output
    as_json = CliRunner().invoke(app, ["data", "check", str(folder), "--json"])
    assert json.loads(as_json.output)["parts"] == {"image and series": 30}


def test_parts_are_not_taken_for_recordings(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    table.write_text("rgb,xyz,label\na.png,b.tiff,0\n")
    assert not is_diagnosis_data(table)
    table.write_text("image,series,kind\na.png,b.csv,void\n")
    assert is_diagnosis_data(table)
    assert is_diagnosis_data(folder) and not is_diagnosis_data(tmp_path)


def test_workers_give_the_report_of_one_process(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "own"
    shutil.copytree(folder, copied)
    voids = sorted(copied.glob("VS_void_*/*.csv"))
    voids[1].write_text("1,2,3\n")
    alone = audit(open_source(copied))
    assert audit(open_source(copied), workers=2) == alone
    assert len(alone.unreadable) == 1


def test_recordings_are_converted_by_the_command_and_checked_as_a_store(
    folder: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "own"
    shutil.copytree(folder, copied)
    sorted(copied.glob("VS_void_*/*.csv"))[1].write_text("1,2,3\n")
    command = ["data", "convert", str(copied), str(tmp_path / "store")]
    strict = CliRunner().invoke(app, [*command, "--strict"])
    assert strict.exit_code != 0
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "29 recordings are in the store" in done.output
    assert "1 recordings were left out" in done.output
    report = audit(open_source(tmp_path / "store"), workers=2)
    assert sum(n["recordings"] for n in report.counts.values()) == 29
    refused = CliRunner().invoke(app, [*command, "--unit", "0.001"])
    assert refused.exit_code != 0 and "no --unit" in str(refused.output) + str(refused.exception)
