"""Calibrate a trained classifier on validation recordings, and write its folder."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.contract import DiagnosisContract, SplitDescription, save_model
from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.decision import (
    RULES,
    Array,
    UnknownRule,
    combined_opinion,
    support,
    weakest_accepted,
)
from chiasm.diagnosis.predictor import DiagnosisPredictor, NetworkOutputs
from chiasm.diagnosis.training.known_classes import DescribedRecordings, fit_unknown_rule
from chiasm.fusion.genotype import Genotype
from chiasm.metrics import versions
from chiasm.metrics.calibration import fit_temperature, softmax
from chiasm.metrics.classification import macro_f1
from chiasm.runs.console import say
from chiasm.runs.model_folder import library_versions
from chiasm.training.progress import counted

# If every validation recording is classified right, the likelihood has no minimum in between.
TEMPERATURES = (0.5, 10.0)


def validation_outputs(network: Classifier, data: DiagnosisDataModule) -> NetworkOutputs:
    """Return what a network says of the validation recordings, with all modalities and each."""
    refs = counted("Calibrating", data.split.validation, unit="recordings")
    samples = (data.store.load(ref) for ref in refs)
    return DiagnosisPredictor(network, uncalibrated_contract(data)).outputs(samples)


def calibrate_and_save(
    network: Classifier, data: DiagnosisDataModule, described: DescribedRecordings | None = None
) -> float:
    """Calibrate on the validation recordings, write the model's folder, and return macro-F1.

    Macro-F1 is of the recordings that have all modalities or, if there are none, of all
    recordings by what each one has. ``described`` are the recordings of the run; None describes
    them.
    """
    contract = uncalibrated_contract(data)
    outputs = validation_outputs(network, data)
    right = {key: z.argmax(axis=1) == outputs.labels for key, z in outputs.logits.items()}
    rule = fit_unknown_rule(data, right, described)
    few = max(int(is_right.sum()) for is_right in right.values())
    if few * rule.share < 1:
        say(
            f"The limit of 'unknown' rests on {few} right validation diagnos"
            f"{'is' if few == 1 else 'es'}: on new recordings far more than {rule.share:.0%} may "
            "be called so. More validation recordings mend it, e.g. shares=0.6,0.2,0.2."
        )
    temperatures, thresholds = calibrate(
        outputs.logits, outputs.labels, share=belief_share(rule), without=decided_by_distance(rule)
    )
    contract = contract.model_copy(
        update={
            "temperatures": temperatures,
            "unknown_below": thresholds,
            "unknown": rule,
            "evidence_rule": RULES[rule.by],
        }
    )
    genotype = data.fusion if isinstance(data.fusion, Genotype) else None
    save_model(data.config.out / "model", network, contract, genotype)
    logits = outputs.logits["+".join(contract.modalities)]
    complete = ~np.isnan(logits).any(axis=1)
    if not complete.any():
        for single in outputs.logits.values():
            logits = np.where(np.isnan(logits), single, logits)
        complete = np.ones(len(logits), dtype=bool)
    guesses = logits[complete].argmax(axis=1)
    return macro_f1(outputs.labels[complete], guesses, len(contract.kinds))


def belief_share(rule: UnknownRule) -> float:
    """Return the share of the right diagnoses that too small a belief may make 'unknown'."""
    return rule.share / 2 if rule.by == "both" else rule.share


def decided_by_distance(rule: UnknownRule) -> tuple[str, ...]:
    """Return the modalities for which the distance alone decides; for all others belief does."""
    return tuple(rule.limits) if rule.by == "distance" else ()


def calibrate(
    logits: dict[str, Array],
    labels: np.ndarray,
    *,
    share: float,
    without: Collection[str] = (),
) -> tuple[dict[str, float], dict[str, float]]:
    """Return temperatures and least beliefs, by the modalities that are present.

    Args:
        logits: modalities to ``(N, K)``; NaN for a recording that lacks one of them.
        labels: ``(N,)``.
        share: of the right diagnoses that may become 'unknown'.
        without: modalities for which no least belief is chosen.
    """
    present = {key: ~np.isnan(z).any(axis=1) for key, z in logits.items()}
    temperatures = {
        key: fit_temperature(z[present[key]], labels[present[key]], bounds=TEMPERATURES)
        if present[key].any()
        else 1.0
        for key, z in logits.items()
    }
    thresholds = {}
    for key, z in logits.items():
        if key in without:
            continue
        rows = present[key]
        single = {name: logits[name][rows] for name in key.split("+")}
        probabilities = softmax(z[rows], temperature=temperatures[key])
        opinion, _ = combined_opinion(single, temperatures)
        right = probabilities.argmax(axis=1) == labels[rows]
        thresholds[key] = weakest_accepted(support(opinion, probabilities), right, share=share)
    return temperatures, thresholds


def uncalibrated_contract(data: DiagnosisDataModule) -> DiagnosisContract:
    """Return the contract before calibration."""
    config = data.config
    return DiagnosisContract(
        method=config.model,
        arguments=data.arguments(),
        modalities=config.modalities,
        kinds=data.store.kinds,
        recording=data.form,
        metric_versions=versions(),
        split=SplitDescription(
            by=config.split_by,
            shares=config.shares,
            seed=config.seed,
            groups_by=data.groups_by,
            training_groups=data.training_groups(),
            validation_groups=data.validation_groups(),
        ),
        training_data=data.training_data(),
        training_samples=len(data.split.train),
        validation_samples=len(data.split.validation),
        seed=config.seed,
        libraries=library_versions(),
    )
