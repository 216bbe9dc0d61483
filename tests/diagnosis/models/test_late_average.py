"""The late average of two methods: its arithmetic, an absent modality, and what it refuses."""

from __future__ import annotations

import pytest
import torch

import chiasm.diagnosis.models.named  # noqa: F401  (importing registers the members)
from chiasm.diagnosis.models.late_average import late_average
from chiasm.errors import ConfigurationError
from chiasm.registry import find_model
from chiasm.samples import RecordingBatch

SHAPE = {"image_size": 32, "series_length": 7680, "classes": 4}


@pytest.fixture(scope="module")
def joined():
    torch.manual_seed(0)
    network = late_average(image="residual_cnn_small", series="histogram_logistic", **SHAPE).eval()
    generator = torch.Generator().manual_seed(1)
    machine = network.members["series"].machine
    machine.weight = torch.randn(machine.weight.shape, generator=generator)
    network.temperatures.copy_(torch.tensor([2.0, 0.5]))
    return network


def batch():
    generator = torch.Generator().manual_seed(2)
    return RecordingBatch(
        torch.rand(3, 3, 32, 32, generator=generator), torch.rand(3, 1, 7680, generator=generator)
    )


@torch.inference_mode()
def test_probabilities_are_the_mean_of_those_that_each_member_calibrated(joined):
    image = joined.members["image"](batch()).logits
    series = joined.members["series"](batch()).logits
    expected = ((image / 2.0).softmax(1) + (series / 0.5).softmax(1)) / 2
    torch.testing.assert_close(joined(batch()).logits.softmax(1), expected)


@pytest.mark.parametrize(("absent", "present", "temperature"), [
    ("image", "series", 0.5), ("series", "image", 2.0),
])  # fmt: skip
@torch.inference_mode()
def test_where_one_is_absent_the_other_decides_alone(joined, absent, present, temperature):
    rest = RecordingBatch(**{present: getattr(batch(), present), absent: None})
    alone = joined.members[present](rest).logits / temperature
    torch.testing.assert_close(joined(rest).logits.softmax(1), alone.softmax(1))


def test_a_member_is_taken_over_with_its_temperature(joined):
    learned = find_model("residual_cnn_small").builder(classes=4, image_size=32).eval()
    other = late_average(series="histogram_logistic", **SHAPE).eval()
    other.replace_member("image", learned, temperature=3.0)
    image = RecordingBatch(batch().image, None)
    with torch.inference_mode():
        expected = (learned(image).logits / 3.0).softmax(1)
        torch.testing.assert_close(other(image).logits.softmax(1), expected)


def test_members_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="does not use the image"):
        late_average(image="histogram_lightgbm")
    with pytest.raises(ConfigurationError, match="cannot be averaged"):
        late_average(series="late_average")
    with pytest.raises(ConfigurationError, match="There is no model named"):
        late_average(series="nothing")


def test_networks_can_be_members_of_either_modality():
    network = late_average(image="hog_lightgbm", series="mad_small", **SHAPE)
    assert network.members["series"].modalities == ("series",)
    assert network.members["image"].modalities == ("image",)
