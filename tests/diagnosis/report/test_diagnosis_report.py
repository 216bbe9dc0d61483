"""The page of a diagnosis: complete, honest at first sight, self-contained, safe with any name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from chiasm.diagnosis.report.figures import TrivialBaseline, evaluate_recordings
from chiasm.diagnosis.report.report import write_diagnosis_report
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.diagnosis.report.wording import SIMULATED, headline, split_words, warnings
from chiasm.fusion.drawing import draw_genotype
from chiasm.fusion.genotype import CellGenotype, Genotype, NodeGenotype

HOSTILE = '<script src="http://evil.example/x.js"></script>'
LOG = (
    "epoch,step,contrast_share,validation_contrast,train_loss,validation_f1\n0,4,0.9,3.1,1.2,0.4\n"
)


class Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def report(scored: ScoredRecordings, metrics: dict[str, Any], folder: Path, **changes: Any) -> Page:
    arguments: dict[str, Any] = {
        "metrics": metrics,
        "scored": scored,
        "title": "substation: mad_small",
        "repeat": "chiasm evaluate run --data discharges",
        "notes": ["A note from the caller."],
    }
    path = write_diagnosis_report(folder, **(arguments | changes))
    return Page(path.read_text(encoding="utf-8"))


def quick(scored: ScoredRecordings, **changes: Any) -> dict[str, Any]:
    return evaluate_recordings(scored, **({"by": "session", "cost": {}, "draws": 5} | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def page(recordings, diagnosis, load, folder, tmp_path_factory) -> Page:
    run = tmp_path_factory.mktemp("run")
    (run / "logs/contrast").mkdir(parents=True)
    (run / "logs/contrast/metrics.csv").write_text(LOG)
    return report(recordings, diagnosis, folder, load=load, run=run)


def test_the_page_needs_nothing_from_outside(page):
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}


def test_every_picture_has_a_text_instead(page, folder):
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 8 + 6  # cases, plots
    assert all(len(attributes["alt"] or "") > 20 for attributes in pictures)
    plots = {"confusion", "f1", "reliability", "corruptions", "embedding", "learning"}
    cases = {f"case_{number:02d}" for number in range(1, 9)}
    assert {path.stem for path in (folder / "figures").iterdir()} == plots | cases


def test_the_verdict_comes_first_then_the_split_and_its_gap(page, diagnosis):
    macro, random = (
        diagnosis["splits"][name]["recording"]["macro_f1"]["value"]
        for name in ("session", "random")
    )
    first = f"On sessions it has never seen, the model reaches a macro-F1 of {macro:.3f}"
    order = [SIMULATED, first, "Divided by session", f"reaches {random:.3f}", "The gap is"]
    order += ["recordings of 25 groups", "A note from the caller.", "Influence of the split"]
    order += [
        "Wrong diagnoses",
        "Figures by class",
        "Figures of all recordings",
        "One modality absent",
    ]
    order += ["Corrupted recordings", "Unknown faults", "Modality gap", "Training"]
    order += ["baselines without a model", "Cost", "Reproduce"]
    places = [page.text.index(words) for words in order]
    assert places == sorted(places)


def test_simulated_data_are_called_so_once_and_only_then(page, recordings, diagnosis, tmp_path):
    words = "Simulator scores prove software, not field performance"
    assert page.text.count(words) == 1
    real = report(recordings, diagnosis | {"simulated": False}, tmp_path)
    assert words not in real.text
    assert "Simulated" not in real.text


def test_the_page_shows_every_group_of_the_metrics(page, folder):
    metrics = json.loads((folder / "metrics.json").read_text())

    def shown(figure: dict[str, Any]) -> bool:
        return f"{figure['value']:.3f}" in page.text

    assert all(shown(f) for f in metrics["recording"].values())
    assert all(shown(metrics["calibration"][name]) for name in ("ece", "brier"))
    for kind, figures in metrics["kinds"].items():
        assert kind in page.text
        assert all(shown(figures[name]) for name in ("precision", "recall", "f1"))
    for split in metrics["splits"].values():
        assert shown(split["recording"]["macro_f1"])
        assert split["gap"] is None or f"{split['gap']:+.3f}" in page.text
    for group in ("missing", "corruptions", "trivial"):
        assert all(name in page.text and shown(f) for name, f in metrics[group].items())
    for scores in metrics["open_set"].values():
        assert all(shown(f["auroc"]) and shown(f["fpr95"]) for f in scores.values())
    for stage in metrics["gap"].values():
        assert all(f"{value:.3f}" in page.text for value in stage.values())
    for words in ("2,373,837", "seconds per recording", "chiasm evaluate run"):
        assert words in page.text


def test_mistakes_name_truth_and_diagnosis(page, recordings):
    assert page.text.count("diagnosed as") == 8
    assert "series alone:" in page.text
    assert re.search(r"conflict 0\.\d\d, uncertainty 0\.\d\d", page.text)


def test_hostile_names_are_only_text(maker, tmp_path):
    scored = maker(60, sessions=12, kinds=(HOSTILE, "void"))
    scored = replace(scored, sources=tuple(HOSTILE for _ in scored.sources))
    corrupted = {HOSTILE: scored}
    baselines = {HOSTILE: TrivialBaseline(scored.logits[:, 0], scored.labels, scored.logits[:, 0])}
    metrics = quick(
        scored,
        by=HOSTILE,
        corruptions=corrupted,
        missing=corrupted,
        trivial=baselines,
        cost={HOSTILE: HOSTILE},
    )
    page = report(scored, metrics, tmp_path, title=HOSTILE, repeat=HOSTILE, notes=[HOSTILE])
    assert "script" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_list_gives_a_page(maker, load, tmp_path, count):
    scored = maker(count, sessions=max(count, 1))
    page = report(scored, quick(scored), tmp_path, load=load)
    assert "Reproduce" in page.text
    assert "nan" not in re.findall(r"[a-z]+", page.text)
    assert ("No recording could be diagnosed." in page.text) == (count == 0)


def test_bare_scores_give_a_page(maker, tmp_path):
    full = maker(50)
    scored = ScoredRecordings(full.logits, full.labels, full.kinds)
    page = report(scored, quick(scored, by="random"), tmp_path)
    assert "The split is random." in page.text
    assert "Wrong diagnoses" not in page.text


def test_metrics_that_do_not_fit_the_schema_are_not_written(recordings, diagnosis, tmp_path):
    with pytest.raises(ValidationError):
        report(recordings, diagnosis | {"surprise": 1}, tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_the_verdict_counts_mistakes(recordings):
    wrong = int((recordings.labels != recordings.guesses).sum())
    assert headline(quick(recordings)).endswith(f"{wrong} of 200 recordings were misdiagnosed.")
    perfect = quick(replace(recordings, labels=recordings.guesses))
    assert "none of 200 recordings was misdiagnosed" in headline(perfect)


def test_a_random_split_is_never_called_unseen(recordings, maker):
    metrics = quick(recordings, by="random", splits={"session": maker(skill=0.8)})
    assert "never seen" not in headline(metrics)
    assert "Divided by session, macro-F1 is" in split_words(metrics)
    assert any("The split is random" in w for w in warnings(metrics))
    alone = split_words(quick(recordings))
    assert "No random split was evaluated" in alone


def test_what_one_must_know_is_a_warning(recordings, maker):
    def warns(scored: ScoredRecordings, words: str, **changes: Any) -> bool:
        return any(words in warning for warning in warnings(quick(scored, **changes)))

    labels = recordings.labels
    shortcut = {"maximum": TrivialBaseline(labels * 1.0, labels, labels * 1.0)}
    blind = {"maximum": TrivialBaseline(np.ones(200), labels, np.ones(200))}
    assert warns(recordings, "The maximum alone", trivial=shortcut)
    assert not warns(recordings, "The maximum alone", trivial=blind)
    assert warns(recordings, "3 groups only", by="equipment")
    assert not warns(recordings, "groups only")
    assert warns(recordings, "2 recordings could not be diagnosed", not_judged=2)
    assert warns(maker(4, sessions=4), "no recording of void")
    halves = {"image": recordings.logits, "series": recordings.logits[::-1]}
    half = replace(recordings, modality_logits=halves)
    assert warns(half, "With the picture absent")
    assert not warns(half, "With the series absent")


def test_a_searched_fusion_is_drawn_and_told(maker, tmp_path):
    node = NodeGenotype(("x", "y"), "glu")
    genotype = Genotype(
        {"late": CellGenotype(("image/stage3", "series/layer2"), (node,))}, output="late"
    )
    genotype.save(tmp_path / "genotype.json")
    draw_genotype(genotype, path_png=tmp_path / "genotype.png", head="class")
    scored = maker(8)
    page = report(scored, quick(scored), tmp_path / "report", run=tmp_path)
    assert genotype.summary() in page.text
    drawings = [a for tag, a in page.tags if tag == "img" and a.get("class") == "drawing"]
    assert len(drawings) == 1
    without = report(scored, quick(scored), tmp_path / "other", run=tmp_path / "report")
    assert "Architecture" not in without.text
