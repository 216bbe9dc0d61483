"""MiniROCKET: a fixed set of dilated kernels, the share of their positive output, and a ridge.

Implemented from the paper. A recording is reduced first: neighbouring values to their maximum, and
its seconds to channels, which kernels combine in random subsets, as in the authors' multivariate
variant.

References:
    Dempster, Schmidt, Webb, MiniRocket: A Very Fast (Almost) Deterministic Transform for Time
    Series Classification, KDD 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.diagnosis.classifier import (
    ClassifierOutput,
    Described,
    FittedClassifier,
    Labelled,
    present_modalities,
)
from chiasm.diagnosis.models.simple import require_modality
from chiasm.metrics.calibration import fit_temperature
from chiasm.registry import register
from chiasm.samples import RecordingBatch

TAPS = 9
# All kernels with the weight 2 at three of nine taps and -1 at the others.
KERNELS = tuple(combinations(range(TAPS), 3))
FEATURES = 9_996
_MAXIMUM_DILATIONS = 32
_GOLDEN_RATIO = (1 + 5**0.5) / 2


class MiniRocketFeatures(nn.Module):
    """The transform: ``(N, R, L)`` series of R channels to ``(N, FEATURES)`` shares in [0, 1].

    Args:
        channels: R.
        length: L, at least ``TAPS``.
        seed: of the subsets of channels.
    """

    def __init__(self, *, channels: int, length: int, seed: int = 0) -> None:
        super().__init__()
        self.length = length
        per_kernel = FEATURES // len(KERNELS)
        self.dilations, self.counts = dilations(length, per_kernel)
        weights = torch.full((len(KERNELS), TAPS), -1.0)
        for kernel, raised in enumerate(KERNELS):
            weights[kernel, list(raised)] = 2.0
        rng = np.random.default_rng(seed)
        largest = min(channels, TAPS)
        joined = torch.zeros(len(self.dilations), len(KERNELS), channels)
        for index in np.ndindex(len(self.dilations), len(KERNELS)):
            size = int(2 ** rng.uniform(0, np.log2(largest + 1)))
            joined[index][torch.from_numpy(rng.permutation(channels)[:size])] = 1.0
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("joined", joined, persistent=False)
        self.register_buffer("biases", torch.zeros(FEATURES))

    def fit(self, series: Tensor, *, seed: int) -> None:
        """Set biases to quantiles of the output on training series ``(M, R, L)``.

        Each pair of kernel and dilation uses one series, drawn at random; its quantiles are the
        next numbers of the golden ratio's low-discrepancy sequence.
        """
        rng = np.random.default_rng(seed)
        quantiles = (torch.arange(1, FEATURES + 1, dtype=torch.float64) * _GOLDEN_RATIO) % 1
        fitted = torch.empty(FEATURES, device=series.device)
        start = 0
        for number, count in enumerate(self.counts):
            indices = rng.integers(0, len(series), len(KERNELS))
            for kernel in range(len(KERNELS)):
                recording = series[indices[kernel]].float()
                output = self._convolve(recording, number, slice(kernel, kernel + 1))[0]
                # Quantiles are ordered by dilation, kernel, bias, as features are.
                part = slice(start, start + count)
                levels = quantiles[part].float().to(output.device)
                fitted[part] = torch.quantile(output, levels)
                start += count
        self.biases = fitted

    def forward(self, series: Tensor) -> Tensor:
        """Return the shares of positive output."""
        return torch.stack([self._transform(recording.float()) for recording in series])

    def _transform(self, series: Tensor) -> Tensor:
        features = []
        start = 0
        biases = self.get_buffer("biases")
        for number, (dilation, count) in enumerate(zip(self.dilations, self.counts)):
            output = self._convolve(series, number, slice(None))  # kernels L
            kernel_biases = biases[start : start + len(KERNELS) * count].view(len(KERNELS), count)
            start += len(KERNELS) * count
            # Every other pair uses only positions at which the kernel is inside the series.
            padded = [k for k in range(len(KERNELS)) if (number + k) % 2 == 0]
            inside = [k for k in range(len(KERNELS)) if (number + k) % 2 == 1]
            margin = _margin(self.length, dilation)
            shares = torch.empty_like(kernel_biases)
            shares[padded] = _shares(output[padded], kernel_biases[padded])
            shares[inside] = _shares(
                output[inside, margin : self.length - margin].contiguous(), kernel_biases[inside]
            )
            features.append(shares.flatten())
        return torch.cat(features)

    def _convolve(self, series: Tensor, number: int, kernels: slice) -> Tensor:
        """Return the output of some kernels ``(k, L)`` at one dilation, padded with zeros."""
        dilation = self.dilations[number]
        weights = self.get_buffer("weights")[kernels]
        joined = self.get_buffer("joined")[number, kernels] @ series
        padded = F.pad(joined, (dilation * (TAPS // 2),) * 2)
        out = torch.zeros_like(joined)
        for tap in range(TAPS):
            shift = tap * dilation
            out.addcmul_(padded[:, shift : shift + self.length], weights[:, tap : tap + 1])
        return out


def dilations(length: int, per_kernel: int) -> tuple[list[int], list[int]]:
    """Return dilations up to the length of the series, and the features per kernel of each.

    Exponents are evenly spaced; exponents that round to one dilation add up their features.
    """
    span = np.log2((length - 1) / (TAPS - 1))
    exponents = np.linspace(0, span, min(per_kernel, _MAXIMUM_DILATIONS))
    unique, repeats = np.unique(np.floor(2**exponents).astype(int), return_counts=True)
    counts = (repeats * (per_kernel / repeats.sum())).astype(int)
    rest = per_kernel - counts.sum()
    for index in range(rest):
        counts[index % len(counts)] += 1
    return unique.tolist(), counts.tolist()


def _margin(length: int, dilation: int) -> int:
    """Return the positions at either end at which the kernel exceeds the series; one remains."""
    return min(dilation * (TAPS // 2), (length - 1) // 2)


def _shares(output: Tensor, biases: Tensor) -> Tensor:
    """Return the share of ``(K, L)`` output above each of ``(K, B)`` biases."""
    above = [
        (output - biases[:, bias : bias + 1]).sign_().clamp_(min=0).mean(dim=1)
        for bias in range(biases.shape[1])
    ]
    return torch.stack(above, dim=1)


class MiniRocketClassifier(FittedClassifier):
    """MiniROCKET features of the reduced series, and a ridge classifier on them.

    Args:
        features: the transform.
        machine: is fitted to the features.
        cycle: values of the series per mains cycle.
        cycles: of a row; rows are the channels of the transform.
        rows: of each channel of the series.
        pooled: number of neighbouring values that are reduced to their maximum.
        channels, length: of the series in ``example_batch``.
    """

    modalities = ("series",)

    def __init__(
        self,
        *,
        features: MiniRocketFeatures,
        machine: ValidatedRidge,
        cycle: int,
        cycles: int,
        rows: int,
        pooled: int,
        channels: int,
        length: int,
    ) -> None:
        super().__init__()
        self.features = features
        self.machine = machine
        self.cycle = cycle
        self.cycles = cycles
        self.rows = rows
        self.pooled = pooled
        self.channels = channels
        self.length = length

    def describe(self, batch: RecordingBatch) -> dict[str, Tensor]:
        """Compute the reduced series ``(N, rows, values)``, float16, the input of the kernels.

        Each has mean 0 and deviation 1, as in the archive for which the method was made. A shorter
        series is repeated from its beginning; the rest of a longer one is ignored.
        """
        series = present_modalities(batch, self.modalities)["series"].float()
        count, channels, total = series.shape
        whole = total // self.cycle * self.cycle or total  # a fragment has no whole cycle
        length = self.rows * self.cycles * self.cycle
        repeats = -(-length // whole)
        series = series[..., :whole].repeat(1, 1, repeats)[..., :length]
        rows = F.max_pool1d(series.reshape(count, channels * self.rows, -1), self.pooled)
        mean = rows.mean(dim=(1, 2), keepdim=True)
        deviation = rows.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        return {"series": ((rows - mean) / deviation).half()}

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Fit the biases and the ridge to the training series, its scale to the held-out ones."""
        series = learning.described["series"]
        self.features.fit(series, seed=seed)
        held_out = self.features(validation.described["series"])
        self.machine.fit(self.features(series), learning.labels, (held_out, validation.labels))

    def decide(self, described: Described) -> Tensor:
        """Return logits ``(N, K)``."""
        out: Tensor = self.machine(self.features(described["series"]))
        return out

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Classify a batch; the embedding holds the features, not the series."""
        features = self.features(self.describe(batch)["series"])
        return ClassifierOutput(logits=self.machine(features), pooled=features)

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shape of a standard series."""
        return RecordingBatch(
            None, torch.zeros(count, self.channels, self.length, device=self.device)
        )


