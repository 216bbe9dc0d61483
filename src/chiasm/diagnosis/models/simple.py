"""Simple baselines: fixed features, and boosted trees or a logistic regression on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import (
    MODALITIES,
    Described,
    FittedClassifier,
    Labelled,
    present_modalities,
)
from chiasm.diagnosis.layers.extra_trees import ExtraTrees
from chiasm.diagnosis.layers.phase_statistics import (
    LEVELS,
    OPERATORS,
    PHASES,
    folded_histogram,
    statistical_operators,
)
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import register
from chiasm.samples import RecordingBatch

HOG_SIDE, HOG_CELL, HOG_ANGLES = 128, 16, 8


class FeatureClassifier(FittedClassifier):
    """Fixed features of one modality, and trees or a logistic regression on them.

    Args:
        modality: ``"image"`` or ``"series"``.
        features: maps its tensors to features ``(N, D)``.
        machine: is fitted to the features.
        example_shape: of one standard recording, without the first axis.
    """

    def __init__(
        self,
        *,
        modality: str,
        features: Callable[[Tensor], Tensor],
        machine: BoostedTrees | StandardLogistic | ExtraTrees,
        example_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.modalities = (modality,)
        self.features = features
        self.machine = machine
        self.example_shape = example_shape

    def describe(self, batch: RecordingBatch) -> dict[str, Tensor]:
        """Compute the features ``(N, D)``."""
        (tensor,) = present_modalities(batch, self.modalities).values()
        return {"features": self.features(tensor.float())}

    def fit(self, learning: Labelled, validation: Labelled, *, seed: int) -> None:
        """Fit the machine."""
        self.machine.fit(
            learning.described["features"],
            learning.labels,
            (validation.described["features"], validation.labels),
            seed=seed,
        )

    def decide(self, described: Described) -> Tensor:
        """Return logits ``(N, K)``."""
        out: Tensor = self.machine(described["features"])
        return out

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shape of a standard recording."""
        return RecordingBatch(
            **dict.fromkeys(MODALITIES)
            | {self.modalities[0]: torch.zeros(count, *self.example_shape, device=self.device)}
        )


@dataclass(frozen=True)
class HistogramFeatures:
    """The folded histogram of a series and Gulski's operators.

    Amplitudes are relative to the recording's mean pulse, so that gain does not matter.

    Attributes:
        cycle: values of the series per mains cycle.
        aligned: whether the series is rolled to its own phase reference first.
    """

    cycle: int
    aligned: bool

    def __call__(self, series: Tensor) -> Tensor:
        """Map series ``(N, C, T)`` to features ``(N, D)``."""
        if series.shape[-1] < self.cycle:
            raise DataError(
                f"The series has {series.shape[-1]} values a channel, and a mains cycle "
                f"{self.cycle}: record at least one."
            )
        if self.aligned:
            series = self._align(series)
        pattern = folded_histogram(series, cycle=self.cycle).flatten(1)
        operators = statistical_operators(series, cycle=self.cycle)
        return torch.cat([torch.sqrt(pattern), operators], dim=1)

    def _align(self, series: Tensor) -> Tensor:
        from chiasm.diagnosis.preparation.relative import phase_reference

        by_phase = folded_histogram(series, cycle=self.cycle).sum(dim=2)  # n p
        rolled = []
        for recording, weights in zip(series, by_phase):
            turn = phase_reference(np.log1p(1e3 * weights.cpu().double().numpy()))
            rolled.append(recording.roll(-round(turn * self.cycle), dims=-1))
        return torch.stack(rolled)


def hog_features(pictures: Tensor) -> Tensor:
    """Compute the HOG ``(N, D)`` of grey pictures at 128 pixels from ``(N, 3, H, W)``.

    References:
        Dalal, Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
    """
    from skimage.feature import hog

    grey = pictures.mean(dim=1, keepdim=True)
    grey = torch.nn.functional.interpolate(grey, HOG_SIDE, mode="area")[:, 0]
    histograms = [
        hog(
            picture.cpu().numpy(),
            orientations=HOG_ANGLES,
            pixels_per_cell=(HOG_CELL, HOG_CELL),
            cells_per_block=(2, 2),
        )
        for picture in grey
    ]
    return torch.from_numpy(np.stack(histograms)).float().to(pictures.device)


