"""An exported classifier says what the trained one says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import chiasm.diagnosis.models.named
import chiasm.runtime
from chiasm.deploy.diagnosis import classifier_graph
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import find_model
from chiasm.samples import Diagnosis, RecordingSample

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def model(classifier: Path):
    with_runtime = chiasm.runtime.load(classifier, threads=2)
    yield with_runtime
    with_runtime.close()


@pytest.fixture
def sample(store: RecordingStore) -> RecordingSample:
    return store.load(store.refs[0])


def said(model, sample: RecordingSample) -> Diagnosis:
    return model(
        sample.image,
        sample.series,
        frequency=sample.frequency,
        samples_per_cycle=sample.samples_per_cycle,
        source=sample.source,
    )


def same(one: Diagnosis, other: Diagnosis) -> None:
    assert (one.kind, one.notes, one.source) == (other.kind, other.notes, other.source)
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert set(one.opinions) == set(other.opinions)
    for name, opinion in one.opinions.items():
        assert opinion == pytest.approx(other.opinions[name], abs=1e-4)
    assert one.uncertainty == pytest.approx(other.uncertainty, abs=1e-3)
    assert one.conflict == pytest.approx(other.conflict, abs=1e-3, nan_ok=True)
    assert (one.quantities, one.severity) == (other.quantities, other.severity)
    assert [s.kind for s in one.sources] == [s.kind for s in other.sources]
    for name in ("distance", "distance_limit", "nearest_kind"):  # the same numbers, to the last bit
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("missing", [None, "image", "series"])
def test_it_diagnoses_as_the_trained_model_does(
    model, classifier_run: Path, store: RecordingStore, missing
):
    trained = DiagnosisPredictor.load(classifier_run)
    for ref in store.refs[:4]:
        sample = store.load(ref)
        if missing:
            sample = replace(sample, **{missing: None})
        same(said(model, sample), trained.predict(sample))


def test_a_series_of_another_length_is_taken(model, classifier_run: Path, sample):
    short = replace(sample, series=sample.series[:, :3000])
    same(said(model, short), DiagnosisPredictor.load(classifier_run).predict(short))


def test_both_diagnose_arrays_and_many_recordings_alike(model, classifier_run: Path, sample):
    trained = DiagnosisPredictor.load(classifier_run)
    same(said(model, sample), said(trained, sample))
    samples = [("broken", DataError("It cannot be read.")), (sample.source, sample)]
    for predictor in (model, trained):
        broken, whole = predictor.predict_all(samples)
        assert (broken.source, broken.kind, broken.error) == ("broken", None, "It cannot be read.")
        same(whole, predictor.predict(sample))


def test_what_is_far_from_all_classes_is_unknown_to_both(model, classifier_run: Path, sample):
    steady = replace(sample, series=np.tile([3.0, 200.0], 6400)[None].astype(np.float32))
    found, trained = said(model, steady), DiagnosisPredictor.load(classifier_run).predict(steady)
    same(found, trained)
    assert found.kind == "unknown" and found.distance > found.distance_limit
    assert found.notes[-1].startswith(
        f"like none of the trained classes: nearest is {found.nearest_kind}"
    )


def test_submitted_recordings_are_diagnosed_alike(model, sample):
    futures = [model.submit(sample.image, sample.series, source=sample.source) for _ in range(6)]
    beside = model.prepared(sample.image, sample.series, source=sample.source)()
    for found in (beside, *(future.result() for future in futures)):
        same(found, said(model, sample))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image": None, "series": None}, "neither"),
        ({"series": np.zeros((1, 2, 4))}, "shape"),
        ({"series": np.full((1, 9000), np.nan)}, "finite"),
        ({"series": np.zeros((1, 10))}, "token takes"),
        ({"image": np.zeros((1, 1, 3))}, "at least 8 a side"),
        ({"image": np.full((32, 32, 3), 200.0)}, "255"),
        ({"image": np.full((32, 32, 3), np.nan)}, "NaN"),
        ({"frequency": 0.0}, "mains"),
    ],
)
def test_what_cannot_be_diagnosed_is_told_in_words(model, sample, change, word):
    with pytest.raises(DataError, match=word):
        said(model, replace(sample, **change))


def test_what_cannot_be_exported_names_what_was_tried_beside_it(tmp_path: Path):
    trees = find_model("excess_trees").builder(classes=2, trees=2)
    with pytest.raises(ConfigurationError, match="Export mad_small"):
        classifier_graph(trees, modalities=("series",), run=tmp_path)
    for name in ("excess_trees", "mad_small"):
        (tmp_path / "candidates" / name / "model").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="candidates/mad_small --out"):
        classifier_graph(trees, modalities=("series",), run=tmp_path)
