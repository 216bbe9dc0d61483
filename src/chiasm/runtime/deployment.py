"""What an exported folder says of itself: ``deployment.json``, sealed against any change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.scales import PictureScale, SeriesScale
from chiasm.errors import ArtifactError

DEPLOYMENT = "deployment.json"
SCHEMA = "chiasm.deployment"
VERSION = 1
GRAPHS = {"openvino": "model.xml", "onnx": "model.onnx"}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the graph.

    Attributes:
        name: of the tensor.
        shape: lengths of its axes; a word for one that may have any length.
        type: of its values.
        meaning: in words, with unit and range.
    """

    name: str
    shape: tuple[int | str, ...]
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that a runtime must know, and a reader may want to.

    Attributes:
        wing: ``"detector"`` or ``"classifier"``.
        method: registered name of the model.
        format: ``"openvino"`` or ``"onnx"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        modalities: what the model looks at.
        inputs, outputs: of the graph.
        origin: what it was made from: hashes of weights and training data, seed, library versions.
        parity: what was compared with the float32 model at export, and what was found.
        files: every other file of the folder, to its SHA-256.
        preparation, geometry: of a detector's parts.
        calibration_scores: of a detector, image scores of held-out normals in this precision.
        false_alarm_rate: at which a detector decides; NaN of a classifier.
        distance: metres from the camera, least and most of the medians of the calibration parts;
            None where there is no 3D.
        recording: of a classifier's recordings.
        kinds: a classifier's classes.
        temperatures, unknown_below: by the modalities that are there, e.g. ``"image+series"``.
        notes: remarks, such as a calibration by parts that came after the export.
    """

    wing: str
    method: str
    format: str
    precision: str
    modalities: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    origin: Mapping[str, Any]
    parity: Mapping[str, Any]
    files: Mapping[str, str]
    preparation: PreparationSettings | None = None
    geometry: GeometryScale | None = None
    calibration_scores: tuple[float, ...] = ()
    false_alarm_rate: float = float("nan")
    distance: tuple[float, float] | None = None
    recording: RecordingForm | None = None
    kinds: tuple[str, ...] = ()
    temperatures: Mapping[str, float] = field(default_factory=dict)
    unknown_below: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def graph(self) -> str:
        """Name of the graph's file."""
        return GRAPHS[self.format]

    @property
    def model_hash(self) -> str:
        """SHA-256 over the hashes of the graph's files; a new calibration leaves it as it is."""
        graph = sorted((n, h) for n, h in self.files.items() if n.startswith("model."))
        return hashlib.sha256(json.dumps(graph).encode()).hexdigest()


def write_deployment(folder: Path, deployment: Deployment) -> None:
    """Seal and write ``deployment.json``; whoever reads meanwhile sees the old or the new one.

    Raises ``ArtifactError`` where the folder cannot be written.
    """
    content = {"schema": SCHEMA, "version": VERSION, **asdict(deployment)}
    if deployment.wing == "classifier":
        content["false_alarm_rate"] = None
    content["seal"] = _seal(content)
    part = folder / f".{DEPLOYMENT}.{os.getpid()}"
    try:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        part.replace(folder / DEPLOYMENT)
    except OSError as error:
        raise ArtifactError(f"{folder / DEPLOYMENT} cannot be written: {error}.") from error


def with_hashes(folder: Path, deployment: Deployment) -> Deployment:
    """The deployment with the hashes of the files that lie in the folder now."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    files = {name: _digest(folder / name) for name in names if name != DEPLOYMENT}
    return replace(deployment, files=files)


def read_deployment(folder: str | Path) -> Deployment:
    """Read an exported folder's description and check every file against its hash.

    Raises:
        ArtifactError: a file is missing or altered, or the folder is of another version.
    """
    place = Path(folder)
    path = place / DEPLOYMENT
    if not path.is_file():
        raise ArtifactError(
            f"{place} is not an exported model: it has no {DEPLOYMENT}. Make one with "
            "'chiasm export RUN --out FOLDER'."
        )
    try:
        content = json.loads(path.read_text())
        if content.pop("schema") != SCHEMA or content.pop("version") != VERSION:
            raise ArtifactError(
                f"{path} is not of version {VERSION} of {SCHEMA}; export the model again with "
                "this version of chiasm."
            )
        seal = content.pop("seal")
        found = _from_json(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); copy the folder again.") from error
    if seal != _seal({"schema": SCHEMA, "version": VERSION, **content}):
        raise ArtifactError(
            f"{path} was altered after it was written; copy the folder again, or recalibrate "
            "with 'chiasm recalibrate' rather than by hand."
        )
    for name, expected in found.files.items():
        if not (place / name).is_file():
            raise ArtifactError(f"{place} has no {name}; copy the whole folder again.")
        if _digest(place / name) != expected:
            raise ArtifactError(
                f"{place / name} is not the file that was exported (its SHA-256 differs): it was "
                "altered or cut short. Copy the folder again."
            )
    return found


def _from_json(content: dict[str, Any]) -> Deployment:
    known = dict(content)
    for name in ("inputs", "outputs"):
        known[name] = tuple(Port(**{**p, "shape": tuple(p["shape"])}) for p in known[name])
    for name in ("modalities", "calibration_scores", "kinds", "notes"):
        known[name] = tuple(known[name])
    if known["false_alarm_rate"] is None:
        known["false_alarm_rate"] = float("nan")
    if known["distance"] is not None:
        known["distance"] = tuple(known["distance"])
    if known["preparation"] is not None:
        known["preparation"] = PreparationSettings(**known["preparation"])
    if known["geometry"] is not None:
        known["geometry"] = GeometryScale(**known["geometry"])
    if known["recording"] is not None:
        form = dict(known["recording"])
        form["series"] = SeriesScale(**form["series"])
        form["picture"] = PictureScale(**form["picture"])
        known["recording"] = RecordingForm(**form)
    deployment = Deployment(**known)
    if deployment.format not in GRAPHS or deployment.wing not in ("detector", "classifier"):
        raise ValueError(f"format {deployment.format!r}, wing {deployment.wing!r}")
    return deployment


def _seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of what is said, whatever the file's layout."""
    said = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
