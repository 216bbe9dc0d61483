"""The C++ example is built and judges a part as the Python runtime does."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import pytest

import chiasm.runtime
from chiasm.runtime.deployment import read_deployment, write_deployment
from version_1_weights import part

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples/cpp/judge.cpp"
STORED = ROOT / "tests/version_1/exported_detection"
# The second one is where .ci/run unpacks Debian's headers.
HEADERS = (Path("/usr/include"), ROOT / "build/headers/usr/include", Path("/usr/local/include"))


def include_folders() -> list[Path]:
    """Return the folders of both libraries' headers; skip the test without them."""
    found = []
    for name in ("onnxruntime/onnxruntime_cxx_api.h", "nlohmann/json.hpp"):
        folder = next((folder for folder in HEADERS if (folder / name).is_file()), None)
        if folder is None:
            pytest.skip(f"No {name}: run 'bash tools/cpp_headers.sh'.")
        found += [folder, folder / "onnxruntime"]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def library() -> Path:
    """Return the library inside the wheel that Python's runtime uses; skip the test without it."""
    package = util.find_spec("onnxruntime")
    if package is None or package.origin is None:
        pytest.skip("onnxruntime is not installed.")
    found = sorted(Path(package.origin).parent.glob("capi/libonnxruntime.so.1*"))
    if not found:
        pytest.skip("This wheel of onnxruntime has no libonnxruntime.so.1.")
    return found[-1]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SOURCE.is_file():
        pytest.skip("Only the sources have the example.")
    if (compiler := shutil.which("g++")) is None:
        pytest.skip("g++ is not installed.")
    folder = tmp_path_factory.mktemp("cpp")
    linked = folder / "libonnxruntime.so.1"  # the name by which the loader looks for it
    linked.symlink_to(library())
    includes = [f"-I{path}" for path in include_folders()]
    places = (f"-Wl,-rpath,{folder}", "-o", str(folder / "judge"))
    built = subprocess.run(
        [compiler, "-std=c++17", "-O0", *includes, str(SOURCE), str(linked), *places],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "judge"


def test_it_judges_as_python_does(judge: Path, tmp_path: Path):
    folder = shutil.copytree(STORED, tmp_path / "model")
    deployment = read_deployment(folder)
    (inputs,) = chiasm.runtime.load(folder, threads=1).graph_inputs(*part())
    np.savez(tmp_path / "part.npz", **inputs)

    def answer(*more: str) -> subprocess.CompletedProcess[str]:
        command = [str(judge), str(folder), str(tmp_path / "part.npz"), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    told = answer()  # the folder is of version 0.1.0, which wrote no threshold
    assert told.returncode == 2 and "0.2 or later" in told.stderr
    score = chiasm.runtime.load(folder, threads=1)(*part()).score
    low, high = (tuple(score + shift + 0.001 * k for k in range(99)) for shift in (-1.0, 1.0))
    for status, change in (
        (0, {"calibration_scores": high}),
        (1, {"calibration_scores": low}),
        (3, {"calibration_scores": high[:5]}),
        (0, {"calibration_scores": (score,) * 99}),  # equal to the threshold is no alarm
        (1, {"calibration_scores": (*low, *high[:2])}),  # the fifth of them is the threshold
        (0, {"calibration_scores": (*low, *high[:2]), "confidence": 0.9}),  # the second
    ):
        write_deployment(folder, replace(deployment, **change))
        expected = chiasm.runtime.load(folder, threads=1)(*part())
        done = answer("--json")
        verdict = json.loads(done.stdout)
        assert done.returncode == status
        assert verdict["score"] == pytest.approx(expected.score, abs=1e-5)
        assert verdict["p_value"] == pytest.approx(expected.p_value, abs=1e-12)
        assert verdict["defective"] is expected.defective
    assert "alarms above" in answer().stdout


def test_what_it_cannot_read_is_told(judge: Path, tmp_path: Path):
    def error(model: Path, name: str) -> str:
        command = [str(judge), str(model), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        return done.stderr

    arrays = {"rgb": np.zeros((1, 3, 64, 64), np.float32)}
    np.savez(tmp_path / "few.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    np.savez(tmp_path / "doubles.npz", rgb=np.zeros((1, 3, 64, 64)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "few.npz").read_bytes()[:-100])
    assert "no array 'geometry'" in error(STORED, "few.npz")
    assert "compressed" in error(STORED, "packed.npz")
    assert "float32" in error(STORED, "doubles.npz")
    assert "savez" in error(STORED, "cut.npz")
    assert "cannot be opened" in error(STORED, "none.npz")
    assert "no detector" in error(STORED.parent / "exported_diagnosis", "few.npz")
