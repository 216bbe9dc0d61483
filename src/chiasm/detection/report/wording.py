"""Sentences of the report: verdict, warnings, meanings of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import betabinom

from chiasm.detection.decision import AlarmRule
from chiasm.detection.report.scored import ScoredSample

MEANING = {
    "image AUROC": "How well scores rank defective above good parts. 0.5 is chance, 1 perfect.",
    "pixel AP": "How exactly the map marks the defective pixels: mean precision over recall.",
    "AUPRO 0.3": "Mean share of each defect that is marked while at most 30 % of good pixels are.",
    "AUPRO 0.05": "The same with at most 5 % of good pixels: the stricter figure.",
}

# Chance that a sound calibration has as many false alarms, below which it is not taken for sound.
RARE = 0.05
MIN_PARTS = 10  # of a class; fewer make figures hints


def in_words(metrics: Mapping[str, Any], scored: Sequence[ScoredSample], rule: AlarmRule) -> str:
    """Return the result in one sentence."""
    readable = [s for s in scored if not s.verdict.error]
    bad = [s for s in readable if s.sample.label == 1]
    good = [s for s in readable if s.sample.label == 0]
    detected = sum(bool(s.verdict.defective) for s in bad)
    false = sum(bool(s.verdict.defective) for s in good)
    if not readable:
        return "No part could be evaluated."
    if all(s.verdict.defective is None for s in readable):
        return f"None of {_parts(len(readable), 'scored')} was decided on. {rule.promise}"
    if not bad and not good:
        alarms = sum(bool(s.verdict.defective) for s in readable)
        return f"{alarms} of {len(readable)} parts raised an alarm; their truth is unknown."
    alarms_text = (
        f"{false} false alarm{'' if false == 1 else 's'} among {_parts(len(good), 'good')}"
    )
    if not bad:
        return f"Raised {alarms_text}. There were no defective parts. {rule.promise}"
    if not good:
        return f"Found {detected} of {_parts(len(bad), 'defective')}. There were no good parts."
    return (
        f"Found {detected} of {_parts(len(bad), 'defective')}, with {alarms_text}. {rule.promise}"
    )


def warnings(
    metrics: Mapping[str, Any], scored: Sequence[ScoredSample], rule: AlarmRule
) -> list[str]:
    """Return what limits the validity of the figures."""
    return [
        *_left_out(scored),
        *_excess_alarms(metrics, rule),
        *_few_parts(metrics["counts"]),
        *_shortcuts(metrics),
    ]


def kind_rows(metrics: Mapping[str, Any], scored: Sequence[ScoredSample]) -> list[dict[str, Any]]:
    """Return the kinds of defect, the hardest first, with the number of detected parts."""
    rows = []
    for name, figures in metrics["kinds"].items():
        alarms = [
            bool(s.verdict.defective)
            for s in scored
            if s.sample.label == 1 and s.sample.kind == name and not s.verdict.error
        ]
        rows.append({"name": name or "unnamed", "found": sum(alarms), **figures})

    def ease(row: Mapping[str, Any]) -> tuple[float, float]:
        return (row["image_auroc"]["value"] or 0.0, row["pixel_ap"]["value"] or 0.0)

    return sorted(rows, key=ease)


def _left_out(scored: Sequence[ScoredSample]) -> list[str]:
    """Warn of parts that enter no figure."""
    sentences = []
    failed = [s for s in scored if s.verdict.error]
    if failed:
        examples = "; ".join(f"{s.verdict.source}: {s.verdict.error}" for s in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        plural = "part" if len(failed) == 1 else "parts"
        sentences.append(
            f"{len(failed)} {plural} could not be evaluated and enter no figure. {examples}{more}"
        )
    unknown = sum(s.sample.label is None and not s.verdict.error for s in scored)
    if unknown:
        sentences.append(f"For {unknown} parts the truth is unknown; they enter no figure.")
    return sentences


def _excess_alarms(metrics: Mapping[str, Any], rule: AlarmRule) -> list[str]:
    """Warn of more false alarms than promised, and say whether the calibration can be the cause.

    The count of ``m`` good parts is beta-binomial, as the rate of a calibration is a draw from a
    beta distribution.
    """
    alarms, nominal = metrics["image"]["false_alarm_rate"], rule.false_alarm_rate
    if alarms["low"] is None or alarms["low"] <= nominal or not rule.rank:
        return []
    if rule.known_defects is not None:  # which promised no such rate
        return []
    good, count = metrics["counts"]["good"], round(alarms["value"] * metrics["counts"]["good"])
    reason = _reason_of_excess(count, good, rule)
    return [
        f"More false alarms than the nominal rate: {count} of {good} good parts "
        f"({_percent(alarms['value'])}; 95 % interval {_percent(alarms['low'])} to "
        f"{_percent(alarms['high'])}) against {_percent(nominal)}. {reason}"
    ]


def _reason_of_excess(count: int, good: int, rule: AlarmRule) -> str:
    if rule.folds:
        return (
            "A cross calibration does not bound its rate: hold out parts for calibration "
            "(calibration=split), or look for other conditions of the recording."
        )
    normals = len(rule.calibration_scores)
    chance = float(betabinom.sf(count - 1, good, rule.rank, normals + 1 - rule.rank))
    if chance < RARE:
        return (
            "The choice of the calibration parts does not explain so many: the test parts were "
            "recorded under other conditions, or are no such parts."
        )
    return (
        f"So many are within the chance of a calibration by {normals} normals "
        f"({_percent(chance)} of calibrations have as many or more). Calibrate with more good "
        "parts, or promise the rate with a confidence ('chiasm threshold --confidence 0.9')."
    )


def _few_parts(counts: Mapping[str, int]) -> list[str]:
    """Warn of too few parts of a class."""
    few = [f"{counts[n]} {n}" for n in ("good", "defective") if 0 < counts[n] < MIN_PARTS]
    if not few:
        return []
    return [
        f"Only {' and '.join(few)} parts were tested: the figures are uncertain; see the intervals."
    ]


def _shortcuts(metrics: Mapping[str, Any]) -> list[str]:
    """Warn of figures that baselines without a model reach on these data."""
    sentences = []
    model_auroc = metrics["image"]["auroc"]["value"]
    trivial = metrics["trivial"]["image"]
    if trivial and model_auroc is not None:
        name = max(trivial, key=lambda n: trivial[n]["value"] or 0)
        best = trivial[name]["value"]
        if best is not None and best > 0.8:
            relation = "better than the model" if best >= model_auroc else "close to the model"
            sentences.append(
                f"Without any model, the {name} alone would tell good from bad with an AUROC of "
                f"{best:.3f} ({relation}: {model_auroc:.3f}). On these data trust the pixel "
                "figures more than the image figures."
            )
    outline = metrics["trivial"]["pixel"]
    if outline:
        plain = outline["aupro"]["0.3"]["value"]
        model = metrics["region"]["aupro"]["0.3"]["value"]
        if plain is not None and model is not None and plain > 0.8:
            sentences.append(
                f"The object's outline alone, used as a map, has an AUPRO(0.3) of {plain:.3f} "
                f"(model: {model:.3f}). AUPRO(0.05) and pixel AP are more informative here."
            )
    return sentences


def _parts(count: int, kind: str) -> str:
    return f"{count} {kind} part{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    """Format as ``5 %``: two digits, no exponent."""
    number = "100" if share >= 0.995 else f"{100 * share:.2g}"
    return f"{number}\N{NO-BREAK SPACE}%"
