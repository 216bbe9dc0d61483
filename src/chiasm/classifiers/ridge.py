"""Ridge regression to class indicators, its penalty chosen by leave-one-out, as a classifier."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from chiasm.metrics.calibration import fit_temperature

PENALTIES = tuple(float(p) for p in np.logspace(-3, 3, 10))
# Distances to lines of a regression are a few tenths; logits are several.
_SCALES = (0.005, 10.0)


class ValidatedRidge(nn.Module):
    """scikit-learn's ``RidgeClassifierCV`` on standardised features, kept as weights.

    Its decisions are distances, not logits: one number, fitted to held-out recordings, makes them
    so. It changes no decision.

    Args:
        features: D.
        classes: K.
    """

    def __init__(self, *, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, features: Tensor, labels: Tensor, held_out: tuple[Tensor, Tensor]) -> None:
        """Learn ``(M, D)`` features of ``(M,)`` labels; a class without any keeps weight 0."""
        from sklearn.linear_model import RidgeClassifierCV

        self.mean = features.mean(dim=0)
        # A feature that never varies says nothing, and is not to be blown up where it does.
        spread = features.std(dim=0, correction=0)
        self.deviation = torch.where(spread > 1e-6, spread, 1.0)
        rows = ((features - self.mean) / self.deviation).double().numpy()
        machine = RidgeClassifierCV(alphas=PENALTIES).fit(rows, labels.numpy())
        shape = tuple(self.get_buffer("weight").shape)
        weight, bias = torch.zeros(shape), torch.full(shape[:1], -1e3)
        known = torch.from_numpy(machine.classes_)
        coefficients = np.atleast_2d(machine.coef_)
        intercepts = np.atleast_1d(machine.intercept_)
        if len(known) == 2:  # one line between two classes
            coefficients = np.concatenate([-coefficients, coefficients])
            intercepts = np.concatenate([-intercepts, intercepts])
        weight[known] = torch.from_numpy(np.ascontiguousarray(coefficients)).float()
        bias[known] = torch.from_numpy(np.ascontiguousarray(intercepts)).float()
        self.weight, self.bias, self.scale = weight, bias, torch.ones(())
        distances = self(held_out[0]).double().numpy()
        self.scale = torch.tensor(
            1 / fit_temperature(distances, held_out[1].numpy(), bounds=_SCALES)
        ).float()

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(N, K)``."""
        rows = (features - self.mean) / self.deviation
        out: Tensor = self.scale * (rows @ self.weight.T + self.bias)
        return out
