"""A trained detector on disk: weights, contract and genotype, usable from their folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from chiasm.detection.config import DetectionConfig
from chiasm.detection.decision import AlarmRule
from chiasm.detection.detector import Detector
from chiasm.detection.layers.image_score import ImageScoreRule
from chiasm.detection.layers.tiled import TiledDetector
from chiasm.detection.models import named as _registers_detectors  # noqa: F401
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.preparation.tiles import TilePlan
from chiasm.errors import ArtifactError
from chiasm.fusion.genotype import Genotype
from chiasm.metrics.known_defects import KnownDefects
from chiasm.registry import find_model
from chiasm.runs.model_folder import (
    CONTRACT,
    GENOTYPE,
    WEIGHTS,
    Strict,
    model_folder,
    read_contract_as,
    read_weights,
    write_model,
)

SETTINGS = "config.yaml"  # of a run

Fusion = Literal["genotype", "concatenation", "none"]


class DetectionContract(Strict):
    """Everything that must travel with weights for a score to mean the same elsewhere.

    Attributes:
        method, arguments: registered builder's name, and its arguments as JSON.
        fusion: ``"genotype"``, ``"concatenation"``, or ``"none"`` of a baseline.
        modalities: inputs of the model.
        preparation, geometry: how a sample becomes the model's input.
        missing_point: mark of a missing 3D point.
        units: of xyz.
        score_rule: in words; its two weights are among the weights.
        image_score: how a map becomes the score of its part; that of models that were saved
            without it is the default.
        calibration_scores: image-level scores of held-out normals, for conformal p-values.
        false_alarm_rate: at which decisions are made.
        confidence: with which a calibration keeps that rate; None, as in models of earlier
            versions, promises it on average over calibrations.
        calibration_folds: of a cross calibration; 0 where calibration normals were held out.
        known_defects: labelled defective parts that chose the threshold; None where the false-alarm
            rate did.
        distance: metres from the camera, least and most of the calibration parts' medians; None
            without 3D, or where it was not recorded.
        acquisition: how the run saw its normal parts: lamp, frames, colours, how much is looked
            at; None of earlier versions.
        tiles: in which the crop is looked at; None, which is not written, is the whole crop.
        metric_versions: name to version of its definition.
        training_data: hash over the contents of the training files.
        weights_sha256: of ``weights.safetensors``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_name: Literal["chiasm.contract"] = Field("chiasm.contract", alias="schema")
    version: Literal[2] = 2
    wing: Literal["detector"] = "detector"
    method: str
    arguments: dict[str, Any]
    fusion: Fusion
    modalities: tuple[str, ...]
    preparation: PreparationSettings
    geometry: GeometryScale
    units: Literal["metres"] = "metres"
    missing_point: Literal["xyz = 0"] = "xyz = 0"
    score_rule: str
    image_score: ImageScoreRule = ImageScoreRule()
    calibration_scores: tuple[float, ...]
    false_alarm_rate: float
    confidence: float | None = None
    calibration_folds: int = 0
    known_defects: KnownDefects | None = None
    distance: tuple[float, float] | None = None
    acquisition: Acquisition | None = None
    tiles: TilePlan | None = None
    metric_versions: dict[str, int]
    training_data: str
    training_samples: int
    seed: int
    backbone_weights: str | None = None
    libraries: dict[str, str]
    weights_sha256: str = ""

    @model_serializer(mode="wrap")
    def _without_tiles(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if self.tiles is None:
            del content["tiles"]
        return content

    @property
    def alarm_rule(self) -> AlarmRule:
        """How scores become decisions: threshold, p-values and promise."""
        return AlarmRule(
            self.calibration_scores,
            self.false_alarm_rate,
            self.confidence,
            folds=self.calibration_folds,
            known_defects=self.known_defects,
        )


def upgrade_contract(content: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON content of a contract as version 2; version 1 had the records retyped.

    What is missing or wrong is left for the contract's own validation to report.
    """
    retyped = content.get("preparation")
    if content.get("version") != 1 or not isinstance(retyped, dict) or "size" not in retyped:
        return content
    preparation = dict(retyped)
    geometry = {
        name: preparation.pop(f"geometry_{name}")
        for name in ("kind", "height", "smoothing")
        if f"geometry_{name}" in preparation
    }
    arguments = dict(content.get("arguments") or {})
    if "capacity" in arguments:
        arguments["memory_entries"] = arguments.pop("capacity")
    return {
        **content,
        "version": 2,
        "arguments": arguments,
        "preparation": preparation,
        "geometry": geometry,
    }


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
    """Read a model, ready for prediction; ``ArtifactError`` names the file at fault."""
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
    positional = () if contract.fusion == "none" else (fusion,)
    detector: Detector = builder(*positional, modalities=contract.modalities, **arguments)
    if contract.tiles is not None:
        detector = TiledDetector(detector, contract.tiles)
    try:
        detector.restore(state)
    except (RuntimeError, KeyError) as error:
        raise ArtifactError(
            f"{folder / WEIGHTS} does not fit {CONTRACT} and {GENOTYPE}: {error}"
        ) from error
    detector.image_rule = contract.image_score
    return detector.eval(), contract, genotype


def read_contract(folder: Path) -> DetectionContract:
    """Read and check a model's contract, of version 1 or 2."""
    return read_contract_as(folder, DetectionContract, wing="detector", upgrade=upgrade_contract)


def acquisition_of(folder: Path, contract: DetectionContract) -> Acquisition | None:
    """Return how a run saw its parts; of earlier versions, what the run's settings say.

    Args:
        folder: of the run, or of its model.
        contract: of the model.
    """
    if contract.acquisition is not None:
        return contract.acquisition
    settings = model_folder(folder).parent / SETTINGS
    lamp = DetectionConfig.make(file=settings).lamp if settings.is_file() else None
    if lamp is None:
        return None
    return Acquisition(lamp=lamp, lamps=(lamp,) if isinstance(lamp, int) else ())
