"""The figures as torchmetrics, for training loops: update, compute, reset, reduced over processes.

Thin: the arithmetic is that of the functions beside this file. Not imported by ``chiasm.metrics``
itself, which works without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from chiasm.errors import DataError
from chiasm.metrics.overlap_curve import DEFAULT_LIMITS, checked_limits
from chiasm.metrics.ranking import auroc, average_precision
from chiasm.metrics.streaming_overlap import StreamingAupro, overlap_from_histograms


class RegionOverlap(Metric):
    """AUPRO over batches, by ``StreamingAupro``; its histograms add up over processes.

    Args:
        limits: false positive rates in (0, 1].
        bins: a power of two, see ``StreamingAupro``.

    Example:
        >>> metric = RegionOverlap(limits=(0.3,))
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1
        >>> metric.update(mask, mask)
        >>> {limit: area.item() for limit, area in metric.compute().items()}
        {'0.3': 1.0}
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    region: Tensor
    good: Tensor
    regions: Tensor

    def __init__(self, limits: Sequence[float] = DEFAULT_LIMITS, bins: int = 1 << 16) -> None:
        super().__init__()
        self.limits = checked_limits(limits)
        self.bins = bins
        StreamingAupro(bins)  # refuses a wrong number of bins now, not at the first batch
        self.add_state("region", torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("good", torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("regions", torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor, foregrounds: Tensor | None = None) -> None:
        """Take in a batch.

        Args:
            maps: ``(N, 1, H, W)`` or ``(N, H, W)`` scores, larger is more anomalous.
            masks: the same shape, non-zero on defective pixels.
            foregrounds: the same shape, non-zero on the object; all pixels if None.

        Raises:
            DataError: shapes differ, or a score is NaN.
        """
        stream = StreamingAupro(self.bins)
        scores, truths = _images(maps).float().numpy(), _images(masks).numpy()
        objects = None if foregrounds is None else _images(foregrounds).numpy()
        if len(scores) != len(truths) or (objects is not None and len(objects) != len(scores)):
            raise DataError(
                f"A batch of {len(scores)} maps came with {len(truths)} masks"
                + ("." if objects is None else f" and {len(objects)} foregrounds.")
            )
        for index in range(len(scores)):
            keep = None if objects is None else objects[index]
            stream.update(scores[index], truths[index], keep)
        stream.flush()
        self.region += torch.from_numpy(stream.region_histogram).to(self.region)
        self.good += torch.from_numpy(stream.good_histogram).to(self.good)
        self.regions += stream.regions

    def compute(self) -> dict[str, Tensor]:
        """Return the area by limit, e.g. under ``"0.3"``; nan where there is no region."""
        areas = overlap_from_histograms(
            self.region.cpu().numpy(), self.good.cpu().numpy(), int(self.regions), self.limits
        )
        return {f"{limit:g}": torch.tensor(area) for limit, area in areas.items()}


class ImageRanking(Metric):
    """A ranking figure over the images of all batches, exact.

    Args:
        figure: takes ``(N,)`` scores and ``(N,)`` labels, for instance ``ranking.auroc``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, figure: Callable[[ArrayLike, ArrayLike], float]) -> None:
        super().__init__()
        self.figure = figure
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Take in ``(N,)`` scores and ``(N,)`` labels, 0 good, 1 defective.

        Raises:
            DataError: the shapes differ.
        """
        if scores.shape != labels.shape:
            raise DataError(
                f"Scores of shape {tuple(scores.shape)} came with labels of shape "
                f"{tuple(labels.shape)}; give one label per image."
            )
        self.scores.append(scores.detach().float().reshape(-1))
        self.labels.append(labels.detach().reshape(-1))

    def compute(self) -> Tensor:
        """Return the figure; nan where too few classes were seen."""
        scores, labels = dim_zero_cat(self.scores).cpu(), dim_zero_cat(self.labels).cpu()
        return torch.tensor(self.figure(scores.numpy(), labels.numpy()))


def image_auroc() -> ImageRanking:
    """Make the image-level AUROC over batches.

    Example:
        >>> metric = image_auroc()
        >>> metric.update(torch.tensor([0.1, 0.9]), torch.tensor([0, 1]))
        >>> metric.compute().item()
        1.0
    """
    return ImageRanking(auroc)


def image_average_precision() -> ImageRanking:
    """Make the image-level average precision over batches."""
    return ImageRanking(average_precision)


def _images(batch: Tensor) -> Tensor:
    """Return ``(N, H, W)`` on the processor from ``(N, 1, H, W)`` or ``(N, H, W)``."""
    flat = batch.detach().squeeze(1) if batch.ndim == 4 else batch.detach()
    return flat.cpu()
