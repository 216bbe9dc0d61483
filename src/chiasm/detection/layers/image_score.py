"""The score of a part from its anomaly map: a rule as data, computed alike in exported graphs.

All rules are in the unit of the map, which heat maps and thresholds share with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from chiasm.detection.layers.maps import MapPostprocessing

Statistic = Literal["local_mean", "top_share"]
Link = Literal["identity", "softplus"]

COMMON_WINDOW = 1 / 24  # side of the common rule's local mean, as a share of the crop's side
LEAST_SPREAD = 0.25  # of the usual spread: a part without variation is not divided by nearly 0
_LEAST = 1e-6  # of a map under the link; differences below it mean nothing
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Term:
    """A statistic of a map, and its weight in the part's score.

    Attributes:
        statistic: ``local_mean``, the largest mean of a square; or ``top_share``, the mean of the
            highest of the object's cells.
        size: side of the square as a share of the crop's side, 0 for single pixels; or the share
            of the object's cells, in (0, 1].
        weight: in the sum of the terms.
    """

    statistic: Statistic = "local_mean"
    size: float = COMMON_WINDOW
    weight: float = 1.0

    def __post_init__(self) -> None:
        least = 0.0 if self.statistic == "local_mean" else 1e-6
        if not least <= self.size <= 1:
            raise ValueError(f"the size of {self.statistic} is {self.size}; it must be in [0, 1].")
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of {self.statistic} is {self.weight}; it must be finite.")


@dataclass(frozen=True, slots=True)
class ImageScoreRule:
    """How a map becomes the score of its part; the default is the common rule of tables.

    With statistics t of weights w, the median b of the object's cells, and the distance s between
    their quartiles, all under the link, the score is, before the link is undone,
    ``(sum(w t) - background b) usual_spread / max(s, usual_spread / 4) + background
    usual_background``; without ``usual_spread`` nothing is divided.

    Attributes:
        terms: statistics and their weights.
        link: scale on which statistics are added: that of the map, or, of a map that went through
            softplus, the one before. There a level that all normal pixels share can be subtracted.
        background: share of the part's own level b that is subtracted.
        usual_background: b of a usual good part, which keeps the score in the map's unit.
        usual_spread: s of a usual good part; None divides by no spread.
    """

    terms: tuple[Term, ...] = (Term(),)
    link: Link = "identity"
    background: float = 0.0
    usual_background: float = 0.0
    usual_spread: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.background, self.usual_background, self.usual_spread or 0.0)
        if not self.terms or not all(math.isfinite(number) for number in numbers):
            raise ValueError("a rule of the image's score needs a term, and finite numbers.")
        if self.usual_spread is not None and not self.usual_spread > 0:
            raise ValueError(f"usual_spread is {self.usual_spread}; it must be above 0.")

    @property
    def reads_background(self) -> bool:
        """Whether the score depends on the part's own level or spread."""
        return self.background != 0 or self.usual_spread is not None

    def in_words(self) -> str:
        """Return what the image's score is, in words."""
        if self == ImageScoreRule():
            return "the largest local mean of the map"
        names = {"local_mean": "largest local mean of {:.2%} of the side"}
        names["top_share"] = "mean of the highest {:.2%} of the object"
        words = " + ".join(
            f"{term.weight:.3g} x {names[term.statistic].format(term.size)}" for term in self.terms
        )
        if self.background:
            words += f" - {self.background:.3g} x the part's median"
        if self.usual_spread is not None:
            words += ", over the part's own spread"
        return words + (" (before softplus)" if self.link == "softplus" else "")


