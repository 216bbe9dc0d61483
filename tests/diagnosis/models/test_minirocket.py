"""MiniROCKET against a loop that follows the paper's words, and its ridge against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

from chiasm.diagnosis.models.minirocket import (
    FEATURES,
    KERNELS,
    PENALTIES,
    TAPS,
    MiniRocketFeatures,
    ValidatedRidge,
    dilations,
    minirocket,
)
from chiasm.samples import RecordingBatch

LENGTH, CHANNELS = 61, 3


@pytest.fixture(scope="module")
def features():
    transform = MiniRocketFeatures(channels=CHANNELS, length=LENGTH, seed=3)
    transform.fit(torch.from_numpy(noise(5)), seed=1)
    return transform


def noise(count, seed=0):
    # Whole numbers, whose sums are exact: a bias is met by equality, as on real counts.
    rng = np.random.default_rng(seed)
    return rng.integers(0, 9, (count, CHANNELS, LENGTH)).astype(np.float32)


def by_hand(features, series):
    """Each kernel at each dilation, one place after the other."""
    shares = []
    biases = iter(features.biases.tolist())
    for number, (dilation, count) in enumerate(zip(features.dilations, features.counts)):
        for kernel, raised in enumerate(KERNELS):
            joined = (features.joined[number, kernel].numpy()[:, None] * series).sum(axis=0)
            output, whole = [], []
            for middle in range(LENGTH):
                places = [middle + (tap - 4) * dilation for tap in range(TAPS)]
                values = [joined[p] if 0 <= p < LENGTH else 0.0 for p in places]
                output.append(sum((2 if t in raised else -1) * v for t, v in enumerate(values)))
                whole.append(places[0] >= 0 and places[-1] < LENGTH)
            seen = np.array(output)
            if (number + kernel) % 2 == 1:
                seen = seen[np.array(whole)]
            shares += [(seen > next(biases)).mean() for _ in range(count)]
    return np.array(shares)


def test_features_are_those_of_a_loop_over_places(features):
    series = noise(2, seed=9)
    shares = features(torch.from_numpy(series)).numpy()
    assert shares.shape == (2, FEATURES)
    for one, expected in zip(shares, (by_hand(features, s) for s in series)):
        # Interpolated biases are float32 in both; a share changes by 1/L where one is met exactly.
        np.testing.assert_allclose(one, expected, atol=1e-6)
    assert 0.2 < shares.mean() < 0.8


@pytest.mark.parametrize("length", [61, 1920, 7680])
def test_dilations_reach_over_the_series_and_share_all_features(length):
    distinct, counts = dilations(length, FEATURES // len(KERNELS))
    assert distinct == sorted(set(distinct))
    assert distinct[0] == 1
    assert (TAPS - 1) * distinct[-1] <= length - 1 < (TAPS - 1) * (distinct[-1] + 1) * 1.3
    assert sum(counts) * len(KERNELS) == FEATURES == 9996
    assert min(counts) >= 1


def test_a_constant_changes_nothing_for_weights_sum_to_zero(features):
    assert torch.equal(features.weights.sum(dim=1), torch.zeros(len(KERNELS)))
    inside = [k for k in range(len(KERNELS)) if k % 2 == 1]  # of the first dilation, unpadded
    series = torch.from_numpy(noise(1, seed=4))
    count = features.counts[0]
    rows = features(series)[0, : len(KERNELS) * count].view(-1, count)
    moved = features(series + 5)[0, : len(KERNELS) * count].view(-1, count)
    assert torch.equal(rows[inside], moved[inside])


def test_a_shorter_recording_is_repeated_and_gain_does_not_matter():
    classifier = minirocket(rows=2, cycles=6, samples_per_cycle=32, phases=16)
    series = torch.rand(2, 1, 12 * 32)
    whole = classifier.describe(RecordingBatch(None, series))["series"]
    assert whole.shape == (2, 2, 96)
    half = series[..., : 6 * 32]
    repeated = classifier.describe(RecordingBatch(None, torch.cat([half, half], dim=2)))["series"]
    assert torch.equal(classifier.describe(RecordingBatch(None, half))["series"], repeated)
    louder = classifier.describe(RecordingBatch(None, 4 * series))["series"]
    torch.testing.assert_close(louder, whole, rtol=2e-3, atol=2e-3)  # float16


@pytest.mark.parametrize("classes", [2, 3])
def test_ridge_decides_as_scikit_learn_does_on_standardised_features(classes):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, classes, 80)
    rows = rng.normal(size=(80, 30)) + labels[:, None] * rng.normal(size=30)
    new = rng.normal(size=(50, 30)) + rng.integers(0, classes, 50)[:, None]
    ridge = ValidatedRidge(features=30, classes=classes + 1)
    of = torch.from_numpy
    ridge.fit(of(rows).float(), of(labels), (of(rows[:20]).float(), of(labels[:20])))
    scaler = StandardScaler().fit(rows)
    reference = RidgeClassifierCV(alphas=PENALTIES).fit(scaler.transform(rows), labels)
    logits = ridge(of(new).float())
    assert logits.argmax(dim=1).tolist() == reference.predict(scaler.transform(new)).tolist()
    # A class that was never seen is never called.
    assert logits.softmax(dim=1)[:, classes].max() < 1e-6
