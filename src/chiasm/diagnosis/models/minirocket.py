"""MiniROCKET: a fixed set of dilated kernels, the share of their positive output, and a ridge.

Written from the paper. A whole recording is reduced first: neighbouring values to their largest,
and its seconds side by side as channels, which kernels join by random subsets, as the authors'
multivariate variant does.

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

from chiasm.diagnosis.classifier import ClassifierOutput, Described, FittedClassifier, Labelled
from chiasm.diagnosis.models.simple import only
from chiasm.metrics.calibration import fit_temperature
from chiasm.registry import register
from chiasm.samples import RecordingBatch

TAPS = 9

# All ways to give three of nine taps the weight 2 and the others -1.
KERNELS = tuple(combinations(range(TAPS), 3))

FEATURES = 9_996

_MOST_DILATIONS = 32

_GOLDEN = (1 + 5**0.5) / 2


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
        most = min(channels, TAPS)
        joined = torch.zeros(len(self.dilations), len(KERNELS), channels)
        for place in np.ndindex(len(self.dilations), len(KERNELS)):
            size = int(2 ** rng.uniform(0, np.log2(most + 1)))
            joined[place][torch.from_numpy(rng.permutation(channels)[:size])] = 1.0
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("joined", joined, persistent=False)
        self.register_buffer("biases", torch.zeros(FEATURES))

    def fit(self, series: Tensor, *, seed: int) -> None:
        """Take biases from quantiles of the output on training series ``(M, R, L)``.

        Each pair of kernel and dilation looks at one of them, drawn at random; its quantiles are
        the next numbers of the golden ratio's low-discrepancy sequence.
        """
        rng = np.random.default_rng(seed)
        quantiles = (torch.arange(1, FEATURES + 1, dtype=torch.float64) * _GOLDEN) % 1
        found = torch.empty(FEATURES)
        start = 0
        for number, count in enumerate(self.counts):
            drawn = rng.integers(0, len(series), len(KERNELS))
            for kernel in range(len(KERNELS)):
                one = series[drawn[kernel]].float()
                output = self._convolved(one, number, slice(kernel, kernel + 1))[0]
                # Quantiles are ordered by dilation, kernel, bias, as features are.
                here = slice(start, start + count)
                found[here] = torch.quantile(output, quantiles[here].float())
                start += count
        self.biases = found

    def forward(self, series: Tensor) -> Tensor:
        """Shares of positive output."""
        return torch.stack([self._one(one.float()) for one in series])

    def _one(self, series: Tensor) -> Tensor:
        found = []
        start = 0
        biases = self.get_buffer("biases")
        for number, (dilation, count) in enumerate(zip(self.dilations, self.counts)):
            output = self._convolved(series, number, slice(None))  # kernels L
            own = biases[start : start + len(KERNELS) * count].view(len(KERNELS), count)
            start += len(KERNELS) * count
            # Every other pair sees only places where the kernel lies whole inside the series.
            padded = [k for k in range(len(KERNELS)) if (number + k) % 2 == 0]
            inside = [k for k in range(len(KERNELS)) if (number + k) % 2 == 1]
            margin = _margin(self.length, dilation)
            shares = torch.empty_like(own)
            shares[padded] = _shares(output[padded], own[padded])
            shares[inside] = _shares(
                output[inside, margin : self.length - margin].contiguous(), own[inside]
            )
            found.append(shares.flatten())
        return torch.cat(found)

    def _convolved(self, series: Tensor, number: int, kernels: slice) -> Tensor:
        """Output of some kernels ``(k, L)`` at one dilation, zeros beyond the ends."""
        dilation = self.dilations[number]
        weights = self.get_buffer("weights")[kernels]
        joined = self.get_buffer("joined")[number, kernels] @ series
        padded = F.pad(joined, (dilation * (TAPS // 2),) * 2)
        out = torch.zeros_like(joined)
        for tap in range(TAPS):
            place = tap * dilation
            out.addcmul_(padded[:, place : place + self.length], weights[:, tap : tap + 1])
        return out


def dilations(length: int, per_kernel: int) -> tuple[list[int], list[int]]:
    """Dilations that span up to the whole series, and how many features of a kernel each has.

    Exponents lie evenly; where neighbours round to one dilation, it has the features of all.
    """
    span = np.log2((length - 1) / (TAPS - 1))
    exponents = np.linspace(0, span, min(per_kernel, _MOST_DILATIONS))
    found, often = np.unique(np.floor(2**exponents).astype(int), return_counts=True)
    counts = (often * (per_kernel / often.sum())).astype(int)
    rest = per_kernel - counts.sum()
    for place in range(rest):
        counts[place % len(counts)] += 1
    return found.tolist(), counts.tolist()


def _margin(length: int, dilation: int) -> int:
    """Places at either end where the kernel reaches beyond; one place at least is left."""
    return min(dilation * (TAPS // 2), (length - 1) // 2)


def _shares(output: Tensor, biases: Tensor) -> Tensor:
    """Share of ``(K, L)`` output above each of ``(K, B)`` biases."""
    above = [
        (output - biases[:, place : place + 1]).sign_().clamp_(min=0).mean(dim=1)
        for place in range(biases.shape[1])
    ]
    return torch.stack(above, dim=1)


class MiniRocketClassifier(FittedClassifier):
    """MiniROCKET features of the reduced series, and a ridge classifier on them.

    Args:
        features: the transform.
        machine: fitted to them.
        cycle: values of the series to a mains cycle.
        cycles: of a row; rows are the channels of the transform.
        rows: of each channel of the series.
        pooled: so many neighbouring values are reduced to their largest.
        channels, length: of the series that is usual, for examples.
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
        """The reduced series ``(N, rows, values)``, float16: what kernels run over.

        Each has mean 0 and deviation 1, as in the archive that the method was made for. One that
        is shorter than usual is repeated from its beginning; of a longer one the rest is unseen.
        """
        self.present(batch)
        assert batch.series is not None
        series = batch.series.float()
        count, channels, total = series.shape
        whole = total // self.cycle * self.cycle or total  # one that is cut has no cycle to keep
        wanted = self.rows * self.cycles * self.cycle
        times = -(-wanted // whole)
        series = series[..., :whole].repeat(1, 1, times)[..., :wanted]
        rows = F.max_pool1d(series.reshape(count, channels * self.rows, -1), self.pooled)
        mean = rows.mean(dim=(1, 2), keepdim=True)
        deviation = rows.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        return {"series": ((rows - mean) / deviation).half()}

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Take biases from the training series, then fit the ridge; held-out ones scale it."""
        series = learning.described["series"]
        self.features.fit(series, seed=seed)
        held_out = self.features(validation.described["series"])
        self.machine.fit(self.features(series), learning.labels, (held_out, validation.labels))

    def decide(self, described: Described) -> Tensor:
        """Logits ``(N, K)``."""
        out: Tensor = self.machine(self.features(described["series"]))
        return out

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Describe and decide; the embedding are the features, not the series."""
        features = self.features(self.describe(batch)["series"])
        return ClassifierOutput(logits=self.machine(features), pooled=features)

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Zeros in the shape of a usual series."""
        return RecordingBatch(None, torch.zeros(count, self.channels, self.length))


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
    only("series", modalities)
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
