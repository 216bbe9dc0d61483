"""``deployment.json``: the description of an exported folder, sealed by hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from chiasm.detection.decision import AlarmRule
from chiasm.detection.preparation.acquisition import Acquisition, acquisition_from_json
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings, settings_from_json
from chiasm.diagnosis.decision import KnownClasses, UnknownRule
from chiasm.diagnosis.preparation.mixture_forest import MixtureForest
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.scales import PictureScale, SeriesScale
from chiasm.errors import ArtifactError
from chiasm.metrics.known_defects import KnownDefects

DEPLOYMENT = "deployment.json"
SCHEMA = "chiasm.deployment"
VERSION = 1
GRAPHS = {"openvino": "model.xml", "onnx": "model.onnx"}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the graph.

    Attributes:
        name: of the tensor.
        shape: lengths of its axes; a word for an axis of any length.
        type: of its values.
        meaning: in words, with unit and range.
    """

    name: str
    shape: tuple[int | str, ...]
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """The description of an exported model, for runtimes and people.

    Attributes:
        wing: ``"detector"`` or ``"classifier"``.
        method: registered name of the model.
        format: ``"openvino"`` or ``"onnx"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        modalities: inputs of the model.
        inputs, outputs: of the graph.
        origin: hashes of weights and training data, seed, library versions.
        parity: results of the comparison with the float32 model at export.
        files: name to SHA-256 of every other file of the folder.
        preparation, geometry: of a detector's parts.
        calibration_scores: image scores of a detector for held-out normals, in this precision.
        false_alarm_rate: of a detector's decision; NaN for a classifier.
        confidence: with which a calibration keeps that rate; None, as in folders of earlier
            versions, promises it on average over calibrations.
        known_defects: labelled defective parts that chose a detector's threshold; None where the
            false-alarm rate did.
        distance: smallest and largest median distance of the calibration parts from the camera, in
            metres; None without 3D.
        acquisition: how a detector's run saw its normal parts; None of earlier versions.
        recording: form of a classifier's recordings.
        kinds: a classifier's classes.
        temperatures, unknown_below: by the present modalities, e.g. ``"image+series"``.
        unknown: how far from a classifier's trained classes is 'unknown'; None of earlier versions.
        notes: remarks, for example on a later calibration.
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
    confidence: float | None = None
    known_defects: KnownDefects | None = None
    distance: tuple[float, float] | None = None
    acquisition: Acquisition | None = None
    recording: RecordingForm | None = None
    kinds: tuple[str, ...] = ()
    temperatures: Mapping[str, float] = field(default_factory=dict)
    unknown_below: Mapping[str, float] = field(default_factory=dict)
    unknown: UnknownRule | None = None
    notes: tuple[str, ...] = ()

    @property
    def alarm_rule(self) -> AlarmRule:
        """How a detector's scores become decisions: threshold, p-values and promise."""
        return AlarmRule(
            self.calibration_scores,
            self.false_alarm_rate,
            self.confidence,
            known_defects=self.known_defects,
        )

    @property
    def graph(self) -> str:
        """Name of the graph's file."""
        return GRAPHS[self.format]

    @property
    def model_hash(self) -> str:
        """SHA-256 over the hashes of the graph's files; a new calibration does not change it."""
        graph = sorted((n, h) for n, h in self.files.items() if n.startswith("model."))
        return hashlib.sha256(json.dumps(graph).encode()).hexdigest()


def write_deployment(folder: Path, deployment: Deployment) -> None:
    """Seal and write ``deployment.json``, in one step for other readers.

    Raises ``ArtifactError`` if the folder cannot be written.
    """
    content = {"schema": SCHEMA, "version": VERSION, **asdict(deployment)}
    if deployment.wing == "classifier":
        content["false_alarm_rate"] = None
    else:
        content["threshold"] = deployment.alarm_rule.threshold  # for programs in other languages
    content["seal"] = _seal(content)
    temporary = folder / f".{DEPLOYMENT}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        temporary.replace(folder / DEPLOYMENT)
    except OSError as error:
        raise ArtifactError(f"{folder / DEPLOYMENT} cannot be written: {error}.") from error


def with_hashes(folder: Path, deployment: Deployment) -> Deployment:
    """Return the deployment with the hashes of the folder's present files."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    files = {name: _digest(folder / name) for name in names if name != DEPLOYMENT}
    return replace(deployment, files=files)


def read_deployment(folder: str | Path) -> Deployment:
    """Read an exported folder's description and check every file against its hash.

    Raises:
        ArtifactError: a file is missing or altered, or the folder is of another version.
    """
    folder = Path(folder)
    path = folder / DEPLOYMENT
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not an exported model: it has no {DEPLOYMENT}. Make one with "
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
        deployment = _from_json(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); copy the folder again.") from error
    if seal != _seal({"schema": SCHEMA, "version": VERSION, **content}):
        raise ArtifactError(
            f"{path} was altered after it was written; copy the folder again, or recalibrate "
            "with 'chiasm recalibrate' rather than by hand."
        )
    for name, expected in deployment.files.items():
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder} has no {name}; copy the whole folder again.")
        if _digest(folder / name) != expected:
            raise ArtifactError(
                f"{folder / name} is not the file that was exported (its SHA-256 differs): it was "
                "altered or cut short. Copy the folder again."
            )
    return deployment


def _from_json(content: dict[str, Any]) -> Deployment:
    fields = dict(content)
    fields.pop("threshold", None)  # follows from the scores and the rate
    for name in ("inputs", "outputs"):
        fields[name] = tuple(Port(**{**p, "shape": tuple(p["shape"])}) for p in fields[name])
    for name in ("modalities", "calibration_scores", "kinds", "notes"):
        fields[name] = tuple(fields[name])
    if fields["false_alarm_rate"] is None:
        fields["false_alarm_rate"] = float("nan")
    if fields["distance"] is not None:
        fields["distance"] = tuple(fields["distance"])
    if fields["preparation"] is not None:
        fields["preparation"] = settings_from_json(fields["preparation"])
    fields["acquisition"] = acquisition_from_json(fields.get("acquisition"))
    if (known := fields.get("known_defects")) is not None:
        lists = {name: tuple(known[name]) for name in ("defects", "files")}
        fields["known_defects"] = KnownDefects(**{**known, **lists})
    if fields["geometry"] is not None:
        fields["geometry"] = GeometryScale(**fields["geometry"])
    if fields["recording"] is not None:
        form = dict(fields["recording"])
        form["series"] = SeriesScale(**form["series"])
        form["picture"] = PictureScale(**form["picture"])
        fields["recording"] = RecordingForm(**form)
    if (rule := fields.get("unknown")) is not None:
        known = {modality: _known(classes) for modality, classes in rule["known"].items()}
        fields["unknown"] = UnknownRule(**{**rule, "known": known})
    deployment = Deployment(**fields)
    if deployment.format not in GRAPHS or deployment.wing not in ("detector", "classifier"):
        raise ValueError(f"format {deployment.format!r}, wing {deployment.wing!r}")
    return deployment


def _known(classes: Mapping[str, Any]) -> KnownClasses:
    forest = classes.get("mixtures")
    return KnownClasses(
        **{
            **classes,
            **{name: tuple(classes[name]) for name in ("kinds", "lengths", "angles")},
            "mixtures": None if forest is None else MixtureForest(**forest),
        }
    )


def _seal(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content, independent of the file's layout."""
    sealed = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
