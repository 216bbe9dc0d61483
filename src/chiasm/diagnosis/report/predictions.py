"""What a classifier said about each test recording, kept to compare methods in pairs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError

PREDICTIONS = "predictions.npz"
CORRUPTED = "predictions_corrupted.npz"
_LEAST = 1e-12
_GROUP, _BEFORE, _AFTER = "group:", "before:", "after:"


def write_predictions(path: Path, scored: ScoredRecordings) -> Path:
    """Write calibrated probabilities, labels, groups, sources and the tokens' means; no pickle.

    Probabilities are float32, means of tokens float16; those of a modality that some recordings
    lack are left out, for whoever reads them takes a row for each recording.
    """
    before, after = (
        {m: rows for m, rows in found.items() if np.isfinite(rows).all()}
        for found in (scored.before, scored.after)
    )
    columns: dict[str, Any] = {
        "probabilities": scored.probabilities.astype(np.float32),
        "labels": scored.labels.astype(np.int16),
        "kinds": np.array(scored.kinds, dtype=np.str_),
        "sources": np.array(scored.sources, dtype=np.str_),
        **{_GROUP + by: np.asarray(names, np.str_) for by, names in scored.groups.items()},
        **{_BEFORE + m: rows.astype(np.float16) for m, rows in before.items()},
        **{_AFTER + m: rows.astype(np.float16) for m, rows in after.items()},
    }
    fresh = path.with_name(".part.npz")
    np.savez_compressed(fresh, **columns)
    fresh.replace(path)
    return path


def read_predictions(path: Path) -> ScoredRecordings:
    """Read them back; logits are logarithms of the calibrated probabilities, at temperature 1.

    Raises ``DataError`` where the file is not there or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as columns:
            found = dict(columns)
        chances = np.maximum(found["probabilities"].astype(np.float64), _LEAST)
        return ScoredRecordings(
            logits=np.log(chances),
            labels=found["labels"].astype(np.int64),
            kinds=tuple(found["kinds"].tolist()),
            sources=tuple(found["sources"].tolist()),
            groups=_named(found, _GROUP),
            before=_named(found, _BEFORE),
            after=_named(found, _AFTER),
        )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no predictions: {error}. Evaluate the run again.") from error


def stacked(lists: Sequence[tuple[str, ScoredRecordings]]) -> ScoredRecordings:
    """Several lists of the same model one after the other; sources name the list, too.

    Raises ``DataError`` where there is none, or they know different classes.
    """
    parts = [part for _, part in lists]
    if len({part.kinds for part in parts}) != 1:
        raise DataError("Lists of recordings know different classes, or there is none.")
    shared = set.intersection(*(set(part.groups) for part in parts))
    return ScoredRecordings(
        logits=np.log(np.maximum(np.concatenate([p.probabilities for p in parts]), _LEAST)),
        labels=np.concatenate([part.labels for part in parts]),
        kinds=parts[0].kinds,
        groups={by: np.concatenate([p.groups[by] for p in parts]) for by in sorted(shared)},
        sources=tuple(f"{name}:{s}" for name, part in lists for s in part.sources),
    )


def _named(columns: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): v for n, v in columns.items() if n.startswith(prefix)}
