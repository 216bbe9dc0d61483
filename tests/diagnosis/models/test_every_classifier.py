"""One suite for every classifier: whatever it is made of, it keeps what the house promises."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import chiasm.diagnosis.models.named  # noqa: F401  (importing registers the classifiers)
from chiasm.diagnosis.classifier import Labelled
from chiasm.diagnosis.models.cost import flops
from chiasm.errors import DataError
from chiasm.registry import find_model, models
from chiasm.samples import RecordingBatch

SHAPE = {"image_size": 32, "series_length": 7680, "classes": 4, "segment": 256}
BASE = sorted(m.name for m in models("classifier") if m.name.endswith("_base"))
NAMES = sorted(m.name for m in models("classifier") if m.name not in BASE)
FITTED = {m.name for m in models("classifier") if m.fitted}
# Options that make a fitted one small.
OPTIONS = {
    "excess_trees": {"trees": 20},
    "histogram_lightgbm": {"rounds": 8},
    "histogram_logistic": {},
    "hog_lightgbm": {"rounds": 8},
    "minirocket": {"rows": 2, "cycles": 10},
}
# These put together what has learned by itself.
JOINED = {"late_average"}
SIZES = {"base": 75_832_589, "small": 2_373_837}
# Convolutions alone, small by another measure.
OTHER_SIZE = {"residual_cnn_small"}


def build(name, seed=0, **options):
    torch.manual_seed(seed)
    builder = find_model(name).builder
    parameters = inspect.signature(builder).parameters
    shape = {key: value for key, value in SHAPE.items() if key in parameters}
    return builder(**(shape | OPTIONS.get(name, {}) | options)).eval()


def labelled(count=60, seed=2):
    """Recordings of four classes: where in the cycle pulses are, and which half is inked."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 4
    series = torch.randint(10, 14, (count, 1, 60, 128), generator=rng).float()
    image = 0.1 * torch.rand(count, 3, 32, 32, generator=rng)
    for number, kind in enumerate(label.tolist()):
        width = 4 + 8 * kind
        series[number, :, :, 20 : 20 + width] += 40 * torch.rand(60, width, generator=rng)
        image[number, :, 8 * kind : 8 * kind + 8, ::2] = 1
    return RecordingBatch(image, series.flatten(2), label)


def trained(name):
    """A fitted one that learned from labelled recordings, or a network as it begins."""
    built = build(name)
    for one in (built.members["series"],) if name in JOINED else (built,) if name in FITTED else ():
        learning, check = labelled(), labelled(24, seed=3)
        one.fit(
            Labelled(one.describe(learning), learning.label),
            Labelled(one.describe(check), check.label),
            seed=0,
        )
    built.name = name
    return built


def batch(count=3):
    generator = torch.Generator().manual_seed(1)
    return RecordingBatch(
        image=torch.rand(count, 3, 32, 32, generator=generator),
        series=torch.rand(count, 1, 7680, generator=generator),
        label=torch.tensor([0, 1, 2][:count]),
    )


@pytest.fixture(scope="module", params=NAMES)
def network(request):
    return trained(request.param)


@pytest.mark.parametrize("name", BASE + NAMES)
def test_networks_that_are_compared_have_one_size(name):
    if name.endswith(("_base", "_small")) and name not in OTHER_SIZE:
        with torch.device("meta"):
            network = find_model(name).builder()
        size = SIZES[name.rsplit("_", 1)[1]]
        count = sum(p.numel() for p in network.parameters())
        assert abs(count / size - 1) < 0.02
        assert flops(network, "true") > flops(network, "paper") > 0


def test_a_batch_has_the_logits_of_its_recordings(network):
    with torch.inference_mode():
        together = network(batch()).logits
        alone = [network(slice_of(batch(), n)).logits[0] for n in range(3)]
        again = network(batch()).logits
    assert together.shape == (3, 4)
    assert torch.equal(together, again)
    torch.testing.assert_close(torch.stack(alone), together, rtol=1e-4, atol=1e-5)


def slice_of(whole, number):
    return RecordingBatch(whole.image[number : number + 1], whole.series[number : number + 1])


@pytest.mark.parametrize("absent", ["image", "series"])
def test_an_absent_modality_is_borne(network, absent):
    if absent not in network.modalities or len(network.modalities) == 1:
        pytest.skip("it looks at one modality alone")
    with torch.inference_mode():
        whole = network(batch()).logits
        rest = network(replace(batch(), **{absent: None})).logits
    assert rest.shape == (3, 4)
    assert torch.isfinite(rest).all()
    assert not torch.allclose(rest, whole)


def test_nothing_at_all_is_told(network):
    with pytest.raises(DataError, match="the classifier takes nothing else"):
        network(RecordingBatch(None, None))


@pytest.mark.parametrize("modality", ["image", "series"])
def test_one_modality_alone_is_a_network_of_its_own(network, modality):
    if len(network.modalities) == 1 or network.name in FITTED | JOINED:
        pytest.skip("it looks at one modality anyway, or joins those that do")
    alone = build(network.name, modalities=(modality,))
    assert alone.modalities == (modality,)
    with torch.inference_mode():
        out = alone(batch())
    assert out.logits.shape == (3, 4)
    assert set(out.by_modality) <= {modality}


def test_a_stored_network_says_the_same(network, tmp_path):
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    other = build(network.name, seed=5)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.inference_mode():
        assert torch.equal(other(batch()).logits, network(batch()).logits)


def test_every_weight_learns_in_one_stage_or_the_other(network):
    if network.name in FITTED | JOINED:
        pytest.skip("it learns without gradients")
    fresh = build(network.name).train()
    output = fresh(batch())
    unit = fresh.project(output, ("joint", "image", "series"))
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(unit.shape[:2]))
    loss = torch.nn.functional.cross_entropy(output.logits, batch().label)
    (loss + unit[..., 0].sum() + sum(n.sum() for n in output.flow_nll.values())).backward()
    # A flow begins as the identity, so the gradient of its first layers is there, but 0.
    idle = [n for n, p in fresh.named_parameters() if p.grad is None]
    assert idle == []


def test_a_fitted_one_tells_new_recordings_apart(network):
    if network.name not in FITTED | JOINED:
        pytest.skip("it is a network")
    new = labelled(32, seed=9)
    guesses = network(new).logits.argmax(dim=1)
    assert (guesses == new.label).float().mean() > 0.8


def test_it_learns_three_recordings_by_heart(network):
    if network.name in FITTED | JOINED:
        pytest.skip("it learns without gradients")
    fresh = build(network.name).train()
    # Noise alone has one mean in all three: what is averaged early could not tell them apart.
    strength = torch.tensor([0.1, 1.0, 3.0])
    inputs = replace(
        batch(),
        image=batch().image * strength.view(3, 1, 1, 1),
        series=batch().series * strength.view(3, 1, 1),
    )
    optimiser = torch.optim.Adam(fresh.parameters(), 1e-3)
    for _ in range(120):
        optimiser.zero_grad()
        logits = fresh(inputs, density=False).logits
        loss = torch.nn.functional.cross_entropy(logits, inputs.label)
        loss.backward()
        optimiser.step()
        if loss.item() < 0.3:
            break
    assert loss.item() < 0.3
    assert logits.argmax(dim=1).tolist() == [0, 1, 2]


def test_the_registry_knows_how_it_is_trained(network):
    assert find_model(network.name).fitted == (network.training_procedure == "fit")


def test_its_example_fits_it(network):
    example = network.example_batch(2)
    with torch.inference_mode():
        assert network(example).logits.shape == (2, 4)
