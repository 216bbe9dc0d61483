"""Implicit surfaces of patches, and the two memories that stand on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chiasm.detection.models.shape_guided import (
    DistanceDecoder,
    PatchEncoder,
    pull_loss,
    pull_to_surface,
    shape_guided,
    surface_patches,
)
from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import RGBDBatch


def cap(count=48, seed=0):
    """Points of a spherical cap of radius 2 around the origin, as patches are: unit size."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(4, count, 2, generator=generator).clamp(-1, 1) * 0.6
    depth = 2 - (4 - flat.square().sum(dim=2)).sqrt()
    return torch.cat([flat, depth[..., None]], dim=2)


def test_noisy_places_are_pulled_onto_the_surface():
    torch.manual_seed(0)
    encoder, decoder = PatchEncoder(code=16), DistanceDecoder(code=16, hidden=32)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-3)
    patches = cap()
    for _ in range(250):
        optimiser.zero_grad()
        loss = pull_loss(encoder, decoder, patches)
        loss.backward()
        optimiser.step()
    places = patches + torch.tensor([0.0, 0.0, 0.15])
    moved = pull_to_surface(decoder, places, encoder(patches)).detach()
    height = 2 - (4 - moved[..., :2].square().sum(dim=2)).clamp(min=0).sqrt()
    assert (moved[..., 2] - height).abs().mean() < 0.05
    # Points of the surface lie at 0, points beside it do not.
    on = decoder(patches, encoder(patches)).abs().mean()
    off = decoder(places, encoder(patches)).abs().mean()
    assert off > 2.5 * on


def test_a_code_does_not_depend_on_the_order_of_points():
    encoder, patches = PatchEncoder(), cap()
    mixed = patches[:, torch.randperm(patches.shape[1])]
    torch.testing.assert_close(encoder(mixed), encoder(patches))


def parts(scale=1.0, shift=0.0):
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    xyz = torch.stack([columns, rows, 10 + 0.1 * (columns - 16) ** 2 / 16]).float() * scale + shift
    foreground = torch.zeros(1, 1, 32, 32)
    foreground[:, :, 4:-4, 4:-4] = 1
    return RGBDBatch(
        rgb=None,
        geometry=torch.zeros(1, 3, 32, 32),
        foreground=foreground,
        xyz=xyz[None],
        valid=torch.ones(1, 1, 32, 32),
    )


def test_patches_do_not_depend_on_place_and_unit():
    first, occupied = surface_patches(parts(), cells=4, points=16, step=1)
    second, same = surface_patches(parts(scale=0.01, shift=3.0), cells=4, points=16, step=1)
    assert torch.equal(occupied, same)
    assert occupied.sum() == 16  # the object reaches into every cell of 8 pixels
    torch.testing.assert_close(first.norm(dim=-1), second.norm(dim=-1), rtol=1e-2, atol=1e-2)
    distance = first[occupied].norm(dim=2)
    assert (distance[:, 0] == 0).all()
    torch.testing.assert_close(distance[:, -1], torch.ones(len(distance)))
    assert (distance.diff(dim=1) >= -1e-6).all()


def test_parts_without_points_have_no_patches():
    batch = parts()
    from dataclasses import replace

    nothing = replace(batch, foreground=torch.zeros_like(batch.foreground))
    assert not surface_patches(nothing, cells=4, points=16, step=1)[1].any()
    with pytest.raises(DataError, match="need 3D data"):
        surface_patches(replace(batch, xyz=None), cells=4, points=16, step=1)


def test_colours_are_kept_with_the_nearest_code_and_no_more_than_there_is_room():
    detector = shape_guided(pretrained=False, colours=3, bank_mb=0.2)
    torch.manual_seed(0)
    codes = torch.randn(10, 128)
    detector.shapes.add(codes, torch.arange(10))
    detector.finish_fit("shapes")
    near = detector.shapes.descriptors[[2, 2, 5, 2, 2]] + 0.01
    colour = torch.arange(5.0)[:, None].expand(5, 176)
    detector._link(near, colour, torch.arange(5))
    assert detector.count.tolist() == [0, 0, 3, 0, 0, 1, 0, 0, 0, 0]
    kept = detector.linked[2, :, 0].tolist()
    assert len(set(kept)) == 3 and set(kept) < {0, 1, 3, 4}
    assert detector.linked[5, 0, 0] == 2
    assert torch.equal(detector.linked_owner[2], detector.linked[2, :, 0].long())