@register("classifier", baseline=True, fitted=True)
def minirocket(
    *,
    modalities: Sequence[str] = ("series",),
    classes: int = 5,
    channels: int = 1,
    samples_per_cycle: int = 128,
    rows: int = 20,
    cycles: int = 60,
    phases: int = 32,
    series_length: int = 153_600,
) -> MiniRocketClassifier:
    """MiniROCKET features of the series, its seconds as channels, and a ridge classifier."""
    require_modality("series", modalities)
    pooled = max(1, samples_per_cycle // phases)
    return MiniRocketClassifier(
        features=MiniRocketFeatures(
            channels=channels * rows, length=cycles * samples_per_cycle // pooled
        ),
        machine=ValidatedRidge(features=FEATURES, classes=classes),
        cycle=samples_per_cycle,
        cycles=cycles,
        rows=rows,
        pooled=pooled,
        channels=channels,
        length=series_length,
    )


PENALTIES = tuple(float(p) for p in np.logspace(-3, 3, 10))
# Distances to the lines of a regression are a few tenths; logits are several.
_SCALES = (0.005, 10.0)


class ValidatedRidge(nn.Module):
    """scikit-learn's ``RidgeClassifierCV`` on standardised features, kept as weights.

    Its decision values are distances. A scale, fitted to held-out recordings, converts them to
    logits; it changes no decision.

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
        """Fit to ``(M, D)`` features of ``(M,)`` labels; a class without any keeps weight 0."""
        from sklearn.linear_model import RidgeClassifierCV

        device = features.device
        self.mean = features.mean(dim=0)
        # A constant training feature is not scaled, or a deviation at test would dominate.
        spread = features.std(dim=0, correction=0)
        self.deviation = torch.where(spread > 1e-6, spread, 1.0)
        # scikit-learn computes on the processor.
        rows = ((features - self.mean) / self.deviation).cpu().double().numpy()
        machine = RidgeClassifierCV(alphas=PENALTIES).fit(rows, labels.cpu().numpy())
        shape = tuple(self.get_buffer("weight").shape)
        weight, bias = torch.zeros(shape), torch.full(shape[:1], -1e3)
        present_classes = torch.from_numpy(machine.classes_)
        coefficients = np.atleast_2d(machine.coef_)
        intercepts = np.atleast_1d(machine.intercept_)
        if len(present_classes) == 2:  # one line between two classes
            coefficients = np.concatenate([-coefficients, coefficients])
            intercepts = np.concatenate([-intercepts, intercepts])
        weight[present_classes] = torch.from_numpy(np.ascontiguousarray(coefficients)).float()
        bias[present_classes] = torch.from_numpy(np.ascontiguousarray(intercepts)).float()
        self.weight, self.bias = weight.to(device), bias.to(device)
        self.scale = torch.ones((), device=device)
        distances = self(held_out[0]).cpu().double().numpy()
        scale = 1 / fit_temperature(distances, held_out[1].cpu().numpy(), bounds=_SCALES)
        self.scale = torch.tensor(scale, dtype=torch.float32, device=device)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(N, K)``."""
        rows = (features - self.mean) / self.deviation
        out: Tensor = self.scale * (rows @ self.weight.T + self.bias)
        return out
