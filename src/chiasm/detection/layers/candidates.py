"""Names of candidate features, and the pools that cells of a detector choose from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from chiasm.detection.layers.backbones import CHANNELS, DEFAULT_BACKBONE
from chiasm.detection.layers.pretrained_weights import DEEPEST
from chiasm.detection.layers.reconstruction import (
    stage_channels,
    stage_strides,
)
from chiasm.errors import ConfigurationError
from chiasm.fusion.pools import CROSS, Candidate, Pools, joined

MODALITIES = ("rgb", "geometry")

RESIDUAL, RESIDUAL_STRIDE = "residual", 4  # of an input from its restoration

NORMALITY_MAPS = ("residual_fine", "residual_coarse", "distance")  # computed by a memory

# Stages of each scale, from the finest; the last has no decoder's stage.
SCALES = {1: ("E1", "D4"), 2: ("E2", "D3"), 3: ("E3", "D2"), 4: ("E4", "D1"), 5: ("E5",)}
MIDDLE_SCALES = (2, 3)

MEMORY = "memory"  # the evidence that every memory of normals gives

EVIDENCE: Mapping[str, Mapping[str, int]] = {
    # Channels of the maps of each kind, at the stride of a memory; one of ``cross/`` needs all
    # sensors. Those of the memory depend on the backbone, see ``frozen_maps``.
    MEMORY: {},
    "crossmodal": {"cross/mapping_error": 3},
    "scaled_distance": {
        "rgb/scaled_distance": 1,
        "geometry/scaled_distance": 1,
        "cross/scaled_distance": 1,
    },
    "agreement": {"cross/agreement": 2},
    "fpfh": {"geometry/fpfh_distance": 2},
}


def is_required(kind: str, required: Collection[str] | None) -> bool:
    """Whether a kind of evidence has a map that is required; None requires all."""
    return required is None or any(name in required for name in EVIDENCE[kind])


def evidence_maps(kind: str, modalities: Sequence[str]) -> dict[str, int]:
    """Return the channels of the maps that a kind of evidence has of some modalities."""
    sensors = {*modalities, *((CROSS,) if len(modalities) > 1 else ())}
    return {n: count for n, count in EVIDENCE[kind].items() if n.split("/")[0] in sensors}


def chosen_evidence(
    patterns: Sequence[str], modalities: Sequence[str] = MODALITIES
) -> tuple[str, ...]:
    """Return the kinds of evidence that match a pattern, in the order of ``EVIDENCE``.

    A kind that these modalities cannot have is left out where a pattern with ``*`` matches it.

    Raises:
        ConfigurationError: a pattern matches no kind, or names one that these modalities lack.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matching = [kind for kind in EVIDENCE if fnmatchcase(kind, pattern)]
        if not matching:
            raise ConfigurationError(
                f"There is no evidence {pattern!r}; there are {', '.join(EVIDENCE)}."
            )
        available = [k for k in matching if k == MEMORY or evidence_maps(k, modalities)]
        if not available and pattern in EVIDENCE:
            needed = sorted({name.split("/")[0] for name in EVIDENCE[pattern]} - {CROSS})
            raise ConfigurationError(
                f"The evidence {pattern} needs {' and '.join(needed or MODALITIES)}, and the model "
                f"reads {', '.join(modalities)} alone; leave it out, or read both sensors."
            )
        chosen.update(available)
    return tuple(kind for kind in EVIDENCE if kind in chosen)


def cell_stride(channels: Mapping[int, int]) -> int:
    """Return the stride of a memory's cells, of the channels of a backbone's strides."""
    return 8 if 8 in channels else max(channels)


def frozen_maps(channels: Mapping[int, int]) -> dict[str, tuple[int, int]]:
    """Return channels and stride of the maps of ``NormalityFeatures`` per modality.

    Args:
        channels: of the backbone's strides.
    """
    stride = cell_stride(channels)
    fine = sum(count for s, count in channels.items() if s < DEEPEST)
    coarse = sum(channels.values()) - fine
    return {
        "raw": (48, 4),
        **{f"f{s}": (count, s) for s, count in channels.items()},
        **({"residual_fine": (fine, stride)} if fine else {}),
        **({"residual_coarse": (coarse, stride)} if coarse else {}),
        "distance": (2, stride),
    }


FROZEN_JOINED = {  # features and their residuals from normal, as the paper joins E_k and D_(5-k)
    "normality": ("residual_fine", "residual_coarse", "distance"),
    "fine": ("raw", "f4", "residual_fine"),
    "medium": ("f8", "residual_fine", "residual_coarse", "distance"),
    "all": ("raw", "f4", "f8", "f16", "residual_fine", "residual_coarse", "distance"),
}

FROZEN_STAGES = {
    "early": ("raw", "f4", "fine"),
    "middle": ("f8", "normality", "medium"),
    "late": ("f16", "normality", "all"),
}


# EasyNet's layers: stages of one size, several layers, and all that there is.
PAPER_JOINED = {"".join(stages): stages for stages in SCALES.values() if len(stages) > 1} | {
    "layers": ("E1", "D4", "E2", "D3", "E3", "D2"),
    "stages": ("E1", "D4", "E2", "D3", "E3", "D2", "E4", "D1", "E5"),
}


