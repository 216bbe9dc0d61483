"""Extremely randomised trees whose nodes are tensors, so that they travel with the weights.

References:
    Geurts, Ernst, Wehenkel, Extremely randomized trees, Machine Learning 63, 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LEAST_SHARE = 1e-3  # of a class in the mean of the trees, so that its logarithm is finite
_BUFFERS = ("roots", "feature", "threshold", "left", "right", "share")


class ExtraTrees(nn.Module):
    """A forest of extremely randomised trees; its nodes lie in buffers, one after the other.

    Args:
        classes: K.
        trees: their number.
    """

    roots: Tensor
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    share: Tensor

    def __init__(self, *, classes: int, trees: int = 500) -> None:
        super().__init__()
        self.classes, self.trees = classes, trees
        for name in ("roots", "feature", "left", "right"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("share", torch.zeros(0, classes))

    def fit(
        self, features: Tensor, labels: Tensor, held_out: tuple[Tensor, Tensor], *, seed: int
    ) -> None:
        """Fit to ``(M, D)`` features of ``(M,)`` labels; held-out recordings choose nothing."""
        from sklearn.ensemble import ExtraTreesClassifier

        forest = ExtraTreesClassifier(self.trees, random_state=seed, class_weight="balanced")
        forest.fit(features.cpu().numpy(), labels.cpu().numpy())  # it computes on the processor
        nodes: dict[str, list[Any]] = {name: [] for name in _BUFFERS}
        total = 0
        for estimator in forest.estimators_:
            tree = estimator.tree_
            leaf = tree.children_left < 0
            own = np.arange(tree.node_count)
            share = np.zeros((tree.node_count, self.classes), np.float32)
            share[:, forest.classes_] = tree.value[:, 0]
            nodes["roots"].append(np.array([total]))
            # A leaf is its own child, so that every path may be followed equally long.
            nodes["left"].append(total + np.where(leaf, own, tree.children_left))
            nodes["right"].append(total + np.where(leaf, own, tree.children_right))
            nodes["feature"].append(np.where(leaf, 0, tree.feature))
            nodes["threshold"].append(np.where(leaf, 0.0, tree.threshold))
            nodes["share"].append(share / share.sum(axis=1, keepdims=True))
            total += tree.node_count
        for name, parts in nodes.items():
            old = self.get_buffer(name)
            values = torch.from_numpy(np.concatenate(parts))
            setattr(self, name, values.to(device=old.device, dtype=old.dtype))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logarithms ``(N, K)`` of the mean shares of the trees' leaves."""
        rows = torch.arange(len(features), device=features.device)[:, None]
        node = self.roots.long().expand(len(features), -1)
        while True:
            value = features[rows, self.feature[node].long()].double()
            below = value <= self.threshold[node]
            following = torch.where(below, self.left[node], self.right[node]).long()
            if bool((following == node).all()):
                break
            node = following
        mean = self.share[node].mean(dim=1)
        return mean.clamp(min=_LEAST_SHARE).log()

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        # The number of nodes is known only after fitting.
        for name in _BUFFERS:
            stored = state_dict.get(prefix + name)
            if stored is not None:
                old = self.get_buffer(name)
                setattr(self, name, torch.empty_like(stored, device=old.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
