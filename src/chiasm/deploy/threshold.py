"""Another false-alarm rate or confidence for a model that is trained or exported."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chiasm.detection.decision import AlarmRule, percent
from chiasm.detection.prediction.known_defects import choose_by_defects
from chiasm.detection.products.models import folder_of_product, read_products
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runtime.deployment import DEPLOYMENT, Deployment, read_deployment, write_deployment


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """The rules before and after a change.

    Attributes:
        before, after: equal where nothing was asked for.
        backup: file of the earlier calibration; None where nothing was changed.
    """

    before: AlarmRule
    after: AlarmRule
    backup: Path | None

    def __str__(self) -> str:
        if self.backup is None:
            return f"Threshold: {_shown(self.before)}. {self.before.promise}"
        return (
            f"Before: threshold {_shown(self.before)}. {self.before.promise}\n"
            f"Now: threshold {_shown(self.after)}. {self.after.promise}\n"
            f"The former threshold is kept as {self.backup}."
        )


def set_threshold(
    folder: Path,
    *,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    on_average: bool = False,
    defects: Path | None = None,
    miss_rate: float | None = None,
) -> ThresholdChange:
    """Promise another false-alarm rate by the same calibration scores, or let known defects choose.

    A running service that watches an exported folder adopts it. Outputs ``p_value`` and
    ``defective`` of the graph itself stay those of the export.

    Args:
        folder: written by ``chiasm export``, a run's folder, or a model's.
        false_alarm_rate: None keeps the model's.
        confidence: with which a calibration keeps the rate; None keeps the model's.
        on_average: promise the rate on average over calibrations, whatever was promised before.
        defects: folder or table of labelled defective parts, which choose the threshold instead of
            the rate: of the best F1, or by ``miss_rate``.
        miss_rate: share of such defects that may be missed.

    Raises:
        SplitError: there are too few calibration scores; it says how many are needed.
        ConfigurationError: the model has no threshold, a number is not in (0, 1), or ``confidence``
            and ``on_average`` are both given.
        ArtifactError: the folder is broken or cannot be written.
    """
    if on_average and confidence is not None:
        raise ConfigurationError(
            f"A confidence of {confidence:g} and a promise on average exclude each other; give one."
        )
    before, write = _opened(folder)
    rated = false_alarm_rate is not None or confidence is not None or on_average
    if defects is not None or miss_rate is not None:
        if rated or defects is None:
            raise ConfigurationError(
                "A miss rate needs known defects (--defects FOLDER)."
                if defects is None
                else "Known defects choose the threshold instead of a false-alarm rate; give one."
            )
        known = choose_by_defects(_model(folder), defects, miss_rate=miss_rate)
        after = replace(before, known_defects=known)
        return ThresholdChange(before, after, write(after))
    after = rule_at(before, false_alarm_rate, confidence, on_average)
    if not rated:
        return ThresholdChange(before, before, None)
    return ThresholdChange(before, after, write(after.require()))


def rule_at(
    before: AlarmRule, rate: float | None, confidence: float | None, on_average: bool
) -> AlarmRule:
    """Return a rule that promises another rate by the same scores; None keeps the rule's.

    It may have no threshold where the scores are too few, see ``AlarmRule.require``.
    """
    kept = before.confidence if confidence is None else confidence
    return replace(
        before,
        known_defects=None,
        false_alarm_rate=before.false_alarm_rate if rate is None else rate,
        confidence=None if on_average else kept,
    )


def set_thresholds(
    folder: Path,
    *,
    product: str | None = None,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    on_average: bool = False,
    defects: Path | None = None,
    miss_rate: float | None = None,
) -> dict[str, ThresholdChange]:
    """Change the threshold of a model, or of several products those of one or of all.

    Returns the changes by product; of a model of one product, its change under ``""``.

    Args:
        product: of a model of several; None means all of them.
        folder, false_alarm_rate, confidence, on_average, defects, miss_rate: see ``set_threshold``.

    Raises:
        ConfigurationError: there is no such product, or known defects are to choose the thresholds
            of several.
    """
    products = read_products(folder)
    if product is not None or not products:
        chosen = {product or "": folder_of_product(folder, product)}
    elif defects is not None:
        raise ConfigurationError(
            f"Known defects are of one product, and {folder} has {len(products)}; name it: "
            f"--product {products[0].name}."
        )
    else:
        chosen = {each.name: folder / each.folder for each in products}
        if false_alarm_rate is not None or confidence is not None:
            for one in chosen.values():  # before any is changed
                rule_at(_opened(one)[0], false_alarm_rate, confidence, on_average).require()
    return {
        name: set_threshold(
            one,
            false_alarm_rate=false_alarm_rate,
            confidence=confidence,
            on_average=on_average,
            defects=defects,
            miss_rate=miss_rate,
        )
        for name, one in chosen.items()
    }


def _opened(folder: Path) -> tuple[AlarmRule, Callable[[AlarmRule], Path]]:
    """Return the rule of a folder, and the function that replaces it and names the backup."""
    if (folder / DEPLOYMENT).is_file():
        deployment = read_deployment(folder)
        if deployment.wing != "detector":
            raise ConfigurationError(f"{folder} holds a {deployment.wing}, which has no threshold.")
        note = f"{time.strftime('%Y-%m-%d', time.gmtime())}: "

        def replaced(rule: AlarmRule) -> Path:
            words = f"{note}threshold of {percent(rule.false_alarm_rate)} false alarms, " + (
                "on average."
                if rule.confidence is None
                else f"with {percent(rule.confidence)} confidence."
            )
            if rule.known_defects is not None:
                words = f"{note}threshold by {len(rule.known_defects.defects)} known defects."
            changed = replace(
                deployment,
                false_alarm_rate=rule.false_alarm_rate,
                confidence=rule.confidence,
                known_defects=rule.known_defects,
                notes=(*deployment.notes, words),
            )
            return replace_deployment(folder, changed)

        return deployment.alarm_rule, replaced
    # A station without PyTorch has exported folders alone.
    from chiasm.detection.contract import read_contract
    from chiasm.runs.model_folder import CONTRACT, model_folder, write_contract

    model = model_folder(folder)
    contract = read_contract(model)

    def rewritten(rule: AlarmRule) -> Path:
        backup = back_up(model / CONTRACT)
        changed = {
            name: getattr(rule, name)
            for name in ("false_alarm_rate", "confidence", "known_defects")
        }
        try:
            write_contract(model, contract.model_copy(update=changed))
        except OSError as error:
            raise ArtifactError(f"{model / CONTRACT} cannot be written: {error}.") from error
        return backup

    return contract.alarm_rule, rewritten


def _model(folder: Path) -> Any:
    """Load what a folder holds: an exported detector, or a trained one."""
    if (folder / DEPLOYMENT).is_file():
        from chiasm.runtime import load

        return load(folder)
    from chiasm.detection.predictor import DetectionPredictor

    return DetectionPredictor.load(folder)


def replace_deployment(folder: Path, deployment: Deployment) -> Path:
    """Write another ``deployment.json``; return the file that keeps the former one.

    Raises ``ArtifactError`` if the folder cannot be written.
    """
    backup = back_up(folder / DEPLOYMENT)
    write_deployment(folder, deployment)
    return backup


def back_up(path: Path) -> Path:
    """Copy a file to one named by the time of its replacement, which no earlier copy has.

    Raises ``ArtifactError`` if the folder cannot be written.
    """
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for number in itertools.count(1):
        name = moment if number == 1 else f"{moment}-{number}"
        backup = path.with_name(f"{path.stem}.until-{name}{path.suffix}")
        try:
            with backup.open("xb") as stream:
                stream.write(path.read_bytes())
        except FileExistsError:
            continue
        except OSError as error:
            raise ArtifactError(
                f"{path} was not changed, because {backup} cannot be written: {error}."
            ) from error
        return backup
    raise AssertionError  # there are more numbers


def _shown(rule: AlarmRule) -> str:
    threshold = rule.threshold
    return "none" if threshold is None else f"{threshold:.4g}"
