"""The page of several products: counts and means of its rows, the hardest first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from chiasm.detection.products.page import in_words, row_of, write_page


def figure(value: float | None) -> dict[str, float | None]:
    return {"value": value, "low": value, "high": value}


def metrics(
    auroc: float | None, *, good: int = 10, defective: int = 20, missed: float | None = 0.25
) -> dict[str, Any]:
    areas = {limit: figure(auroc) for limit in ("0.3", "0.05")}
    return {
        "counts": {"judged": good + defective, "good": good, "defective": defective,
                   "not_judged": 0},
        "image": {
            "auroc": figure(auroc),
            "missed_rate": figure(missed),
            "false_alarm_rate": figure(0.1 if good else None),
        },
        "pixel": {"ap": figure(auroc)},
        "region": {"aupro": areas},
        "trivial": {"image": {"object area": figure(0.7), "file size": figure(0.6)}},
    }  # fmt: skip


def page(tmp_path: Path, products: dict[str, dict[str, Any]], **facts: Any) -> str:
    promises = {name: f"Promise of {name}." for name in products}
    given = {"failed": {}, "missing": [], "title": "line", "repeat": "chiasm evaluate", **facts}
    return write_page(tmp_path, products, promises=promises, **given).read_text()


def test_the_rows_say_what_was_found_with_the_best_number_without_a_model():
    row = row_of("lid", metrics(0.9))
    assert (row["found"], row["alarms"]) == (15, 1)
    assert row["trivial"] == {"name": "object area", "value": 0.7}
    rows = [row, row_of("cup", metrics(0.5, defective=4, missed=1.0))]
    assert in_words(rows) == (
        "Found 15 of 24 defective parts of 2 products, with 2 false alarms among 20 good parts."
    )
    assert in_words([row_of("lid", metrics(None, good=0, missed=None))]) == (
        "No part of lid was decided on."
    )


def test_the_hardest_is_first_and_means_count_each_once(tmp_path: Path):
    text = page(tmp_path, {"lid": metrics(0.9), "cup": metrics(0.6), "pin": metrics(None)})
    links = re.findall(r'<th scope="row"><a href="([^"]+)"', text)
    assert links == ["pin/report.html", "cup/report.html", "lid/report.html"]
    assert text.count('<div class="value">0.750</div>') == 4
    assert "lowest: cup 0.600" in text and "cup (object area)" in text
    assert "Promise of pin." in text


def test_names_are_escaped_and_what_is_not_there_is_said(tmp_path: Path):
    text = page(
        tmp_path,
        {"a b<i>": metrics(0.9, good=2)},
        failed={"cup": "All files are damaged."},
        missing=["pin"],
    )
    assert "<i>" not in re.sub(r'<i class="dot"', "", text)
    assert 'href="a%20b%3Ci%3E/report.html"' in text
    assert "cup is not evaluated: All files are damaged." in text
    assert "no test parts of pin" in text and "Fewer than 10 good" in text


@pytest.mark.parametrize("text", ["default-src 'none'", "prefers-color-scheme:dark"])
def test_the_page_loads_nothing_and_has_a_dark_side(tmp_path: Path, text: str):
    assert text in page(tmp_path, {"lid": metrics(0.9)}).replace("&#39;", "'")
