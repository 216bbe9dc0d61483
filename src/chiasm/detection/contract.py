"""A trained model on disk: weights, contract and genotype; usable from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from chiasm.detection.detector import Detector
from chiasm.detection.models import named as _registers_detectors  # noqa: F401
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.errors import ArtifactError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model
from chiasm.runs.model_folder import (
    CONTRACT,
    GENOTYPE,
    WEIGHTS,
    Strict,
    library_versions,
    parameter_count,
    read_contract_as,
    read_weights,
    write_model,
)

__all__ = [
    "DetectionContract",
    "Preparation",
    "library_versions",
    "load_model",
    "parameter_count",
    "read_contract",
    "save_model",
]


class Preparation(Strict):
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


class DetectionContract(Strict):
    """Everything that must travel with weights for a score to mean the same elsewhere.

    Attributes:
        method: registered builder's name.
        arguments: of the builder, as JSON.
        fusion: ``"genotype"``, ``"concatenation"`` or, of a rival, ``"none"``.
        modalities: what the model looks at.
        missing_point: what marks a missing 3D point.
        units: of xyz.
        score_rule: in words; its two weights are among the weights.
        calibration_scores: raw image scores of held-out normals, for conformal p-values.
        false_alarm_rate: at which decisions are made.
        distance: metres from the camera, least and most of the calibration parts' medians; None
            without 3D, or where it was not noted.
        metric_versions: name to version of its definition.
        training_data: hash over the contents of the training files.
        weights_sha256: of ``weights.safetensors``.
    """

    schema_name: Literal["chiasm.contract"] = Field("chiasm.contract", alias="schema")
    version: Literal[1] = 1
    method: str
    arguments: dict[str, Any]
    fusion: Literal["genotype", "concatenation", "none"]
    modalities: tuple[str, ...]
    preparation: Preparation
    units: Literal["metres"] = "metres"
    missing_point: Literal["xyz = 0"] = "xyz = 0"
    score_rule: str
    calibration_scores: tuple[float, ...]
    false_alarm_rate: float
    distance: tuple[float, float] | None = None
    metric_versions: dict[str, int]
    training_data: str
    training_samples: int
    seed: int
    backbone_weights: str | None = None
    libraries: dict[str, str]
    weights_sha256: str = ""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def save_model(
    folder: Path, detector: Detector, contract: DetectionContract, genotype: Genotype | None
) -> None:
    """Write weights, genotype and, last, the contract: a folder is whole or not a model.

    Raises ``ArtifactError`` where the folder cannot be written.
    """
    write_model(
        folder,
        detector,
        contract,
        more=lambda place: None if genotype is None else genotype.save(place / GENOTYPE),
    )


def load_model(folder: Path) -> tuple[Detector, DetectionContract, Genotype | None]:
    """Read a model, ready for prediction; ``ArtifactError`` says which file is at fault."""
    contract = read_contract(folder)
    state = read_weights(folder, contract.weights_sha256)
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
    builder = find_model(contract.method).builder
    given = () if contract.fusion == "none" else (fusion,)
    detector: Detector = builder(*given, modalities=contract.modalities, **arguments)
    try:
        if isinstance(detector, AdnasDetector):
            # What is left out at inference depends on the score rule, so that comes first.
            detector.set_score_rule(
                head=float(state["head_weight"]), normality=float(state["normality_weight"])
            )
            detector.prune()
        detector.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        raise ArtifactError(
            f"{folder / WEIGHTS} does not fit {CONTRACT} and {GENOTYPE}: {error}"
        ) from error
    return detector.eval(), contract, genotype


def read_contract(folder: Path) -> DetectionContract:
    """Read and check a model's contract."""
    return read_contract_as(folder, DetectionContract, wing="detector")
