"""The layers that candidate features of recordings depend on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

DEPTH = 4  # of the encoder


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The layers that some features depend on.

    Attributes:
        tokens, flows: modalities that need an embedding, and a flow.
        layers: number of encoder layers.
        token_mean: whether tokens are averaged after the last layer.
        stages: modality to the number of convolutional stages, if there are any.
        token_heads, stage_heads: modalities that need a head on the tokens, and on the last stage.
    """

    tokens: tuple[str, ...]
    flows: tuple[str, ...]
    layers: int
    token_mean: bool
    stages: Mapping[str, int]
    token_heads: tuple[str, ...]
    stage_heads: tuple[str, ...]


def dependencies(
    required: Collection[str], *, modalities: Sequence[str], stages: int
) -> Dependencies:
    """Return the layers that features of ``recording_pools`` depend on.

    An encoder layer sees the tokens of all modalities, so that it depends on all flows.

    >>> both = ["image", "series"]
    >>> dependencies(["image/stage2", "series/flow"], modalities=both, stages=3).stages
    {'image': 2}
    """
    names = {m: {r.split("/")[1] for r in required if r.split("/")[0] == m} for m in modalities}
    all_names = set[str]().union(*names.values())
    token_mean = any(name.startswith("token_") for name in all_names)
    layers = DEPTH if token_mean else _deepest("layer", all_names)
    flows = tuple(m for m in modalities if layers or "flow" in names[m])
    depths = {
        m: stages if names[m] & {"stage_mean", "stage_class"} else _deepest("stage", names[m])
        for m in modalities
    }
    return Dependencies(
        tokens=tuple(m for m in modalities if m in flows or "embedding" in names[m]),
        flows=flows,
        layers=layers,
        token_mean=token_mean,
        stages={m: depth for m, depth in depths.items() if depth},
        token_heads=tuple(m for m in modalities if "token_class" in names[m]),
        stage_heads=tuple(m for m in modalities if "stage_class" in names[m]),
    )


def _deepest(kind: str, names: Collection[str]) -> int:
    """Return the highest number of a kind of features, e.g. 3 for ``layer3``; 0 without any."""
    numbers = (name.removeprefix(kind) for name in names)
    return max((int(number) for number in numbers if number.isdigit()), default=0)