def test_every_part_has_the_same_chance_that_its_colours_are_kept():
    """Twenty parts offer one colour each to one code, which keeps four; first come would not do."""
    kept = torch.zeros(20)
    for seed in range(150):
        detector = shape_guided(pretrained=False, colours=4, bank_mb=0.2)
        detector._generator = np.random.default_rng(seed)
        detector.shapes.add(torch.eye(8, 128), torch.arange(8))
        detector.finish_fit("shapes")
        codes = detector.shapes.descriptors[:1].expand(20, -1)
        colour = torch.arange(20.0)[:, None].expand(20, 176)
        for part in range(0, 20, 5):  # as batches come
            rows = slice(part, part + 5)
            detector._link(codes[rows], colour[rows], torch.arange(20)[rows])
        assert detector.count[0] == 4 and detector.offered[0] == 20
        kept += torch.bincount(detector.linked_owner[0], minlength=20)
    expected = 150 * 4 / 20
    assert ((kept - expected) ** 2 / expected).sum() < 45  # chi squared, 19 degrees of freedom


def test_a_training_part_is_not_compared_with_its_own_colours():
    torch.manual_seed(0)
    detector = shape_guided(
        pretrained=False, colours=2, bank_mb=0.06, points=16, neighbours=2
    ).eval()
    patches, inside = surface_patches(parts(), cells=4, points=16, step=1)
    count = 6
    features = {
        "shape": patches.expand(count, -1, -1, -1, -1) + 0.02 * torch.randn(count, 4, 4, 16, 3),
        "inside": inside.expand(count, -1, -1),
        "colour": torch.randn(count, 176, 4, 4),
    }
    numbers = torch.arange(count)
    with torch.no_grad():
        for step in ("statistics", "shapes", "colours", "usual"):
            detector.partial_fit(step, features, numbers)
            if step == "usual":
                distance = detector._normal_distances[0][:, 1]
            detector.finish_fit(step)
        owners = numbers.repeat_interleave(16)
        number = detector.shapes(
            detector.encoder(features["shape"][features["inside"]]), owners, count=2
        )[1]
        colour = detector._colour(features)
        expected = []
        own = detector.linked_owner[number] == owners[:, None, None]
        assert own.any()  # the bank has fewer codes than there are patches
        for row, codes in enumerate(number.tolist()):
            others = [
                detector.linked[code, slot]
                for code in codes
                for slot in range(int(detector.count[code]))
                if detector.linked_owner[code, slot] != owners[row]
            ]
            values = [float((colour[row] - other).norm()) for other in others]
            expected.append(min(values, default=float("nan")))
    expected = torch.tensor(expected)
    torch.testing.assert_close(distance, expected, equal_nan=True)
    assert (distance[distance.isfinite()] > 0).all()
    torch.testing.assert_close(detector.usual[1], expected.nanmean())


def test_a_saved_model_holds_what_prediction_needs_alone():
    state = shape_guided(pretrained=False).state_dict()
    assert not {"linked_owner", "offered"} & set(state)
    assert {"linked", "count", "usual"} <= set(state)


def test_both_memories_stay_within_the_budget():
    detector = shape_guided(pretrained=False, bank_mb=5.0)
    entries = detector.shapes.capacity
    assert entries * (4 * 128 + 8 + 4 * 4 * 176 + 8) <= 5_000_000
    assert entries > 1000


def test_shapes_are_needed():
    with pytest.raises(ConfigurationError, match="needs geometry"):
        shape_guided(modalities=("rgb",), pretrained=False)
    with pytest.raises(ConfigurationError, match="at least 1"):
        shape_guided(neighbours=0, pretrained=False)
    assert shape_guided(modalities=("geometry",)).pretrained_weights is None
