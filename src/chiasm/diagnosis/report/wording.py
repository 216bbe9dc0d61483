"""The sentences of a classifier's report: headline, split, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chiasm.diagnosis.report.figures import RANDOM
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.reporting.cost import cost_rows
from chiasm.reporting.style import MODALITY_WORDS

SIMULATED = (
    "These recordings were simulated. Simulator scores prove software, not field performance: "
    "they show that training and diagnosis work, and nothing about real equipment."
)
MEANING = {
    "macro-F1": "Precision and recall of each class in one figure, averaged over the classes.",
    "balanced accuracy": "Share of each class that was recognised, averaged over the classes.",
    "one-vs-rest AUROC": "How well the probability of a class ranks its recordings. 0.5 is chance.",
    "ECE": "Mean difference between confidence and accuracy. 0 is perfectly calibrated.",
}
# (key, words, meaning)
GAP_ROWS = (
    ("distance", "distance of the means", "in root mean square distances of a point from its mean"),
    ("variance_ratio", "variance of picture to series", "1 is equal"),
    ("mmd", "MMD²", "Gaussian kernel of median width; 0 is equal"),
)
OPEN_SET_SCORES = {
    "distance": "distance",
    "max_softmax_score": "max-softmax",
    "energy_score": "energy",
    "knn_score": "kNN",
    "flow_nll": "flow density",
}
FEW_GROUPS = 10
_PLURALS = {"session": "sessions", "equipment": "equipment", "insulator": "insulators"}
_PLURALS |= {"site": "sites", RANDOM: "recordings"}


def unseen(by: str) -> str:
    """Return the plural of a kind of group: ``"sessions"``, ``"equipment"`` ..."""
    return _PLURALS.get(by, f"groups of kind '{by}'")


def headline(metrics: Mapping[str, Any]) -> str:
    """Return the result in one sentence."""
    f1, counts = metrics["recording"]["macro_f1"], metrics["counts"]
    if f1["value"] is None:
        return "No recording could be diagnosed."
    by = metrics["split"]
    test_list = (
        "On recordings split at random, of sessions it may have seen"
        if by == RANDOM
        else f"On {unseen(by)} it has never seen"
    )
    wrong = counts["judged"] - sum(row[i] for i, row in enumerate(metrics["confusion"]))
    interval = ""
    if f1["low"] is not None:
        interval = f" (95 % interval {f1['low']:.3f} to {f1['high']:.3f})"
    count = "none" if not wrong else f"{wrong:,}"
    verb = "was" if wrong <= 1 else "were"
    return (
        f"{test_list}, the model reaches a macro-F1 of {f1['value']:.3f}{interval}: {count} of "
        f"{counts['judged']:,} recordings {verb} misdiagnosed."
    )


def split_words(metrics: Mapping[str, Any]) -> str:
    """Return sentences on the division of the recordings and the gap to a random division."""
    by, splits = metrics["split"], metrics["splits"]
    if by == RANDOM:
        sentences = (
            "Divided at random: recordings of one session are in both training and test, so that "
            "the figures measure in part how well a session is recognised."
        )
        others = {n: s for n, s in splits.items() if n != RANDOM and s["gap"] is not None}
        if others:
            name, worst = max(others.items(), key=lambda item: item[1]["gap"])
            value = worst["recording"]["macro_f1"]["value"]
            sentences += f" Divided by {name}, macro-F1 is {value:.3f}: {_gap_words(worst['gap'])}."
        return sentences
    sentences = (
        f"Divided by {by}: none of the {unseen(by)} in the test list was used to train or tune the "
        "model."
    )
    random, gap = splits.get(RANDOM), splits[by]["gap"]
    if random is None or gap is None:
        return sentences + " No random split was evaluated for comparison."
    value = random["recording"]["macro_f1"]["value"]
    sentences += f" Divided at random, the same recipe reaches {value:.3f}. {_gap_words(gap)}"
    if gap <= 0:
        return f"{sentences}."
    return f"{sentences}: with a random split, the model has seen other seconds of the sessions."


def warnings(metrics: Mapping[str, Any]) -> list[str]:
    """Return sentences about what limits the figures.

    The page shows separately, above all others, that data are simulated.
    """
    return [
        *_random_split(metrics),
        *_counts(metrics),
        *shortcut_words(metrics),
        *_missing_modality(metrics),
    ]


def diagnosis_cost(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and figures with units, per recording instead of per part."""
    return [(name.replace("per part", "per recording"), value) for name, value in cost_rows(cost)]


