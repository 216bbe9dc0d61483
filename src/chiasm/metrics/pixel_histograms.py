"""Bootstrap draws of pixel-level figures from one small histogram per image.

A draw of images is a weighted sum of their histograms, so a thousand draws of pixel AUROC, AP and
AUPRO are one matrix product. They serve for intervals; the figures themselves are computed exactly
by ``ranking`` and ``region_overlap``.

The fine bins are the leading bits of the float32 pattern, so the range of the scores need not be
known. Read as an integer, the pattern grows with the value (negative numbers need their bits
inverted), so the bins are ordered and of constant *relative* width. With 2**20 bins, 11 bits of
the mantissa remain: two scores that differ by more than 1 part in 2048 never share a bin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.overlap_curve import (
    DEFAULT_LIMITS,
    area_to_limit,
    checked_limits,
    refuse_nan,
    region_weights,
)
from chiasm.metrics.ranking import checked_images

Figure = float | NDArray[np.float64]

_Figure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

# Draws are processed in blocks of about this many bins, to bound memory.
_BLOCK = 1 << 22


class _Image(NamedTuple):
    """One image's occupied fine bins: their numbers and the weights in each."""

    bins: NDArray[np.int32]
    defective: NDArray[np.float64]
    good: NDArray[np.float64]
    region: NDArray[np.float64]
    regions: int


