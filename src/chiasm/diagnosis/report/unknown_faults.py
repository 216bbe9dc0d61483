"""How well faults of classes that a model was not trained on are told, for a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chiasm.diagnosis.report.figures import OpenSetCase, open_set_figures
from chiasm.diagnosis.report.scored import Array, ScoredRecordings
from chiasm.metrics.bootstrap import bootstrap_interval
from chiasm.reporting.figure import Figure, figure

# Key of all untrained classes together.
ALL = "all"


def unknown_figures(
    known: ScoredRecordings,
    unknown: Mapping[str, ScoredRecordings],
    *,
    rule: str,
    share: float | None,
    by: str,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute how many recordings are called 'unknown', and how well they are ranked.

    Args:
        known: test recordings of trained classes, with ``unknown``.
        unknown: untrained class to its recordings, whose labels are ignored.
        rule: by which the model decides, see ``UNKNOWN_RULES``.
        share: of the validation recordings that it may call 'unknown'; None of earlier models.
        by, draws, seed: of the bootstrap, which draws whole groups.

    Returns:
        The content of ``UnknownFigures``.
    """
    lists = dict(unknown)
    if len(lists) > 1:
        lists[ALL] = joined(list(unknown.values()))
    return {
        "rule": rule,
        "share": share,
        "false_unknown": _share(known, by, draws, seed),
        "kinds": {
            kind: {
                "count": len(recordings),
                "found": _share(recordings, by, draws, seed),
                "scores": open_set_figures(
                    OpenSetCase(kind, known, recordings), by=by, draws=draws, seed=seed
                ),
            }
            for kind, recordings in lists.items()
        },
    }


def unknown_words(figures: Mapping[str, Any]) -> list[str]:
    """Return sentences on what is called 'unknown', for the console and the report."""
    called = figures["false_unknown"]
    if called["value"] is None:
        return []
    means = (
        "is told by its "
        + {
            "distance": "distance from the recordings of the trained classes",
            "belief": "belief in the likeliest class",
            "both": "distance from the trained classes and its belief in the likeliest one",
        }[figures["rule"]]
    )
    set_share = "" if figures["share"] is None else f" ({figures['share']:.0%} was set)"
    sentences = [
        f"'Unknown' {means}. Of the recordings of trained classes {called['value']:.1%} are called "
        f"so{set_share}."
    ]
    for kind, one in figures["kinds"].items():
        if kind == ALL:
            continue
        score = one["scores"].get(score_of(figures))
        rank = score and score["auroc"]["value"]
        auroc = "" if rank is None else f"; AUROC against the trained classes {rank:.3f}"
        sentences.append(
            f"{kind}, which the model was not trained on: {one['found']['value']:.1%} of "
            f"{one['count']:,} recordings are called 'unknown'{auroc}."
        )
    return sentences


def score_of(figures: Mapping[str, Any]) -> str:
    """Return the name of the score that ranks recordings as the model's rule does."""
    return "max_softmax_score" if figures["rule"] == "belief" else "distance"


def joined(lists: list[ScoredRecordings]) -> ScoredRecordings:
    """Return what several lists of recordings without true classes have in common."""

    def column(name: str) -> Array | None:
        values = [getattr(one, name) for one in lists]
        return None if any(v is None for v in values) else np.concatenate(values)

    shared, called = set.intersection(*(set(one.groups) for one in lists)), column("unknown")
    return ScoredRecordings(
        logits=np.concatenate([one.logits for one in lists]),
        labels=np.concatenate([one.labels for one in lists]),
        kinds=lists[0].kinds,
        groups={by: np.concatenate([one.groups[by] for one in lists]) for by in sorted(shared)},
        flow_nll=column("flow_nll"),
        distance=column("distance"),
        unknown=None if called is None else called.astype(bool),
    )


def _share(recordings: ScoredRecordings, by: str, draws: int, seed: int) -> Figure:
    """Return the share of the recordings that are called 'unknown'."""
    called = recordings.unknown
    if called is None or not len(recordings):
        return figure(float("nan"))
    interval = bootstrap_interval(
        lambda values: float(np.mean(values)),
        called,
        groups=recordings.group_names(by),
        draws=draws,
        seed=seed,
    )
    return figure(float(called.mean()), interval)
