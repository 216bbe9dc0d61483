"""Train the settings of a run again, for comparison: on other splits, or without a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import DiagnosisDataModule, open_data
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.report.figures import OpenSetCase
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.diagnosis.scoring import score_recordings
from chiasm.errors import ConfigurationError, DataError
from chiasm.runs.console import say

# Folder of the runs that are trained for comparison; its name stands in earlier runs.
FOLDER = "beside"


def retrain(
    run: Path | str, *, splits: Sequence[str] = (), left_out: Sequence[str] = ()
) -> tuple[dict[str, ScoredRecordings], list[OpenSetCase]]:
    """Train the settings of a run again, once for each split and each class; resumes.

    Args:
        run: folder of the run; the new models go to ``run/beside``.
        splits: kinds of group to split by (``session``, ``equipment``, ``random`` ...), or one
            group that is the test, as in ``equipment=GIS-25.8kV``.
        left_out: classes, one model without each.

    Returns:
        Scores by split, and scores of each model that lacks a class.

    Raises:
        ConfigurationError: the folder holds no settings of a run.
        DataError: there is no such class.
        SplitError: the recordings cannot be divided so.
    """
    folder = Path(run)
    if not (splits or left_out):
        return {}, []
    settings = folder / "config.yaml"
    if not settings.exists():
        raise ConfigurationError(
            f"{folder} holds no config.yaml: other splits are trained with a run's settings. Name "
            "the folder that 'chiasm train' wrote."
        )
    config = DiagnosisConfig.make(file=settings)
    scores = {}
    for name in splits:
        by, _, group = name.partition("=")
        changed = config.model_copy(
            update={
                "split_by": by,
                "test_group": group or None,
                "out": folder / FOLDER / f"split_{by}_{group}".rstrip("_"),
            }
        )
        model, data = _trained(changed, f"For comparison: split by {name} ...")
        scores[name] = score_recordings(model, data.store, data.split.test)
    return scores, [_without(config, folder, kind) for kind in left_out]


def _without(config: DiagnosisConfig, folder: Path, kind: str) -> OpenSetCase:
    kinds = open_store(config.data, cache=config.cache).kinds
    if kind not in kinds:
        raise DataError(f"There is no class '{kind}' to leave out; choose from {', '.join(kinds)}.")
    changed = config.model_copy(
        update={"left_out": (kind,), "out": folder / FOLDER / f"without_{kind}"}
    )
    model, data = _trained(changed, f"For comparison: without {kind} ...")
    number = data.store.kinds.index(kind)
    known = [ref for ref in data.split.test if ref.label != number]
    unknown = [ref for ref in data.split.test if ref.label == number]
    reference = score_recordings(model, data.store, data.split.train, single=False)
    return OpenSetCase(
        kind=kind,
        known=score_recordings(model, data.store, known),
        unknown=score_recordings(model, data.store, unknown),
        reference=reference.embeddings,
    )


def _trained(config: DiagnosisConfig, text: str) -> tuple[DiagnosisPredictor, DiagnosisDataModule]:
    # Lightning, which an evaluation without a training need not wait for.
    from chiasm.diagnosis.train import train

    say(text)
    data = open_data(config)
    train(config, data=data)
    return DiagnosisPredictor.load(config.out, device=config.device), data
