"""The parts that required features of recordings stand on, and no others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from chiasm.diagnosis.classifier import MODALITIES
from chiasm.diagnosis.layers.coupling_flow import IdentityFlow, image_flow, signal_flow
from chiasm.diagnosis.layers.expert_encoder import EncoderLayer, Gate
from chiasm.diagnosis.layers.heads import ClassHead
from chiasm.diagnosis.layers.phase_stages import PhaseStages
from chiasm.diagnosis.layers.recording_features import RecordingFeatures
from chiasm.diagnosis.layers.tokens import TokenInputs, token_inputs
from chiasm.errors import ConfigurationError
from chiasm.fusion.pools import Candidate, Pools

Flow = Literal["coupling", "identity"]

DEPTH = 4

HEADS = 8


@dataclass(frozen=True, slots=True)
class Needs:
    """What some features stand on.

    Attributes:
        tokens, flows: modalities whose tokens are made and mapped.
        layers: of the encoder.
        averaged: whether tokens are averaged after the last layer.
        stages: modality to how many convolutional stages; those without any are left out.
        token_heads, stage_heads: modalities with classes of their own.
    """

    tokens: tuple[str, ...]
    flows: tuple[str, ...]
    layers: int
    averaged: bool
    stages: Mapping[str, int]
    token_heads: tuple[str, ...]
    stage_heads: tuple[str, ...]


def needs(required: Collection[str], *, modalities: Sequence[str], stages: int) -> Needs:
    """Find out what features of ``recording_pools`` stand on.

    Layers see the tokens of all modalities, so that one layer needs everything below it.

    >>> needs(["image/stage2", "series/flow"], modalities=["image", "series"], stages=3).stages
    {'image': 2}
    """
    own = {m: {r.split("/")[1] for r in required if r.split("/")[0] == m} for m in modalities}
    every = set().union(*own.values())
    averaged = any(name.startswith("token_") for name in every)
    layers = DEPTH if averaged else _deepest("layer", every)
    flows = tuple(m for m in modalities if layers or "flow" in own[m])
    deep = {
        m: stages if own[m] & {"stage_mean", "stage_class"} else _deepest("stage", own[m])
        for m in modalities
    }
    return Needs(
        tokens=tuple(m for m in modalities if m in flows or "embedding" in own[m]),
        flows=flows,
        layers=layers,
        averaged=averaged,
        stages={m: count for m, count in deep.items() if count},
        token_heads=tuple(m for m in modalities if "token_class" in own[m]),
        stage_heads=tuple(m for m in modalities if "stage_class" in own[m]),
    )


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
    """The source of the required features.

    Args:
        required: names of features of ``recording_pools``.
        pools_channels: channels of every feature.
        channels: modality to the channels of what is recorded; both modalities or one.

    Raises:
        ConfigurationError: another flow than ``"coupling"`` or ``"identity"``, or another modality.
    """
    if flow not in ("coupling", "identity") or not set(channels) <= set(MODALITIES):
        raise ConfigurationError(
            f"flow must be 'coupling' or 'identity' and modalities among {MODALITIES}, "
            f"not {flow!r} and {tuple(channels)}."
        )
    asked = needs(required, modalities=tuple(channels), stages=len(stages))
    makers = {"image": (image_flow, 3), "series": (signal_flow, 5)}
    inputs: TokenInputs | None = None
    if asked.tokens:
        inputs = token_inputs(
            asked.tokens,
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
            m: makers[m][0](width=width, hidden=flow_hidden, couplings=makers[m][1])
            if flow == "coupling"
            else IdentityFlow()
            for m in asked.flows
        },
        layers=[
            EncoderLayer(width=width, heads=HEADS, hidden=expert_hidden, experts=experts, gate=gate)
            for _ in range(asked.layers)
        ],
        norm=nn.LayerNorm(width) if asked.averaged else None,
        stages={
            m: PhaseStages(channels[m], stem=stem, widths=stages[:count])
            for m, count in asked.stages.items()
        },
        token_heads={m: ClassHead(width=width, classes=classes) for m in asked.token_heads},
        stage_heads={m: ClassHead(width=stages[-1], classes=classes) for m in asked.stage_heads},
        cycle=cycle,
        size=size,
    )


def _deepest(kind: str, names: Collection[str]) -> int:
    """The highest number of a kind of features, e.g. 3 for ``layer3``; 0 without any."""
    numbers = (name.removeprefix(kind) for name in names)
    return max((int(number) for number in numbers if number.isdigit()), default=0)


# By cell: features of the tokens and of the convolutional stages, of each modality.
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
    """Early: embeddings, flows, fine stages; middle: layers, coarse stage; late: pooled, classes.

    Args:
        width: D of the tokens.
        stages: channels of the convolutional stages.
        classes: number of classes.
        modalities: whose features.
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