def reconstruction_pools(
    modalities: Sequence[str] = MODALITIES,
    *,
    width: int,
    stem: int = 1,
    joins: bool = True,
    middle_scales: Sequence[int] = MIDDLE_SCALES,
    bottleneck_stride: int | None = None,
    residual: bool = False,
) -> Pools:
    """The paper's pools by scale: early {E1, D4}, middle {E2, D3, E3, D2}, late {E4, D1, E5}.

    The paper does not say whether a candidate is one stage's map or EasyNet's layer, which joins an
    encoder's stage with the decoder's of the same size; the pools hold both. They also hold, of
    each modality, EasyNet's three layers and all maps as one candidate, so that a genotype can read
    whatever a hand-made concatenation reads.

    Args:
        modalities: with a reconstruction branch.
        width, stem: of a branch.
        joins: whether the pools hold the joined candidates.
        middle_scales: in the middle pool; finer ones are early, coarser ones late. The paper's
            Figure 4b compares the first two, 2 and 3, with all, 2 to 4.
        bottleneck_stride: of a branch.
        residual: whether the early pool holds ``residual``, what the restoration changed. It is not
            in the paper.

    Raises:
        ConfigurationError: the scales are not consecutive ones between the first and the last.
    """
    first, last = min(middle_scales, default=0), max(middle_scales, default=0)
    if tuple(middle_scales) != tuple(range(first, last + 1)) or first < 2 or last > 4:
        raise ConfigurationError(
            f"middle_scales is {','.join(map(str, middle_scales))}; it names consecutive scales "
            "from 2 to 4, as in 2,3 or 2,3,4: scale 1 is early and scale 5 late."
        )
    channels = stage_channels(width) | {RESIDUAL: 9 * RESIDUAL_STRIDE**2}
    strides = stage_strides(stem, bottleneck_stride) | {RESIDUAL: RESIDUAL_STRIDE}
    cells = {
        "early": range(1, first),
        "middle": range(first, last + 1),
        "late": range(last + 1, 6),
    }

    def candidate(modality: str, name: str) -> Candidate:
        if name in PAPER_JOINED:
            parts = (candidate(modality, part) for part in PAPER_JOINED[name])
            return joined(f"{modality}/{name}", *parts)
        return Candidate(f"{modality}/{name}", channels[name], strides[name], modality)

    def names(cell: str) -> tuple[str, ...]:
        stages = tuple(stage for scale in cells[cell] for stage in SCALES[scale])
        layers = tuple("".join(SCALES[s]) for s in cells[cell] if len(SCALES[s]) > 1)
        more = ("layers", "stages") if cell == "late" else ()
        changed = (RESIDUAL,) if residual and cell == "early" else ()
        return (*stages, *layers, *more, *changed) if joins else (*stages, *changed)

    return Pools(
        **{
            cell: tuple(
                candidate(modality, name) for modality in modalities for name in names(cell)
            )
            for cell in cells
        }
    )


def frozen_pools(
    modalities: Sequence[str] = MODALITIES,
    *,
    evidence: Sequence[str] = (MEMORY,),
    backbone: str = DEFAULT_BACKBONE,
) -> Pools:
    """Return the pools by scale of raw inputs, frozen features and evidence against normality.

    Args:
        modalities: with a memory of normals.
        evidence: patterns of the names of ``EVIDENCE``.
        backbone: name of the frozen features.

    Raises:
        ConfigurationError: there is no such evidence or backbone.
    """
    if backbone not in CHANNELS:
        raise ConfigurationError(
            f"The fusion of frozen features has no backbone {backbone!r}; there are "
            f"{', '.join(CHANNELS)}."
        )
    kinds = chosen_evidence(evidence, modalities)
    maps = frozen_maps(CHANNELS[backbone])
    if MEMORY not in kinds:
        maps = {name: value for name, value in maps.items() if name not in NORMALITY_MAPS}
    parts = {n: [p for p in names if p in maps] for n, names in FROZEN_JOINED.items()}
    joint = {name: names for name, names in parts.items() if len(names) > 1}

    def candidate(modality: str, name: str) -> Candidate:
        if name in joint:
            return joined(
                f"{modality}/{name}", *(candidate(modality, part) for part in joint[name])
            )
        return Candidate(f"{modality}/{name}", *maps[name], modality)

    stride = cell_stride(CHANNELS[backbone])
    further = [
        Candidate(name, count, stride, name.split("/")[0])
        for kind in kinds
        for name, count in evidence_maps(kind, modalities).items()
    ]
    if len(further) > 1:
        everything = joined(f"{CROSS}/evidence", *further)
        further.append(replace(everything, modality=CROSS))
    return Pools(
        **{
            cell: tuple(
                candidate(m, name)
                for m in modalities
                for name in names
                if name in maps or name in joint
            )
            + (tuple(further) if cell != "early" else ())
            for cell, names in FROZEN_STAGES.items()
        }
    )
