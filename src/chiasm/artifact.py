"""A trained model on disk: weights, contract and genotype; usable from its folder alone."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from chiasm.detectors import adnas as _registers_detectors  # noqa: F401
from chiasm.detectors.adnas import AdnasDetector
from chiasm.errors import ArtifactError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model

WEIGHTS = "weights.safetensors"
CONTRACT = "contract.json"
GENOTYPE = "genotype.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preparation(_Strict):
    """How a sample becomes the network's input; all lengths in metres, shares of the frame's side.

    Attributes:
        size: side of the crop in pixels.
        remove_background: whether support plane and other objects are removed.
        plane_distance, plane_margin: of the support plane's fit and removal; None is automatic.
        crop_fraction: side of the crop as a share of the frame's longer side.
        geometry: kind, height (metres that become 1) and smoothing of the geometry picture.
    """

    size: int
    remove_background: bool = True
    plane_distance: float | None = None
    plane_margin: float | None = None
    crop_fraction: float | None = None
    geometry_kind: Literal["height_slopes", "depth"] = "height_slopes"
    geometry_height: float = 0.05
    geometry_smoothing: float = 1.0


class Contract(_Strict):
    """Everything that must travel with weights for a score to mean the same elsewhere.

    Attributes:
        method: registered builder's name.
        arguments: of the builder, as JSON.
        fusion: ``"genotype"`` or ``"concatenation"``.
        modalities: what the model looks at.
        missing_point: what marks a missing 3D point.
        units: of xyz.
        score_rule: in words; its two weights are among the weights.
        calibration_scores: raw image scores of held-out normals, for conformal p-values.
        false_alarm_rate: at which decisions are made.
        metric_versions: name to version of its definition.
        training_data: hash over the contents of the training files.
        weights_sha256: of ``weights.safetensors``.
    """

    schema_name: Literal["chiasm.contract"] = Field("chiasm.contract", alias="schema")
    version: Literal[1] = 1
    method: str
    arguments: dict[str, Any]
    fusion: Literal["genotype", "concatenation"]
    modalities: tuple[str, ...]
    preparation: Preparation
    units: Literal["metres"] = "metres"
    missing_point: Literal["xyz = 0"] = "xyz = 0"
    score_rule: str
    calibration_scores: tuple[float, ...]
    false_alarm_rate: float
    metric_versions: dict[str, int]
    training_data: str
    training_samples: int
    seed: int
    backbone_weights: str | None = None
    libraries: dict[str, str]
    weights_sha256: str = ""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def library_versions() -> dict[str, str]:
    """Versions of what computes scores."""
    names = ("chiasm", "torch", "numpy", "scipy", "opencv-python-headless")
    return {name: importlib.metadata.version(name) for name in names}


def save_artifact(
    folder: Path, detector: AdnasDetector, contract: Contract, genotype: Genotype | None
) -> None:
    """Write weights, genotype and, last, the contract: a folder is whole or not a model.

    Raises ``ArtifactError`` where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in detector.state_dict().items()}
        temporary = folder / f".{WEIGHTS}.{os.getpid()}"
        save_file(weights, temporary)
        temporary.replace(folder / WEIGHTS)
        if genotype is not None:
            genotype.save(folder / GENOTYPE)
        whole = contract.model_copy(update={"weights_sha256": _digest(folder / WEIGHTS)})
        temporary = folder / f".{CONTRACT}.{os.getpid()}"
        temporary.write_text(whole.model_dump_json(indent=2, by_alias=True) + "\n")
        temporary.replace(folder / CONTRACT)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"The model could not be written to {folder}: {error}. Free some space, or choose a "
            "folder that you may write to."
        ) from error


def load_artifact(folder: Path) -> tuple[AdnasDetector, Contract, Genotype | None]:
    """Read a model, ready for prediction; ``ArtifactError`` says which file is at fault."""
    contract = read_contract(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ArtifactError(f"{folder} has no {WEIGHTS}: copy the whole folder of the model.")
    if _digest(weights) != contract.weights_sha256:
        raise ArtifactError(
            f"{weights} is not the file that the contract was written for (its SHA-256 differs): "
            "it was altered or cut short. Copy the model's folder again."
        )
    genotype: Genotype | None = None
    fusion: Genotype | str = contract.fusion
    if contract.fusion == "genotype":
        if not (folder / GENOTYPE).is_file():
            raise ArtifactError(f"{folder} has no {GENOTYPE}: copy the whole folder of the model.")
        genotype = Genotype.load(folder / GENOTYPE)
        fusion = genotype
    arguments = dict(contract.arguments)
    if contract.backbone_weights is not None:
        arguments["pretrained"] = False
    detector = find_model(contract.method).builder(
        fusion, modalities=contract.modalities, **arguments
    )
    try:
        state = load_file(weights)
        # What is left out at inference depends on the score rule, so that comes first.
        detector.set_score_rule(
            head=float(state["head_weight"]), normality=float(state["normality_weight"])
        )
        detector.prune()
        detector.load_state_dict(state)
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"{weights} does not fit {CONTRACT} and {GENOTYPE}: {error}") from error
    return detector.eval(), contract, genotype


def read_contract(folder: Path) -> Contract:
    """Read and check a model's contract."""
    path = folder / CONTRACT
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not a model's folder: it has no {CONTRACT}. Name the folder that "
            "'chiasm train' wrote (its 'model' folder)."
        )
    try:
        return Contract.model_validate(json.loads(path.read_text()))
    except (ValidationError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not a contract of version 1: {error}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parameter_count(detector: torch.nn.Module) -> int:
    """Number of parameters, memories not counted."""
    return sum(p.numel() for p in detector.parameters())
