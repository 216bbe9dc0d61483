"""Choose a model's threshold by labelled defective parts: by the best F1, or by a miss rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chiasm.detection.readers.opening import open_as_trained
from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.errors import ChiasmError, DataError
from chiasm.metrics.known_defects import KnownDefects, best_f1, bounded_misses
from chiasm.runs.console import say
from chiasm.samples import RGBDSample

OWN = "validation"  # names the defective parts of the data's own validation split


def is_own(defects: Path) -> bool:
    """Whether a setting names the data's own validation split, and no folder of that name."""
    return str(defects) == OWN and not defects.exists()


def defective_refs(source: SampleSource, *, own: bool = False) -> tuple[SampleRef, ...]:
    """Return the defective parts of a source that may choose a threshold, none of its test split.

    Args:
        source: of labelled parts; where no part has a label, all are taken for defective.
        own: take those of the validation split alone.

    Raises:
        DataError: there is none.
    """
    if own:
        refs = tuple(r for r in source.refs if r.split == "validation" and r.label == 1)
        if not refs:
            raise DataError(
                f"{source.name} has no defective part in its validation split to choose a "
                "threshold by. Name a folder or table of known defects."
            )
        return refs
    if all(ref.label is None for ref in source.refs):
        return tuple(source.refs)
    bad = [ref for ref in source.refs if ref.label == 1]
    refs = tuple(ref for ref in bad if ref.split != "test")
    if refs:
        return refs
    if bad:
        raise DataError(
            f"All {len(bad)} defective parts of {source.name} are of its test split. A threshold "
            "that they choose makes the figures on them worthless: put some of them into a folder "
            "of their own, or into the validation split, and name that."
        )
    raise DataError(f"{source.name} has no defective part (label 1) to choose a threshold by.")


def choose_by_defects(
    model: Any,
    defects: Path | Sequence[RGBDSample],
    *,
    miss_rate: float | None,
    own: bool = False,
    left_out: frozenset[str] = frozenset(),
) -> KnownDefects:
    """Score known defects with a model and choose its threshold by them.

    Args:
        model: trained or exported.
        defects: folder or table of labelled parts, see ``defective_refs``; or the parts.
        miss_rate: to promise; None takes the best F1 beside the calibration normals.
        own: see ``defective_refs``.
        left_out: sources of parts that do not choose, as they trained.

    Raises:
        DataError: there is no such part, or none can be scored.
        ConfigurationError: there are too few for the miss rate.
    """
    samples: Iterator[tuple[str, RGBDSample | ChiasmError]]
    if isinstance(defects, Path):
        source, remarks = open_as_trained(defects, model.acquisition)
        for remark in remarks:
            say(remark)
        refs = [r for r in defective_refs(source, own=own) if r.source not in left_out]
        samples = _loaded(source, refs)
    else:
        samples = ((sample.source, sample) for sample in defects)
    verdicts = list(model.predict_all(samples))
    scores = [verdict.score for verdict in verdicts if not verdict.error]
    failed = [verdict for verdict in verdicts if verdict.error]
    if failed:
        say(
            f"Warning: {len(failed)} of {len(verdicts)} known defects cannot be scored and do not "
            f"count, such as {failed[0].source}: {failed[0].error}"
        )
    if not scores:
        raise DataError("No known defect could be scored, so that none can choose a threshold.")
    if miss_rate is not None:
        return bounded_misses(scores, miss_rate)
    return best_f1(model.alarm_rule.calibration_scores, scores)


def _loaded(
    source: SampleSource, refs: Sequence[SampleRef]
) -> Iterator[tuple[str, RGBDSample | ChiasmError]]:
    for ref in refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error
