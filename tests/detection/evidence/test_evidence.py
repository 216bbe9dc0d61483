"""Evidence: what is learnt from whom, parity with loops, and what is computed and kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from chiasm.deploy.detection_graph import detector_graph
from chiasm.detection.config import DetectionConfig
from chiasm.detection.evidence import crossmodal, scaled_distance
from chiasm.detection.evidence.crossmodal import CrossmodalError
from chiasm.detection.evidence.evidence import Agreement, SensorCells, fold_of
from chiasm.detection.evidence.scaled_distance import ScaledDistance, Scaling
from chiasm.detection.layers.backbones import CHANNELS, make_backbone
from chiasm.detection.layers.candidates import (
    EVIDENCE,
    cell_stride,
    chosen_evidence,
    evidence_maps,
    frozen_pools,
)
from chiasm.detection.layers.features import (
    RELATIVE_DISTANCE,
    NormalityFeatures,
    distances_from_normal,
)
from chiasm.detection.layers.normality import Normality, NormalMemory
from chiasm.detection.models.adnas import adnas_light
from chiasm.detection.score_rule import choose_score_rule, score_rule_in_words
from chiasm.detection.training.feature_store import StoredBatch
from chiasm.errors import ConfigurationError, DataError
from chiasm.fusion.finalists import random_architecture, reads
from chiasm.fusion.genotype import CellGenotype, Genotype, NodeGenotype
from chiasm.fusion.pools import CROSS
from chiasm.samples import RGBDBatch

SENSORS = ("rgb", "geometry")
GROUPS = {4: 2, 8: 3}
SIDE = 4  # cells
EXPORTABLE = ("memory", "crossmodal", "scaled_distance", "agreement")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(
    count: int = 5, size: int = 64, index: list[int] | None = None, seed: int = 1
) -> RGBDBatch:
    """Random pictures of a square object, with points on a bumpy surface."""
    generator = draw(seed)
    foreground = torch.zeros(count, 1, size, size)
    foreground[:, :, 8:-8, 8:-8] = 1
    colours = torch.rand(count, 3, size, size, generator=generator) * foreground
    row, column = torch.meshgrid(*[torch.linspace(-0.05, 0.05, size)] * 2, indexing="ij")
    height = 0.5 + 0.002 * torch.rand(count, size, size, generator=generator)
    xyz = torch.stack([column.expand_as(height), row.expand_as(height), height], dim=1)
    mask = torch.zeros_like(foreground)
    mask[:, :, 16:48, 16:48] = 1
    return RGBDBatch(
        colours,
        colours.flip(1),
        foreground,
        mask,
        None if index is None else torch.tensor(index),
        xyz * foreground,
        foreground.clone(),
    )


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learnt does not matter here."""
    monkeypatch.setattr(crossmodal, "_STEPS", 3)
    monkeypatch.setattr(scaled_distance, "_STEPS", 3)


