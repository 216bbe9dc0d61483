"""What a classifier said about each test recording, kept to compare methods in pairs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.errors import DataError
from chiasm.evaluation.diagnosis.scored import ScoredRecordings

PREDICTIONS = "predictions.npz"
_LEAST = 1e-12
_GROUP, _BEFORE, _AFTER = "group:", "before:", "after:"


def write_predictions(path: Path, scored: ScoredRecordings) -> Path:
    """Write calibrated probabilities, labels, groups, sources and the tokens' means; no pickle.

    Probabilities are float32, means of tokens float16.
    """
    columns: dict[str, Any] = {
        "probabilities": scored.probabilities.astype(np.float32),
        "labels": scored.labels.astype(np.int16),
        "kinds": np.array(scored.kinds, dtype=np.str_),
        "sources": np.array(scored.sources, dtype=np.str_),
        **{_GROUP + by: np.asarray(names, np.str_) for by, names in scored.groups.items()},
        **{_BEFORE + m: rows.astype(np.float16) for m, rows in scored.before.items()},
        **{_AFTER + m: rows.astype(np.float16) for m, rows in scored.after.items()},
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


def _named(columns: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): v for n, v in columns.items() if n.startswith(prefix)}
