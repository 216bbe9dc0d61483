"""Trees of LightGBM and lines of scikit-learn whose fitted state lies in buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiasm.errors import ConfigurationError


class BoostedTrees(nn.Module):
    """Gradient-boosted trees of K classes; the model is kept as the bytes of LightGBM's own text.

    Args:
        classes: K.
        rounds: trees of each class, at most; held-out recordings end them earlier.
        leaves: of a tree.
    """

    def __init__(self, *, classes: int, rounds: int = 200, leaves: int = 15) -> None:
        super().__init__()
        self.classes = classes
        self.rounds = rounds
        self.leaves = leaves
        self.register_buffer("text", torch.zeros(0, dtype=torch.uint8))
        self._model: Any = None

    def fit(
        self, features: Tensor, labels: Tensor, held_out: tuple[Tensor, Tensor], *, seed: int
    ) -> None:
        """Learn ``(M, D)`` features of ``(M,)`` labels; stop where held-out ones gain no more.

        Raises ``ConfigurationError`` where LightGBM is not installed.
        """
        library = _lightgbm()
        settings = {
            "objective": "multiclass",
            "num_class": self.classes,
            "num_leaves": self.leaves,
            "learning_rate": 0.1,
            "min_data_in_leaf": 5,
            "feature_fraction": 0.5,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        learning = library.Dataset(features.numpy(), labels.numpy())
        check = library.Dataset(held_out[0].numpy(), held_out[1].numpy(), reference=learning)
        model = library.train(
            settings,
            learning,
            num_boost_round=self.rounds,
            valid_sets=[check],
            callbacks=[library.early_stopping(20, verbose=False)],
        )
        self._keep(model.model_to_string(num_iteration=model.best_iteration))

    def forward(self, features: Tensor) -> Tensor:
        """Raw scores ``(N, K)``, logits of the softmax."""
        if self._model is None:
            text = bytes(self.text.cpu().numpy()).decode()
            self._model = _lightgbm().Booster(model_str=text)
        scores = self._model.predict(features.cpu().numpy(), raw_score=True, num_threads=1)
        return torch.from_numpy(np.asarray(scores, dtype=np.float32)).view(-1, self.classes)

    def _keep(self, text: str) -> None:
        self.text = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        self._model = None

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        # Its length is known only after fitting.
        stored = state_dict.get(prefix + "text")
        if stored is not None:
            self.text = torch.empty_like(stored)
            self._model = None
        super()._load_from_state_dict(state_dict, prefix, *args)


class StandardLogistic(nn.Module):
    """Multinomial logistic regression on standardised features, fitted by scikit-learn.

    Args:
        features: D.
        classes: K.
        strength: inverse of the penalty; of several, held-out recordings choose.
    """

    def __init__(
        self, *, features: int, classes: int, strength: tuple[float, ...] = (0.01, 0.1, 1.0)
    ) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.zeros(classes))

    def fit(
        self, features: Tensor, labels: Tensor, held_out: tuple[Tensor, Tensor], *, seed: int
    ) -> None:
        """Learn ``(M, D)`` features of ``(M,)`` labels; a class without any keeps weight 0."""
        from sklearn.linear_model import LogisticRegression

        self.mean = features.mean(dim=0)
        self.deviation = features.std(dim=0).clamp(min=1e-6)
        rows = ((features - self.mean) / self.deviation).double().numpy()
        best = -1.0
        chosen = (torch.zeros(0), torch.zeros(0))
        shape = tuple(self.get_buffer("weight").shape)
        for strength in self.strength:
            machine = LogisticRegression(C=strength, max_iter=2000, random_state=seed)
            machine.fit(rows, labels.numpy())
            weight, bias = torch.zeros(shape), torch.full(shape[:1], -1e3)
            known = torch.from_numpy(machine.classes_)
            coefficients, intercepts = machine.coef_, machine.intercept_
            if len(known) == 2:  # one line between two classes
                coefficients = np.concatenate([-coefficients, coefficients]) / 2
                intercepts = np.concatenate([-intercepts, intercepts]) / 2
            weight[known] = torch.from_numpy(coefficients).float()
            bias[known] = torch.from_numpy(intercepts).float()
            scores = ((held_out[0] - self.mean) / self.deviation) @ weight.T + bias
            right = (scores.argmax(dim=1) == held_out[1]).float().mean().item()
            if right > best:
                best, chosen = right, (weight, bias)
        self.weight, self.bias = chosen

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(N, K)``."""
        out: Tensor = ((features - self.mean) / self.deviation) @ self.weight.T + self.bias
        return out


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigurationError(
            "This rival needs LightGBM: pip install 'chiasm[rivals]'."
        ) from error
    return lightgbm
