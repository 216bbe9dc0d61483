"""Choose a model's threshold by labelled defective parts: by the best F1, or by a miss rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chiasm.detection.readers.opening import open_as_trained
from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.errors import ChiasmError, DataError
from chiasm.files.content_hash import content_hash
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
    files: tuple[str, ...] = ()
    if isinstance(defects, Path):
        source, remarks = open_as_trained(defects, model.acquisition)
        for remark in remarks:
            say(remark)
        known = defective_refs(source, own=own)
        files = tuple(filter(None, map(file_hash, known)))
        samples = _loaded(source, [ref for ref in known if ref.source not in left_out])
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
    chosen = (
        best_f1(model.alarm_rule.calibration_scores, scores)
        if miss_rate is None
        else bounded_misses(scores, miss_rate)
    )
    return replace(chosen, files=files)


def file_hash(ref: SampleRef) -> str:
    """Return a short hash of the files of a part's sensors; "" where they cannot be read."""
    files = [ref.files[role] for role in ("rgb", "xyz", "depth") if role in ref.files]
    try:
        return content_hash(files)[:16] if files else ""
    except OSError:
        return ""


def seen_before(refs: Sequence[SampleRef], known: KnownDefects | None) -> str:
    """Return a sentence where parts of a test chose the model's threshold or trained it; or "".

    Args:
        refs: of the test.
        known: of the model.
    """
    if known is None or not known.files:
        return ""
    files = set(known.files)
    count = sum(file_hash(ref) in files for ref in refs if ref.label == 1)
    if not count:
        return ""
    return (
        f"{count} of the defective test parts chose the threshold of the model, or trained it: "
        "figures of decisions on them are not those of unseen parts. Test with other defects."
    )


def _loaded(
    source: SampleSource, refs: Sequence[SampleRef]
) -> Iterator[tuple[str, RGBDSample | ChiasmError]]:
    for ref in refs:
        try:
            yield ref.source, source.load(ref)
        except ChiasmError as error:
            yield ref.source, error
