"""What a report says in words and units: verdict, warnings, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chiasm.detection.report.scored import ScoredSample

MEANING = {
    "image AUROC": "How well scores rank defective above good parts. 0.5 is chance, 1 perfect.",
    "pixel AP": "How exactly the map marks the defective pixels: precision averaged over recall.",
    "AUPRO 0.3": "How much of each defect is found while at most 30 % of good pixels are marked.",
    "AUPRO 0.05": "The same with at most 5 % of good pixels marked: the stricter figure.",
}

IMAGE_ROWS = {
    "auroc": ("AUROC", "ranking of defective above good parts; 0.5 is chance"),
    "ap": ("average precision", "precision averaged over all shares of defective parts found"),
    "f1_max": ("best F1", "at the best threshold in hindsight"),
    "false_alarm_rate": ("false alarms", "share of good parts that raised an alarm"),
    "missed_rate": ("missed", "share of defective parts that raised none"),
}

FEW = 10


def in_words(
    metrics: Mapping[str, Any], scored: Sequence[ScoredSample], false_alarm_rate: float
) -> str:
    """The verdict in one sentence."""
    judged = [s for s in scored if not s.verdict.error]
    bad = [s for s in judged if s.sample.label == 1]
    good = [s for s in judged if s.sample.label == 0]
    found = sum(bool(s.verdict.defective) for s in bad)
    false = sum(bool(s.verdict.defective) for s in good)
    if not judged:
        return "No part could be judged."
    if not bad and not good:
        alarms = sum(bool(s.verdict.defective) for s in judged)
        return f"{alarms} of {len(judged)} parts raised an alarm; which are defective is not known."
    alarms_text = (
        f"{false} false alarm{'' if false == 1 else 's'} among {_parts(len(good), 'good')}"
    )
    promise = f"at a promised false-alarm rate of {_percent(false_alarm_rate)}."
    if not bad:
        return f"Raised {alarms_text}, {promise} There were no defective parts to find."
    if not good:
        return f"Found {found} of {_parts(len(bad), 'defective')}. There were no good parts."
    return f"Found {found} of {_parts(len(bad), 'defective')}, with {alarms_text}, {promise}"


def warnings(
    metrics: Mapping[str, Any], scored: Sequence[ScoredSample], false_alarm_rate: float
) -> list[str]:
    """What a reader must know before believing the figures."""
    return [
        *_left_out(scored),
        *_broken_promise(metrics, false_alarm_rate),
        *_few_parts(metrics["counts"]),
        *_shortcuts(metrics),
    ]


def kind_rows(metrics: Mapping[str, Any], scored: Sequence[ScoredSample]) -> list[dict[str, Any]]:
    """The kinds of defect, the hardest first, with how many were found."""
    rows = []
    for name, figures in metrics["kinds"].items():
        alarms = [
            bool(s.verdict.defective)
            for s in scored
            if s.sample.label == 1 and s.sample.kind == name and not s.verdict.error
        ]
        rows.append({"name": name or "not named", "found": sum(alarms), **figures})

    def ease(row: Mapping[str, Any]) -> tuple[float, float]:
        return (row["image_auroc"]["value"] or 0.0, row["pixel_ap"]["value"] or 0.0)

    return sorted(rows, key=ease)


def _left_out(scored: Sequence[ScoredSample]) -> list[str]:
    """Parts that no figure is about."""
    said = []
    failed = [s for s in scored if s.verdict.error]
    if failed:
        some = "; ".join(f"{s.verdict.source}: {s.verdict.error}" for s in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        plural = "part" if len(failed) == 1 else "parts"
        said.append(
            f"{len(failed)} {plural} could not be judged and count in no figure. {some}{more}"
        )
    unknown = sum(s.sample.label is None and not s.verdict.error for s in scored)
    if unknown:
        said.append(f"For {unknown} judged parts the truth is not known; they count in no figure.")
    return said


def _broken_promise(metrics: Mapping[str, Any], promised: float) -> list[str]:
    """More false alarms than promised, beyond what so few parts explain."""
    alarms = metrics["image"]["false_alarm_rate"]
    if alarms["low"] is None or alarms["low"] <= promised:
        return []
    good = metrics["counts"]["good"]
    return [
        f"More false alarms than promised: {round(alarms['value'] * good)} of {good} good parts "
        f"({_percent(alarms['value'])}; 95 % interval {_percent(alarms['low'])} to "
        f"{_percent(alarms['high'])}) against {_percent(promised)}. Either there were too few "
        "calibration parts, or the test parts were taken under other conditions."
    ]


def _few_parts(counts: Mapping[str, int]) -> list[str]:
    """Too few of a class for figures to be more than a hint."""
    few = [f"{counts[n]} {n}" for n in ("good", "defective") if 0 < counts[n] < FEW]
    if not few:
        return []
    return [f"Only {' and '.join(few)} parts were tested; the figures are hints. See the ranges."]


def _shortcuts(metrics: Mapping[str, Any]) -> list[str]:
    """Figures that these data give away without any model."""
    found = []
    ours = metrics["image"]["auroc"]["value"]
    trivial = metrics["trivial"]["image"]
    if trivial and ours is not None:
        name = max(trivial, key=lambda n: trivial[n]["value"] or 0)
        best = trivial[name]["value"]
        if best is not None and best > 0.8:
            relation = "better than the model" if best >= ours else "close to the model"
            found.append(
                f"The {name} alone, without any model, separates good from bad with an AUROC of "
                f"{best:.3f} ({relation}: {ours:.3f}). Believe the pixel figures rather than the "
                "image figures on these data."
            )
    outline = metrics["trivial"]["pixel"]
    if outline:
        plain = outline["aupro"]["0.3"]["value"]
        model = metrics["region"]["aupro"]["0.3"]["value"]
        if plain is not None and model is not None and plain > 0.8:
            found.append(
                f"The object's outline alone, used as a map, has an AUPRO(0.3) of {plain:.3f} "
                f"(model: {model:.3f}). AUPRO(0.05) and pixel AP tell more here."
            )
    return found


def _parts(count: int, kind: str) -> str:
    return f"{count} {kind} part{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    """``5 %``: two digits, but no exponent."""
    number = "100" if share >= 0.995 else f"{100 * share:.2g}"
    return f"{number}\N{NO-BREAK SPACE}%"