def light(evidence: tuple[str, ...], fusion: object = "concatenation", **settings: object):
    """A detector with fitted memories and evidence of random pictures."""
    torch.manual_seed(0)
    detector = adnas_light(fusion, image_size=64, evidence=evidence, pretrained=False, **settings)
    batch = pictures(index=[0, 1, 2, 3, 4])
    source = detector.source
    inside = F.adaptive_max_pool2d(batch.foreground, 64 // source.cell_stride)[:, 0] > 0
    with torch.no_grad():
        for modality, memory in source.memories.items():
            image = batch.rgb if modality == "rgb" else batch.geometry
            rows = memory.describe(source.backbone(image)).permute(0, 2, 3, 1)[inside]
            memory.fit(rows, torch.arange(5).repeat_interleave(len(rows) // 5))
        for kind in source.evidence.values():
            kind.start_fit(source.memories)
            kind.partial_fit(source.cells(batch), batch, inside)
            kind.finish_fit(seed=0)
    return detector.eval()


def cells_of(rgb: torch.Tensor, geometry: torch.Tensor) -> dict[str, SensorCells]:
    return {"rgb": SensorCells({}, rgb), "geometry": SensorCells({}, geometry)}


def batch_of(count: int, index: list[int] | None = None, side: int = SIDE) -> RGBDBatch:
    whole = torch.ones(count, 1, side, side)
    return RGBDBatch(None, None, whole, index=None if index is None else torch.tensor(index))


@pytest.mark.parametrize("name", CHANNELS)
def test_the_channels_of_a_backbone_are_known_before_it_is_built(name: str):
    with torch.device("meta"):
        assert make_backbone(name, pretrained=False).channels == CHANNELS[name]


@pytest.mark.parametrize("modalities", [SENSORS, ("rgb",), ("geometry",)])
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "dinov2_vits14_stride16"])
def test_maps_have_the_channels_and_strides_that_the_pools_say(modalities, backbone, few_steps):
    detector = light(("*",), modalities=modalities, backbone=backbone)
    expected = frozen_pools(modalities, evidence=("*",), backbone=backbone).maps()
    maps = detector.source(pictures(seed=2)).maps
    assert set(maps) == set(expected)
    for name, value in maps.items():
        assert value.shape[1:2] == (expected[name].channels,), name
        assert 64 // value.shape[-1] == expected[name].stride, name
    kinds = chosen_evidence(("*",), modalities)
    outside = F.adaptive_max_pool2d(pictures().foreground, 64 // detector.source.cell_stride) == 0
    for name in {n for k in kinds for n in evidence_maps(k, modalities)}:
        assert not (maps[name] * outside).any(), f"{name} is not 0 off the object"
        assert maps[name].any() and maps[name].isfinite().all()


def test_todays_evidence_is_the_memory_alone():
    assert frozen_pools() == frozen_pools(evidence=("memory",))
    assert not [name for name in frozen_pools().features if name.startswith("cross/")]
    plain = {n.split("/")[1] for n in frozen_pools(evidence=()).features}
    assert plain == {"raw", "f4", "f8", "f16", "fine", "all"}


def test_a_kind_that_the_sensors_cannot_have_is_refused_by_name_and_left_out_by_pattern():
    assert chosen_evidence(("*",), ("rgb",)) == ("memory", "scaled_distance")
    assert chosen_evidence(("fpfh", "memory")) == ("memory", "fpfh")
    with pytest.raises(ConfigurationError, match="crossmodal needs rgb and geometry"):
        chosen_evidence(("crossmodal",), ("geometry",))
    with pytest.raises(ConfigurationError, match="fpfh needs geometry"):
        chosen_evidence(("fpfh",), ("rgb",))
    with pytest.raises(ConfigurationError, match="there are memory, crossmodal"):
        chosen_evidence(("sonar",))


def test_a_feature_of_both_sensors_counts_as_both():
    pools = frozen_pools(evidence=("memory", "crossmodal"))
    assert pools.sensors == set(SENSORS)
    node = (NodeGenotype(("x", "y"), "addition"),)
    alone = Genotype(cells={"late": CellGenotype(("rgb/f16", "rgb/f16"), node)}, output="late")
    crossed = Genotype(
        cells={"late": CellGenotype(("rgb/f16", "cross/mapping_error"), node)}, output="late"
    )
    assert reads(crossed, SENSORS) and not reads(alone, SENSORS)


def test_only_what_is_required_is_computed(monkeypatch, few_steps):
    source = light(EXPORTABLE).source
    computed = []
    for name, kind in source.evidence.items():
        forward = kind.forward
        monkeypatch.setattr(
            kind, "forward", lambda *a, n=name, f=forward: computed.append(n) or f(*a)
        )
    features = source(pictures(), frozenset({"cross/agreement", "rgb/f8"}))
    assert set(features.maps) == {"cross/agreement", "rgb/f8"}
    assert computed == ["agreement"]


@pytest.mark.parametrize("name", ["cross/mapping_error", "cross/agreement", "rgb/scaled_distance"])
def test_a_pruned_detector_gives_the_same_maps_and_can_be_stored(name: str, few_steps):
    node = (NodeGenotype(("x", "y"), "addition"),)
    genotype = Genotype(
        cells={"middle": CellGenotype(("geometry/f8", name), node)}, output="middle"
    )
    detector, batch = light(EXPORTABLE, genotype), pictures()
    shared = detector.source
    with torch.no_grad():
        expected = detector.scores(detector(batch), batch.foreground)
        detector.prune()
        pruned = detector.scores(detector(batch), batch.foreground)
    torch.testing.assert_close(pruned, expected)
    kept = {n for k in detector.source.evidence for n in EVIDENCE[k]}
    assert name in kept and len(detector.source.evidence) == 1
    assert len(shared.evidence) == len(EXPORTABLE) - 1  # other detectors of a run share it
    memories = {"cross/mapping_error": set(), "rgb/scaled_distance": {"rgb"}}
    assert set(detector.source.memories) == memories.get(name, set(SENSORS))
    torch.manual_seed(9)
    read = adnas_light(genotype, image_size=64, evidence=EXPORTABLE, pretrained=False)
    read.restore({k: v.clone() for k, v in detector.state_dict().items()})
    with torch.no_grad():
        restored = read.eval().scores(read(batch), batch.foreground)
    torch.testing.assert_close(restored, expected)


@dataclass
class Judged:
    """Parts that a score rule is chosen on."""

    config: DetectionConfig
    batches: list[StoredBatch]

    def loader(self, purpose: str) -> list[StoredBatch]:
        assert purpose == "validate"
        return self.batches


def stored(source: NormalityFeatures, defective: str | None) -> StoredBatch:
    """Store features of random pictures; anomalous are the highest cells of a map."""
    batch = pictures(index=[-1] * 5, seed=3)
    with torch.no_grad():
        features = source(batch)
    mask = torch.zeros_like(batch.foreground)
    if defective is not None:
        distance = F.interpolate(distances_from_normal(features)[defective], size=(64, 64))
        mask = (distance > distance[batch.foreground > 0].quantile(0.9)).float()
    return StoredBatch(features, batch.foreground, mask * batch.foreground)


WEIGHED = ["cross/scaled_distance", "geometry/scaled_distance", "cross/mapping_error"]


@pytest.mark.parametrize("name", [*WEIGHED, RELATIVE_DISTANCE])
def test_the_score_weighs_the_distance_that_tells_anomalies(name: str, few_steps, tmp_path):
    node = (NodeGenotype(("x", "y"), "addition"),)
    cell = CellGenotype(("rgb/f8", "geometry/f8"), node)
    genotype = Genotype(cells={"middle": cell}, output="middle")
    kinds = {"score_evidence": ("crossmodal", "scaled_distance")}
    settings = {"data": tmp_path, "out": tmp_path, **kinds}
    detector, batch = light(("memory",), genotype, **kinds), pictures()
    batches = [stored(detector.source, name)]
    bounded = Judged(DetectionConfig(search={"budget_ms": 5}, **settings), batches)
    alone = choose_score_rule(detector, bounded)  # the fusion reads no memory, so neither may it
    assert float(detector.normality_weight) == 0
    free = Judged(DetectionConfig(**settings), batches)
    assert choose_score_rule(detector, free) > alone + 0.1
    assert detector.score_distance == name and float(detector.normality_weight) > 0
    unasked = Judged(DetectionConfig(data=tmp_path, out=tmp_path / "unasked"), batches)
    (tmp_path / "unasked").mkdir()
    choose_score_rule(detector, unasked)  # a model could not be built with what was not asked for
    assert detector.score_distance == RELATIVE_DISTANCE
    choose_score_rule(detector, free)
    record = json.loads((tmp_path / "score_rule.json").read_text())
    assert record["chosen"]["distance"] == name
    assert set(record["pixel_ap"]) == {"head", *distances_from_normal(batches[0].features)}
    assert name.removeprefix("mean ") in score_rule_in_words(detector)
    with torch.no_grad():
        expected = detector.scores(detector(batch), batch.foreground)
        detector.prune()
        torch.testing.assert_close(detector.scores(detector(batch), batch.foreground), expected)
    assert len(detector.source.evidence) == (name != RELATIVE_DISTANCE)
    read = adnas_light(genotype, image_size=64, score_distance=name, pretrained=False, **kinds)
    read.restore({k: v.clone() for k, v in detector.state_dict().items()})
    with torch.no_grad():
        restored = read.eval().scores(read(batch), batch.foreground)
    torch.testing.assert_close(restored, expected)


def test_an_exported_graph_has_the_same_maps(few_steps):
    detector, batch = light(EXPORTABLE), pictures(index=[-1] * 5, seed=2)
    detector.set_score_rule(head=1.0, normality=0.5)
    detector.prune()
    graph = detector_graph(detector, modalities=SENSORS, calibration=[0.1, 0.2], rank=1)
    with torch.no_grad():
        expected = detector.scores(detector(batch), batch.foreground)
        maps = graph(batch.rgb, batch.geometry, batch.foreground)[0]
        evidence = graph.detector.source(batch).maps
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)
    for name, value in detector.source(batch).maps.items():
        torch.testing.assert_close(evidence[name], value, atol=1e-4, rtol=1e-3)


def test_evidence_outside_of_a_graph_cannot_be_exported_unless_it_is_not_read(few_steps):
    node = (NodeGenotype(("x", "y"), "addition"),)
    for name, refused in (("geometry/fpfh_distance", True), ("geometry/f8", False)):
        genotype = Genotype(cells={"middle": CellGenotype(("rgb/f8", name), node)}, output="middle")
        detector = light(("memory", "fpfh"), genotype)
        detector.prune()
        assert (detector.export_obstacle is not None) is refused
        if refused:
            with pytest.raises(ConfigurationError, match="fpfh is computed from points"):
                detector_graph(detector, modalities=SENSORS, calibration=[0.1], rank=1)


def test_agreement_is_standardised_on_normals_and_is_the_lesser_and_the_mean():
    generator = draw()
    relative = torch.rand(2, 6, 1, SIDE, SIDE, generator=generator).exp() * torch.tensor(
        [1.0, 30.0]
    ).view(2, 1, 1, 1, 1)

    def compared(values: torch.Tensor) -> dict[str, SensorCells]:
        return {
            sensor: SensorCells({}, value, Normality(value, value, value))
            for sensor, value in zip(SENSORS, values)
        }

    agreement = Agreement(sensors=SENSORS)
    everywhere = torch.ones(6, SIDE, SIDE, dtype=torch.bool)
    agreement.partial_fit(compared(relative), batch_of(6), everywhere)
    agreement.finish_fit(seed=0)
    standard = np.log(relative.numpy() + 1e-3)
    axes = (1, 2, 3, 4)
    standard = (standard - standard.mean(axes, keepdims=True)) / standard.std(
        axes, ddof=1, keepdims=True
    )
    maps = agreement(compared(relative), batch_of(6))["cross/agreement"].numpy()
    np.testing.assert_allclose(maps[:, :1], standard.min(axis=0), atol=1e-4)
    np.testing.assert_allclose(maps[:, 1:], standard.mean(axis=0), atol=1e-4)


def predictable(parts: int, seed: int = 0, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptors of parts: geometry follows from colours, up to a shift that each part has."""
    rgb = torch.randn(parts, 5, side, side, generator=draw(seed))
    own = 0.5 * torch.randn(parts, 5, 1, 1, generator=draw(seed + 1))
    return rgb, torch.tanh(rgb.roll(1, dims=1) * 2) + own


@pytest.fixture
def some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for descriptors of five values."""
    monkeypatch.setattr(crossmodal, "_STEPS", 120)
    monkeypatch.setattr(scaled_distance, "_STEPS", 120)


def fitted(rgb: torch.Tensor, geometry: torch.Tensor, owners: list[int]) -> CrossmodalError:
    evidence = CrossmodalError(channels=GROUPS, hidden=16)
    everywhere = torch.ones(len(rgb), *rgb.shape[-2:], dtype=torch.bool)
    evidence.partial_fit(cells_of(rgb, geometry), batch_of(len(rgb), owners), everywhere)
    evidence.finish_fit(seed=0)
    return evidence


@torch.no_grad()
def test_a_part_is_measured_by_mappings_that_its_owner_did_not_train(some_steps):
    rgb, geometry = predictable(6)
    owners = [0, 0, 3, 4, 7, 9]  # the first two are copies of one part
    before = fitted(rgb, geometry, owners)
    changed = geometry.clone()
    changed[:2] = changed[:2].flip(2)  # other pairs of the same values
    after = fitted(rgb, changed, owners)
    numbers = fold_of(torch.tensor([0, 3]), before.owners, len(before.folds))
    assert numbers[0] != numbers[1]
    assert fold_of(torch.tensor([5, -1]), before.owners, 4).tolist() == [-1, -1]
    for kept, number in ((True, int(numbers[0])), (False, int(numbers[1]))):
        one, other = (e.folds[number].state_dict().values() for e in (before, after))
        same = all(torch.allclose(a, b, atol=1e-3) for a, b in zip(one, other))
        assert same is kept


@torch.no_grad()
def test_held_out_errors_are_those_of_new_parts_and_own_errors_are_too_small(some_steps):
    rgb, geometry = predictable(24, side=2)
    owners = list(range(24))
    evidence = fitted(rgb, geometry, owners)
    known, new = cells_of(rgb, geometry), cells_of(*predictable(200, seed=500, side=2))
    maps = {
        "own": evidence(known, batch_of(24, side=2)),
        "held out": evidence(known, batch_of(24, owners, side=2)),
        "new": evidence(new, batch_of(200, [-1] * 200, side=2)),
    }
    error = {name: float(m["cross/mapping_error"][:, :2].mean()) for name, m in maps.items()}
    assert error["own"] < error["held out"]
    assert abs(error["held out"] - error["new"]) < error["held out"] - error["own"]
    product = maps["new"]["cross/mapping_error"]
    torch.testing.assert_close(product[:, 2], product[:, 0] * product[:, 1])
    alone = evidence.for_prediction(())
    assert not len(alone.folds) and len(evidence.folds)
    assert torch.equal(alone(new, batch_of(200, side=2))["cross/mapping_error"], product)


@torch.no_grad()
def test_one_owner_is_measured_by_its_own_mappings(some_steps):
    evidence = fitted(*predictable(2), owners=[5, 5])
    assert not len(evidence.folds)
    assert evidence(cells_of(*predictable(2)), batch_of(2, [5, 5]))["cross/mapping_error"].any()


@torch.no_grad()
def test_an_untrained_scaled_distance_is_euclidean():
    scaling = Scaling((2, 3))
    residual, normal = torch.randn(2, 7, 5, generator=draw())
    torch.testing.assert_close(scaling(residual, normal), residual.norm(dim=1))


@torch.no_grad()
def test_a_scaled_distance_learns_which_direction_counts_near_which_normal():
    def rows(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = draw(seed)
        kind = torch.rand(3000, generator=generator) < 0.5  # of normal, two clusters
        anomalous = torch.rand(3000, generator=generator) < 0.5
        residual = torch.randn(3000, 5, generator=generator) * torch.tensor([1, 1, 0.2, 0.2, 0.2])
        # Normals vary along the first direction near one cluster, along the second near the other.
        residual[:, 0] *= torch.where(kind ^ anomalous, 1.0, 0.2)
        residual[:, 1] *= torch.where(kind ^ anomalous, 0.2, 1.0)
        normal = torch.where(kind, 1.0, -1.0)[:, None] * torch.tensor([0.0, 0, 0, 0.5, 0.5])
        return residual, normal, anomalous

    torch.manual_seed(0)
    scaling = Scaling((2, 3), hidden=16)
    scaling.fit(*rows(0), seed=0)
    residual, normal, anomalous = rows(1)
    euclidean = roc_auc_score(anomalous, residual.norm(dim=1))
    scaled = roc_auc_score(anomalous, scaling(residual, normal))
    assert euclidean < 0.6 < 0.8 < scaled


@torch.no_grad()
def test_cells_at_the_rim_of_an_anomaly_teach_nothing(few_steps):
    memory = NormalMemory(channels=GROUPS, memory_entries=50)
    memory.fit(torch.randn(40, 5, generator=draw()), torch.arange(40))
    features = torch.randn(4, 5, SIDE, SIDE, generator=draw(1))
    values = Normality(features, *[features[:, :1].abs()] * 2)
    cells = {"rgb": SensorCells({}, features, values)}

    def learnt(rim: float) -> dict[str, torch.Tensor]:
        mask = torch.zeros(4, 1, SIDE * 8, SIDE * 8)
        mask[:, :, :16, :16] = 1
        mask[:, :, 16:17, : int(8 * rim)] = 1  # an eighth of a cell at most
        whole = torch.ones_like(mask)
        evidence = ScaledDistance(channels=GROUPS, sensors=("rgb",), hidden=4)
        evidence.start_fit({"rgb": memory})
        chosen = torch.ones(4, SIDE, SIDE, dtype=torch.bool)
        chosen[:, 2, 0] = rim > 0
        batch = RGBDBatch(None, None, whole, mask, torch.arange(4))
        evidence.partial_fit(cells, batch, chosen)
        evidence.finish_fit(seed=0)
        return evidence.state_dict()

    without, rim = learnt(0), learnt(1)
    assert all(torch.equal(without[name], rim[name]) for name in without)


@torch.no_grad()
def test_anomalies_are_measured_by_networks_that_did_not_learn_from_their_part(some_steps):
    # Labels are chance: whatever is told apart is known by heart.
    features = torch.randn(8, 5, SIDE, SIDE, generator=draw(3))
    values = Normality(features, *[features[:, :1].abs()] * 2)
    cells = {"rgb": SensorCells({}, features, values)}
    mask = (torch.rand(8, 1, SIDE, SIDE, generator=draw(4)) < 0.5).float()
    batch = RGBDBatch(None, None, torch.ones_like(mask), mask, torch.arange(8))
    evidence = ScaledDistance(channels=GROUPS, sensors=("rgb",))
    evidence.partial_fit(cells, batch, torch.ones(8, SIDE, SIDE, dtype=torch.bool))
    evidence.finish_fit(seed=0)
    rank = {}
    for name, index in (("own", None), ("held out", batch.index)):
        shown = evidence(cells, replace(batch, index=index))["rgb/scaled_distance"]
        rank[name] = roc_auc_score(mask.flatten(), shown.flatten())
    assert abs(rank["held out"] - 0.5) < 0.5 * (rank["own"] - 0.5)
    bare = evidence.for_prediction(("rgb/scaled_distance",))
    assert set(bare(cells, batch)) == {"rgb/scaled_distance"}
    assert torch.equal(
        bare(cells, batch)["rgb/scaled_distance"],
        evidence(cells, replace(batch, index=None))["rgb/scaled_distance"],
    )


def test_without_anomalous_cells_there_is_nothing_to_learn():
    evidence = ScaledDistance(channels=GROUPS, sensors=("rgb",))
    with pytest.raises(DataError, match="leave scaled_distance out"):
        evidence.finish_fit(seed=0)


def test_a_repeated_fit_is_the_same_fit(few_steps):
    states = [light(EXPORTABLE).source.evidence.state_dict() for _ in range(2)]
    torch.manual_seed(5)
    states.append(light(EXPORTABLE).source.evidence.state_dict())
    for one, other in pairwise(states):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_random_architectures_of_all_evidence_fit_the_pools():
    pools = frozen_pools(evidence=("*",))
    assert all(cell_stride(c) in (8, 16) for c in CHANNELS.values())
    drawn = [random_architecture(pools, seed=seed) for seed in range(30)]
    assert all(reads(genotype, SENSORS) for genotype in drawn)
    assert any(name.startswith(f"{CROSS}/") for g in drawn for name in g.required)
