"""Evidence is fitted on what it may see: other draws of anomalies, and other owners' normals."""

from __future__ import annotations

import torch

from chiasm.detection.evidence import scaled_distance
from chiasm.detection.evidence.evidence import Evidence
from chiasm.detection.evidence.scaled_distance import ScaledDistance
from chiasm.detection.layers.backbones import FrozenEfficientNetLite
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.training import fit_evidence as module
from chiasm.detection.training.fit_evidence import FIRST_EPOCH, _drawn, fit_evidence
from chiasm.detection.training.fit_memory import fit_memory
from chiasm.detection.training.synthetic import SyntheticParts


class Recorder(Evidence):
    """Records what it is shown."""

    sensors = ("rgb",)

    def __init__(self, learns_from: str) -> None:
        super().__init__()
        self.learns_from = learns_from  # type: ignore[misc]
        self.cells, self.owners, self.masks, self.finished = [], [], [], 0

    def partial_fit(self, cells, batch, chosen):
        self.cells.append(chosen)
        self.owners += batch.index.tolist()
        self.masks.append(batch.mask)

    def finish_fit(self, *, seed):
        self.finished += 1


def source(parts, scale, evidence):
    torch.manual_seed(0)
    backbone = FrozenEfficientNetLite(pretrained=False)
    memory = NormalMemory(channels=backbone.channels, memory_entries=500)
    features = NormalityFeatures(
        backbone=backbone, memories={"rgb": memory}, evidence=evidence
    ).eval()
    fit_memory(features, parts, scale=scale, owners=[0, 0, 2, 3, 3])
    return features


def synthetic(parts, square):
    return SyntheticParts(parts[2:], numbers=[2, 3, 4], generator=square, seed=0, owners=[2, 3, 3])


def fit(features, parts, scale, square):
    fit_evidence(
        features,
        parts,
        owners=[0, 0, 2, 3, 3],
        synthetic=synthetic(parts, square),
        scale=scale,
        seed=0,
    )


def test_normals_are_shown_once_and_anomalies_are_of_the_given_parts(
    parts, scale, square, monkeypatch
):
    monkeypatch.setattr(module, "SYNTHETIC_PARTS", 8)
    shown, at = [], SyntheticParts.at
    monkeypatch.setattr(SyntheticParts, "at", lambda *key: shown.append(key[1:]) or at(*key))
    kinds = {"agreement": Recorder("normals"), "scaled_distance": Recorder("anomalies")}
    fit(source(parts, scale, kinds), parts, scale, square)
    normals, anomalies = kinds.values()
    assert normals.owners == [0, 0, 2, 3, 3]
    assert not torch.cat(normals.masks).any()
    assert anomalies.owners == [2, 3, 3] * 3
    assert torch.cat(anomalies.masks).any()
    assert (normals.finished, anomalies.finished) == (1, 1)
    # The network is trained with other draws of them: those of the first epochs.
    assert {epoch for epoch, _ in shown} == {FIRST_EPOCH, FIRST_EPOCH + 1, FIRST_EPOCH + 2}


def test_no_more_cells_of_a_part_are_drawn_than_asked_and_none_that_is_not_marked():
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(5, 6, 6, generator=generator) < 0.4
    inside[0] = False
    drawn = _drawn(inside, 7, generator)
    assert (drawn <= inside).all()
    assert drawn.sum((1, 2)).tolist() == inside.sum((1, 2)).clamp(max=7).tolist()
    assert torch.equal(_drawn(inside, 36, generator), inside)


def test_a_repeated_fit_is_the_same_to_the_bit(parts, scale, square, monkeypatch):
    monkeypatch.setattr(module, "SYNTHETIC_PARTS", 24)
    monkeypatch.setattr(scaled_distance, "_STEPS", 5)
    states = []
    for _ in range(2):
        evidence = ScaledDistance(
            channels=FrozenEfficientNetLite(pretrained=False).channels,
            sensors=("rgb",),
            hidden=8,
        )
        features = source(parts, scale, {"scaled_distance": evidence})
        fit(features, parts, scale, square)
        states.append(features.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(p.requires_grad for p in features.evidence.parameters())
