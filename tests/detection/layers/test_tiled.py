"""Tiles cover a crop, join to one map, and decide alike in an exported graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chiasm.deploy.detection_graph import OUTPUTS, DetectorGraph
from chiasm.deploy.graph_files import write_onnx
from chiasm.detection.contract import DetectionContract
from chiasm.detection.detector import Detector
from chiasm.detection.layers.image_score import map_statistics
from chiasm.detection.layers.tiled import TiledDetector, tile_weights
from chiasm.detection.preparation.tiles import TiledParts, TilePlan, tile_of, tile_plan
from chiasm.samples import CropBox, PreparedSample, RGBDBatch

PLAN = TilePlan(tile=64, count=3, step=32)


class Brightness(Detector):
    """Scores pixels by their red, and tells where it looked."""

    @property
    def export_obstacle(self) -> str | None:
        return None

    def forward(self, batch: RGBDBatch) -> Tensor:
        assert batch.rgb is not None
        return batch.rgb[:, :1] * 2

    def scores(self, output: Any, foreground: Tensor) -> Tensor:
        return output * foreground


def batch(side: int, count: int = 2, seed: int = 0) -> RGBDBatch:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.rand(count, 3, side, side, generator=generator)
    foreground = torch.zeros(count, 1, side, side)
    foreground[..., 20:100, 10:110] = 1
    return RGBDBatch(rgb, None, foreground, index=torch.arange(count))


def part(side: int = 128) -> PreparedSample:
    rng = np.random.default_rng(1)
    foreground = np.zeros((side, side), bool)
    foreground[10:70, 10:70] = True
    mask = np.zeros((side, side), bool)
    mask[20:24, 20:24] = True
    return PreparedSample(
        rgb=rng.random((side, side, 3), np.float32),
        xyz=None,
        height=None,
        normals=None,
        depth=None,
        valid=foreground,
        foreground=foreground,
        mask=mask,
        box=CropBox(0, 0, 2 * side, 300, 300),
        label=1,
    )


@pytest.mark.parametrize("tiles", [2, 3, 4, "auto"])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_tiles_cover_the_crop_and_overlap(tiles, size):
    plan = tile_plan(tiles, size=size, frame_pixels=4 * size)
    assert plan is not None
    covered = np.zeros((plan.side, plan.side), int)
    for top, left in plan.corners:
        covered[top : top + size, left : left + size] += 1
    assert covered.min() == 1 and plan.number == len(plan.corners) == plan.count**2
    assert plan.tile - plan.step >= size // 4  # shared with the next
    assert plan.step % 32 == 0


def test_auto_takes_no_more_tiles_than_the_frame_has_pixels():
    assert tile_plan("auto", size=256, frame_pixels=250) is None
    assert tile_plan(None, size=256, frame_pixels=4000) is None
    sides = [tile_plan("auto", size=256, frame_pixels=f) for f in (440, 640, 5000)]
    assert [plan.count for plan in sides if plan] == [2, 3, 4]
    assert "16 times" in sides[-1].in_words(5000)


def test_joined_maps_are_weighted_means_of_the_tiles():
    detector = TiledDetector(Brightness(), PLAN)
    maps = torch.rand(2 * PLAN.number, 1, 64, 64)
    weights = tile_weights(PLAN)
    total, over = torch.zeros(2, 1, 128, 128), torch.zeros(128, 128)
    for place, (top, left) in enumerate(PLAN.corners):
        there = (..., slice(top, top + 64), slice(left, left + 64))
        total[there] += maps[place :: PLAN.number] * weights
        over[there] += weights
    torch.testing.assert_close(detector.joined(maps), total / over)


def test_a_detector_of_single_pixels_sees_in_tiles_what_it_sees_at_once():
    inputs = batch(PLAN.side)
    whole, tiled = Brightness(), TiledDetector(Brightness(), PLAN)
    maps = whole.scores(whole(inputs), inputs.foreground)
    joined = tiled.scores(tiled(inputs), inputs.foreground)
    torch.testing.assert_close(joined, maps)
    # The rule is that of one tile: its windows have as many pixels.
    term = tiled.windowed_rule.terms[0]
    assert term.size * PLAN.side == pytest.approx(whole.image_rule.terms[0].size * PLAN.tile)
    expected = map_statistics(
        maps,
        inputs.foreground,
        terms=tiled.windowed_rule.terms,
        background=False,
        operations=whole.maps,
    ).score(tiled.windowed_rule)
    torch.testing.assert_close(
        tiled.image_scores(tiled(inputs), joined, inputs.foreground), expected
    )


def test_a_tile_excludes_its_own_part_from_a_memory():
    seen: list[Tensor] = []

    class Watching(Brightness):
        def forward(self, batch: RGBDBatch) -> Tensor:
            assert batch.index is not None
            seen.append(batch.index)
            return super().forward(batch)

    TiledDetector(Watching(), PLAN)(batch(PLAN.side))
    assert seen[0].tolist() == [0] * PLAN.number + [1] * PLAN.number


def test_weights_are_saved_and_restored():
    class Weighted(Brightness):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

    tiled = TiledDetector(Weighted(), PLAN)
    tiled.inner.gain.data.fill_(3)
    again = TiledDetector(Weighted(), PLAN)
    again.restore(tiled.state_dict())
    assert again.inner.gain.item() == 3 and again.core is again.inner


def test_an_exported_graph_of_tiles_decides_alike(tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    tiled = TiledDetector(Brightness(), PLAN)
    graph = DetectorGraph(tiled, modalities=("rgb",), calibration=[1.5, 1.6, 1.7], rank=1).eval()
    inputs = batch(PLAN.side, seed=3)
    arguments = (inputs.rgb, inputs.foreground)
    path = tmp_path / "model.onnx"
    write_onnx(
        graph,
        list(arguments),
        path,
        inputs=graph.inputs,
        outputs=OUTPUTS,
        dynamic=[{0: torch.export.Dim("batch")}] * 2,
    )
    session = onnxruntime.InferenceSession(path)
    feed = {name: tensor.numpy() for name, tensor in zip(graph.inputs, arguments)}
    found = session.run(None, feed)
    for value, expected in zip(found, graph(*arguments)):
        np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_parts_are_cut_into_the_tiles_that_show_them():
    whole = part()
    tiles = TiledParts([whole, whole], PLAN)
    assert len(tiles) < 2 * PLAN.number
    assert set(tiles.origins) == {0, 1}
    corner = tile_of(whole, PLAN, 0)
    np.testing.assert_array_equal(corner.rgb, whole.rgb[:64, :64])
    assert corner.label == 1 and tile_of(whole, PLAN, 4).label == 0  # the defect lies elsewhere
    assert (corner.box.side, corner.box.top) == (128, 0)
    assert all(tile.foreground.mean() >= 0.01 for tile in tiles)
    drawn = tiles.drawn(2, seed=0)
    assert len(drawn) == 4 and drawn == tiles.drawn(2, seed=0)


def test_a_contract_without_tiles_is_what_it_was():
    assert DetectionContract.model_fields["tiles"].default is None
    import json

    folder = Path(__file__).parents[2] / "version_1"
    from chiasm.detection.contract import read_contract

    contract = read_contract(next(folder.rglob("contract.json")).parent)
    written = json.loads(contract.model_dump_json(by_alias=True))
    assert "tiles" not in written
    tiled = contract.model_copy(update={"tiles": PLAN})
    again = DetectionContract.model_validate_json(tiled.model_dump_json(by_alias=True))
    assert again.tiles == PLAN
