"""The page of a check: self-contained, complete, and safe against what names hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chiasm.detection.check.audit import audit
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.report.check_page import write_page
from chiasm.detection.scenes.maker import make_scenes


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("check")
    counts = {"train": 8, "validation": 2, "test_good": 2, "test_per_defect": 1}
    root = make_scenes(folder, products=("cap",), size=64, **counts)[0]
    (root / "test/dent").rename(root / "test/<b>dent&")
    damaged = root / "train/good/rgb/003.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    (root / "train/good/xyz/004.tiff").unlink()
    source = Mvtec3d(root)
    path = write_page(audit(source), source, folder / "out/check.html", repeat="chiasm data check")
    assert [p.name for p in path.parent.iterdir()] == ["check.html"]
    return path.read_text()


def test_the_page_needs_no_other_file(page: str):
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses and all(address.startswith("data:image/") for address in addresses)
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", page)


def test_names_are_escaped(page: str):
    assert "<b>dent" not in page and "&lt;b&gt;dent&amp;" in page


def test_the_page_says_what_was_found_and_what_to_do(page: str):
    assert "Damaged parts" in page and "rgb/003.png" in page
    assert "Incomplete parts" in page and "rgb/004.png" in page
    assert "Too few good parts for the alarm threshold" in page
    for title in ("What a training sees", "How alike good parts are", "Shortcuts", "A sample of"):
        assert title in page
    assert page.count("<svg") >= 5 and "prefers-color-scheme:dark" in page


def test_the_page_is_written_where_no_part_can_be_read(tmp_path: Path):
    root = tmp_path / "peg"
    for name in ("rgb/0.png", "xyz/0.tiff"):
        (root / "train/good" / name).parent.mkdir(parents=True)
        (root / "train/good" / name).write_bytes(b"")
    source = Mvtec3d(root)
    page = write_page(audit(source), source, tmp_path / "c.html", repeat="").read_text()
    assert "1 part was checked. Mend" in page
