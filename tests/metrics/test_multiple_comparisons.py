"""Holm's correction against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.errors import DataError
from chiasm.metrics.bootstrap import holm


def rejected(p_values, level):
    """The procedure as it is published: smallest first, each against level over what is left."""
    order = np.argsort(p_values, kind="stable")
    found = set()
    for step, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - step):
            break
        found.add(int(place))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_what_is_at_or_below_the_level_is_what_the_procedure_rejects(seed):
    p_values = np.random.default_rng(seed).uniform(0, 0.2, 7)
    adjusted = np.array(holm(p_values))
    for level in np.linspace(0.005, 0.9, 60):
        assert set(np.flatnonzero(adjusted <= level).tolist()) == rejected(p_values, level)
    assert (adjusted >= p_values).all()
    assert adjusted.max() <= 1


def test_what_is_no_p_value_is_refused():
    assert holm([]) == []
    for wrong in ([0.1, float("nan")], [1.5], [[0.1]]):
        with pytest.raises(DataError, match="P-values must be"):
            holm(wrong)
