"""The trees decide as scikit-learn's do, from tensors alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from chiasm.diagnosis.layers.extra_trees import ExtraTrees


@pytest.mark.parametrize("labels", [(0, 1, 2), (0, 2)])
def test_they_are_those_of_scikit_learn(labels):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 8)).astype(np.float32)
    y = rng.choice(labels, 60)
    features[:, 0] += y
    trees = ExtraTrees(classes=3, trees=15)
    trees.fit(
        torch.from_numpy(features), torch.from_numpy(y), (torch.zeros(0), torch.zeros(0)), seed=4
    )
    reference = ExtraTreesClassifier(15, random_state=4, class_weight="balanced").fit(features, y)
    unseen = rng.standard_normal((40, 8)).astype(np.float32)
    expected = np.full((40, 3), 1e-3)
    expected[:, reference.classes_] = reference.predict_proba(unseen).clip(1e-3)
    np.testing.assert_allclose(trees(torch.from_numpy(unseen)).exp().numpy(), expected, rtol=1e-5)
    other = ExtraTrees(classes=3)
    other.load_state_dict(trees.state_dict())
    torch.testing.assert_close(other(torch.from_numpy(unseen)), trees(torch.from_numpy(unseen)))
