"""What a classifier's report says in words: verdict, split, warnings."""

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
    "they say that training and diagnosis work, and nothing about real equipment."
)
MEANING = {
    "macro-F1": "Precision and recall of each class in one figure, averaged over the classes.",
    "balanced accuracy": "Share of each class that was recognised, averaged over the classes.",
    "one-vs-rest AUROC": "How well a class's probability ranks its own first. 0.5 is chance.",
    "ECE": "How far stated confidence is from the share that is right. 0 is honest.",
}
FIGURE_ROWS = {
    "macro_f1": ("macro-F1", "mean over the classes; what models are chosen and compared by"),
    "accuracy": ("accuracy", "share of right diagnoses"),
    "balanced_accuracy": ("balanced accuracy", "mean recall of the classes; chance is 1 / classes"),
    "auroc": ("AUROC", "each class against the rest, mean"),
    "ece": ("calibration error (ECE)", "15 bins of equal mass; 0 is best"),
    "brier": ("Brier score", "squared error of the probabilities, 0 to 2; 0 is best"),
}
# (key, words, meaning)
GAP_ROWS = (
    ("distance", "distance of the means", "in typical distances from a cloud's own mean"),
    ("variance_ratio", "variance of picture to series", "1 is alike"),
    ("mmd", "MMD²", "Gaussian kernel of median width; 0 is alike"),
)
FEW_GROUPS = 10
_PLURALS = {"session": "sessions", "equipment": "equipment", "insulator": "insulators"}
_PLURALS |= {"site": "sites", RANDOM: "recordings"}


def unseen(by: str) -> str:
    """What the test list shares with no other: ``"sessions"``, ``"equipment"`` ..."""
    return _PLURALS.get(by, f"groups of kind '{by}'")