@dataclass(frozen=True, slots=True, eq=False)
class MapStatistics:
    """Statistics of the maps of parts, from which every rule is computed.

    Attributes:
        peaks: by statistic and size ``(N,)``, in the unit of the map.
        quartiles: ``(N, 3)`` quartiles of the object's cells; None where no rule reads them.
    """

    peaks: dict[tuple[Statistic, float], Tensor]
    quartiles: Tensor | None = None

    def cpu(self) -> MapStatistics:
        """Return them on the processor, where rules are fitted by numpy and scikit-learn."""
        peaks = {key: peak.cpu() for key, peak in self.peaks.items()}
        return MapStatistics(peaks, None if self.quartiles is None else self.quartiles.cpu())

    def score(self, rule: ImageScoreRule) -> Tensor:
        """Compute the scores ``(N,)`` of the parts under a rule whose statistics are here."""
        total: Tensor | None = None
        for term in rule.terms:
            peak = linked(self.peaks[term.statistic, term.size], rule.link)
            weighted = peak if term.weight == 1 else term.weight * peak
            total = weighted if total is None else total + weighted
        assert total is not None
        if rule.reads_background:
            assert self.quartiles is not None
            lower, middle, upper = linked(self.quartiles, rule.link).unbind(dim=1)
            total = total - rule.background * middle
            if rule.usual_spread is not None:
                least = LEAST_SPREAD * rule.usual_spread
                total = total * rule.usual_spread / (upper - lower).clamp(min=least)
            total = total + rule.background * rule.usual_background
        return F.softplus(total) if rule.link == "softplus" else total


def map_statistics(
    maps: Tensor,
    foreground: Tensor,
    *,
    terms: Sequence[Term],
    background: bool,
    operations: MapPostprocessing,
) -> MapStatistics:
    """Compute statistics of anomaly maps.

    Shares and quartiles are of the object's cells, squares of about a 64th of the side: sorting
    pixels would cost as much as the network.

    Args:
        maps: ``(N, 1, S, S)``, at least 0, 0 off the object.
        foreground: ``(N, 1, S, S)``, 1 on the object.
        terms: whose statistics are computed.
        background: whether the quartiles are.
        operations: on maps, of the detector or of an exported graph.
    """
    ranked = count = None
    if background or any(term.statistic == "top_share" for term in terms):
        inside = (operations.cells(operations.dilated_foreground(foreground)) > 0.5).to(maps.dtype)
        cells = (operations.cells(maps) * inside).flatten(1)
        # Cells off the object are 0, and no map is below: they come last.
        ranked = cells.topk(cells.shape[1], dim=1).values
        count = inside.flatten(1).sum(dim=1, keepdim=True)
    peaks: dict[tuple[Statistic, float], Tensor] = {}
    for term in terms:
        key = term.statistic, term.size
        if key in peaks:
            continue
        if term.statistic == "local_mean":
            means = operations.local_means(maps, window=term.size)
            peaks[key] = means.flatten(1).amax(dim=1)
        else:
            assert ranked is not None and count is not None
            peaks[key] = _top_mean(ranked, count * term.size)
    quartiles = None
    if background:
        assert ranked is not None and count is not None
        quartiles = torch.stack([_quantile(ranked, count, level) for level in _QUARTILES], dim=1)
    return MapStatistics(peaks, quartiles)


def _top_mean(ranked: Tensor, number: Tensor) -> Tensor:
    """Average the first ``number`` ``(N, 1)`` of falling values ``(N, K)``, at least one."""
    number = number.clamp(min=1)
    weight = (number - _positions(ranked)).clamp(min=0, max=1)
    return (ranked * weight).sum(dim=1) / number[:, 0]


def _quantile(ranked: Tensor, count: Tensor, level: float) -> Tensor:
    """Interpolate a quantile of the first ``count`` ``(N, 1)`` of falling values ``(N, K)``."""
    place = ((count - 1) * (1 - level)).clamp(min=0)
    weight = (1 - (_positions(ranked) - place).abs()).clamp(min=0)
    return (ranked * weight).sum(dim=1)


def _positions(ranked: Tensor) -> Tensor:
    return torch.arange(ranked.shape[1], device=ranked.device, dtype=ranked.dtype)


def linked(values: Tensor, link: Link) -> Tensor:
    """Bring values of a map to the scale on which a rule adds them.

    Softplus is inverted as ``log(exp(x) - 1)``, by its series where the difference would be lost.
    """
    if link == "identity":
        return values
    x = values.clamp(min=_LEAST)
    small = x.log() + x / 2 + x * x / 24
    return torch.where(x < 0.1, small, x + (1 - (-x).exp()).clamp(min=_LEAST).log())


def joined_statistics(pieces: Sequence[MapStatistics]) -> MapStatistics:
    """Join the statistics of batches."""
    quartiles = [piece.quartiles for piece in pieces if piece.quartiles is not None]
    return MapStatistics(
        {key: torch.cat([piece.peaks[key] for piece in pieces]) for key in pieces[0].peaks},
        torch.cat(quartiles) if quartiles else None,
    )
