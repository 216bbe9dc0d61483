"""Whether a quantity of an asset grows: evidence that may be looked at after every recording.

While nothing changes, the order in which recordings come says nothing, and the rank of the newest
value among all so far is uniform, whatever the distribution. A bet on high ranks is then a fair
game, whose wealth reaches ``1 / rate`` with at most the probability ``rate``, ever, however often
one looks (Ville's inequality). A change makes the wealth grow.

Two players share the stake. One bets that the newest value is among the largest of all, which
finds what goes on rising. The other bets that it is above some of the values before a start, which
finds what rose once: P(above) is ``(above so far + 1) / (values so far + 1)``, as in Polya's urn.

Values that resemble their neighbours in time, because conditions last, break the promise. Where
what is left of the values around their level before and after a change is correlated, the growth
must also be found in the medians of blocks that are as long as such values take to forget. Where
there are too few values for blocks, the growth says that its promise does not hold.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Exponents of the first player's bets: on ranks of the upper half, ... nearly on the first alone.
_BETS = np.array([0.6, 1.2, 2.0])
# What the second player takes for a level: so large a share of the reference is above it.
_LEVELS = np.array([0.0, 0.15, 0.4])
# His expectation after a change, as values above and below the level that he has seen.
_ABOVE, _BELOW = 4.5, 0.5
_LEAST_REFERENCE = 3  # values
# Later beginnings of a change have less weight: n recordings have about _SPREAD / n of it.
_SPREAD = 10.0
_MOST = 600.0  # logarithm of a wealth that a number holds
_CONFIDENCE = 0.95
_LEAST_SLOPE = 5  # values of which a slope is told
_ALIKE = 0.2  # correlation of neighbours below which they count as independent
_DEVIATIONS = 1.0  # of the correlation of independent values, whose standard one is 1 / sqrt(N)
_LONGEST = 10  # values of a block


@dataclass(frozen=True, slots=True)
class Growth:
    """A proof that a quantity grew.

    Attributes:
        position: of the value at which it was found.
        since: position of the likeliest first value of the change.
        evidence: wealth, at least one over the rate.
        block: values of which medians were taken, because neighbours resemble each other; 1: none.
        alike: whether neighbours resemble each other, so that the evidence of single values is too
            large; without blocks there are too few of them.
    """

    position: int
    since: int
    evidence: float
    block: int = 1
    alike: bool = False


@dataclass(frozen=True, slots=True)
class Slope:
    """A robust slope with its interval.

    Attributes:
        per_day: change a day; of values without times, from one to the next.
        low, high: of the interval.
        confidence: of the interval.
    """

    per_day: float
    low: float
    high: float
    confidence: float = _CONFIDENCE


def sequential_ranks(values: Array) -> NDArray[np.int64]:
    """Return the rank of each value among those up to it, 1 for the largest.

    Example:
        >>> sequential_ranks(np.array([3.0, 5.0, 4.0, 6.0])).tolist()
        [1, 1, 2, 1]
    """
    ranks, so_far = [], list[float]()
    for value in values.tolist():
        place = bisect_left(so_far, value)
        ranks.append(1 + len(so_far) - place)
        so_far.insert(place, value)
    return np.array(ranks, np.int64)


def growths(values: Array, *, rate: float) -> Iterator[Growth]:
    """Yield each proof that values grew; after one, what grew is the new normal.

    Args:
        values: ``(N,)`` finite, in the order of time.
        rate: probability with which a sequence without change, of any length, yields any.

    References:
        Vovk, Nouretdinov and Gammerman, Testing Exchangeability On-Line, ICML 2003.
        Barndorff-Nielsen, On the Limit Behaviour of Extreme Order Statistics, 1963: sequential
        ranks are independent and uniform.
    """
    values = np.asarray(values, np.float64)
    normal, betting = 0, 1
    while betting < len(values):
        found = _first_growth(values[normal:], betting - normal, rate)
        if found is None:
            return
        yield replace(found, position=normal + found.position, since=normal + found.since)
        normal, betting = normal + found.since, normal + found.position + 1


def evidence(values: Array, *, first: int = 1) -> Array:
    """Return the wealth after each value.

    Args:
        values: ``(N,)`` in the order of time.
        first: position of the first value that is betted on; those before are the reference.

    Returns:
        ``(N,)``; its expectation is at most 1 at any time while nothing changes.
    """
    wealth = np.ones(len(values))
    for position, worth in _wealth(np.asarray(values, np.float64), first):
        wealth[position] = worth
    return wealth


@lru_cache
def least_recordings(rate: float) -> int:
    """Return the fewest recordings after which growth can be found, if each is above all before."""
    return next(growths(np.arange(200.0), rate=rate)).position + 1


def slope_of(values: Array, days: Array) -> Slope | None:
    """Return the slope after Theil and Sen: the median of the slopes of all pairs.

    Args:
        values: ``(N,)``.
        days: ``(N,)`` their times in days.

    Returns:
        None of fewer than five times, of which no interval is told.

    References:
        Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 1968.
    """
    from scipy.stats import theilslopes  # slow to import; not on a station that predicts alone

    if len(np.unique(days)) < _LEAST_SLOPE:
        return None
    found = theilslopes(values, days, alpha=_CONFIDENCE)
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope))


def _first_growth(values: Array, first: int, rate: float) -> Growth | None:
    for position, worth in _wealth(values, first):
        if worth < 1 / rate:
            continue
        seen = values[: position + 1]
        since = _change_point(seen)
        if np.median(seen[since:]) <= np.median(seen[:since]):
            continue  # what grew are ties in an order of chance
        block = block_length(seen, since)
        if block == 1 or len(seen) // block < least_recordings(rate):
            # Too few for blocks: a change that may be real is not kept back, but told with its
            # doubt.
            return Growth(position, since, worth, alike=block > 1)
        worth = float(evidence(block_medians(seen, block), first=-(-first // block)).max())
        if worth >= 1 / rate:
            return Growth(position, since, worth, block, alike=True)
    return None


def block_length(values: Array, since: int) -> int:
    """Return how many values of a row count as one; 1 where neighbours are independent.

    An autoregression of the first order with the correlation ``r`` of neighbours has as many
    independent values as one without in ``(1 - r) / (1 + r)`` of the time.

    Args:
        values: ``(N,)`` in the order of time.
        since: position of a change of their level.

    References:
        Bartlett, Some Aspects of the Time-Correlation Problem, JRSS 1935.
    """
    alike = neighbour_correlation(values, since)
    if alike <= max(_ALIKE, _DEVIATIONS / np.sqrt(len(values))):
        return 1
    return min(_LONGEST, int(np.ceil((1 + alike) / (1 - min(alike, 0.9)))))


def present_evidence(values: Array, *, first: int = 1) -> tuple[float, int, float]:
    """Return the wealth after the last value, the block that it was judged by, and the correlation.

    Args:
        values: ``(N,)`` in the order of time; at least one.
        first: position of the first value that is betted on.
    """
    since = _change_point(values) if len(values) > 1 else 0
    block = block_length(values, since)
    alike = neighbour_correlation(values, since)
    if block > 1:
        values, first = block_medians(values, block), -(-first // block)
    wealth = evidence(values, first=first)
    return (float(wealth[-1]) if len(wealth) else 1.0), block, alike


def neighbour_correlation(values: Array, since: int) -> float:
    """Return the correlation of neighbours' ranks around what they follow.

    That is a level before and one after a change, or a straight line, whichever is nearer.
    Corrected for its bias in few values (Kendall 1954); 0 of fewer than five or of constant values.
    """
    if len(values) < _LEAST_SLOPE:
        return 0.0
    ranks = _mid_ranks(values)
    parts = [part for part in (ranks[:since], ranks[since:]) if len(part)]
    steps = np.concatenate([part - part.mean() for part in parts])
    time = np.arange(len(ranks)) - (len(ranks) - 1) / 2
    line = ranks - ranks.mean() - time * float(time @ ranks) / float(time @ time)
    left = min(steps, line, key=lambda residual: float(residual @ residual))
    size = float(left @ left)
    if size < 1e-9:
        return 0.0
    raw = float(left[:-1] @ left[1:]) / size
    return raw + (1 + 3 * raw) / len(values)


def block_medians(values: Array, block: int) -> Array:
    """Return the medians of whole blocks ``(N // block,)``, from the first value on."""
    whole = len(values) // block * block
    medians: Array = np.median(values[:whole].reshape(-1, block), axis=1)
    return medians


def _change_point(values: Array) -> int:
    """Return the first position of the likeliest change upwards, after Pettitt.

    References:
        Pettitt, A Non-Parametric Approach to the Change-Point Problem, Applied Statistics 1979.
    """
    ranks = _mid_ranks(values) + 1
    count = len(values)
    before = np.arange(1, count)
    return 1 + int(np.argmax(before * (count + 1) - 2 * np.cumsum(ranks)[:-1]))


def _wealth(values: Array, first: int) -> Iterator[tuple[int, float]]:
    """Yield each position with the wealth after it.

    The stake is divided among all starts, now and later; what has not begun keeps its part.
    """
    values = _untied(values)
    first = max(first, 1)
    weights = _weights(len(values) - first)  # of the starts first, first + 1, ...
    if not len(weights):
        return
    players = (_RankBets(values, first), _LevelBets(values, first))
    for number, position in enumerate(range(first, len(values)), start=1):
        won = sum(player.bet(position, number) for player in players) / len(players)
        yield position, 1 + float(weights[:number] @ (won - 1))


class _RankBets:
    """The player who bets on high ranks among all values.

    Args:
        values: ``(N,)``, no two of them equal.
        first: the first start.
    """

    def __init__(self, values: Array, first: int) -> None:
        ranks = sequential_ranks(values).astype(np.float64)
        counts = np.arange(1, len(values) + 1, dtype=np.float64)
        means = (counts ** -_BETS[:, None]).cumsum(axis=1) / counts  # of a bet over all ranks
        # (bets, N), logarithm of what a stake becomes; over all ranks the mean is 1.
        self._payoffs = -_BETS[:, None] * np.log(ranks) - np.log(means)
        self._logs = np.zeros((len(values) - first, len(_BETS)))  # of the wealth of each start

    def bet(self, position: int, number: int) -> Array:
        """Return the wealth ``(number,)`` of the starts so far after a value."""
        logs = self._logs[:number]
        logs += self._payoffs[:, position]
        np.minimum(logs, _MOST, out=logs)
        wealth: Array = np.exp(logs).mean(axis=1)
        return wealth


class _LevelBets:
    """The player who bets that values are above a level of those before the start.

    Args:
        values: ``(N,)``, no two of them equal.
        first: the first start; a start with too few values before it does not bet.
    """

    def __init__(self, values: Array, first: int) -> None:
        starts = np.arange(first, len(values))
        # The number of reference values from the level upwards, at least one.
        self._above = np.maximum(1.0, np.ceil(_LEVELS * (starts[:, None] + 1)))  # (starts, levels)
        self._levels = np.empty_like(self._above)
        for row, start in enumerate(starts):
            falling = np.sort(values[:start])[::-1]
            self._levels[row] = falling[self._above[row].astype(np.int64) - 1]
        self._bets = starts >= _LEAST_REFERENCE
        self._values, self._starts = values, starts
        self._hits = np.zeros_like(self._above)
        self._logs = np.zeros_like(self._above)

    def bet(self, position: int, number: int) -> Array:
        """Return the wealth ``(number,)`` of the starts so far after a value."""
        hits, logs = self._hits[:number], self._logs[:number]
        hit = self._values[position] > self._levels[:number]
        seen = (position - self._starts[:number])[:, None]
        chance = (self._above[:number] + hits) / (position + 1)
        expected = np.maximum((hits + _ABOVE) / (seen + _ABOVE + _BELOW), chance)
        won = np.log(np.where(hit, expected / chance, (1 - expected) / (1 - chance)))
        logs += won * self._bets[:number, None]
        np.minimum(logs, _MOST, out=logs)
        hits += hit
        wealth: Array = np.exp(logs).mean(axis=1)
        return wealth


def _untied(values: Array) -> Array:
    """Return the values as ranks, no two equal: equal values in an order that means nothing.

    The order is a fixed one of chance, so that ties are no evidence and a result can be repeated.
    """
    chance = np.random.default_rng(0).random(len(values))
    ranks = np.empty(len(values))
    ranks[np.lexsort((chance, values))] = np.arange(len(values))
    return ranks


def _mid_ranks(values: Array) -> Array:
    """Return ranks from 0; equal values share the mean of theirs, so that their order is none."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = (ends - (counts + 1) / 2)[place]
    return ranks


def _weights(count: int) -> Array:
    """Return the parts of the stake of the first starts; those of all starts sum to 1."""
    number = np.arange(max(count, 0))
    weights: Array = _SPREAD / ((number + _SPREAD) * (number + _SPREAD + 1))
    return weights


def joint_days(times: Sequence[float]) -> Array:
    """Return seconds as days from the first."""
    days: Array = (np.asarray(times, np.float64) - times[0]) / 86400.0
    return days
