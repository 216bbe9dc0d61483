"""Candidate features of recordings as maps of one size: MAD's tokens, convolutional stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.diagnosis.classifier import GateStatistics, present_modalities
from chiasm.diagnosis.layers.coupling_flow import CouplingFlow, IdentityFlow, flow_nll
from chiasm.diagnosis.layers.expert_encoder import EncoderLayer, gate_statistics
from chiasm.diagnosis.layers.heads import ClassHead
from chiasm.diagnosis.layers.phase_stages import PhaseStages, fold_cycles
from chiasm.diagnosis.layers.tokens import TokenInputs
from chiasm.samples import RecordingBatch


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
                noisy = tokens.detach() + self.noise * torch.randn_like(tokens)
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
