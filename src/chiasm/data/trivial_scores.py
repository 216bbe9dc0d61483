"""Scores that know nothing of defects: what they separate is a shortcut, not a fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from chiasm.data.source import SampleRef
from chiasm.samples import RGBDSample

# Bytes are compared for the sensors' files only; a mask's size gives the label away by design.
_SIZED_ROLES = ("rgb", "xyz", "depth")


def trivial_scores(ref: SampleRef, sample: RGBDSample) -> dict[str, float]:
    """Return one figure by name for each trivial property that the sample has.

    Colours in [0, 1], depth in metres, files in bytes, shares in [0, 1]; a property of a missing
    modality is left out.
    """
    scores = {
        f"size of the {role} file": float(ref.files[role].stat().st_size)
        for role in _SIZED_ROLES
        if role in ref.files and Path(ref.files[role]).is_file()
    }
    scores["number of pixels"] = float(sample.valid.size)
    if sample.rgb is not None:
        scores["mean brightness"] = float(sample.rgb.mean(dtype=np.float64))
        scores["spread of brightness"] = float(sample.rgb.mean(axis=2).std(dtype=np.float64))
        channels = sample.rgb.mean(axis=(0, 1), dtype=np.float64)
        scores |= {f"mean {c}": float(v) for c, v in zip(("red", "green", "blue"), channels)}
    if sample.xyz is not None:
        scores["share of missing points"] = float(1 - sample.valid.mean())
        if sample.valid.any():
            depth = sample.xyz[..., 2][sample.valid]
            scores["mean depth"] = float(depth.mean(dtype=np.float64))
            scores["spread of depth"] = float(depth.std(dtype=np.float64))
    return scores


def shared_names(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of the scores that all samples have, in the order of the first sample."""
    return [name for name in rows[0] if all(name in row for row in rows)] if rows else []
