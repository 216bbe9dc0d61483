"""Late average: the mean of the calibrated probabilities of two separately trained methods."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import (
    MODALITIES,
    Classifier,
    ClassifierOutput,
    present_modalities,
)
from chiasm.diagnosis.models import residual_cnn, simple
from chiasm.errors import ConfigurationError
from chiasm.registry import find_model, register
from chiasm.samples import RecordingBatch

# The logarithm of a probability of 0 would be infinite.
_MINIMUM_PROBABILITY = 1e-12


class LateAverage(Classifier):
    """One classifier of the picture and one of the series; either decides if the other is absent.

    The members are trained separately and inserted afterwards, each with the temperature that
    calibrates its logits.

    Args:
        members: modality, ``"image"`` or ``"series"``, to a classifier of this modality.
    """

    training_procedure = "members"

    def __init__(self, members: Mapping[str, Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleDict({m: members[m] for m in MODALITIES if m in members})
        self.modalities = tuple(self.members)
        self.register_buffer("temperatures", torch.ones(len(self.members)))

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Return logarithms of the averaged probabilities, and the concatenated embeddings.

        Raises ``DataError`` if both modalities are absent.
        """
        present = present_modalities(batch, self.modalities)
        outputs = {name: self.members[name](batch, density=False) for name in present}
        temperatures = dict(zip(self.members, self.get_buffer("temperatures")))
        probabilities = [(out.logits / temperatures[m]).softmax(1) for m, out in outputs.items()]
        by_modality = {m: out.pooled for m, out in outputs.items()}
        return ClassifierOutput(
            logits=torch.stack(probabilities).mean(dim=0).clamp(min=_MINIMUM_PROBABILITY).log(),
            pooled=torch.cat(list(by_modality.values()), dim=1),
            by_modality=by_modality,
        )

    def replace_member(self, modality: str, trained: Classifier, *, temperature: float) -> None:
        """Copy the weights of a trained classifier, and set its temperature."""
        self.members[modality].load_state_dict(trained.state_dict())
        self.get_buffer("temperatures")[list(self.members).index(modality)] = temperature

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Return zeros in the shapes of standard recordings, on its device."""
        tensors: dict[str, Tensor | None] = dict.fromkeys(MODALITIES)
        for name, member in self.members.items():
            assert isinstance(member, Classifier)
            tensors[name] = getattr(member.example_batch(count), name)
        return RecordingBatch(tensors["image"], tensors["series"])


@register("classifier", baseline=True)
def late_average(
    *,
    modalities: Sequence[str] = MODALITIES,
    image: str = residual_cnn.residual_cnn_small.__name__,
    series: str = simple.histogram_lightgbm.__name__,
    classes: int = 5,
    channels: int = 1,
    samples_per_cycle: int = 128,
    series_length: int = 153_600,
    image_size: int = 256,
    segment: int = 256,
    series_tokens: str = "segments",
) -> LateAverage:
    """Average of two methods' probabilities: one of the picture, one of the series."""
    shape = {
        "classes": classes,
        "channels": channels,
        "samples_per_cycle": samples_per_cycle,
        "series_length": series_length,
        "image_size": image_size,
        "segment": segment,
        "series_tokens": series_tokens,
    }
    names = {"image": image, "series": series}
    return LateAverage({m: _member(names[m], m, shape) for m in modalities})


def _member(name: str, modality: str, shape: Mapping[str, Any]) -> Classifier:
    model = find_model(name)
    parameters = inspect.signature(model.builder).parameters
    if model.wing != "classifier" or name == late_average.__name__:
        raise ConfigurationError(f"{name} cannot be averaged; name another classifier.")
    if not model.modalities_of((modality,)):
        raise ConfigurationError(f"{name} does not use the {modality}; name one that does.")
    arguments = {key: value for key, value in shape.items() if key in parameters}
    member: Classifier = model.builder(modalities=(modality,), **arguments)
    return member
