"""The page: complete, self-contained, and safe with any name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chiasm.detection.decision import AlarmRule
from chiasm.detection.report.curves import (
    epoch_means,
    learning_curves,
    metric_curves,
    read_histories,
    score_histogram,
)
from chiasm.detection.report.figures import evaluate_scores
from chiasm.detection.report.report import write_report
from chiasm.detection.report.scored import ScoredSample
from chiasm.detection.report.wording import in_words, warnings
from chiasm.reporting.cost import cost_rows

HOSTILE = '<script src="http://evil.example/x.js"></script>'
COST = {
    "fit_minutes": 2.517,
    "seconds_per_part_p50": 0.17,
    "peak_memory_mb": 2544.3,
    "parameters": 711762,
    "macs": 12_345_678_901,
}
SVG = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><style>*{}</style></svg>'
LOG = "epoch,step,train_loss,validation_ap\n0,4,2.0,\n0,9,1.0,\n0,11,,0.25\n1,14,0.5,\n1,23,,0.5\n"

RULE = AlarmRule(list(range(40)), 0.05, None)


class Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def report(scored: list[ScoredSample], folder: Path, **changes: Any) -> Page:
    arguments: dict[str, Any] = {
        "metrics": evaluate_scores(scored, cost=COST, draws=20),
        "scored": scored,
        "title": "flange: adnas_light",
        "genotype_svg": SVG,
        "genotype_text": "late cell: x = rgb/f16",
        "notes": ["A note from the caller."],
        "facts": ["A fact."],
        "repeat": "chiasm evaluate run --data parts",
        "rule": RULE,
    }
    path = write_report(folder, **(arguments | changes))
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for stage in ("train", "search"):
        (folder / "logs" / stage).mkdir(parents=True)
        (folder / "logs" / stage / "metrics.csv").write_text(LOG)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def page(scored: list[ScoredSample], folder: Path, run: Path) -> Page:
    return report(scored, folder, run=run)


def test_the_page_needs_nothing_from_outside(page):
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "script" not in {tag for tag, _ in page.tags}


def test_every_picture_has_a_text_instead(page, folder):
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 7 + 3 + 1  # cases, plots, architecture
    assert all(len(attributes["alt"] or "") > 20 for attributes in pictures)
    written = {path.name for path in (folder / "figures").iterdir()}
    assert written == {"gallery.png", "scores.png", "curves.png", "learning.png"}


def test_the_page_shows_every_group_of_the_metrics(page, folder):
    metrics = json.loads((folder / "metrics.json").read_text())

    def shown(figure: dict[str, Any]) -> bool:
        return f"{figure['value']:.3f}" in page.text

    assert all(shown(f) for f in metrics["image"].values())
    assert all(shown(f) for f in metrics["pixel"].values())
    assert all(shown(f) for f in metrics["region"]["aupro"].values())
    assert all(shown(f) for f in metrics["object"].pop("aupro").values())
    assert all(shown(f) for f in metrics["object"].values())
    assert all(name in page.text and shown(f) for name, f in metrics["trivial"]["image"].items())
    assert all(shown(f) for f in metrics["trivial"]["pixel"]["aupro"].values())
    for name, kind in metrics["kinds"].items():
        assert name in page.text
        assert shown(kind["pixel_ap"])
    assert f"{metrics['counts']['judged']} parts" in page.text
    assert "711,762" in page.text
    for said in ("A note from the caller.", "late cell: x = rgb/f16", "chiasm evaluate run"):
        assert said in page.text
    assert '<p class="warn" role="note">A note' in page.source
    assert '<p class="say">A fact.</p>' in page.source


def test_sections_come_in_the_order_in_which_one_asks(page):
    order = [
        "defective parts",
        "Examples",
        "Whole parts",
        "By kind",
        "Curves",
        "baselines without a model",
    ]
    order += ["Architecture", "Cost", "Reproduce"]
    places = [page.text.index(name) for name in order]
    assert places == sorted(places)


def test_hostile_names_are_only_text(scored, tmp_path):
    hostile = [
        replace(
            s,
            sample=replace(s.sample, kind=HOSTILE if s.sample.label else "good"),
            verdict=replace(s.verdict, source=f"test/{HOSTILE}/1.png"),
        )
        for s in scored
    ]
    page = report(hostile, tmp_path, title=HOSTILE, genotype_text=HOSTILE, repeat=HOSTILE)
    assert "script" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text


def test_failed_parts_are_named_with_their_reason(scored, failed, tmp_path):
    page = report([*scored, *(failed(n) for n in range(5))], tmp_path)
    assert "5 parts could not be evaluated" in page.text
    assert "broken0.png: It is <not> a picture." in page.text
    assert "and 2 more" in page.text


@pytest.mark.parametrize("chosen", ["good", "defective", "unknown", "failed"])
def test_any_set_of_parts_gives_a_page(scored, part, failed, tmp_path, chosen):
    parts = {
        "good": [s for s in scored if s.sample.label == 0],
        "defective": [s for s in scored if s.sample.label == 1],
        "unknown": [part(n, label=None, kind="", alarm=None) for n in range(3)],
        "failed": [failed(1)],
    }[chosen]
    page = report(parts, tmp_path, genotype_svg=None, genotype_text=None)
    assert "Reproduce" in page.text
    assert "nan" not in re.findall(r"[a-z]+", page.text)


def test_the_trade_offs_of_the_search_stand_before_the_architecture(failed, tmp_path):
    scored = [failed(1)]  # without plots of its own
    (tmp_path / "pareto.json").write_text(json.dumps(trade_offs()))
    page = report(scored, tmp_path, run=tmp_path)
    assert page.text.index("Accuracy and cost") < page.text.index("Architecture")
    assert "the hand-made" not in page.text and "join of 2 (hand-made)" in page.text
    assert (tmp_path / "figures" / "trade_offs.png").stat().st_size > 1000
    (tmp_path / "pareto.json").write_text("{")
    page = report(scored, tmp_path, run=tmp_path)
    assert "Accuracy and cost" not in page.text
    assert "pareto.json does not hold trade-offs" in page.text


def trade_offs() -> dict[str, Any]:
    row = {
        "validation_ap": 0.5,
        "milliseconds": 3.0,
        "megabytes": 2.0,
        "cells": {"late": {"inputs": ["rgb/f4", "geometry/f4"], "nodes": []}},
    }
    return {
        "schema": "chiasm.pareto",
        "version": 1,
        "metric": "validation_ap",
        "costs": {"runtime": "openvino fp32", "threads": 2},
        "budgets": {},
        "chosen": 0,
        "finalists": [{**row, "steps": 9, "judged": row}],
        "judged": [row],
    }


def test_metrics_that_do_not_fit_the_schema_are_not_written(scored, tmp_path):
    metrics = evaluate_scores(scored, cost={}, draws=5) | {"surprise": 1}
    with pytest.raises(ValidationError):
        report(scored, tmp_path, metrics=metrics)
    assert not (tmp_path / "metrics.json").exists()


def test_the_verdict_counts_decisions(scored):
    metrics = evaluate_scores(scored, cost={}, draws=5)
    sentence = in_words(metrics, scored, RULE)
    assert sentence.startswith(
        "Found 7 of 9 defective parts, with 1 false alarm among 8 good parts"
    )
    assert sentence.endswith(RULE.promise)


@pytest.mark.parametrize(
    ("alarms", "normals", "reason"),
    [
        (0, 40, None),
        (4, 19, "within the chance of a calibration by 19 normals"),
        (4, 1000, "recorded under other conditions"),
        (9, 40, "recorded under other conditions"),
        (9, 5, None),  # nothing was promised
    ],
)
def test_more_false_alarms_than_promised_are_a_warning(part, alarms, normals, reason):
    parts = [part(n, alarm=n < alarms) for n in range(20)]
    rule = AlarmRule(list(range(normals)), 0.05, None)
    said = warnings(evaluate_scores(parts, cost={}, draws=5), parts, rule)
    excess = [w for w in said if "than the nominal rate" in w]
    assert bool(excess) == (reason is not None)
    assert all(reason in w for w in excess)


def test_a_shortcut_in_the_data_is_a_warning(scored):
    dark = [
        replace(s, sample=replace(s.sample, rgb=s.sample.rgb * (0.5 if s.sample.label else 1)))
        for s in scored
    ]
    said = warnings(evaluate_scores(dark, cost={}, draws=5), dark, RULE)
    assert any("object brightness alone" in w for w in said)
    honest = warnings(evaluate_scores(scored, cost={}, draws=5), scored, RULE)
    assert not any("object brightness alone" in w for w in honest)


def test_cost_has_units():
    rows = dict(cost_rows(COST | {"watts": 7, "macs_before_pruning": None}))
    assert rows["training and search"] == "2.5 minutes"
    assert rows["seconds per part (median)"] == "0.17 s"
    assert rows["memory, at most"] == "2,544 MB"
    assert rows["parameters"] == "711,762"
    assert rows["multiply-accumulates per part"] == "12.35 G"
    assert rows["the same before pruning"] == "not measured"
    assert rows["watts"] == "7"


def test_histories_are_read_search_first(run):
    histories = read_histories(run)
    assert list(histories) == ["search", "train"]
    assert histories["train"].ap == ((11.0, 0.25), (23.0, 0.5))
    assert epoch_means(histories["train"]) == ((6.5, 1.5), (14.0, 0.5))


def test_strange_logs_are_passed_over(tmp_path):
    (tmp_path / "logs/train").mkdir(parents=True)
    (tmp_path / "logs/train/metrics.csv").write_bytes(b"\xff\xfe\n\n1,2\n")
    assert read_histories(tmp_path) == {}
    assert read_histories(None) == {}
    assert learning_curves({}, tmp_path / "x.png") is None


def test_nothing_judged_gives_no_plots(failed, tmp_path):
    assert score_histogram([failed(1)], tmp_path / "a.png") is None
    assert metric_curves([failed(1)], {}, tmp_path / "b.png") is None
