"""Which features of a recording may be fused, and in which cell: the pools, as data."""

from __future__ import annotations

from collections.abc import Sequence

from chiasm.classifiers.classifier import MODALITIES
from chiasm.fusion.pools import Candidate, Pools

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
