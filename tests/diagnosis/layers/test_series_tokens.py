"""Tokens by phase, and of a waveform without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chiasm.diagnosis.layers.series_tokens import KernelEmbedding, PhaseEmbedding
from chiasm.errors import ConfigurationError, DataError


def _phases() -> PhaseEmbedding:
    torch.manual_seed(0)
    return PhaseEmbedding(width=8, cycle=32, length=64).eval()


def test_a_token_by_phase_sees_its_phases_alone() -> None:
    embedding, series = _phases(), torch.randn(1, 1, 128)
    changed = series.clone()
    changed[0, 0, 16 + 3] += 5  # the first pair's clear pulses, in the second group of phases
    moved = (embedding(changed) - embedding(series)).abs().sum(dim=2)[0]
    assert moved[0] == 0 and moved[1] > 0


def test_tokens_by_phase_depend_neither_on_the_number_nor_the_order_of_pairs() -> None:
    embedding, pairs = _phases(), torch.randn(2, 1, 3, 64)
    tokens = embedding(pairs.flatten(2))
    assert tokens.shape == (2, 2, 8)
    torch.testing.assert_close(embedding(pairs.flip(2).flatten(2)), tokens)
    torch.testing.assert_close(embedding(pairs.repeat(1, 1, 2, 1).flatten(2)), tokens)


def test_features_by_phase_are_mean_and_maximum_over_the_pairs() -> None:
    embedding, series = _phases(), torch.randn(1, 1, 192)
    pairs = series.numpy().reshape(3, 2, 2, 16)  # pair, kind, token, value
    features = np.stack([pairs.mean(0), pairs.max(0)]).transpose(2, 0, 1, 3).reshape(2, -1)
    expected = embedding.project(torch.from_numpy(features)) + embedding.positions
    torch.testing.assert_close(embedding(series)[0], expected)


def _kernels() -> KernelEmbedding:
    torch.manual_seed(0)
    return KernelEmbedding(width=8, segment=32, channels=2, length=64).eval()


def test_answers_of_kernels_depend_neither_on_gain_nor_on_an_offset() -> None:
    embedding, series = _kernels(), torch.randn(2, 2, 128)
    tokens = embedding(series)
    assert tokens.shape == (2, 4, 8)
    torch.testing.assert_close(embedding(7 * series + 3), tokens, atol=1e-4, rtol=1e-4)


def test_shares_are_those_of_a_loop_over_kernels() -> None:
    embedding = _kernels()
    values = torch.randn(64)
    shares = embedding._shares(values)
    centred = (values - values.mean()).numpy()
    kernel = embedding.kernels[1, 0].numpy()
    padded = np.pad(centred, 16)  # dilation 4, the second block of answers
    answers = [float(kernel @ padded[i : i + 33 : 4]) for i in range(64)]
    bound = 2.0 * np.sqrt(np.square(answers).mean())
    row = len(embedding.kernels) * (1 * 2 + 1) + 1
    expected = (np.array(answers) > bound).reshape(2, 32).mean(axis=1)
    np.testing.assert_allclose(shares[row], expected)


@pytest.mark.parametrize("embedding", [_phases(), _kernels()])
def test_a_series_that_does_not_divide_is_refused(embedding: torch.nn.Module) -> None:
    channels = embedding.channels
    with pytest.raises(DataError, match="Cut or pad"):
        embedding(torch.zeros(1, channels, 100))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        PhaseEmbedding(width=8, cycle=20, length=40)
