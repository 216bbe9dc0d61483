"""The end of a classifier's training: calibration on validation recordings, and its folder."""

from __future__ import annotations

import numpy as np

from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.contract import DiagnosisContract, SplitDescription, save_model
from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.decision import Array, combined_opinion, support, weakest_accepted
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.fusion.genotype import Genotype
from chiasm.metrics import VERSIONS
from chiasm.metrics.calibration import fit_temperature, softmax
from chiasm.metrics.classification import macro_f1
from chiasm.runs.model_folder import library_versions

# Where every validation recording is recognised, the likelihood asks for ever lower ones.
TEMPERATURES = (0.5, 10.0)


def save(network: Classifier, data: DiagnosisDataModule) -> float:
    """Calibrate on the validation recordings and write the model's folder; returns macro-F1.

    That is of the recordings that have all modalities, or of all by what each has where none does.
    """
    contract = blank_contract(data)
    seen = DiagnosisPredictor(network, contract).observe(data.store, data.split.validation)
    temperatures, thresholds = calibrate(seen.logits, seen.labels, share=data.config.unknown_share)
    contract = contract.model_copy(
        update={"temperatures": temperatures, "unknown_below": thresholds}
    )
    genotype = data.fusion if isinstance(data.fusion, Genotype) else None
    save_model(data.config.out / "model", network, contract, genotype)
    logits = seen.logits["+".join(contract.modalities)]
    whole = ~np.isnan(logits).any(axis=1)
    if not whole.any():
        for one in seen.logits.values():
            logits = np.where(np.isnan(logits), one, logits)
        whole = np.ones(len(logits), dtype=bool)
    guesses = logits[whole].argmax(axis=1)
    return macro_f1(seen.labels[whole], guesses, len(contract.kinds))


def calibrate(
    logits: dict[str, Array], labels: np.ndarray, *, share: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Temperatures and least beliefs, by the modalities that were shown."""
    there = {key: ~np.isnan(z).any(axis=1) for key, z in logits.items()}
    temperatures = {
        key: fit_temperature(z[there[key]], labels[there[key]], bounds=TEMPERATURES)
        if there[key].any()
        else 1.0
        for key, z in logits.items()
    }
    thresholds = {}
    for key, z in logits.items():
        rows = there[key]
        parts = {name: logits[name][rows] for name in key.split("+")}
        probabilities = softmax(z[rows], temperature=temperatures[key])
        opinion, _ = combined_opinion(parts, temperatures)
        right = probabilities.argmax(axis=1) == labels[rows]
        thresholds[key] = weakest_accepted(support(opinion, probabilities), right, share=share)
    return temperatures, thresholds


def blank_contract(data: DiagnosisDataModule) -> DiagnosisContract:
    """The contract before calibration."""
    config, form = data.config, data.form
    return DiagnosisContract(
        method=config.model,
        arguments=data.arguments(),
        modalities=config.modalities,
        kinds=data.store.kinds,
        recording=RecordingForm(
            image_size=form.image_size,
            channels=data.channels,
            samples_per_cycle=data.samples_per_cycle,
            segment=form.segment,
            series=form.scale,
            picture=form.picture,
            seconds=form.seconds,
            windows=config.windows,
        ),
        split=SplitDescription(
            by=config.split_by,
            shares=config.shares,
            seed=config.seed,
            training_groups=data.training_groups(),
            validation_groups=data.validation_groups(),
            groups_by=data.groups_by,
            training_data=data.training_data(),
            training_samples=len(data.split.train),
            validation_samples=len(data.split.validation),
        ),
        metric_versions=dict(VERSIONS),
        seed=config.seed,
        libraries=library_versions(),
    )
