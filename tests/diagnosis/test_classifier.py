"""What every classifier offers to training and export."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import chiasm.diagnosis.models.named  # noqa: F401  (registers the models)
from chiasm.registry import find_model


@pytest.mark.parametrize("name", ["mad_small", "cross_modal_transformer_small", "fused_small"])
@pytest.mark.parametrize("modalities", [("image", "series"), ("image",), ("series",)])
def test_logits_by_modality_are_those_of_separate_passes(name: str, modalities: tuple[str, ...]):
    torch.manual_seed(0)
    sizes = {"image_size": 32, "series_length": 1024, "segment": 256}
    arguments = {"fusion": "concatenation"} if name == "fused_small" else {}
    network = find_model(name).builder(modalities=modalities, **sizes, **arguments).eval()
    zeros = network.example_batch(2)
    batch = replace(zeros, **{m: torch.rand_like(getattr(zeros, m)) for m in modalities})
    with torch.no_grad():
        logits = network.logits_by_modality({m: getattr(batch, m) for m in modalities})
        assert next(iter(logits)) == "+".join(modalities)
        assert set(logits) == {"+".join(modalities), *modalities}
        for names, own in logits.items():
            hidden = {m: None for m in modalities if m not in names.split("+")}
            torch.testing.assert_close(own, network(replace(batch, **hidden)).logits)


@pytest.mark.parametrize(
    ("name", "procedure"),
    [("mad_small", "stages"), ("late_average", "members"), ("histogram_logistic", "fit")],
)
def test_a_classifier_says_how_it_is_trained(name: str, procedure: str):
    network = find_model(name).builder()
    assert network.training_procedure == procedure
    assert network.exportable is (procedure != "fit")
