"""A trained classifier on disk: weights, contract and genotype; usable from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.decision import RULE, UnknownRule
from chiasm.diagnosis.models import named as _registers_classifiers  # noqa: F401
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.errors import ArtifactError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model
from chiasm.runs.model_folder import (
    CONTRACT,
    GENOTYPE,
    WEIGHTS,
    Strict,
    read_contract_as,
    read_weights,
    write_model,
)


class SplitDescription(Strict):
    """How training, validation and test recordings were divided.

    Attributes:
        by: kind of group that stays whole, ``random`` or ``given``.
        shares: of training, validation and test.
        seed: of the division.
        groups_by: kind of the groups that are listed; ``random`` if none are.
        training_groups: the first 16 digits of the SHA-256 of each training group's name, so that
            an evaluation can tell which recordings were trained on; empty for ``random``.
        validation_groups: the same for the groups by which epoch, temperatures and the bounds of
            'unknown' were chosen; None (unknown) in the first contracts, which did not list them.
    """

    by: str
    shares: tuple[float, float, float]
    seed: int
    groups_by: str
    training_groups: tuple[str, ...]
    validation_groups: tuple[str, ...] | None = None


class DiagnosisContract(Strict):
    """Everything that must travel with weights for a diagnosis to mean the same elsewhere.

    Attributes:
        method, arguments: registered builder's name, and its arguments as JSON; a ``fusion`` of
            ``"genotype.json"`` is that file of the folder.
        modalities: inputs of the network.
        kinds: names of the classes, in the order of the logits.
        recording: how a recording becomes the network's input.
        temperatures: divisors of the logits, chosen on validation recordings, by the modalities
            that are present (``"image+series"``, ``"image"``, ``"series"``).
        unknown_below: least belief for a diagnosis, by the modalities that are present.
        unknown: how far from the trained classes a recording is 'unknown'; None of earlier
            versions, whose belief alone decides.
        evidence_rule: in words.
        metric_versions: name to version of its definition.
        split: how the recordings were divided.
        training_data: SHA-256 over the training recordings' bytes.
        training_samples, validation_samples: numbers of recordings.
        chosen: of a method that was chosen among several, why; None of one that was named.
        weights_sha256: of ``weights.safetensors``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_name: Literal["chiasm.contract"] = Field("chiasm.contract", alias="schema")
    version: Literal[2] = 2
    wing: Literal["classifier"] = "classifier"
    method: str
    arguments: dict[str, Any]
    modalities: tuple[str, ...]
    kinds: tuple[str, ...]
    recording: RecordingForm
    temperatures: dict[str, float] = Field(default_factory=dict)
    unknown_below: dict[str, float] = Field(default_factory=dict)
    unknown: UnknownRule | None = None
    evidence_rule: str = RULE
    metric_versions: dict[str, int]
    split: SplitDescription
    training_data: str
    training_samples: int
    validation_samples: int
    seed: int
    libraries: dict[str, str]
    chosen: str | None = None
    weights_sha256: str = ""


_MOVED = ("training_data", "training_samples", "validation_samples")


def upgrade_contract(content: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON content of a contract as version 2; version 1 had more in ``split``.

    What is missing or wrong is left for the contract's own validation to report.
    """
    if content.get("version") != 1:
        return content
    split = dict(content.get("split") or {})
    moved = {name: split.pop(name) for name in _MOVED if name in split}
    if split.get("groups_by") is None and "by" in split:
        split["groups_by"] = split["by"]
        if split["by"] == "given":  # the groups of a given division were always the sessions
            split["groups_by"] = "session" if split.get("training_groups") else "random"
    return {**content, "version": 2, "split": split, **moved}


def save_model(
    folder: Path,
    network: Classifier,
    contract: DiagnosisContract,
    genotype: Genotype | None = None,
) -> None:
    """Write a classifier, with the genotype of a searched one.

    Raises ``ArtifactError`` if the folder cannot be written.
    """
    write_model(
        folder,
        network,
        contract,
        more=lambda path: None if genotype is None else genotype.save(path / GENOTYPE),
    )


def load_model(folder: Path) -> tuple[Classifier, DiagnosisContract]:
    """Read a classifier, ready for prediction; ``ArtifactError`` names the file at fault."""
    contract = read_contract(folder)
    state = read_weights(folder, contract.weights_sha256)
    arguments = dict(contract.arguments)
    if arguments.get("fusion") == GENOTYPE:
        if not (folder / GENOTYPE).is_file():
            raise ArtifactError(f"{folder} has no {GENOTYPE}: copy the whole folder of the model.")
        arguments["fusion"] = Genotype.load(folder / GENOTYPE)
    network: Classifier = find_model(contract.method).builder(**arguments)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ArtifactError(f"{folder / WEIGHTS} does not fit {CONTRACT}: {error}") from error
    return network.eval(), contract


def read_contract(folder: Path) -> DiagnosisContract:
    """Read and check a classifier's contract, of version 1 or 2."""
    return read_contract_as(folder, DiagnosisContract, wing="classifier", upgrade=upgrade_contract)
