"""The figures of a classifier's ``metrics.json``: those of the metrics functions, and honest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from chiasm.diagnosis.report.embedding import embedding_scatter
from chiasm.diagnosis.report.figures import (
    OpenSetCase,
    TrivialBaseline,
    evaluate_recordings,
    open_set_figures,
)
from chiasm.diagnosis.report.predictions import read_predictions, write_predictions
from chiasm.diagnosis.report.schema import DiagnosisMetrics, validated
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError
from chiasm.metrics.calibration import brier, equal_mass_calibration_error, softmax
from chiasm.metrics.classification import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    macro_f1,
    one_vs_rest_auroc,
)
from chiasm.metrics.open_set import (
    energy_score,
    fpr_at_tpr,
    knn_score,
    max_softmax_score,
)
from chiasm.metrics.ranking import auroc

CLOSE = {"abs": 6e-6}  # figures are rounded to five digits


def evaluated(scored: ScoredRecordings, **changes: Any) -> dict[str, Any]:
    return evaluate_recordings(scored, **({"by": "session", "cost": {}, "draws": 30} | changes))


def chosen(scored: ScoredRecordings, keep: np.ndarray) -> ScoredRecordings:
    """Some of the recordings, without what is only for pictures."""
    return ScoredRecordings(
        scored.logits[keep],
        scored.labels[keep],
        scored.kinds,
        groups={name: one[keep] for name, one in scored.groups.items()},
        temperature=scored.temperature,
    )


def leaves(tree: Any) -> Iterator[dict[str, float | None]]:
    """Every ``{value, low, high}`` below."""
    if isinstance(tree, dict):
        if set(tree) == {"value", "low", "high"}:
            yield tree
        else:
            for branch in tree.values():
                yield from leaves(branch)


def test_figures_are_those_of_the_metrics_functions(recordings, diagnosis):
    labels, guesses, kinds = recordings.labels, recordings.logits.argmax(1), recordings.kinds
    chances = softmax(recordings.logits / recordings.temperature)
    expected = {
        "macro_f1": macro_f1(labels, guesses, 5),
        "accuracy": accuracy(labels, guesses),
        "balanced_accuracy": balanced_accuracy(labels, guesses, 5),
        "auroc": one_vs_rest_auroc(chances, labels).mean(),
        "ece": equal_mass_calibration_error(chances, labels),
        "brier": brier(chances, labels),
    }
    figures = diagnosis["recording"]
    assert set(figures) == set(expected)
    for name, value in expected.items():
        assert figures[name]["value"] == pytest.approx(value, **CLOSE)
    confusion = confusion_matrix(labels, guesses, 5)
    assert diagnosis["confusion"] == confusion.tolist()
    scores = class_scores(confusion)
    for number, kind in enumerate(kinds):
        for name in ("precision", "recall", "f1"):
            exact = getattr(scores, name)[number]
            assert diagnosis["kinds"][kind][name]["value"] == pytest.approx(exact, **CLOSE)
    plain = diagnosis["calibration"]
    assert plain["brier"]["value"] == pytest.approx(
        brier(softmax(recordings.logits), labels), **CLOSE
    )
    assert plain["temperature"] == recordings.temperature


def test_temperature_changes_no_decision(recordings, diagnosis):
    other = evaluated(replace(recordings, temperature=9.0))
    assert other["confusion"] == diagnosis["confusion"]
    assert other["recording"]["ece"] != diagnosis["recording"]["ece"]
    assert other["calibration"]["ece"]["value"] == diagnosis["calibration"]["ece"]["value"]


def test_every_interval_holds_its_figure(diagnosis):
    both = [f for f in leaves(diagnosis) if f["low"] is not None]
    assert len(both) > 60
    for figure in both:
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_whole_groups_are_drawn(recordings):
    def width(scored: ScoredRecordings) -> float:
        figures = evaluated(scored, draws=200)["recording"]["macro_f1"]
        return figures["high"] - figures["low"]

    alone = replace(recordings, groups={"session": np.arange(len(recordings)).astype(str)})
    # Recordings of a session err together: as many independent ones would tell more.
    assert width(recordings) > 1.2 * width(alone)


def test_copies_of_recordings_make_no_interval_narrower(recordings):
    often = chosen(recordings, np.tile(np.arange(len(recordings)), 4))
    for name in ("macro_f1", "auroc"):
        assert evaluated(often)["recording"][name] == evaluated(recordings)["recording"][name]


def test_groups_of_several_classes_are_drawn_as_well(recordings):
    mixed = evaluated(recordings, by="equipment")["recording"]["macro_f1"]
    assert mixed["low"] < mixed["high"]


def test_the_gap_is_what_the_random_split_adds(every, diagnosis):
    splits = diagnosis["splits"]
    assert list(splits) == ["session", "equipment", "random"]
    assert splits["session"]["recording"] == diagnosis["recording"]
    random = splits["random"]["recording"]["macro_f1"]["value"]
    for name in ("session", "equipment"):
        f1 = splits[name]["recording"]["macro_f1"]["value"]
        assert splits[name]["gap"] == pytest.approx(random - f1, **CLOSE)
    assert splits["random"]["gap"] is None
    assert splits["equipment"]["groups"] == 3
    assert splits["random"]["groups"] == 25  # sessions still depend on each other


def test_without_the_picture_is_what_the_series_says_alone(recordings, diagnosis):
    for absent, left in (("picture absent", "series"), ("series absent", "image")):
        guesses = recordings.modality_logits[left].argmax(axis=1)
        exact = macro_f1(recordings.labels, guesses, 5)
        assert diagnosis["missing"][absent]["value"] == pytest.approx(exact, **CLOSE)


def test_recordings_that_lack_a_modality_do_not_count_without_the_other(recordings):
    holed = {name: one.copy() for name, one in recordings.modality_logits.items()}
    holed["series"][:50] = np.nan
    figures = evaluated(replace(recordings, modality_logits=holed))["missing"]["picture absent"]
    guesses = holed["series"][50:].argmax(axis=1)
    assert figures["value"] == pytest.approx(macro_f1(recordings.labels[50:], guesses, 5), **CLOSE)


def test_corruptions_are_figures_of_their_own_lists(every, diagnosis):
    for name, one in every["corruptions"].items():
        exact = macro_f1(one.labels, one.logits.argmax(axis=1), 5)
        assert diagnosis["corruptions"][name]["value"] == pytest.approx(exact, **CLOSE)


def test_open_set_figures_are_those_of_the_metrics_functions(every, diagnosis):
    case = every["open_set"][0]
    unseen = np.repeat([0, 1], [len(case.known), len(case.unknown)])
    logits = np.concatenate([case.known.logits, case.unknown.logits])
    embeddings = np.concatenate([case.known.embeddings, case.unknown.embeddings])
    expected = {
        "max_softmax_score": max_softmax_score(logits),
        "energy_score": energy_score(logits),
        "knn_score": knn_score(embeddings, case.reference, neighbours=10),
        "flow_nll": np.concatenate([case.known.flow_nll, case.unknown.flow_nll]),
    }
    figures = diagnosis["open_set"]["void"]
    assert list(figures) == list(expected)
    for name, scores in expected.items():
        assert figures[name]["auroc"]["value"] == pytest.approx(auroc(scores, unseen), **CLOSE)
        fpr = fpr_at_tpr(scores, unseen)
        assert figures[name]["fpr95"]["value"] == pytest.approx(fpr, **CLOSE)


def test_scores_that_cannot_be_computed_are_left_out(recordings):
    bare = replace(recordings, embeddings=None, flow_nll=None)
    figures = open_set_figures(OpenSetCase("void", bare, recordings), by="session", draws=5, seed=0)
    assert list(figures) == ["max_softmax_score", "energy_score"]
    empty = chosen(recordings, np.arange(0))
    nothing = OpenSetCase("void", recordings, empty)
    assert open_set_figures(nothing, by="session", draws=5, seed=0) == {}


def test_a_baseline_of_another_list_is_refused(recordings):
    baseline = TrivialBaseline(np.ones(5), np.zeros(5, int), np.ones(7))
    with pytest.raises(DataError, match="7 numbers for 200"):
        evaluated(recordings, trivial={"mean": baseline})


def test_the_same_seed_gives_the_same_figures(recordings, every, diagnosis):
    assert evaluate_recordings(recordings, **every) == diagnosis
    other = evaluate_recordings(recordings, **(every | {"seed": 1}))
    assert other["recording"]["auroc"] != diagnosis["recording"]["auroc"]
    assert other["confusion"] == diagnosis["confusion"]


def test_metrics_fit_the_schema_and_survive_json(diagnosis):
    read = json.loads(json.dumps(validated(diagnosis)))
    assert (read["schema"], read["version"], read["wing"]) == ("chiasm.metrics", 2, "classifier")
    assert DiagnosisMetrics.model_validate(read).model_dump(by_alias=True) == read


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_recordings_fit_the_schema(maker, count):
    scored = maker(count, sessions=max(count, 1))
    metrics = validated(evaluated(scored))
    assert metrics["counts"]["judged"] == count
    assert (metrics["recording"]["macro_f1"]["value"] is None) == (count == 0)


def test_an_absent_class_has_no_figures_and_does_not_count(recordings):
    some = chosen(recordings, recordings.labels != 2)
    metrics = validated(evaluated(some))
    assert metrics["kinds"]["surface"]["f1"]["value"] is None
    assert metrics["recording"]["auroc"]["value"] is not None


@pytest.mark.parametrize(
    ("group", "wrong"),
    [
        ("wing", "detector"),
        ("schema", "something else"),
        ("confusion", [[1]]),
        ("missing", {"x": {"value": 1.2, "low": None, "high": None}}),
        ("counts", {"judged": 3, "groups": 1, "by_kind": {"void": 2}, "not_judged": 0}),
        ("version", 1),
        ("open_set", {"void": {"energy": {"auroc": 0.5, "fpr95": 0.5}}}),
        ("surprise", {}),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(diagnosis, group, wrong):
    with pytest.raises(ValidationError):
        validated(diagnosis | {group: wrong})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(200, 7)}, "none of the classes"),
        ({"logits": np.zeros((200, 3))}, "was expected"),
        ({"flow_nll": np.zeros(3)}, "3 entries"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(recordings, change, message):
    with pytest.raises(DataError, match=message):
        replace(recordings, **change)


def test_a_split_of_the_runs_own_kind_does_not_take_its_place(recordings, maker):
    worse = maker(skill=0.0, seed=4)
    alone = evaluate_recordings(recordings, by="session", cost={}, draws=5)
    with_splits = evaluate_recordings(
        recordings, by="session", cost={}, splits={"session": worse, "random": worse}, draws=5
    )
    assert with_splits["recording"] == alone["recording"]
    assert with_splits["splits"]["session"]["recording"] == alone["recording"]
    assert set(with_splits["splits"]) == {"session", "random"}


def test_recordings_that_lack_a_modality_count_in_what_they_have(recordings, tmp_path):
    lacking = np.arange(len(recordings)) % 5 == 0
    blank = {
        stage: {**means, "image": np.where(lacking[:, None], np.nan, means["image"])}
        for stage, means in (("before", recordings.before), ("after", recordings.after))
    }
    temperatures = np.where(lacking, 3.0, recordings.temperature)
    some = replace(
        recordings, **blank, temperatures=temperatures, lacking={"image": 40, "series": 0}
    )
    metrics = validated(evaluate_recordings(some, by="session", cost={}, draws=5))
    assert metrics["counts"]["lacking"] == {"image": 40}
    assert all(np.isfinite(list(metrics["gap"]["before"].values())))
    expected = softmax(recordings.logits[lacking], temperature=3.0)
    np.testing.assert_allclose(some.probabilities[lacking], expected)
    np.testing.assert_allclose(some.probabilities[~lacking], recordings.probabilities[~lacking])
    again = read_predictions(write_predictions(tmp_path / "said.npz", some))
    assert set(again.before) == {"series"}
    assert embedding_scatter(some, metrics["gap"], tmp_path / "clouds.png").is_file()
    with pytest.raises(DataError, match="A temperature is above 0"):
        replace(recordings, temperatures=np.zeros(len(recordings)))
