"""Late average: two methods that learned by themselves, their calibrated probabilities averaged."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from chiasm.diagnosis.classifier import MODALITIES, Classifier, ClassifierOutput
from chiasm.diagnosis.models import residual_cnn, simple
from chiasm.errors import ConfigurationError, DataError
from chiasm.registry import find_model, register
from chiasm.samples import RecordingBatch

# Below the least probability of float32, a logarithm would be of nothing.
_LEAST = 1e-12


class LateAverage(Classifier):
    """One classifier of the picture and one of the series; where one is absent the other decides.

    Its members learn by themselves and are put in place afterwards, each with the temperature that
    makes probabilities of its logits.

    Args:
        members: modality, ``"image"`` or ``"series"``, to a classifier that looks at it alone.
    """

    def __init__(self, members: Mapping[str, Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleDict({m: members[m] for m in MODALITIES if m in members})
        self.modalities = tuple(self.members)
        self.register_buffer("temperatures", torch.ones(len(self.members)))

    def forward(self, batch: RecordingBatch, *, density: bool = True) -> ClassifierOutput:
        """Logarithms of the averaged probabilities; the embeddings stand side by side.

        Raises ``DataError`` where neither modality is there.
        """
        outputs = {
            name: member(batch, density=False)
            for name, member in self.members.items()
            if getattr(batch, name) is not None
        }
        if not outputs:
            raise DataError(
                f"The recording has nothing that this classifier looks at: {self.modalities}."
            )
        temperatures = dict(zip(self.members, self.get_buffer("temperatures")))
        chances = [(out.logits / temperatures[m]).softmax(1) for m, out in outputs.items()]
        by_modality = {m: out.pooled for m, out in outputs.items()}
        return ClassifierOutput(
            logits=torch.stack(chances).mean(dim=0).clamp(min=_LEAST).log(),
            pooled=torch.cat(list(by_modality.values()), dim=1),
            by_modality=by_modality,
        )

    def replace_member(self, modality: str, learned: Classifier, *, temperature: float) -> None:
        """Take over the weights of a classifier that has learned, and its temperature."""
        self.members[modality].load_state_dict(learned.state_dict())
        self.get_buffer("temperatures")[list(self.members).index(modality)] = temperature

    def example_batch(self, count: int = 1) -> RecordingBatch:
        """Zeros in the shapes of usual recordings, on its device."""
        shown: dict[str, Tensor | None] = dict.fromkeys(MODALITIES)
        for name, member in self.members.items():
            assert isinstance(member, Classifier)
            shown[name] = getattr(member.example_batch(count), name)
        return RecordingBatch(shown["image"], shown["series"])


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
) -> LateAverage:
    """Average of two methods' probabilities: one of the picture, one of the series."""
    of_data = {
        "classes": classes,
        "channels": channels,
        "samples_per_cycle": samples_per_cycle,
        "series_length": series_length,
        "image_size": image_size,
        "segment": segment,
    }
    names = {"image": image, "series": series}
    return LateAverage({m: _member(names[m], m, of_data) for m in modalities})


def _member(name: str, modality: str, of_data: Mapping[str, Any]) -> Classifier:
    model = find_model(name)
    known = inspect.signature(model.builder).parameters
    if model.wing != "classifier" or name == late_average.__name__:
        raise ConfigurationError(f"{name} is no classifier that could be averaged with another.")
    if modality not in known["modalities"].default:
        raise ConfigurationError(f"{name} does not look at the {modality}; name one that does.")
    taken = {key: value for key, value in of_data.items() if key in known}
    member: Classifier = model.builder(modalities=(modality,), **taken)
    return member
