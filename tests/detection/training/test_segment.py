"""Loss terms, schedule and validation score of the segmentation against hand computation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from sklearn.metrics import average_precision_score

from chiasm.detection.layers.features import (
    RELATIVE_DISTANCE,
    SourcedFeatures,
    distances_from_normal,
)
from chiasm.detection.layers.segmentation import reconstruction_loss, segmentation_loss
from chiasm.detection.models.adnas import DetectorOutput, adnas_slim
from chiasm.detection.training.feature_store import StoredBatch
from chiasm.detection.training.segment import (
    PixelScores,
    mask_at,
    run,
    to_device,
    total_loss,
)
from chiasm.samples import RGBDBatch
from chiasm.training.schedule import cosine


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def batch():
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, 0, 3:6, 9:11] = 1
    foreground = torch.ones(2, 1, 16, 16)
    return RGBDBatch(
        random(2, 3, 16, 16),
        random(2, 3, 16, 16, seed=1),
        foreground,
        mask,
        clean_rgb=random(2, 3, 16, 16, seed=5),
        clean_geometry=random(2, 3, 16, 16, seed=6),
    )


def output(reconstructions=None):
    logits = 4 * random(2, 2, 4, 4, seed=2) - 2
    return DetectorOutput(logits, reconstructions or {})


def segmentation_by_hand(logits, mask, *, dice):
    """Loop over pixels: focal loss of Lin et al., cross-entropy and soft Dice."""
    focal = entropy = overlap = predicted = 0.0
    for n in range(2):
        for row in range(4):
            for column in range(4):
                good, bad = logits[n, :, row, column].tolist()
                p = 1 / (1 + math.exp(good - bad))
                anomalous = bool(
                    mask[n, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].any()
                )
                p_true = p if anomalous else 1 - p
                focal += -((1 - p_true) ** 2) * math.log(p_true) / 32
                entropy += -math.log(p_true) / 32
                overlap += p * anomalous
                predicted += p
    anomalous = sum(
        bool(mask[n, 0, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].any())
        for n in range(2)
        for r in range(4)
        for c in range(4)
    )
    soft_dice = 1 - (2 * overlap + 1) / (predicted + anomalous + 1)
    return focal + entropy + soft_dice if dice else focal


@pytest.mark.parametrize("dice", [False, True])
def test_the_segmentation_loss_is_its_definition(dice):
    inputs, prediction = batch(), output()
    expected = segmentation_by_hand(prediction.logits, inputs.mask, dice=dice)
    assert total_loss(
        prediction, inputs, loss="focal_dice" if dice else "focal"
    ).item() == pytest.approx(expected, rel=1e-5)


def dissimilarity_by_hand(a, b, window=8, stride=4):
    """One minus the mean SSIM over box windows, window by window."""
    c1, c2, values = 0.01**2, 0.03**2, []
    for n in range(a.shape[0]):
        for channel in range(a.shape[1]):
            for row in range(0, a.shape[2] - window + 1, stride):
                for column in range(0, a.shape[3] - window + 1, stride):
                    x, y = (
                        v[n, channel, row : row + window, column : column + window].double()
                        for v in (a, b)
                    )
                    mx, my = x.mean(), y.mean()
                    covariance = ((x - mx) * (y - my)).mean()
                    values.append(
                        (2 * mx * my + c1)
                        * (2 * covariance + c2)
                        / (mx**2 + my**2 + c1)
                        / (((x - mx) ** 2).mean() + ((y - my) ** 2).mean() + c2)
                    )
    return 1 - sum(values) / len(values)


def test_reconstructions_add_mse_and_for_colour_dissimilarity():
    inputs = batch()
    colour, relief = random(2, 3, 16, 16, seed=3), random(2, 3, 16, 16, seed=4)
    prediction = output({"rgb": colour, "geometry": relief})
    alone = total_loss(prediction, inputs, loss="focal_dice", with_reconstruction=False)
    assert alone == total_loss(output(), inputs, loss="focal_dice")
    expected = (
        ((colour - inputs.clean_rgb).double() ** 2).mean()
        + dissimilarity_by_hand(colour, inputs.clean_rgb)
        + ((relief - inputs.clean_geometry).double() ** 2).mean()
    )
    added = total_loss(prediction, inputs, loss="focal_dice") - alone
    assert added.item() == pytest.approx(expected.item(), rel=1e-4)


def test_to_restore_the_clean_part_costs_nothing_and_to_copy_the_defect_does():
    inputs = batch()
    alone = total_loss(output(), inputs, loss="focal_dice")
    restored = output({"rgb": inputs.clean_rgb, "geometry": inputs.clean_geometry})
    assert total_loss(restored, inputs, loss="focal_dice").item() == pytest.approx(
        alone.item(), abs=1e-6
    )
    for modality, image in (("rgb", inputs.rgb), ("geometry", inputs.geometry)):
        copied = output({modality: image})
        assert total_loss(copied, inputs, loss="focal_dice") > alone + 0.01


def test_of_the_object_no_pixel_beside_it_counts_in_the_segmentation():
    inputs, prediction = batch(), output()
    foreground = torch.zeros_like(inputs.foreground)
    foreground[:, :, 4:12, :8] = 1  # whole cells of 4 x 4
    inputs = replace(inputs, foreground=foreground)
    expected = total_loss(prediction, inputs, loss="object")
    cells = torch.zeros(4, 4, dtype=torch.bool)
    cells[1:3, :2] = True
    changed = replace(prediction, logits=torch.where(cells, prediction.logits, 9.0))
    assert total_loss(changed, inputs, loss="object") == expected
    changed = replace(prediction, logits=torch.where(cells, 9.0, prediction.logits))
    assert total_loss(changed, inputs, loss="object") != expected
    # On an object that fills the frame, it is the loss of all pixels.
    everywhere = replace(inputs, foreground=torch.ones_like(foreground))
    assert total_loss(prediction, everywhere, loss="object").item() == pytest.approx(
        total_loss(prediction, everywhere, loss="focal_dice").item(), rel=1e-5
    )


def test_a_pixel_of_the_object_weighs_six_times_as_much_in_the_restoration():
    inputs = batch()
    foreground = torch.zeros_like(inputs.foreground)
    foreground[:, :, :8] = 1  # half of the picture
    inputs = replace(inputs, foreground=foreground)
    alone = total_loss(output(), inputs, loss="object")
    error = 0.25

    def added(rows: slice) -> float:
        relief = inputs.clean_geometry.clone()
        relief[:, :, rows] += error
        return (total_loss(output({"geometry": relief}), inputs, loss="object") - alone).item()

    assert added(slice(0, 8)) == pytest.approx(error**2 * 6 / 7, rel=1e-4)
    assert added(slice(8, 16)) == pytest.approx(error**2 / 7, rel=1e-4)


def test_a_reconstruction_needs_the_clean_part():
    inputs = replace(batch(), clean_rgb=None)
    with pytest.raises(ValueError, match="no rgb of the parts without their synthetic anomalies"):
        total_loss(output({"rgb": inputs.rgb}), inputs, loss="focal_dice")


def test_a_coarser_mask_is_anomalous_where_any_pixel_is():
    coarse = mask_at(batch(), torch.Size((4, 4)))
    assert coarse.shape == (2, 1, 4, 4)
    assert coarse.nonzero()[:, 2:].tolist() == [[0, 2], [1, 2]]


def test_the_learning_rate_falls_along_half_a_cosine():
    assert cosine(0.0) == 1
    assert cosine(0.5, floor=0.2) == pytest.approx(0.6)
    assert cosine(1.0) == cosine(7.0) == pytest.approx(0.01)
    assert cosine(-1.0) == 1


def of_masks(mask, foreground=None):
    """A batch of 8 x 8 cells, whose parts fill the crop unless they are given."""
    whole = torch.ones_like(mask) if foreground is None else foreground
    return RGBDBatch(mask.expand(-1, 3, -1, -1), None, whole, mask)


def test_pixel_scores_are_the_average_precision_of_all_batches():
    pixels = PixelScores()
    logits = [random(2, 2, 8, 8, seed=s) for s in (1, 2)]
    masks = [(random(2, 1, 8, 8, seed=s) > 0.8).float() for s in (3, 4)]
    for x, mask in zip(logits, masks):
        pixels.add(x, of_masks(mask))
    scores = torch.cat([(x[:, 1] - x[:, 0]).flatten() for x in logits]).numpy()
    labels = torch.cat([m.flatten() for m in masks]).numpy()
    assert pixels.average_precision() == pytest.approx(average_precision_score(labels, scores))
    pixels.add(logits[0], of_masks(torch.zeros_like(masks[0])))
    assert math.isnan(pixels.average_precision())  # the first two batches are gone


def test_pixels_beside_the_object_do_not_count_in_what_chooses():
    foreground = torch.zeros(1, 1, 8, 8)
    foreground[..., 2:6, 2:6] = 1
    mask = torch.zeros_like(foreground)
    mask[..., 3, 3] = 1
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 1] = 9 * (1 - foreground[:, 0]) + mask[:, 0]
    pixels = PixelScores()
    pixels.add(logits, of_masks(mask, foreground))
    assert pixels.average_precision() == 1.0


def test_stored_features_and_pictures_give_the_same_output():
    torch.manual_seed(0)
    detector = adnas_slim("concatenation", image_size=64).eval()
    inputs = RGBDBatch(random(2, 3, 64, 64), random(2, 3, 64, 64), torch.ones(2, 1, 64, 64))
    with torch.no_grad():
        stored = StoredBatch(detector.source(inputs), inputs.foreground, inputs.foreground)
        assert torch.equal(run(detector, stored).logits, run(detector, inputs).logits)


def test_a_record_moves_with_all_its_tensors():
    features = SourcedFeatures({"a": random(2)}, {"rgb": random(2)}, {"rgb": random(2)})
    moved = to_device(StoredBatch(features, random(2), random(2)), torch.device("meta"))
    tensors = [
        moved.foreground,
        moved.mask,
        moved.features.maps["a"],
        moved.features.reconstructions["rgb"],
        moved.features.relative["rgb"],
    ]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    pictures = to_device(batch(), torch.device("meta"))
    assert pictures.rgb.device.type == pictures.mask.device.type == "meta"
    assert pictures.xyz is None


def test_what_the_score_may_weigh_is_the_mean_of_the_sensors_and_each_evidence():
    one, two = random(1, 1, 8, 8), random(1, 1, 8, 8, seed=1)
    maps = {"rgb/f8": random(1, 3, 8, 8), "cross/mapping_error": random(1, 3, 8, 8)}
    found = distances_from_normal(SourcedFeatures(maps, {}, {"rgb": one, "geometry": two}))
    torch.testing.assert_close(found.pop(RELATIVE_DISTANCE), (one + two) / 2)
    assert torch.equal(found.pop("cross/mapping_error"), maps["cross/mapping_error"][:, 2:])
    assert not found and not distances_from_normal(SourcedFeatures({"rgb/f8": one}, {}, {}))


@pytest.mark.parametrize("structural", [True, False])
def test_a_reconstruction_in_bfloat16_is_compared_in_float32(structural):
    # A nearly flat picture: of its variance, squares in bfloat16 leave nothing.
    target = 0.5 + 0.02 * random(2, 3, 16, 16)
    reconstruction = (0.5 + 0.02 * random(2, 3, 16, 16, seed=1)).bfloat16()
    expected = reconstruction_loss(reconstruction.float(), target, structural=structural)
    with torch.autocast("cpu", torch.bfloat16):
        loss = reconstruction_loss(reconstruction, target, structural=structural)
    assert loss.dtype == torch.float32 and loss == expected


def test_logits_in_bfloat16_are_compared_in_float32():
    logits, mask = output().logits.bfloat16(), mask_at(batch(), torch.Size((4, 4)))
    loss = segmentation_loss(logits, mask, dice=True)
    assert loss.dtype == torch.float32
    assert loss == segmentation_loss(logits.float(), mask, dice=True)