def require_modality(modality: str, modalities: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` if a baseline's only modality is not among the configured."""
    if modality not in modalities:
        raise ConfigurationError(
            f"This baseline uses the {modality}, which is not among {', '.join(modalities)}."
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
) -> FeatureClassifier:
    """Folded histogram and Gulski's operators of the series, boosted trees."""
    require_modality("series", modalities)
    return FeatureClassifier(
        modality="series",
        features=HistogramFeatures(samples_per_cycle, aligned),
        machine=BoostedTrees(classes=classes, rounds=rounds),
        example_shape=(channels, series_length),
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
) -> FeatureClassifier:
    """Folded histogram and Gulski's operators of the series, logistic regression."""
    require_modality("series", modalities)
    return FeatureClassifier(
        modality="series",
        features=HistogramFeatures(samples_per_cycle, aligned),
        machine=StandardLogistic(features=PHASES * LEVELS + OPERATORS, classes=classes),
        example_shape=(channels, series_length),
    )


@register("classifier", baseline=True, fitted=True)
def hog_lightgbm(
    *,
    modalities: Sequence[str] = ("image",),
    classes: int = 5,
    image_size: int = 256,
    rounds: int = 200,
) -> FeatureClassifier:
    """Oriented gradients (HOG) of the picture, boosted trees."""
    require_modality("image", modalities)
    return FeatureClassifier(
        modality="image",
        features=hog_features,
        machine=BoostedTrees(classes=classes, rounds=rounds),
        example_shape=(3, image_size, image_size),
    )


class BoostedTrees(nn.Module):
    """Gradient-boosted trees of K classes; a buffer holds the model as LightGBM's text.

    Args:
        classes: K.
        rounds: maximum number of trees per class; held-out recordings can stop earlier.
        leaves: maximum per tree.
    """

    text: Tensor

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
        """Fit to ``(M, D)`` features of ``(M,)`` labels, with early stopping on held-out ones.

        Raises ``ConfigurationError`` if LightGBM is not installed.
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
        # The library computes on the processor.
        arrays = [tensor.cpu().numpy() for tensor in (features, labels, *held_out)]
        training = library.Dataset(*arrays[:2])
        validation = library.Dataset(*arrays[2:], reference=training)
        model = library.train(
            settings,
            training,
            num_boost_round=self.rounds,
            valid_sets=[validation],
            callbacks=[library.early_stopping(20, verbose=False)],
        )
        self._set_text(model.model_to_string(num_iteration=model.best_iteration))

    def forward(self, features: Tensor) -> Tensor:
        """Return raw scores ``(N, K)``, logits of the softmax."""
        if self._model is None:
            text = bytes(self.text.cpu().numpy()).decode()
            self._model = _lightgbm().Booster(model_str=text)
        scores = self._model.predict(features.cpu().numpy(), raw_score=True, num_threads=1)
        logits = torch.from_numpy(np.asarray(scores, dtype=np.float32)).to(features.device)
        return logits.view(-1, self.classes)

    def _set_text(self, text: str) -> None:
        self.text = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(
            self.text.device
        )
        self._model = None

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        # The length of the text is known only after fitting.
        stored = state_dict.get(prefix + "text")
        if stored is not None:
            self.text = torch.empty_like(stored, device=self.text.device)
            self._model = None
        super()._load_from_state_dict(state_dict, prefix, *args)


class StandardLogistic(nn.Module):
    """Multinomial logistic regression on standardised features, fitted by scikit-learn.

    Args:
        features: D.
        classes: K.
        strengths: inverses of the penalty, selected by held-out recordings.
    """

    def __init__(
        self, *, features: int, classes: int, strengths: tuple[float, ...] = (0.01, 0.1, 1.0)
    ) -> None:
        super().__init__()
        self.strengths = strengths
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.zeros(classes))

    def fit(
        self, features: Tensor, labels: Tensor, held_out: tuple[Tensor, Tensor], *, seed: int
    ) -> None:
        """Fit to ``(M, D)`` features of ``(M,)`` labels; a class without any keeps weight 0."""
        from sklearn.linear_model import LogisticRegression

        device = self.get_buffer("mean").device
        # scikit-learn computes on the processor.
        features, labels = features.cpu(), labels.cpu()
        mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
        rows = ((features - mean) / deviation).double().numpy()
        tested = (held_out[0].cpu() - mean) / deviation
        best_accuracy = -1.0
        best = (torch.zeros(0), torch.zeros(0))
        shape = tuple(self.get_buffer("weight").shape)
        for strength in self.strengths:
            machine = LogisticRegression(C=strength, max_iter=2000, random_state=seed)
            machine.fit(rows, labels.numpy())
            weight, bias = torch.zeros(shape), torch.full(shape[:1], -1e3)
            classes = torch.from_numpy(machine.classes_)
            coefficients, intercepts = machine.coef_, machine.intercept_
            if len(classes) == 2:  # one line between two classes
                coefficients = np.concatenate([-coefficients, coefficients]) / 2
                intercepts = np.concatenate([-intercepts, intercepts]) / 2
            weight[classes] = torch.from_numpy(coefficients).float()
            bias[classes] = torch.from_numpy(intercepts).float()
            scores = tested @ weight.T + bias
            accuracy = (scores.argmax(dim=1) == held_out[1].cpu()).float().mean().item()
            if accuracy > best_accuracy:
                best_accuracy, best = accuracy, (weight, bias)
        self.mean, self.deviation = mean.to(device), deviation.to(device)
        self.weight, self.bias = (values.to(device) for values in best)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(N, K)``."""
        out: Tensor = ((features - self.mean) / self.deviation) @ self.weight.T + self.bias
        return out


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigurationError(
            "This baseline needs LightGBM: pip install 'chiasm[rivals]'."
        ) from error
    return lightgbm
