"""One observation a day, where recordings of a day resemble each other."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chiasm.diagnosis.monitoring.asset import Observation

_DAY = 86400.0


def per_day(observations: Sequence[Observation]) -> list[Observation]:
    """Return one observation of each day and recorder.

    Quantities and confidence are medians, class and severity the commonest; those without a time
    or a class stay as they are. Copies are left out before, so that none counts twice.
    """
    groups: dict[tuple[str, int], list[Observation]] = defaultdict(list)
    rest, seen = [], set()
    for one in observations:
        if one.time is None or one.kind is None:
            rest.append(one)
        elif not one.digest or one.digest not in seen:
            seen.add(one.digest)
            groups[one.recorder, math.floor(one.time / _DAY)].append(one)
    return [*map(_joined, groups.values()), *rest]


def _joined(many: Sequence[Observation]) -> Observation:
    if len(many) == 1:
        return many[0]
    names = {name for one in many for name in one.quantities}
    kind = Counter(one.kind for one in many).most_common(1)[0][0]
    severity = Counter(one.severity for one in many if one.severity).most_common(1)
    same = [one for one in many if one.kind == kind]
    return replace(
        many[0],
        source=f"{many[0].source} and {len(many) - 1} more of the day",
        kind=kind,
        confidence=float(np.median([one.confidence for one in same])),
        probabilities=same[0].probabilities,
        quantities={
            name: float(np.median([o.quantities[name] for o in many if name in o.quantities]))
            for name in names
        },
        severity=severity[0][0] if severity else "",
        digest="",
    )
