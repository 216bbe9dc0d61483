"""Simple rivals that a network must beat to be worth its cost: features, and trees or lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import Described, FittedClassifier, Labelled
from chiasm.diagnosis.layers.phase_statistics import (
    LEVELS,
    OPERATORS,
    PHASES,
    folded,
    statistical_operators,
)
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import register
from chiasm.samples import RecordingBatch

HOG_SIDE, HOG_CELL, HOG_ANGLES = 128, 16, 8


class HistogramClassifier(FittedClassifier):
    """The folded histogram of the series, Gulski's operators, and trees or lines on them.

    Amplitudes count relative to the recording's own mean pulse, so gain does not matter. With
    ``aligned``, the pattern is rolled to a phase of its own first.

    Args:
        machine: fitted to the features.
        cycle: values of the series to a mains cycle.
        length: of the series that is usual, for examples.
        aligned: roll the pattern.
    """

    modalities = ("series",)

    def __init__(
        self,
        *,
        machine: BoostedTrees | StandardLogistic,
        cycle: int,
        channels: int,
        length: int,
        aligned: bool,
    ) -> None:
        super().__init__()
        self.machine = machine
        self.cycle = cycle
        self.channels = channels
        self.length = length
        self.aligned = aligned

    def describe(self, batch: RecordingBatch) -> dict[str, Tensor]:
        """Histogram and operators ``(N, D)``."""
        self.present(batch)
        assert batch.series is not None
        series = batch.series.float()
        if series.shape[-1] < self.cycle:
            raise DataError(
                f"The series has {series.shape[-1]} values a channel, and a mains cycle "
                f"{self.cycle}: record at least one."
            )
        if self.aligned:
            series = self._aligned(series)
        pattern = folded(series, cycle=self.cycle).flatten(1)
        operators = statistical_operators(series, cycle=self.cycle)
        return {"features": torch.cat([torch.sqrt(pattern), operators], dim=1)}

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Fit trees or lines."""
        _fit(self.machine, learning, validation, seed)

    def decide(self, described: Described) -> Tensor:
        """Logits ``(N, K)``."""
        out: Tensor = self.machine(described["features"])
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Zeros in the shape of a usual series."""
        return RecordingBatch(None, torch.zeros(count, self.channels, self.length))

    def _aligned(self, series: Tensor) -> Tensor:
        from chiasm.diagnosis.preparation.relative import phase_reference

        by_phase = folded(series, cycle=self.cycle).sum(dim=2)  # n p
        rolled = []
        for one, weights in zip(series, by_phase):
            turn = phase_reference(np.log1p(1e3 * weights.double().numpy()))
            rolled.append(one.roll(-round(turn * self.cycle), dims=-1))
        return torch.stack(rolled)


class HogClassifier(FittedClassifier):
    """Histograms of oriented gradients of the picture, and trees on them.

    References:
        Dalal, Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
    """

    modalities = ("image",)

    def __init__(self, *, machine: BoostedTrees, image_size: int) -> None:
        super().__init__()
        self.machine = machine
        self.image_size = image_size

    def describe(self, batch: RecordingBatch) -> dict[str, Tensor]:
        """HOG ``(N, D)`` of the grey picture at 128 pixels."""
        from skimage.feature import hog

        self.present(batch)
        assert batch.image is not None
        grey = batch.image.float().mean(dim=1, keepdim=True)
        grey = torch.nn.functional.interpolate(grey, HOG_SIDE, mode="area")[:, 0]
        found = [
            hog(
                one.cpu().numpy(),
                orientations=HOG_ANGLES,
                pixels_per_cell=(HOG_CELL, HOG_CELL),
                cells_per_block=(2, 2),
            )
            for one in grey
        ]
        return {"features": torch.from_numpy(np.stack(found)).float()}

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Fit trees."""
        _fit(self.machine, learning, validation, seed)

    def decide(self, described: Described) -> Tensor:
        """Logits ``(N, K)``."""
        out: Tensor = self.machine(described["features"])
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Zeros in the shape of a picture."""
        return RecordingBatch(torch.zeros(count, 3, self.image_size, self.image_size), None)


def _fit(
    machine: BoostedTrees | StandardLogistic, learning: Labelled, validation: Labelled, seed: int
) -> None:
    machine.fit(
        learning.described["features"],
        learning.labels,
        (validation.described["features"], validation.labels),
        seed=seed,
    )


def only(modality: str, modalities: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` where the one modality of a rival was not asked for."""
    if modality not in modalities:
        raise ConfigurationError(
            f"This rival looks at the {modality}, which is not among {', '.join(modalities)}."
        )


@register("classifier", baseline=True, fitted=True)
def histogram_lightgbm(
    *,
    modalities: Sequence[str] = ("series",),
    classes: int = 5,
    channels: int = 1,
    samples_per_cycle: int = 128,
    series_length: int = 153_600,
    aligned: bool = True,
    rounds: int = 200,
) -> HistogramClassifier:
    """Folded histogram and Gulski's operators of the series, boosted trees."""
    only("series", modalities)
    return HistogramClassifier(
        machine=BoostedTrees(classes=classes, rounds=rounds),
        cycle=samples_per_cycle,
        channels=channels,
        length=series_length,
        aligned=aligned,
    )


@register("classifier", baseline=True, fitted=True)
def histogram_logistic(
    *,
    modalities: Sequence[str] = ("series",),
    classes: int = 5,
    channels: int = 1,
    samples_per_cycle: int = 128,
    series_length: int = 153_600,
    aligned: bool = True,
) -> HistogramClassifier:
    """Folded histogram and Gulski's operators of the series, logistic regression."""
    only("series", modalities)
    return HistogramClassifier(
        machine=StandardLogistic(features=PHASES * LEVELS + OPERATORS, classes=classes),
        cycle=samples_per_cycle,
        channels=channels,
        length=series_length,
        aligned=aligned,
    )


@register("classifier", baseline=True, fitted=True)
def hog_lightgbm(
    *,
    modalities: Sequence[str] = ("image",),
    classes: int = 5,
    image_size: int = 256,
    rounds: int = 200,
) -> HogClassifier:
    """Oriented gradients (HOG) of the picture, boosted trees."""
    only("image", modalities)
    return HogClassifier(
        machine=BoostedTrees(classes=classes, rounds=rounds), image_size=image_size
    )


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
