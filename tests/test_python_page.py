"""The examples of ``docs/python.md`` run as they stand there, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from chiasm.files.images import write_mask, write_rgb, write_xyz
from version_1_weights import part, write_model

PAGE = Path(__file__).parents[1] / "docs/python.md"
STORED = Path(__file__).parent / "version_1"
COUNTS = {"train/good": 6, "validation/good": 4, "test/good": 2, "test/hole": 2}


def write_parts(folder: Path) -> None:
    """Cones on a plane, those of ``hole`` with a black hole."""
    rng = np.random.default_rng(0)
    rgb, xyz = part()
    for name, count in COUNTS.items():
        for number in range(count):
            image = np.clip(rgb + rng.normal(0, 0.02, rgb.shape), 0, 1).astype(np.float32)
            mask = np.zeros(rgb.shape[:2], bool)
            if name.endswith("hole"):
                mask[44:56, 60:72] = True
                image[mask] = 0
            write_rgb(folder / name / f"rgb/{number:03d}.png", image)
            noise = rng.normal(0, 1e-5, xyz.shape).astype(np.float32)
            write_xyz(folder / name / f"xyz/{number:03d}.tiff", xyz + noise * (xyz != 0))
            if name.startswith("test"):
                write_mask(folder / name / f"gt/{number:03d}.png", mask)


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_has_examples_and_says_which_are_not_run():
    text = PAGE.read_text()
    assert len(blocks()) >= 8
    assert len(re.findall(r"^```python", text, re.MULTILINE)) == len(blocks()) + text.count(
        "```python no-run"
    )


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_parts(tmp_path / "parts")
    write_model(STORED / "mad", tmp_path / "runs/pd")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    names: dict[str, object] = {}
    for number, code in enumerate(blocks(), start=1):
        exec(compile(code, f"docs/python.md, example {number}", "exec"), names)
    for name in ("out/part.png", "out/part.npy", "out/recording.json", "verdicts/coco.json"):
        assert (tmp_path / name).is_file(), name
    assert (tmp_path / "report/report.html").is_file()
    assert names["verdicts"][0].defective and names["verdicts"][0].regions
