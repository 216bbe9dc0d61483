"""AUPRO image by image, in memory that does not grow, with an error that it can state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiasm.errors import ConfigurationError
from chiasm.metrics.overlap_curve import (
    DEFAULT_LIMITS,
    area_to_limit,
    checked_limits,
    refuse_nan,
    region_weights,
)
from chiasm.metrics.pixel_histograms import float_bins
from chiasm.metrics.ranking import checked_images

FLUSH_PIXELS = 1 << 20


class StreamingAupro:
    """The area under the per-region overlap curve from two histograms.

    Each defective pixel weighs one over the size of its region, so one histogram of region pixels
    and one of good pixels suffice for any number of images and regions. The bins are the leading
    bits of the float32 pattern (``float_bins``): no range has to be known. Inside a bin the order
    of the pixels is lost and the curve is a straight line; ``error_bound`` says how far that can
    be from the exact figure, for the data seen. Scores crowded into a narrow range far from 0
    (probabilities near 1) have few bins between them: give logits instead.

    Args:
        bins: a power of two from 2**12 to 2**24; memory is 16 bytes a bin,
            and 4 MiB of pixels that wait to be counted.

    Raises:
        ConfigurationError: ``bins`` is not such a power of two.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[2:4, 2:4] = True
        >>> stream = StreamingAupro()
        >>> stream.update(mask * 1.0, mask)
        >>> stream.compute(limits=(0.3,)), stream.error_bound(limits=(0.3,))
        ({0.3: 1.0}, {0.3: 0.0})
    """

    def __init__(self, bins: int = 1 << 20) -> None:
        self.bits = int(bins).bit_length() - 1
        if bins < 1 or bins != 1 << self.bits:
            raise ConfigurationError(f"{bins} bins is not a power of two; take 2**20, say.")
        float_bins(0.0, self.bits)  # refuses numbers out of range before any image is seen
        self.region_histogram: NDArray[np.float64] = np.zeros(bins)
        self.good_histogram: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self.regions = 0
        self.images = 0
        self._pending: list[NDArray[np.int32]] = []
        self._pending_pixels = 0

    def update(
        self, scores: ArrayLike, mask: ArrayLike, foreground: ArrayLike | None = None
    ) -> None:
        """Take in one image.

        Args:
            scores: ``(H, W)``, larger is more anomalous, no NaN.
            mask: ``(H, W)``, non-zero on defective pixels.
            foreground: ``(H, W)``, non-zero on the object; good pixels outside are not counted.

        Raises:
            DataError: shapes differ, or a score is NaN.
        """
        [(values, truth, keep)] = checked_images(
            [scores], [mask], None if foreground is None else [foreground]
        )
        refuse_nan(values, self.images)
        places = float_bins(values, self.bits)
        weights, count = region_weights(truth)
        self.images += 1
        if count:
            self.regions += count
            np.add.at(self.region_histogram, places[truth], weights)
            places = places[~truth if keep is None else keep & ~truth]
        elif keep is not None:
            places = places[keep]
        # Counting many images at once spares a pass over all bins per image.
        self._pending.append(places.ravel())
        self._pending_pixels += places.size
        if self._pending_pixels >= FLUSH_PIXELS:
            self.flush()

    def flush(self) -> None:
        """Count the pixels that still wait; ``good_histogram`` is complete afterwards."""
        if self._pending:
            places = np.concatenate(self._pending)
            first = int(places.min(initial=self.good_histogram.size))
            if places.size:
                counts = np.bincount(places - first)
                self.good_histogram[first : first + counts.size] += counts
        self._pending, self._pending_pixels = [], 0

    def merge(self, other: StreamingAupro) -> None:
        """Add what another stream has seen, as if its images had come here.

        Raises:
            ConfigurationError: the two have different numbers of bins.
        """
        if other.bits != self.bits:
            raise ConfigurationError(
                f"A stream of 2**{self.bits} bins cannot take in one of 2**{other.bits}; "
                "make both with the same number."
            )
        self.flush()
        other.flush()
        self.region_histogram += other.region_histogram
        self.good_histogram += other.good_histogram
        self.regions += other.regions
        self.images += other.images

    def compute(self, limits: Sequence[float] = DEFAULT_LIMITS) -> dict[float, float]:
        """Return the area by limit, in [0, 1]; nan where there is no region or no good pixel.

        Raises:
            ConfigurationError: a limit is not in (0, 1].
        """
        self.flush()
        return overlap_from_histograms(
            self.region_histogram, self.good_histogram, self.regions, limits
        )

    def error_bound(self, limits: Sequence[float] = DEFAULT_LIMITS) -> dict[float, float]:
        """Return, by limit, how far ``compute`` can be from the exact figure for the data seen.

        In each bin the exact curve runs somewhere between two opposite corners of a rectangle, and
        ours on its diagonal, so they differ by half the rectangle at most. Nan where the figure is.
        """
        self.flush()
        wanted = checked_limits(limits)
        rate, overlap = _curve(self.region_histogram, self.good_histogram, self.regions)
        if rate.size == 0:
            return dict.fromkeys(wanted, float("nan"))
        rise = np.diff(overlap)
        bounds = {}
        for limit in wanted:
            width = np.diff(np.minimum(rate, limit))
            step = np.diff(rate)
            # In the bin that crosses the limit the exact curve may rise at once or not at all.
            part = np.divide(width, step, out=np.zeros_like(step), where=step > 0)
            bounds[limit] = float(np.sum(width * rise * (1 - part / 2)) / limit)
        return bounds


def overlap_from_histograms(
    region: NDArray[np.float64],
    good: NDArray[np.int64],
    regions: int,
    limits: Sequence[float] = DEFAULT_LIMITS,
) -> dict[float, float]:
    """Return the area under the overlap curve by limit, from histograms over ordered bins.

    Args:
        region: ``(B,)`` weight of region pixels (one over the region's size) by rising score.
        good: ``(B,)`` number of good pixels in the same bins.
        regions: how many regions there are.
        limits: false positive rates in (0, 1].

    Returns:
        The area by limit; nan where there is no region or no good pixel.
    """
    wanted = checked_limits(limits)
    rate, overlap = _curve(region, good, regions)
    if rate.size == 0:
        return dict.fromkeys(wanted, float("nan"))
    return {limit: float(area_to_limit(rate, overlap, limit)) for limit in wanted}


def _curve(
    region: NDArray[np.float64], good: NDArray[np.int64], regions: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rate and overlap at the lower edge of each occupied bin, from (0, 0) up."""
    used = np.flatnonzero((good > 0) | (region > 0))[::-1]
    alarms = np.cumsum(good[used])
    if regions == 0 or alarms.size == 0 or alarms[-1] == 0:
        return np.empty(0), np.empty(0)
    rate = np.append(0.0, alarms / alarms[-1])
    overlap = np.append(0.0, np.minimum(np.cumsum(region[used]) / regions, 1.0))
    return rate, overlap