def case_words(scored: ScoredRecordings, index: int) -> dict[str, Any]:
    """Return class, diagnosis and confidence of a recording, and the diagnosis by modality."""
    probabilities = scored.probabilities[index]
    diagnosis = int(scored.guesses[index])
    opinions = []
    for name, logits in scored.modality_logits.items():
        if np.isfinite(logits[index]).all():
            kind = scored.kinds[int(np.argmax(logits[index]))]
            opinions.append((MODALITY_WORDS.get(name, name), kind))
    return {
        "truth": scored.kinds[int(scored.labels[index])],
        "diagnosis": scored.kinds[diagnosis],
        "confidence": float(probabilities[diagnosis]),
        "opinions": opinions,
        "uncertainty": _finite(scored.uncertainty, index),
        "conflict": _finite(scored.conflict, index),
        "source": scored.sources[index] if scored.sources else "",
    }


def _finite(values: Any, index: int) -> float | None:
    if values is None or not np.isfinite(values[index]):
        return None
    return float(values[index])


def _gap_words(gap: float) -> str:
    if round(gap, 3) == 0:
        return "There is no gap between the two"
    return f"The gap is {abs(gap):.3f}{'' if gap > 0 else ' in the other direction'}"


def _random_split(metrics: Mapping[str, Any]) -> list[str]:
    if metrics["split"] != RANDOM:
        return []
    return [
        "The split is random. The figures do not hold for equipment or sessions that the model has "
        "not seen; divide by session or by equipment."
    ]


def _counts(metrics: Mapping[str, Any]) -> list[str]:
    """Warn of recordings, groups and classes that are missing or too few."""
    counts, sentences = metrics["counts"], []
    if counts["not_judged"]:
        single = counts["not_judged"] == 1
        sentences.append(
            f"{counts['not_judged']:,} recording{'' if single else 's'} could not be diagnosed and "
            f"count{'s' if single else ''} in no figure."
        )
    for name, number in counts.get("lacking", {}).items():
        have, were = ("recording has", "was") if number == 1 else ("recordings have", "were")
        sentences.append(
            f"{number:,} {have} no {MODALITY_WORDS.get(name, name)} and {were} diagnosed without "
            "it."
        )
    absent = [kind for kind, number in counts["by_kind"].items() if not number]
    if absent and counts["judged"]:
        sentences.append(
            f"The test list has no recording of {_listed(absent)}; the means are over the others."
        )
    if 0 < counts["groups"] < FEW_GROUPS:
        sentences.append(
            f"The test list holds {counts['groups']} groups only. The intervals resample whole "
            "groups; with so few they are rough."
        )
    return sentences


def shortcut_words(metrics: Mapping[str, Any]) -> list[str]:
    """Warn if a trivial number is nearly as good as the model."""
    baselines = {n: f["value"] for n, f in metrics["trivial"].items() if f["value"] is not None}
    f1 = metrics["recording"]["macro_f1"]["value"]
    if not baselines or f1 is None:
        return []
    name = max(baselines, key=lambda n: baselines[n])
    if baselines[name] < 0.6 and baselines[name] < f1 - 0.1:
        return []
    alone = f"The {name} alone, without any model, has a macro-F1 of {baselines[name]:.3f}"
    reveals = "something other than the discharge reveals the classes of these data"
    if baselines[name] >= f1:
        return [f"{alone}, no worse than the model: either it learnt too little, or {reveals}."]
    return [f"{alone} (the model: {f1:.3f}): {reveals}, or they are easy."]


def _missing_modality(metrics: Mapping[str, Any]) -> list[str]:
    """Warn if the figures without one modality are much worse."""
    f1 = metrics["recording"]["macro_f1"]["value"]
    sentences = []
    for name, figure in metrics["missing"].items():
        if f1 is not None and figure["value"] is not None and f1 - figure["value"] > 0.2:
            sentences.append(
                f"With the {name}, macro-F1 falls from {f1:.3f} to {figure['value']:.3f}: do not "
                "rely on a diagnosis from one modality."
            )
    return sentences


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
