"""Candidate features of a recording as maps of one size: MAD's tokens and convolutional stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.diagnosis.classifier import GateStatistics
from chiasm.diagnosis.layers.coupling_flow import CouplingFlow, IdentityFlow, flow_nll
from chiasm.diagnosis.layers.expert_encoder import EncoderLayer, gate_statistics
from chiasm.diagnosis.layers.heads import ClassHead
from chiasm.diagnosis.layers.phase_stages import PhaseStages, folded_cycles
from chiasm.diagnosis.layers.tokens import TokenInputs
from chiasm.errors import DataError
from chiasm.samples import RecordingBatch


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """Candidate features of a batch, and what lies behind them; absent modalities are left out.

    Attributes:
        maps: feature to ``(N, C, S, S)``, pooled ones to ``(N, C, 1, 1)``; an absent modality's
            are zeros.
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
    """Makes the candidates of ``recording_pools``, as far as it was given the parts for them.

    All maps are laid out alike, so that cells fuse what belongs together: columns are phases of
    the mains, rows amplitudes of a picture and times of a series. Tokens of a picture lie as their
    patches do; those of a series, each of one or several whole cycles, are rows that are alike in
    all columns. Maps are averaged to S x S here, for a resize afterwards would pass over most of
    a fine map.

    Args:
        modalities: what it looks at.
        channels: feature to its channels, e.g. ``{"image/stage1": 24}``; of an absent modality,
            zeros are made.
        inputs: what makes the tokens of the modalities whose tokens are asked for; None of none.
        flows: modality to the flow over its tokens.
        layers: shared by all modalities, whose tokens attend to each other as in MAD.
        norm: of the tokens before they are averaged; None where they are not.
        stages: modality to its convolutional stages.
        token_heads, stage_heads: modality to the classes by its averaged tokens and last stage.
        cycle: values of the series to a mains cycle.
        size: S.
        noise: standard deviation added to the tokens whose likelihood the flow is trained on.

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
        """Make the required features of a batch; ``density`` as in ``Mad``.

        Raises:
            DataError: none of the modalities is present, or one has the wrong shape.
        """
        there = {m: getattr(batch, m) for m in self.modalities}
        there = {m: x for m, x in there.items() if x is not None}
        if not there:
            raise DataError(
                f"The recording has nothing that this classifier looks at: {self.modalities}."
            )
        found = FeatureMaps()
        self._embed(batch, density, found)
        self._attend(found)
        for name, stages in self.stages.items():
            if name in there:
                picture = there[name]
                if name == "series":
                    picture = folded_cycles(picture, cycle=self.cycle)
                self._convolve(name, stages(picture), found)
        some = next(iter(there.values()))
        for name in required:
            if name not in found.maps:
                found.maps[name] = some.new_zeros(len(some), self.channels[name], 1, 1)
        return found

    def _embed(self, batch: RecordingBatch, density: bool, found: FeatureMaps) -> None:
        inputs = {m: getattr(batch, m) for m in self.inputs or ()}
        for name, values in inputs.items():
            if values is None:
                continue
            assert self.inputs is not None
            tokens = self.inputs[name](values)
            found.embedded[name] = tokens
            found.maps[f"{name}/embedding"] = self._laid_out(name, tokens)
            if name not in self.flows:
                continue
            flow = self.flows[name]
            aligned, log_det = flow(tokens)
            found.aligned[name], found.log_det[name] = aligned, log_det
            found.maps[f"{name}/flow"] = self._laid_out(name, aligned)
            if not self.training:
                found.flow_nll[name] = flow_nll(aligned, log_det)
            elif density:
                noisy = tokens.detach() + self.noise * torch.randn_like(tokens)
                found.flow_nll[name] = flow_nll(*flow(noisy))

    def _attend(self, found: FeatureMaps) -> None:
        if not self.layers or not found.aligned:
            return
        names, lengths = list(found.aligned), [t.shape[1] for t in found.aligned.values()]
        joint = torch.cat(list(found.aligned.values()), dim=1)  # (N, sum of T_m, D)
        gates = []
        for number, layer in enumerate(self.layers, start=1):
            joint, gate = layer(joint)
            gates.append(gate)
            for name, tokens in zip(names, joint.split(lengths, dim=1)):
                found.maps[f"{name}/layer{number}"] = self._laid_out(name, tokens)
        by_modality = zip(*(gate.split(lengths, dim=1) for gate in gates))
        found.gates.update({n: gate_statistics(torch.stack(g)) for n, g in zip(names, by_modality)})
        if self.norm is None:
            return
        for name, tokens in zip(names, self.norm(joint).split(lengths, dim=1)):
            mean = tokens.mean(dim=1)
            found.maps[f"{name}/token_mean"] = mean[:, :, None, None]
            if name in self.token_heads:
                found.maps[f"{name}/token_class"] = self.token_heads[name](mean)[:, :, None, None]

    def _convolve(self, name: str, outputs: Sequence[Tensor], found: FeatureMaps) -> None:
        for number, value in enumerate(outputs, start=1):
            found.maps[f"{name}/stage{number}"] = F.adaptive_avg_pool2d(value, self.size)
        mean = outputs[-1].mean(dim=(2, 3))
        found.maps[f"{name}/stage_mean"] = mean[:, :, None, None]
        if name in self.stage_heads:
            found.maps[f"{name}/stage_class"] = self.stage_heads[name](mean)[:, :, None, None]

    def _laid_out(self, name: str, tokens: Tensor) -> Tensor:
        """Tokens ``(N, T, D)`` as a map ``(N, D, S, S)``: a grid of patches, or times as rows."""
        channels_first = tokens.transpose(1, 2)
        if name == "image":
            side = round(tokens.shape[1] ** 0.5)
            return F.adaptive_avg_pool2d(channels_first.unflatten(2, (side, side)), self.size)
        rows = F.adaptive_avg_pool1d(channels_first, self.size)  # (N, D, S)
        return rows[..., None].expand(-1, -1, -1, self.size)
