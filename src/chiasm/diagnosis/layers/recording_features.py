"""Candidate features of recordings as maps of one size: MAD's tokens, convolutional stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.diagnosis.classifier import GateStatistics, present_modalities
from chiasm.diagnosis.layers.coupling_flow import CouplingFlow, IdentityFlow, flow_nll
from chiasm.diagnosis.layers.expert_encoder import EncoderLayer, gate_statistics
from chiasm.diagnosis.layers.feature_dependencies import dependencies
from chiasm.diagnosis.layers.heads import ClassHead
from chiasm.diagnosis.layers.phase_stages import PhaseStages, fold_cycles
from chiasm.diagnosis.layers.tokens import TokenInputs
from chiasm.fusion.evidence_units import Called, EvidenceUnit
from chiasm.samples import RecordingBatch
from chiasm.training.ranks import noise_like


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """Candidate features of a batch, with the intermediate results of the present modalities.

    Attributes:
        maps: feature to ``(N, C, S, S)``, pooled ones to ``(N, C, 1, 1)``; zeros for an absent
            modality.
        embedded, aligned: modality to tokens ``(N, T_m, D)`` before and after its flow.
        log_det, flow_nll: modality to ``(N,)``, as in ``ClassifierOutput``.
        gates: use of the experts.
    """

    maps: dict[str, Tensor] = field(default_factory=dict)
    embedded: dict[str, Tensor] = field(default_factory=dict)
    aligned: dict[str, Tensor] = field(default_factory=dict)
    log_det: dict[str, Tensor] = field(default_factory=dict)
    flow_nll: dict[str, Tensor] = field(default_factory=dict)
    gates: dict[str, GateStatistics] = field(default_factory=dict)


class RecordingFeatures(nn.Module):
    """Computes the features of ``recording_pools`` for which it has the layers.

    All maps have the same axes, so that cells fuse corresponding values: columns are phases of the
    mains, rows are amplitudes of a picture and times of a series. Tokens of a picture keep the
    grid of their patches; a token of a series, one or several whole cycles long, is a constant
    row. Maps are averaged to S x S here, because a later resize would skip most of a fine map.

    Args:
        modalities: of the classifier.
        channels: feature to its channels, e.g. ``{"image/stage1": 24}``.
        inputs: embeddings of the modalities whose tokens are needed; None without any.
        flows: modality to the flow over its tokens.
        layers: shared by all modalities, whose tokens attend to each other as in MAD.
        norm: of the tokens before they are averaged; None if they are not averaged.
        stages: modality to its convolutional stages.
        token_heads, stage_heads: modality to the head on its averaged tokens and on its last stage.
        cycle: values of the series per mains cycle.
        size: S.
        noise: standard deviation of the noise added to the tokens that train the flow.

    References:
        MAD, Section 3; Yin et al., BM-NAS, AAAI 2022 (features brought to one shape).
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        channels: Mapping[str, int],
        inputs: TokenInputs | None,
        flows: Mapping[str, CouplingFlow | IdentityFlow],
        layers: Sequence[EncoderLayer],
        norm: nn.LayerNorm | None,
        stages: Mapping[str, PhaseStages],
        token_heads: Mapping[str, ClassHead],
        stage_heads: Mapping[str, ClassHead],
        cycle: int,
        size: int,
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.channels = dict(channels)
        self.inputs = inputs
        self.flows = nn.ModuleDict(flows)
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.stages = nn.ModuleDict(stages)
        self.token_heads = nn.ModuleDict(token_heads)
        self.stage_heads = nn.ModuleDict(stage_heads)
        self.cycle = cycle
        self.size = size
        self.noise = noise

    def forward(
        self, batch: RecordingBatch, required: Collection[str], *, density: bool = True
    ) -> FeatureMaps:
        """Compute the required features of a batch; ``density`` as in ``Mad``.

        Raises:
            DataError: none of the modalities is present, or one has the wrong shape.
        """
        present = present_modalities(batch, self.modalities)
        features = FeatureMaps()
        self._embed(present, density, features)
        self._attend(features)
        for name, stages in self.stages.items():
            if name in present:
                picture = present[name]
                if name == "series":
                    picture = fold_cycles(picture, cycle=self.cycle)
                self._convolve(name, stages(picture), features)
        template = next(iter(present.values()))
        for name in required:
            if name not in features.maps:
                features.maps[name] = template.new_zeros(len(template), self.channels[name], 1, 1)
        return features

    def units(self, required: Collection[str]) -> tuple[str, ...]:
        """Return the names of what has to be computed for some features, each once.

        ``image/flow`` is the flow over the tokens of ``image/embedding``; ``layer2`` a layer of the
        encoder, which sees the tokens of every modality with a flow; ``tokens`` what reads them
        after the last layer; ``series/stage2`` the convolutional stages up to the second.
        """
        deepest = max((stages.depth for stages in self._stages().values()), default=0)
        needed = dependencies(required, modalities=self.modalities, stages=deepest)
        names = [f"{m}/embedding" for m in needed.tokens] + [f"{m}/flow" for m in needed.flows]
        names += [f"layer{number}" for number in range(1, needed.layers + 1)]
        names += ["tokens"] if needed.token_mean else []
        for modality, count in needed.stages.items():
            names += [f"{modality}/stage{number}" for number in range(1, count + 1)]
        return tuple(names)

    def _stages(self) -> dict[str, PhaseStages]:
        # torch types the values of a ModuleDict as plain modules.
        return cast(dict[str, PhaseStages], dict(self.stages.items()))

    @torch.no_grad()
    def evidence_units(self, batch: RecordingBatch) -> list[EvidenceUnit]:
        """Return the units as networks of their own, with inputs of a batch of all modalities."""
        present = present_modalities(batch, self.modalities)
        units: list[EvidenceUnit] = []
        aligned = []
        for name, embedding in (self.inputs or {}).items():
            units.append(EvidenceUnit(f"{name}/embedding", embedding, (present[name],)))
            if name in self.flows:
                tokens = embedding(present[name])
                flow = Called(self.flows[name], lambda flow, value: flow(value)[0])
                units.append(EvidenceUnit(f"{name}/flow", flow, (tokens,)))
                aligned.append(self.flows[name](tokens)[0])
        if self.layers and aligned:
            joint = torch.cat(aligned, dim=1)
            attend = [Called(layer, lambda layer, value: layer(value)[0]) for layer in self.layers]
            units += [EvidenceUnit(f"layer{n}", a, (joint,)) for n, a in enumerate(attend, start=1)]
            if self.norm is not None:
                mean = Called(self.norm, lambda norm, value: norm(value).mean(dim=1))
                units.append(EvidenceUnit("tokens", mean, (joint,)))
        for name, stages in self._stages().items():
            series = name == "series"
            picture = fold_cycles(present[name], cycle=self.cycle) if series else present[name]
            for number in range(1, stages.depth + 1):
                within = f"{name}/stage{number - 1}" if number > 1 else None
                network = Called(stages, partial(_up_to, number))
                units.append(EvidenceUnit(f"{name}/stage{number}", network, (picture,), within))
        return units

    def _embed(self, present: Mapping[str, Tensor], density: bool, features: FeatureMaps) -> None:
        for name, embedding in (self.inputs or {}).items():
            if name not in present:
                continue
            tokens = embedding(present[name])
            features.embedded[name] = tokens
            features.maps[f"{name}/embedding"] = self._as_map(name, tokens)
            if name not in self.flows:
                continue
            flow = self.flows[name]
            aligned, log_det = flow(tokens)
            features.aligned[name], features.log_det[name] = aligned, log_det
            features.maps[f"{name}/flow"] = self._as_map(name, aligned)
            if not self.training:
                features.flow_nll[name] = flow_nll(aligned, log_det)
            elif density:
                noisy = tokens.detach() + self.noise * noise_like(tokens)
                features.flow_nll[name] = flow_nll(*flow(noisy))

    def _attend(self, features: FeatureMaps) -> None:
        if not self.layers or not features.aligned:
            return
        names, lengths = list(features.aligned), [t.shape[1] for t in features.aligned.values()]
        joint = torch.cat(list(features.aligned.values()), dim=1)  # (N, sum of T_m, D)
        gates = []
        for number, layer in enumerate(self.layers, start=1):
            joint, gate = layer(joint)
            gates.append(gate)
            for name, tokens in zip(names, joint.split(lengths, dim=1)):
                features.maps[f"{name}/layer{number}"] = self._as_map(name, tokens)
        by_modality = zip(*(gate.split(lengths, dim=1) for gate in gates))
        features.gates.update(
            {n: gate_statistics(torch.stack(g)) for n, g in zip(names, by_modality)}
        )
        if self.norm is None:
            return
        for name, tokens in zip(names, self.norm(joint).split(lengths, dim=1)):
            mean = tokens.mean(dim=1)
            features.maps[f"{name}/token_mean"] = mean[:, :, None, None]
            if name in self.token_heads:
                features.maps[f"{name}/token_class"] = self.token_heads[name](mean)[
                    :, :, None, None
                ]

    def _convolve(self, name: str, outputs: Sequence[Tensor], features: FeatureMaps) -> None:
        for number, value in enumerate(outputs, start=1):
            features.maps[f"{name}/stage{number}"] = F.adaptive_avg_pool2d(value, self.size)
        mean = outputs[-1].mean(dim=(2, 3))
        features.maps[f"{name}/stage_mean"] = mean[:, :, None, None]
        if name in self.stage_heads:
            features.maps[f"{name}/stage_class"] = self.stage_heads[name](mean)[:, :, None, None]

    def _as_map(self, name: str, tokens: Tensor) -> Tensor:
        """Arrange tokens ``(N, T, D)`` as a map ``(N, D, S, S)``: patches, or times as rows."""
        channels_first = tokens.transpose(1, 2)
        if name == "image":
            side = round(tokens.shape[1] ** 0.5)
            return F.adaptive_avg_pool2d(channels_first.unflatten(2, (side, side)), self.size)
        rows = F.adaptive_avg_pool1d(channels_first, self.size)  # (N, D, S)
        return rows[..., None].expand(-1, -1, -1, self.size)


def _up_to(number: int, stages: nn.Module, picture: Tensor) -> Tensor:
    """Run the convolutional stages up to a number."""
    out: Tensor = stages(picture)[number - 1]
    return out
