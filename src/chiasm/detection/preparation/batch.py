"""Stack prepared samples into the tensors that detectors take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from chiasm.detection.preparation.geometry import GeometryScale, geometry_picture
from chiasm.errors import DataError
from chiasm.samples import PreparedSample, RGBDBatch


def to_batch(
    samples: Sequence[PreparedSample],
    scale: GeometryScale,
    *,
    modalities: Sequence[str] = ("rgb", "geometry"),
    indices: Sequence[int] | None = None,
    clean: Sequence[PreparedSample] | None = None,
    device: torch.device | None = None,
) -> RGBDBatch:
    """Stack prepared samples of one size into a batch.

    Raises ``DataError`` naming a sample that lacks one of the modalities.

    Args:
        samples: of one size.
        scale: of the geometry picture.
        modalities: that the batch holds.
        indices: numbers of the samples in their dataset.
        clean: the same parts without their synthetic anomalies, for a network that restores them.
        device: of the tensors; None is the processor.
    """

    def stack(arrays: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays).astype(np.float32, copy=False)).to(device)

    rgb = geometry = xyz = valid = clean_rgb = clean_geometry = None
    if "rgb" in modalities:
        for sample in samples:
            if sample.rgb is None:
                raise DataError(
                    f"{sample.source} has no RGB image, which this model was trained with."
                )
        rgb = stack([s.rgb for s in samples if s.rgb is not None]).permute(0, 3, 1, 2)
    if "geometry" in modalities:
        pictures = [geometry_picture(s, scale) for s in samples]
        geometry = stack(pictures).permute(0, 3, 1, 2)
        xyz = stack([s.xyz for s in samples if s.xyz is not None]).permute(0, 3, 1, 2)
        valid = stack([s.valid for s in samples])[:, None]
    if clean is not None and rgb is not None:
        clean_rgb = stack([s.rgb for s in clean if s.rgb is not None]).permute(0, 3, 1, 2)
    if clean is not None and geometry is not None:
        # A part without an anomaly shares its arrays with its clean self, and so its picture.
        clean_pictures = [
            picture if part.xyz is sample.xyz else geometry_picture(part, scale)
            for sample, picture, part in zip(samples, pictures, clean, strict=True)
        ]
        clean_geometry = stack(clean_pictures).permute(0, 3, 1, 2)
    return RGBDBatch(
        rgb=rgb,
        geometry=geometry,
        foreground=stack([s.foreground for s in samples])[:, None],
        mask=stack(
            [s.mask if s.mask is not None else np.zeros_like(s.foreground) for s in samples]
        )[:, None],
        index=torch.tensor(
            list(indices) if indices is not None else [-1] * len(samples), device=device
        ),
        xyz=xyz,
        valid=valid,
        clean_rgb=clean_rgb,
        clean_geometry=clean_geometry,
    )
