"""A file of the predictions for each test recording, for paired comparisons of methods."""

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
_MINIMUM_PROBABILITY = 1e-12
_GROUP, _BEFORE, _AFTER = "group:", "before:", "after:"


def write_predictions(path: Path, scored: ScoredRecordings) -> Path:
    """Write calibrated probabilities, labels, groups, sources and the tokens' means; no pickle.

    Probabilities are float32, means of tokens float16. The means of a modality that some
    recordings lack are omitted, because readers expect a row for each recording.
    """
    before, after = (
        {m: rows for m, rows in means.items() if np.isfinite(rows).all()}
        for means in (scored.before, scored.after)
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
    draft = path.with_name(".part.npz")
    np.savez_compressed(draft, **columns)
    draft.replace(path)
    return path


def read_predictions(path: Path) -> ScoredRecordings:
    """Read predictions; logits are logarithms of the calibrated probabilities, at temperature 1.

    Raises ``DataError`` if the file is missing or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = dict(archive)
        probabilities = np.maximum(
            columns["probabilities"].astype(np.float64), _MINIMUM_PROBABILITY
        )
        return ScoredRecordings(
            logits=np.log(probabilities),
            labels=columns["labels"].astype(np.int64),
            kinds=tuple(columns["kinds"].tolist()),
            sources=tuple(columns["sources"].tolist()),
            groups=_with_prefix(columns, _GROUP),
            before=_with_prefix(columns, _BEFORE),
            after=_with_prefix(columns, _AFTER),
        )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no predictions: {error}. Evaluate the run again.") from error


def stacked(lists: Sequence[tuple[str, ScoredRecordings]]) -> ScoredRecordings:
    """Concatenate several lists of one model; each source is prefixed with the list's name.

    Raises ``DataError`` if there is no list, or lists have different classes.
    """
    parts = [part for _, part in lists]
    if len({part.kinds for part in parts}) != 1:
        raise DataError("The lists of recordings have different classes, or there is no list.")
    shared = set.intersection(*(set(part.groups) for part in parts))
    return ScoredRecordings(
        logits=np.log(
            np.maximum(np.concatenate([p.probabilities for p in parts]), _MINIMUM_PROBABILITY)
        ),
        labels=np.concatenate([part.labels for part in parts]),
        kinds=parts[0].kinds,
        groups={by: np.concatenate([p.groups[by] for p in parts]) for by in sorted(shared)},
        sources=tuple(f"{name}:{s}" for name, part in lists for s in part.sources),
    )


def _with_prefix(columns: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): v for n, v in columns.items() if n.startswith(prefix)}
