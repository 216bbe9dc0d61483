"""Every registered detector, and the parts they are made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from chiasm.detection.building import builder_arguments, pools_of
from chiasm.detection.config import DetectionConfig
from chiasm.detection.layers.backbones import FrozenEfficientNetLite
from chiasm.detection.layers.candidates import MODALITIES, reconstruction_pools
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.layers.reconstruction import ReconstructionBranch, stage_strides
from chiasm.detection.layers.segmentation import dice_loss, focal_loss, structural_dissimilarity
from chiasm.detection.models.adnas import SLIM_BRANCH, AdnasDetector, adnas_light, adnas_slim
from chiasm.detection.models.cost import cost_of, typical_cost
from chiasm.detection.models.easynet import LAYERS
from chiasm.errors import ConfigurationError
from chiasm.fusion.finalists import random_architecture
from chiasm.fusion.genotype import CellGenotype, Genotype, NodeGenotype, random_genotype
from chiasm.registry import find_model, models
from chiasm.samples import RGBDBatch

SMALL = ("adnas_light", "adnas_slim")


def config(model, modalities=("rgb", "geometry")):
    return DetectionConfig.make(model=model, modalities=modalities, data="parts", out="run")


def batch(size=64, count=2):
    torch.manual_seed(0)
    foreground = torch.zeros(count, 1, size, size)
    foreground[:, :, 8:-8, 8:-8] = 1
    pictures = torch.rand(count, 3, size, size) * foreground
    return RGBDBatch(pictures, pictures.flip(1), foreground, torch.zeros_like(foreground))


def build(name, modalities=("rgb", "geometry"), seed=0, genotype=None):
    genotype = genotype or random_genotype(pools_of(config(name, modalities)), seed=seed)
    torch.manual_seed(seed)
    settings = config(name, modalities).model_copy(update={"image_size": 64})
    detector = find_model(name).builder(genotype, **builder_arguments(settings))
    if name == "adnas_light":
        inputs = batch()
        for modality, memory in detector.source.memories.items():
            picture = inputs.rgb if modality == "rgb" else inputs.geometry
            described = memory.describe(detector.source.backbone(picture))
            flat = described.permute(0, 2, 3, 1).reshape(-1, memory.dimension)
            memory.fit(flat, torch.arange(2).repeat_interleave(len(flat) // 2))
    return detector.eval()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("modalities", [("rgb", "geometry"), ("rgb",), ("geometry",)])
def test_maps_have_the_inputs_shape_and_are_zero_away_from_the_object(name, modalities):
    detector, inputs = build(name, modalities), batch()
    with torch.no_grad():
        maps = detector.scores(detector(inputs), inputs.foreground)
    assert maps.shape == (2, 1, 64, 64)
    assert (maps >= 0).all()
    assert (maps[:, :, :4] == 0).all()
    assert detector.image_scores(None, maps, inputs.foreground).shape == (2,)


@pytest.mark.parametrize("name", SMALL)
def test_scores_do_not_depend_on_the_batch(name):
    detector, inputs = build(name), batch()
    single = RGBDBatch(inputs.rgb[:1], inputs.geometry[:1], inputs.foreground[:1])
    with torch.no_grad():
        both = detector.scores(detector(inputs), inputs.foreground)
        alone = detector.scores(detector(single), single.foreground)
    torch.testing.assert_close(both[:1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_pruned_detector_gives_the_same_maps(seed):
    detector, inputs = build("adnas_slim", seed=seed), batch()
    before = sum(p.numel() for p in detector.parameters())
    with torch.no_grad():
        expected = detector(inputs).logits
        detector.prune()
        torch.testing.assert_close(detector(inputs).logits, expected)
    assert sum(p.numel() for p in detector.parameters()) < before


def test_the_paper_branch_has_the_papers_size():
    branch = ReconstructionBranch()
    assert sum(p.numel() for p in branch.parameters()) == 69_048_579
    encoder = [p for n, p in branch.named_parameters() if n.startswith("stages.E")]
    assert sum(p.numel() for p in encoder) == 37_622_400


@pytest.mark.parametrize(("stem", "stride"), [(1, None), (2, None), (2, 16), (4, 16)])
def test_maps_have_the_strides_that_the_pools_say(stem, stride):
    branch = ReconstructionBranch(width=2, stem=stem, bottleneck_stride=stride)
    maps, restored = branch(torch.rand(1, 3, 128, 128))
    strides = stage_strides(stem, stride)
    assert {name: 128 // value.shape[-1] for name, value in maps.items()} == strides
    assert strides["E5"] == (stride or 16 * stem)
    assert restored.shape == (1, 3, 128, 128)


def test_a_bottleneck_of_another_stride_has_the_same_weights():
    wide, narrow = (ReconstructionBranch(width=2, stem=2, bottleneck_stride=s) for s in (16, 32))
    shapes = [{k: v.shape for k, v in b.state_dict().items()} for b in (wide, narrow)]
    assert shapes[0] == shapes[1]


def slim_with_residual(fusion: object = "concatenation") -> AdnasDetector:
    torch.manual_seed(0)
    return adnas_slim(fusion, image_size=64, residual=True, bottleneck_stride=16)


def test_the_residual_is_what_the_restoration_changed():
    detector, inputs = slim_with_residual().eval(), batch()
    features = detector.source(inputs)
    restored = features.reconstructions["rgb"]
    joint = F.pixel_shuffle(features.maps["rgb/residual"], 4)
    torch.testing.assert_close(joint[:, :3], inputs.rgb)
    torch.testing.assert_close(joint[:, 3:6], restored)
    torch.testing.assert_close(joint[:, 6:], (inputs.rgb - restored).abs())


def test_no_gradient_reaches_a_branch_through_the_residual():
    detector = slim_with_residual()
    features = detector.source(batch())
    assert not features.maps["rgb/residual"].requires_grad
    assert features.maps["rgb/D4"].requires_grad
    assert "rgb/residual" not in detector.source(batch(), frozenset({"rgb/E1"})).maps


def test_a_detector_that_reads_the_residual_keeps_the_restoration():
    pools = reconstruction_pools(**SLIM_BRANCH, bottleneck_stride=16, residual=True)
    for residual in (True, False):
        genotype = next(
            g
            for g in (random_architecture(pools, nodes=1, seed=s) for s in range(200))
            if ("rgb/residual" in g.required) is residual and "rgb/E1" in g.required
        )
        detector, inputs = slim_with_residual(genotype).eval(), batch()
        with torch.no_grad():
            expected = detector(inputs).logits
            detector.prune()
            torch.testing.assert_close(detector(inputs).logits, expected)
        assert ("R" in detector.source.branches["rgb"].stages) is residual


def test_the_published_network_has_no_residual_and_the_small_one_has():
    names = {
        model: {candidate.name for candidate in pools_of(config(model)).early}
        for model in ("adnas_paper", "adnas_slim")
    }
    assert "rgb/residual" in names["adnas_slim"]
    assert "rgb/residual" not in names["adnas_paper"]


def test_a_memory_finds_the_nearest_as_a_loop_does():
    torch.manual_seed(0)
    memory = NormalMemory(channels={4: 2, 8: 3}, memory_entries=50)
    memory.fit(torch.randn(40, 5), torch.arange(40) // 4)
    query = memory.bank[:7] + 0.05 * torch.randn(7, 5)
    distance, number = memory._nearest(query, None, count=3)
    expected = torch.cdist(query, memory.bank).topk(3, largest=False)
    torch.testing.assert_close(distance, expected.values, atol=1e-4, rtol=1e-3)
    assert torch.equal(number, expected.indices)


def test_a_part_is_not_compared_with_itself():
    torch.manual_seed(0)
    memory = NormalMemory(channels={4: 2, 8: 3})
    memory.fit(torch.randn(40, 5), torch.arange(40) // 4)
    distance, number = memory._nearest(memory.bank, memory.owner, count=1)
    assert (distance > 0).all()
    assert (memory.owner[number[:, 0]] != memory.owner).all()


def test_folding_batch_norm_changes_nothing():
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(0)
    backbone = FrozenEfficientNetLite()
    x = torch.rand(1, 3, 64, 64)
    assert {s: f.shape[1] for s, f in backbone(x).items()} == backbone.channels
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone.train().training
    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    assert len(reference._blocks) > len(backbone.blocks)


def test_backbone_stops_at_the_deepest_stride_asked_for():
    features = FrozenEfficientNetLite(pretrained=False)(torch.rand(1, 3, 64, 64), deepest=8)
    assert set(features) == {4, 8}


def test_losses_fall_when_the_answer_gets_better():
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:5, 2:5] = 1
    wrong = torch.cat([mask, 1 - mask], dim=1) * 6
    right = torch.cat([1 - mask, mask], dim=1) * 6
    assert focal_loss(right, mask) < focal_loss(torch.zeros_like(right), mask)
    assert focal_loss(torch.zeros_like(right), mask) < focal_loss(wrong, mask)
    assert dice_loss(right, mask) < 0.1 < 0.9 < dice_loss(wrong, mask)


def test_focal_loss_equals_its_definition():
    torch.manual_seed(0)
    logits, mask = torch.randn(1, 2, 4, 4), (torch.rand(1, 1, 4, 4) > 0.5).float()
    p = logits.softmax(1)
    pt = torch.where(mask[:, 0] > 0, p[:, 1], p[:, 0])
    torch.testing.assert_close(focal_loss(logits, mask), (-((1 - pt) ** 2) * pt.log()).mean())


def test_an_image_is_not_dissimilar_to_itself():
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(structural_dissimilarity(image, image), torch.tensor(0.0))
    assert structural_dissimilarity(image, torch.rand_like(image)) > 0.5


def test_unknown_models_are_answered_with_the_known_ones():
    assert {"adnas_light", "adnas_paper", "adnas_slim"} <= {m.name for m in models("detector")}
    with pytest.raises(ConfigurationError, match="adnas_light"):
        find_model("adnas_heavy")


def test_four_samples_can_be_learnt_by_heart():
    torch.manual_seed(0)
    detector = find_model("adnas_slim").builder("concatenation", image_size=64)
    inputs = batch(count=4)
    mask = torch.zeros(4, 1, 16, 16)
    for i in range(4):
        mask[i, :, 2 + 2 * i : 5 + 2 * i, 4:9] = 1
    optimiser = torch.optim.Adam(detector.parameters(), 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = dice_loss(detector(inputs).logits, mask)
        loss.backward()
        optimiser.step()
    assert loss < 0.2


def test_light_features_are_frozen():
    detector = adnas_light("concatenation", image_size=64)
    trained = {n.split(".")[0] for n, p in detector.named_parameters() if p.requires_grad}
    assert trained == {"fusion", "head"}


def test_a_light_detector_leaves_out_what_neither_fusion_nor_score_needs():
    pools = pools_of(config("adnas_light"))
    node = (NodeGenotype(("x", "y"), "addition"),)
    cells = {
        "early": CellGenotype(("rgb/raw", "rgb/f4"), node),
        "late": CellGenotype(("cell:early", "rgb/f16"), node),
    }
    names = {cell: pools.candidates(cell) for cell in pools.present}
    rgb_only = Genotype(cells=cells, output="late", pools=names)
    torch.manual_seed(0)
    detector, inputs = build("adnas_light", genotype=rgb_only), batch()
    with torch.no_grad():
        detector.set_score_rule(head=1.0, normality=0.0)
        expected = detector.scores(detector(inputs), inputs.foreground)
        before = cost_of(detector, inputs)
        detector.prune()
        pruned = detector.scores(detector(inputs), inputs.foreground)
    torch.testing.assert_close(pruned, expected)
    assert detector.source.modalities == ("rgb",)
    assert len(detector.source.memories) == 0
    assert cost_of(detector, inputs).macs < 0.6 * before.macs


def test_a_score_rule_with_normality_keeps_every_memory():
    detector = build("adnas_light")
    detector.set_score_rule(head=1.0, normality=0.5)
    detector.prune()
    assert set(detector.source.memories) == {"rgb", "geometry"}


def test_macs_of_the_paper_detector_lie_where_the_arithmetic_puts_them():
    before, after = typical_cost("adnas_paper")
    assert 342e9 < before.macs < 445e9  # two branches of 159.9 GMAC, fusion and head
    assert after.macs < before.macs
    assert 138.4e6 < before.parameters < 139.2e6


def test_a_genotype_can_read_what_a_concatenation_reads():
    for name in ("adnas_slim", "adnas_paper"):
        pools = pools_of(config(name))
        node = (NodeGenotype(("x", "y"), "concatenation"),)
        read = {}
        for candidate in ("layers", "stages"):
            cell = CellGenotype((f"rgb/{candidate}", f"geometry/{candidate}"), node)
            genotype = Genotype(cells={"late": cell}, output="late")
            genotype.validate(pools)
            with torch.device("meta"):
                detector = find_model(name).builder(genotype, image_size=64)
            read[candidate] = detector.fusion.required
        with torch.device("meta"):
            hand_made = find_model(name).builder("concatenation", image_size=64)
        assert read["stages"] == hand_made.fusion.required  # all nine stages of both branches
        assert read["layers"] == {f"{m}/{s}" for m in MODALITIES for pair in LAYERS for s in pair}


def test_a_layer_joins_an_encoders_stage_with_the_decoders_of_its_size():
    features = pools_of(config("adnas_paper")).features
    for k in range(1, 5):
        for modality in MODALITIES:
            layer = features[f"{modality}/E{k}D{5 - k}"]
            assert [part.name for part in layer.maps] == [
                f"{modality}/E{k}",
                f"{modality}/D{5 - k}",
            ]
            assert {part.stride for part in layer.maps} == {2 ** (k - 1)} == {layer.stride}
    assert [features[f"rgb/E{k}D{5 - k}"].channels for k in (1, 2, 3)] == [256, 384, 768]


def test_a_detector_of_joined_candidates_keeps_the_stages_they_need():
    node = (NodeGenotype(("x", "y"), "addition"),)
    genotype = Genotype(
        cells={"early": CellGenotype(("rgb/E1D4", "geometry/E1"), node)}, output="early"
    )
    detector, inputs = build("adnas_slim", genotype=genotype), batch()
    with torch.no_grad():
        expected = detector(inputs).logits
        detector.prune()
        torch.testing.assert_close(detector(inputs).logits, expected)
    assert set(detector.source.branches["geometry"].stages) == {"E1"}
    assert "D4" in detector.source.branches["rgb"].stages


def test_maps_are_hidden_one_by_one_and_in_training_alone():
    detector, inputs = build("adnas_light"), batch()
    features = detector.source(inputs)
    detector.map_dropout = 0.5
    seen: list[dict[str, torch.Tensor]] = []
    detector.fusion.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    detector.eval().fuse(features)
    detector.train().fuse(features)
    assert all(torch.equal(seen[0][name], value) for name, value in features.maps.items())
    hidden = []
    for name, value in features.maps.items():
        for kept, whole in zip(seen[1][name], value):
            hidden.append(bool((kept == 0).all()))
            assert hidden[-1] or torch.equal(kept, whole)
    assert 0.2 < sum(hidden) / len(hidden) < 0.8
