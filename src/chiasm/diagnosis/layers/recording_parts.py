"""The layers that required features of recordings depend on, and the pools of all features."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from chiasm.diagnosis.classifier import MODALITIES
from chiasm.diagnosis.layers.coupling_flow import FLOWS, Flow, IdentityFlow, check_flow
from chiasm.diagnosis.layers.expert_encoder import EncoderLayer, Gate
from chiasm.diagnosis.layers.feature_dependencies import dependencies
from chiasm.diagnosis.layers.heads import ClassHead
from chiasm.diagnosis.layers.phase_stages import PhaseStages
from chiasm.diagnosis.layers.recording_features import RecordingFeatures
from chiasm.diagnosis.layers.tokens import TokenInputs, token_inputs
from chiasm.errors import ConfigurationError
from chiasm.fusion.pools import Candidate, Pools

HEADS = 8


def recording_features(
    required: Collection[str],
    *,
    pools_channels: Mapping[str, int],
    channels: Mapping[str, int],
    classes: int,
    width: int,
    flow_hidden: int,
    expert_hidden: int,
    stem: int,
    stages: Sequence[int],
    flow: Flow,
    gate: Gate,
    experts: int,
    segment: int,
    image_size: int,
    series_length: int,
    cycle: int,
    size: int,
) -> RecordingFeatures:
    """Build the layers of the required features.

    Args:
        required: names of features of ``recording_pools``.
        pools_channels: feature to its channels.
        channels: modality, one or both, to the channels of its recordings.

    Raises:
        ConfigurationError: another flow than ``"coupling"`` or ``"identity"``, or another modality.
    """
    check_flow(flow)
    if not set(channels) <= set(MODALITIES):
        raise ConfigurationError(f"modalities must be among {MODALITIES}, not {tuple(channels)}.")
    needed = dependencies(required, modalities=tuple(channels), stages=len(stages))
    inputs: TokenInputs | None = None
    if needed.tokens:
        inputs = token_inputs(
            needed.tokens,
            width=width,
            segment=segment,
            channels=channels.get("series", 1),
            image_size=image_size,
            series_length=series_length,
        )
    return RecordingFeatures(
        modalities=tuple(channels),
        channels=pools_channels,
        inputs=inputs,
        flows={
            m: FLOWS[m](width=width, hidden=flow_hidden) if flow == "coupling" else IdentityFlow()
            for m in needed.flows
        },
        layers=[
            EncoderLayer(width=width, heads=HEADS, hidden=expert_hidden, experts=experts, gate=gate)
            for _ in range(needed.layers)
        ],
        norm=nn.LayerNorm(width) if needed.token_mean else None,
        stages={
            m: PhaseStages(channels[m], stem=stem, widths=stages[:count])
            for m, count in needed.stages.items()
        },
        token_heads={m: ClassHead(width=width, classes=classes) for m in needed.token_heads},
        stage_heads={m: ClassHead(width=stages[-1], classes=classes) for m in needed.stage_heads},
        cycle=cycle,
        size=size,
    )


# By fusion cell: features of the tokens and of the convolutional stages of each modality.
CANDIDATES = {
    "early": ("embedding", "flow", "stage1", "stage2"),
    "middle": ("layer1", "layer2", "layer3", "layer4", "stage3"),
    "late": ("token_mean", "token_class", "stage_mean", "stage_class"),
}


def recording_pools(
    *,
    width: int,
    stages: Sequence[int],
    classes: int,
    modalities: Sequence[str] = MODALITIES,
) -> Pools:
    """Return the candidate features of each fusion cell.

    Early: embeddings, flows, fine stages; middle: layers, coarse stage; late: means, classes.

    Args:
        width: D of the tokens.
        stages: channels of the convolutional stages.
        classes: number of classes.
        modalities: of the features.
    """
    channels = {
        **{f"stage{k}": number for k, number in enumerate(stages, start=1)},
        "stage_mean": stages[-1],
        "token_class": classes,
        "stage_class": classes,
    }
    strides = {f"stage{k}": 2 ** (k + 1) for k in range(1, len(stages) + 1)}
    return Pools(
        **{
            cell: tuple(
                Candidate(f"{m}/{name}", channels.get(name, width), strides.get(name, 16), m)
                for m in modalities
                for name in names
            )
            for cell, names in CANDIDATES.items()
        }
    )