class PixelHistograms:
    """Per-image histograms of good pixels, defective pixels and regions over shared bins.

    An image is stored as its occupied fine bins (``float_bins``). The first figure merges these
    into about ``bins`` of equal steps in recall, region overlap and the square root of the false
    positive rate, so that small rates stay resolved.

    Args:
        bins: approximate number of shared bins; figures differ from the exact ones by the order of
            ``1 / bins``.

    Raises:
        ConfigurationError: ``bins`` is below 2.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[2:4, 2:4] = True
        >>> images = PixelHistograms()
        >>> images.update(mask * 1.0, mask)
        >>> images.update(mask * 0.0, mask)
        >>> images.auroc(), images.auroc(weights=[[1, 0], [0, 1]]).tolist()
        (0.75, [1.0, 0.5])
    """

    def __init__(self, bins: int = 4096) -> None:
        if bins < 2:
            raise ConfigurationError(f"{bins} bins cannot rank pixels; take 4096, say.")
        self.bins = bins
        self._images: list[_Image] = []
        self._stack: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self._images)

    def update(
        self, scores: ArrayLike, mask: ArrayLike, foreground: ArrayLike | None = None
    ) -> None:
        """Add one image.

        Args:
            scores: ``(H, W)``, larger is more anomalous, no NaN.
            mask: ``(H, W)``, non-zero on defective pixels.
            foreground: ``(H, W)``, non-zero on the object; good pixels outside are not counted.

        Raises:
            DataError: shapes differ, or a score is NaN.
        """
        [(values, truth, inside_object)] = checked_images(
            [scores], [mask], None if foreground is None else [foreground]
        )
        refuse_nan(values, len(self._images))
        weights, regions = region_weights(truth)
        fine = float_bins(values)
        defective, good = (
            fine[truth],
            fine[~truth if inside_object is None else inside_object & ~truth],
        )
        bins, at = np.unique(np.concatenate([defective, good]), return_inverse=True)
        size, cut = bins.size, defective.size
        self._images.append(
            _Image(
                bins,
                defective=np.bincount(at[:cut], minlength=size).astype(np.float64),
                good=np.bincount(at[cut:], minlength=size).astype(np.float64),
                region=np.bincount(at[:cut], weights, minlength=size).astype(np.float64),
                regions=regions,
            )
        )
        self._stack = None

    def auroc(self, weights: ArrayLike | None = None) -> Figure:
        """Return the pixel AUROC.

        Args:
            weights: ``(images,)`` how often each image counts, or ``(draws, images)`` as from
                ``bootstrap_weights``; each once if None.

        Returns:
            A float, or ``(draws,)``, in [0, 1]; nan where a class has no pixel.

        Raises:
            DataError: there is no image, or the weights are not one per image.
        """
        return _scalar(self._weighted(weights, lambda part, _: binned_auroc(part[0], part[1])))

    def average_precision(self, weights: ArrayLike | None = None) -> Figure:
        """Return the pixel average precision; arguments and result as in ``auroc``."""
        return _scalar(
            self._weighted(weights, lambda part, _: binned_average_precision(part[0], part[1]))
        )

    def aupro(
        self, limits: Sequence[float] = DEFAULT_LIMITS, weights: ArrayLike | None = None
    ) -> dict[float, Figure]:
        """Return the area under the per-region overlap curve by limit.

        Arguments and results are those of ``auroc``, limits and figures those of
        ``region_overlap.aupro``.
        """
        limits = checked_limits(limits)
        areas = self._weighted(weights, lambda part, count: _binned_aupro(part, count, limits))
        return {limit: _scalar(areas[..., number]) for number, limit in enumerate(limits)}

    def _weighted(self, weights: ArrayLike | None, figure: _Figure) -> NDArray[np.float64]:
        """Weigh the histograms, block by block of draws, and compute the figure of each draw."""
        if not self._images:
            raise DataError("There is no image in the histograms; update them first.")
        image_weights = (
            np.ones(len(self)) if weights is None else np.asarray(weights, dtype=np.float64)
        )
        if image_weights.ndim not in (1, 2) or image_weights.shape[-1] != len(self):
            raise DataError(
                f"Weights of shape {image_weights.shape} do not fit {len(self)} images; give "
                "(images,) or (draws, images)."
            )
        if self._stack is None:
            self._stack = self._shared_bins()
        stack = self._stack
        counts = np.array([image.regions for image in self._images], dtype=np.float64)
        rows = np.atleast_2d(image_weights)
        block = max(1, _BLOCK // stack.shape[-1])
        figures = [
            figure(np.matmul(part, stack), part @ counts)
            for part in np.split(rows, range(block, len(rows), block))
        ]
        values = np.concatenate(figures)
        return np.asarray(values[0]) if image_weights.ndim == 1 else values

    def _shared_bins(self) -> NDArray[np.float64]:
        """Return ``(3, images, B)`` histograms: defective pixels, good pixels, region weights."""
        bins = np.concatenate([image.bins for image in self._images])
        fine, at = np.unique(bins, return_inverse=True)
        level = np.zeros(fine.size)
        for name in ("defective", "good", "region"):
            values = np.concatenate([getattr(image, name) for image in self._images])
            total = np.bincount(at, values, minlength=fine.size)[::-1].cumsum()[::-1]
            share = total / total[0] if total.size and total[0] > 0 else total
            level += np.sqrt(share) if name == "good" else share
        # The level falls from at most 3 towards 0 as the score rises; bins are equal steps of it.
        step = np.floor((level[:1] - level) * (self.bins / 3)).astype(np.int64)
        shared = np.unique(step, return_inverse=True)[1]
        stack = np.zeros((3, len(self), int(shared.max(initial=0)) + 1))
        first = 0
        for row, image in enumerate(self._images):
            bins = shared[at[first : first + image.bins.size]]
            first += image.bins.size
            for kind, values in enumerate((image.defective, image.good, image.region)):
                stack[kind, row] = np.bincount(bins, values, minlength=stack.shape[-1])
        return stack


def _binned_aupro(
    part: NDArray[np.float64], regions: NDArray[np.float64], limits: Sequence[float]
) -> NDArray[np.float64]:
    """Return ``(draws, limits)`` areas from ``(3, draws, B)`` weighted histograms."""
    alarms = np.cumsum(part[1, :, ::-1], axis=-1)
    covered = np.cumsum(part[2, :, ::-1], axis=-1)
    defined = (regions > 0) & (alarms[:, -1] > 0)
    rate = alarms / np.where(defined, alarms[:, -1], 1.0)[:, None]
    overlap = np.minimum(covered / np.where(defined, regions, 1.0)[:, None], 1.0)
    start = np.zeros((len(rate), 1))
    rate, overlap = np.hstack([start, rate]), np.hstack([start, overlap])
    areas = np.stack([area_to_limit(rate, overlap, limit) for limit in limits], axis=-1)
    return np.where(defined[:, None], areas, np.nan)


def _scalar(values: NDArray[np.float64]) -> Figure:
    return float(values) if values.ndim == 0 else values


def binned_auroc(
    positives: NDArray[np.float64], negatives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve, ties within a bin counting half.

    Args:
        positives: ``(..., B)`` weight of defectives per bin, by rising score.
        negatives: ``(..., B)`` weight of good ones per bin.

    Returns:
        ``(...)`` in [0, 1]; nan where a class has no weight.

    Example:
        >>> float(binned_auroc(np.array([1.0, 1.0]), np.array([2.0, 0.0])))
        0.75
    """
    below = np.cumsum(negatives, axis=-1) - 0.5 * negatives
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    return _ratio(np.sum(positives * below, axis=-1), pairs)


def binned_average_precision(
    positives: NDArray[np.float64], negatives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the average precision with the bins' lower edges as thresholds.

    Args:
        positives: ``(..., B)`` weight of defectives per bin, by rising score.
        negatives: ``(..., B)`` weight of good ones per bin.

    Returns:
        ``(...)`` in [0, 1]; nan where there is no defective.

    Example:
        >>> float(binned_average_precision(np.array([0.0, 1.0]), np.array([2.0, 0.0])))
        1.0
    """
    hits = np.cumsum(positives[..., ::-1], axis=-1)
    alarms = np.cumsum(negatives[..., ::-1], axis=-1)
    precision = np.divide(hits, hits + alarms, out=np.zeros_like(hits), where=hits > 0)
    return _ratio(np.sum(precision * positives[..., ::-1], axis=-1), hits[..., -1])


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


MINIMUM_BITS, MAXIMUM_BITS = 12, 24


def float_bins(scores: ArrayLike, bits: int = 20) -> NDArray[np.int32]:
    """Return the bin of each score: a map to integers that never reverses an order.

    Args:
        scores: any shape, no NaN; rounded to float32 first.
        bits: there are ``2 ** bits`` bins; 12 to 24.

    Returns:
        int32 in [0, 2 ** bits), same shape.

    Raises:
        ConfigurationError: ``bits`` is out of range.

    Example:
        >>> float_bins([-1.0, -0.0, 0.0, 1.0, 2.0], bits=12).tolist()
        [1031, 2048, 2048, 3064, 3072]
    """
    if not MINIMUM_BITS <= bits <= MAXIMUM_BITS:
        raise ConfigurationError(
            f"{bits} bits of a score cannot be binned; choose {MINIMUM_BITS} to {MAXIMUM_BITS}."
        )
    # Adding 0 makes a copy and turns -0.0 into 0.0, which must share a bin.
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which has a bin
        single = np.asarray(scores).astype(np.float32, copy=False)
    values = np.add(single, np.float32(0.0))
    pattern = np.atleast_1d(values).view(np.int32)
    if pattern.min(initial=0) < 0:
        pattern ^= (pattern >> 31) & np.int32(0x7FFFFFFF)
    pattern >>= 32 - bits
    pattern += np.int32(1 << (bits - 1))
    return pattern.reshape(values.shape)
