"""A detector's run to a folder that runs without torch, refused where it is not the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.deploy.detection_graph import OUTPUTS, DetectorGraph, detector_graph
from chiasm.deploy.detection_parity import Parity, compare, insist
from chiasm.deploy.graph_files import set_calibration, write_onnx, write_openvino
from chiasm.deploy.model_card import detector_card
from chiasm.deploy.whole_folder import whole_folder
from chiasm.detection.anomalies.generators import synthesise, validation_generator
from chiasm.detection.config import DetectionConfig
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.distance import distance_range
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.splits import make_splits
from chiasm.errors import ArtifactError
from chiasm.runtime.deployment import GRAPHS, Deployment, Port, with_hashes, write_deployment
from chiasm.runtime.detection import DetectionRuntime
from chiasm.samples import PreparedSample

Judged = list[tuple[NDArray[np.float32], float]]

_MEANING = {
    "rgb": "colour of the prepared crop, in [0, 1]",
    "geometry": "height above the support plane and two slopes of the prepared crop, in [0, 1]",
    "foreground": "1 on the object, 0 elsewhere",
    "anomaly_map": "score of each pixel of the crop, at least 0, larger is more anomalous",
    "score": "raw score of the part; comparable within this model only",
    "p_value": "conformal p-value against the calibration normals at export, in (0, 1]",
    "defective": "whether the p-value is at most the false-alarm rate",
}


def export_detection(
    run: Path,
    out: Path,
    *,
    to: str,
    precision: str,
    data: Path | None = None,
    memory_entries: int | None = None,
    search_channels: int | None = None,
) -> Deployment:
    """Export, compare with the trained model on the run's calibration parts, and write.

    Args:
        run: the run's folder.
        out: folder to write; it appears whole, or not at all.
        to: ``"openvino"`` or ``"onnx"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        data: where the run's data lie now.
        memory_entries: descriptors of normals to keep for each modality; None keeps all.
        search_channels: channels in which the nearest of them are looked for; None takes all.

    Raises:
        ArtifactError: the exported model differs from the trained one beyond the limits.
        ConfigurationError: the method or the precision cannot be exported so.
    """
    predictor = DetectionPredictor.load(run)
    contract = predictor.contract
    if not contract.calibration_scores:
        raise ArtifactError(f"{run} was never calibrated, so that nothing can be decided by it.")
    parts = held_out_parts(run, contract.preparation, data=data)
    trained = [_judged_by_torch(predictor, part) for part in (*parts.calibration, *parts.anomalous)]
    calibration = [score for _, score in trained[: len(parts.calibration)]]
    _same_parts(calibration, contract.calibration_scores, run)
    graph = detector_graph(
        predictor.detector,
        modalities=contract.modalities,
        calibration=calibration,
        false_alarm_rate=contract.false_alarm_rate,
        memory_entries=memory_entries,
        search_channels=search_channels,
    )
    with whole_folder(out) as folder:
        deployment = Deployment(
            wing="detector",
            method=contract.method,
            format=to,
            precision=precision,
            modalities=contract.modalities,
            inputs=_ports(graph.inputs, contract.preparation.size),
            outputs=_ports(OUTPUTS, contract.preparation.size),
            origin=_origin(contract, parts, graph),
            parity={},
            files={},
            preparation=contract.preparation,
            geometry=contract.geometry,
            calibration_scores=tuple(calibration),
            false_alarm_rate=contract.false_alarm_rate,
            distance=parts.distance,
        )
        _write_graph(graph, predictor, parts, folder, deployment)
        runtime = DetectionRuntime(folder, deployment, threads=torch.get_num_threads())
        everything = (*parts.calibration, *parts.anomalous)
        exported = [_judged_by_runtime(runtime, part) for part in everything]
        normals = len(parts.calibration)
        parity = compare(
            trained,
            exported,
            normals=normals,
            false_alarm_rate=contract.false_alarm_rate,
            exact=precision == "fp32" and memory_entries is None and search_channels is None,
        )
        insist(parity, what=str(out))
        recalibrated = [score for _, score in exported[:normals]]
        set_calibration(folder / GRAPHS[to], recalibrated)
        deployment = replace(
            deployment, parity=parity.as_json(), calibration_scores=tuple(sorted(recalibrated))
        )
        (folder / "MODEL_CARD.md").write_text(
            detector_card(deployment, genotype=predictor.genotype, run=run)
        )
        deployment = with_hashes(folder, deployment)
        write_deployment(folder, deployment)
        _check_decisions(folder, deployment, parts.calibration, parity)
    return deployment


def _write_graph(
    graph: DetectorGraph,
    predictor: DetectionPredictor,
    parts: HeldOut,
    folder: Path,
    deployment: Deployment,
) -> None:
    some = (parts.calibration * 2)[:2]
    batch = to_batch(some, predictor.contract.geometry, modalities=graph.modalities)
    named = {"rgb": batch.rgb, "geometry": batch.geometry, "foreground": batch.foreground}
    example = [tensor for name in graph.inputs if (tensor := named[name]) is not None]
    path = folder / GRAPHS["onnx"]
    write_onnx(
        graph,
        example,
        path,
        inputs=graph.inputs,
        outputs=OUTPUTS,
        dynamic=[{0: torch.export.Dim("batch")}] * len(example),
    )
    if deployment.format == "onnx":
        return
    samples = None
    if deployment.precision == "int8":
        blank = DetectionRuntime(folder, deployment, threads=1)
        samples = [blank.inputs_of(part) for part in parts.learned]
    write_openvino(path, folder / GRAPHS["openvino"], quantised_on=samples)
    path.unlink()


def _judged_by_torch(
    predictor: DetectionPredictor, part: PreparedSample
) -> tuple[NDArray[np.float32], float]:
    maps, scores = predictor.crop_scores([part])
    return maps[0, 0].numpy(), float(scores[0])


def _judged_by_runtime(
    runtime: DetectionRuntime, part: PreparedSample
) -> tuple[NDArray[np.float32], float]:
    found = runtime.run_graph(part)
    return found["anomaly_map"][0, 0], float(found["score"][0])


def _check_decisions(
    folder: Path, deployment: Deployment, parts: Sequence[PreparedSample], parity: Parity
) -> None:
    """The graph that lies there decides as was compared, its calibration put in."""
    runtime = DetectionRuntime(folder, deployment, threads=1)
    alarms = sum(bool(runtime.run_graph(part)["defective"][0]) for part in parts)
    if alarms != round(parity.alarms * len(parts)):
        raise ArtifactError(
            f"The written graph calls {alarms} of {len(parts)} calibration normals defective and "
            f"the compared one {parity.alarms * len(parts):.0f}: the export is at fault."
        )


def _same_parts(found: Sequence[float], stated: Sequence[float], run: Path) -> None:
    ours, theirs = np.sort(found), np.sort(stated)
    if len(ours) != len(theirs) or not np.allclose(ours, theirs, rtol=0.05):
        raise ArtifactError(
            f"The calibration parts found now are not those that {run} was calibrated with: "
            f"{len(ours)} of them score a median of {np.median(ours):.4g}, where "
            f"{len(theirs)} scored {np.median(theirs):.4g}. Name the data with --data."
        )


def _ports(names: Sequence[str], size: int) -> tuple[Port, ...]:
    shapes: dict[str, tuple[int | str, ...]] = {
        "rgb": ("N", 3, size, size),
        "geometry": ("N", 3, size, size),
        "foreground": ("N", 1, size, size),
        "anomaly_map": ("N", 1, size, size),
    }
    return tuple(
        Port(
            name,
            shapes.get(name, ("N",)),
            "bool" if name == "defective" else "float32",
            _MEANING[name],
        )
        for name in names
    )


def _origin(contract: Any, parts: HeldOut, graph: DetectorGraph) -> dict[str, Any]:
    memories = getattr(graph.detector.source, "memories", {})
    return {
        "weights_sha256": contract.weights_sha256,
        "training_data": contract.training_data,
        "training_samples": contract.training_samples,
        "data": parts.data,
        "seed": contract.seed,
        "backbone_weights": contract.backbone_weights,
        "score_rule": contract.score_rule,
        "metric_versions": dict(contract.metric_versions),
        "memory": {name: len(one.bank) for name, one in memories.items()},
        "searched_channels": {name: one.searched.shape[1] for name, one in memories.items()},
        "libraries": dict(contract.libraries),
    }


# Parts with synthetic anomalies that are aimed at, and rounds over the calibration normals.
ANOMALIES, MOST_ROUNDS = 40, 4

# Training normals that a quantisation sees.
QUANTISED_ON = 24


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Prepared parts by purpose; none of them is of the test split.

    Attributes:
        data: the source's name.
        learned: some training normals, for a quantisation, which so leaves the calibration clean.
        calibration: every calibration normal.
        anomalous: calibration normals with synthetic anomalies of the validation's generators.
        distance: metres from the camera, least and most of the calibration parts' medians; None
            without 3D.
    """

    data: str
    learned: list[PreparedSample]
    calibration: list[PreparedSample]
    anomalous: list[PreparedSample]
    distance: tuple[float, float] | None