def headline(metrics: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    found, counts = metrics["recording"]["macro_f1"], metrics["counts"]
    if found["value"] is None:
        return "No recording could be judged."
    by = metrics["split"]
    known = (
        "On recordings split at random, of sessions it may have seen"
        if by == RANDOM
        else f"On {unseen(by)} it has never seen"
    )
    wrong = counts["judged"] - sum(row[i] for i, row in enumerate(metrics["confusion"]))
    spread = ""
    if found["low"] is not None:
        spread = f" (95 % interval {found['low']:.3f} to {found['high']:.3f})"
    few = "not one" if not wrong else f"{wrong:,}"
    were = "was" if wrong <= 1 else "were"
    return (
        f"{known}, the model reaches a macro-F1 of {found['value']:.3f}{spread}: {few} of "
        f"{counts['judged']:,} recordings {were} misdiagnosed."
    )


def split_words(metrics: Mapping[str, Any]) -> str:
    """How the recordings were divided, and what a random division would have promised."""
    by, splits = metrics["split"], metrics["splits"]
    if by == RANDOM:
        said = (
            "Divided at random: recordings of one session stand in training and test alike, so "
            "that the figures measure in part how well a session is recognised."
        )
        others = {n: s for n, s in splits.items() if n != RANDOM and s["gap"] is not None}
        if others:
            name, worst = max(others.items(), key=lambda item: item[1]["gap"])
            value = worst["recording"]["macro_f1"]["value"]
            said += f" Divided by {name}, macro-F1 is {value:.3f}: {_gap_words(worst['gap'])}."
        return said
    said = f"Divided by {by}: of the {unseen(by)} in the test list, none was trained or tuned on."
    random, gap = splits.get(RANDOM), splits[by]["gap"]
    if random is None or gap is None:
        return said + " No random split was evaluated beside it."
    value = random["recording"]["macro_f1"]["value"]
    said += f" Divided at random, the same recipe reaches {value:.3f}. {_gap_words(gap)}"
    if gap <= 0:
        return f"{said}."
    return (
        f"{said}: a random split shows the model other seconds of sessions that it already knows."
    )


def warnings(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the figures.

    That data are simulated is not among these: it stands above all others, by itself.
    """
    return [
        *_flattering(metrics),
        *_few(metrics),
        *_shortcuts(metrics),
        *_one_sided(metrics),
    ]


def diagnosis_cost(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and figures with units; a recording is what the detectors call a part."""
    return [(name.replace("per part", "per recording"), value) for name, value in cost_rows(cost)]


def case_words(scored: ScoredRecordings, place: int) -> dict[str, Any]:
    """What was true, what was said, how surely, and what each modality said alone."""
    chances = scored.probabilities[place]
    said = int(scored.guesses[place])
    opinions = []
    for name, logits in scored.modality_logits.items():
        if np.isfinite(logits[place]).all():
            kind = scored.kinds[int(np.argmax(logits[place]))]
            opinions.append((MODALITY_WORDS.get(name, name), kind))
    return {
        "truth": scored.kinds[int(scored.labels[place])],
        "said": scored.kinds[said],
        "confidence": float(chances[said]),
        "opinions": opinions,
        "uncertainty": _known(scored.uncertainty, place),
        "conflict": _known(scored.conflict, place),
        "source": scored.sources[place] if scored.sources else "",
    }


def _known(values: Any, place: int) -> float | None:
    if values is None or not np.isfinite(values[place]):
        return None
    return float(values[place])


def _gap_words(gap: float) -> str:
    if round(gap, 3) == 0:
        return "There is no gap between the two"
    return f"The gap is {abs(gap):.3f}{'' if gap > 0 else ', the other way round'}"


def _flattering(metrics: Mapping[str, Any]) -> list[str]:
    if metrics["split"] != RANDOM:
        return []
    return [
        "The split is random. The figures are no promise for equipment or sessions that the model "
        "has not seen; divide by session or by equipment."
    ]


def _few(metrics: Mapping[str, Any]) -> list[str]:
    """Recordings, groups and classes that are missing or too few."""
    counts, said = metrics["counts"], []
    if counts["not_judged"]:
        one = counts["not_judged"] == 1
        said.append(
            f"{counts['not_judged']:,} recording{'' if one else 's'} could not be judged and "
            f"count{'s' if one else ''} in no figure."
        )
    for name, number in counts.get("lacking", {}).items():
        have, were = ("recording has", "was") if number == 1 else ("recordings have", "were")
        said.append(
            f"{number:,} {have} no {MODALITY_WORDS.get(name, name)} and {were} judged without it."
        )
    absent = [kind for kind, number in counts["by_kind"].items() if not number]
    if absent and counts["judged"]:
        said.append(
            f"The test list has no recording of {_listed(absent)}; the means are over the others."
        )
    if 0 < counts["groups"] < FEW_GROUPS:
        said.append(
            f"The test list holds {counts['groups']} groups only. The intervals come from drawing "
            "whole groups anew, and from so few they are hints."
        )
    return said


def _shortcuts(metrics: Mapping[str, Any]) -> list[str]:
    """A number that anyone can read off does nearly as well."""
    rivals = {n: f["value"] for n, f in metrics["trivial"].items() if f["value"] is not None}
    ours = metrics["recording"]["macro_f1"]["value"]
    if not rivals or ours is None:
        return []
    name = max(rivals, key=lambda n: rivals[n])
    if rivals[name] < 0.6 and rivals[name] < ours - 0.1:
        return []
    relation = "better than the model" if rivals[name] >= ours else f"the model: {ours:.3f}"
    return [
        f"The {name} alone, without any model, has a macro-F1 of {rivals[name]:.3f} ({relation}). "
        "These data give classes away by something other than the discharge."
    ]


def _one_sided(metrics: Mapping[str, Any]) -> list[str]:
    """Without one modality there is hardly anything left."""
    ours = metrics["recording"]["macro_f1"]["value"]
    said = []
    for name, found in metrics["missing"].items():
        if ours is not None and found["value"] is not None and ours - found["value"] > 0.2:
            said.append(
                f"With the {name}, macro-F1 falls from {ours:.3f} to {found['value']:.3f}: do not "
                "rely on a diagnosis from half a recording."
            )
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
