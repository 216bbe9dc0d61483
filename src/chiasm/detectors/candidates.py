"""Which features may be fused, and in which cell: the pools of the detectors, as data."""

from __future__ import annotations

from collections.abc import Sequence

from chiasm.detectors.features import MODALITIES
from chiasm.detectors.reconstruction import stage_channels, stage_strides
from chiasm.fusion.pools import Candidate, Pools, joined

PAPER_STAGES = {
    "early": ("E1", "D4"),
    "middle": ("E2", "D3", "E3", "D2"),
    "late": ("E4", "D1", "E5"),
}
LIGHT_MAPS = {  # channels and stride of what the light source makes per sensor
    "raw": (48, 4),
    "f4": (24, 4),
    "f8": (40, 8),
    "f16": (112, 16),
    "residual_fine": (64, 8),
    "residual_coarse": (112, 8),
    "distance": (2, 8),
}
LIGHT_JOINED = {  # what is there and what is not normal in it, as the paper joins E_k and D_(5-k)
    "normality": ("residual_fine", "residual_coarse", "distance"),
    "fine": ("raw", "f4", "residual_fine"),
    "medium": ("f8", "residual_fine", "residual_coarse", "distance"),
    "all": ("raw", "f4", "f8", "f16", "residual_fine", "residual_coarse", "distance"),
}
LIGHT_CANDIDATES = {
    "early": ("raw", "f4", "fine"),
    "middle": ("f8", "normality", "medium"),
    "late": ("f16", "normality", "all"),
}


def reconstruction_pools(
    *, width: int, stem: int = 1, modalities: Sequence[str] = MODALITIES
) -> Pools:
    """The paper's pools by scale: early {E1, D4}, middle {E2, D3, E3, D2}, late {E4, D1, E5}."""
    channels, strides = stage_channels(width), stage_strides(stem)
    return Pools(
        **{
            cell: tuple(
                Candidate(f"{modality}/{stage}", channels[stage], strides[stage], modality)
                for modality in modalities
                for stage in stages
            )
            for cell, stages in PAPER_STAGES.items()
        }
    )


def light_pools(*, modalities: Sequence[str] = MODALITIES) -> Pools:
    """The light pools: raw inputs, frozen features and what is not normal in them, by scale."""

    def candidate(modality: str, name: str) -> Candidate:
        if name in LIGHT_JOINED:
            parts = (candidate(modality, part) for part in LIGHT_JOINED[name])
            return joined(f"{modality}/{name}", *parts)
        return Candidate(f"{modality}/{name}", *LIGHT_MAPS[name], modality)

    return Pools(
        **{
            cell: tuple(candidate(m, name) for m in modalities for name in names)
            for cell, names in LIGHT_CANDIDATES.items()
        }
    )