def held_out_parts(
    run: Path, settings: PreparationSettings, *, data: Path | None = None
) -> HeldOut:
    """Prepare the parts of a run's split again.

    Args:
        run: the run's folder, with its ``config.yaml``.
        settings: of the model's contract.
        data: where the data lie now; None takes the place that the run names.

    Raises:
        ArtifactError: the run has no configuration, so that its split is not known.
        DataError: the data are not where they were.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ArtifactError(
            f"{run} has no config.yaml, so that its calibration parts are not known and nothing "
            "can be proven on them. Name the run's folder, not the model's."
        )
    config = DetectionConfig.make(file=path)
    source = open_source(data or config.data, lamp=config.lamp)
    split = make_splits(
        source, shots=config.shots, calibration_share=config.calibration_share, seed=config.seed
    )
    cache = PreparationCache()
    step = max(1, len(split.train) // QUANTISED_ON)
    learned = [cache.get(source, ref, settings) for ref in split.train[::step][:QUANTISED_ON]]
    calibration = [cache.get(source, ref, settings) for ref in split.calibration]
    return HeldOut(
        data=source.name,
        learned=learned,
        calibration=calibration,
        anomalous=_with_anomalies(calibration, seed=config.seed),
        distance=distance_range(calibration),
    )


def _with_anomalies(parts: list[PreparedSample], *, seed: int) -> list[PreparedSample]:
    generator = validation_generator(probability=1.0)
    rounds = min(MOST_ROUNDS, math.ceil(ANOMALIES / len(parts)))
    made = [
        synthesise(part, generator, seed=seed, epoch=epoch, index=index)
        for epoch in range(rounds)
        for index, part in enumerate(parts)
    ]
    return [part for part in made if part.label == 1][:ANOMALIES]
