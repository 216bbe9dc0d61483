import numpy as np
import pytest
import torch

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.image_score import pooled_max, top_mean

MAPS = np.random.default_rng(0).normal(size=(3, 40, 50)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 7, 21, 61])
@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_pooled_max_is_that_of_average_pooling_in_torch(size, shift):
    maps = torch.from_numpy(MAPS + np.float32(shift))[:, None]
    pooled = torch.nn.functional.avg_pool2d(maps.double(), size, stride=1, padding=size // 2)
    assert pooled_max(MAPS + np.float32(shift), size) == pytest.approx(
        pooled.amax(dim=(1, 2, 3)).numpy(), abs=1e-6
    )


@pytest.mark.parametrize("k", [1, 17, 2000, 5000])
def test_top_mean_is_that_of_a_full_sort(k):
    expected = np.sort(MAPS.reshape(3, -1), axis=1)[:, -k:].mean(axis=1, dtype=np.float64)
    assert top_mean(MAPS, k=k) == pytest.approx(expected)
    if k <= 2000:
        assert top_mean(MAPS, k / 2000) == pytest.approx(expected)


def test_extremes_of_the_share_are_maximum_and_mean():
    assert top_mean(MAPS[0], 1e-9) == pytest.approx(MAPS[0].max())
    assert top_mean(MAPS[0], 1.0) == pytest.approx(MAPS[0].mean(), abs=1e-6)


def test_one_map_and_a_stack_agree():
    for score in (lambda m: top_mean(m, 0.01), pooled_max):
        single = [score(one) for one in MAPS]
        assert all(isinstance(value, float) for value in single)
        assert score(MAPS).tolist() == single


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: top_mean(MAPS), ConfigurationError),
        (lambda: top_mean(MAPS, 0.1, k=3), ConfigurationError),
        (lambda: top_mean(MAPS, 0.0), ConfigurationError),
        (lambda: top_mean(MAPS, k=0), ConfigurationError),
        (lambda: pooled_max(MAPS, 20), ConfigurationError),
        (lambda: pooled_max(MAPS[0, 0]), DataError),
        (lambda: top_mean(np.empty((0, 4)), k=1), DataError),
    ],
)
def test_bad_input_is_named(call, error):
    with pytest.raises(error):
        call()
