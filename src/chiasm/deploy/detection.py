"""Export of a detector's run to a folder that runs without torch, with proof of parity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.deploy.detection_graph import (
    OUTPUTS,
    DetectorGraph,
    check_exportable,
    detector_graph,
)
from chiasm.deploy.detection_parity import Parity, compare, require_parity
from chiasm.deploy.graph_files import describe_graph, set_calibration, write_onnx, write_openvino
from chiasm.deploy.model_card import detector_card
from chiasm.deploy.whole_folder import whole_folder
from chiasm.detection.anomalies.generators import synthesise, validation_generator
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import DetectionContract
from chiasm.detection.opening import source_of, split_of
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.distance import distance_range
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.readers.survey import split_objects
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runs.console import say
from chiasm.runtime.deployment import GRAPHS, Deployment, Port, with_hashes, write_deployment
from chiasm.runtime.detection import DetectionRuntime
from chiasm.samples import PreparedSample
from chiasm.training.progress import counted

_CHOOSE_AGAIN = (
    "The run's threshold was chosen by known defects, whose scores differ in this precision: "
    "'chiasm threshold FOLDER --defects PATH' chooses it anew; until then the rate holds."
)
_MEANING = {
    "rgb": "colour of the prepared crop, in [0, 1]",
    "geometry": "height above the support plane and two slopes of the prepared crop, in [0, 1]",
    "foreground": "1 on the object, 0 elsewhere",
    "anomaly_map": "score of each pixel of the crop, at least 0, larger is more anomalous",
    "score": "raw score of the part; comparable within this model only",
    "p_value": "conformal p-value against the calibration normals at export, in (0, 1]",
    "defective": "whether the score is above the alarm threshold at export",
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
    force: bool = False,
) -> Deployment:
    """Export, compare with the trained model on the run's calibration parts, and write.

    Args:
        run: the run's folder.
        out: folder to write; it is written whole or not at all.
        to: ``"openvino"`` or ``"onnx"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        data: where the run's data lie now.
        memory_entries: descriptors of normals to keep for each modality; None keeps all.
        search_channels: channels in which the nearest of them are looked for; None takes all.
        force: replace an exported model that ``out`` holds already.

    Raises:
        ArtifactError: the exported model differs from the trained one beyond the limits.
        ConfigurationError: the method cannot be exported, or not with this precision.
    """
    predictor = DetectionPredictor.load(run, device="cpu")
    contract = predictor.contract
    if not contract.calibration_scores:
        raise ArtifactError(f"{run} was never calibrated, so it has no decision to export.")
    check_exportable(predictor.detector)
    if contract.calibration_folds:
        raise ConfigurationError(
            f"{run} is calibrated by {contract.calibration_folds} models that no longer exist, so "
            "that its scores cannot be computed again with an exported graph. Train it with "
            "calibration=split to export it."
        )
    parts = held_out_parts(run, contract.preparation, contract.acquisition, data=data)
    compared = (*parts.calibration, *parts.anomalous)
    trained = [_score_by_torch(predictor, part) for part in counted("Scoring", compared)]
    calibration = [score for _, score in trained[: len(parts.calibration)]]
    _check_same_parts(calibration, contract.calibration_scores, run)
    # The graph itself decides by the false-alarm rate, whatever else chose the threshold.
    rule = replace(contract.alarm_rule, known_defects=None)
    exact = precision == "fp32" and memory_entries is None and search_channels is None
    graph = detector_graph(
        predictor.detector,
        modalities=contract.modalities,
        calibration=calibration,
        rank=rule.rank,
        memory_entries=memory_entries,
        search_channels=search_channels,
    )
    with whole_folder(out, force=force) as folder:
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
            confidence=contract.confidence,
            distance=parts.distance,
            acquisition=contract.acquisition,
            known_defects=contract.known_defects if exact else None,
            notes=() if exact or contract.known_defects is None else (_CHOOSE_AGAIN,),
        )
        say(f"Writing the graph ({to}, {precision}) ...")
        _write_graph(graph, predictor, parts, folder, deployment)
        runtime = DetectionRuntime(folder, deployment, threads=torch.get_num_threads())
        exported = [_score_by_runtime(runtime, part) for part in counted("Comparing", compared)]
        normals = len(parts.calibration)
        parity = compare(
            trained,
            exported,
            normals=normals,
            rule=rule,
            exact=exact,
        )
        require_parity(parity, target=str(out))
        recalibrated = [score for _, score in exported[:normals]]
        set_calibration(folder / GRAPHS[to], recalibrated)
        deployment = replace(
            deployment, parity=parity.as_json(), calibration_scores=tuple(sorted(recalibrated))
        )
        (folder / "MODEL_CARD.md").write_text(
            detector_card(deployment, genotype=predictor.genotype, run=run)
        )
        if to == "onnx":
            describe_graph(folder / GRAPHS[to], deployment)
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
    pair = (parts.calibration * 2)[:2]
    batch = to_batch(pair, predictor.contract.geometry, modalities=graph.modalities)
    tensors = {"rgb": batch.rgb, "geometry": batch.geometry, "foreground": batch.foreground}
    example = [tensor for name in graph.inputs if (tensor := tensors[name]) is not None]
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
        uncalibrated = DetectionRuntime(folder, deployment, threads=1)
        samples = [uncalibrated.inputs_of(part) for part in parts.training]
    write_openvino(path, folder / GRAPHS["openvino"], quantised_on=samples)
    path.unlink()


def _score_by_torch(
    predictor: DetectionPredictor, part: PreparedSample
) -> tuple[NDArray[np.float32], float]:
    maps, scores = predictor.crop_scores([part])
    return maps[0, 0].cpu().numpy(), float(scores[0])


def _score_by_runtime(
    runtime: DetectionRuntime, part: PreparedSample
) -> tuple[NDArray[np.float32], float]:
    outputs = runtime.run_graph(part)
    return outputs["anomaly_map"][0, 0], float(outputs["score"][0])


def _check_decisions(
    folder: Path, deployment: Deployment, parts: Sequence[PreparedSample], parity: Parity
) -> None:
    """Check that the written graph, with its calibration, decides as the compared one."""
    runtime = DetectionRuntime(folder, deployment, threads=1)
    alarms = sum(bool(runtime.run_graph(part)["defective"][0]) for part in parts)
    if alarms != round(parity.alarms * len(parts)):
        raise ArtifactError(
            f"The written graph calls {alarms} of {len(parts)} calibration normals defective and "
            f"the compared one {parity.alarms * len(parts):.0f}: the export is at fault."
        )


def _check_same_parts(scores: Sequence[float], expected: Sequence[float], run: Path) -> None:
    now, before = np.sort(scores), np.sort(expected)
    if len(now) != len(before) or not np.allclose(now, before, rtol=0.05):
        raise ArtifactError(
            f"The calibration parts found now are not those that {run} was calibrated with: "
            f"{len(now)} of them score a median of {np.median(now):.4g}, where "
            f"{len(before)} scored {np.median(before):.4g}. Name the data with --data."
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


def _origin(contract: DetectionContract, parts: HeldOut, graph: DetectorGraph) -> dict[str, Any]:
    memories = graph.memories
    return {
        "weights_sha256": contract.weights_sha256,
        "training_data": contract.training_data,
        "training_samples": contract.training_samples,
        "data": parts.data,
        "seed": contract.seed,
        "backbone_weights": contract.backbone_weights,
        "score_rule": contract.score_rule,
        "image_score": asdict(contract.image_score),
        "metric_versions": dict(contract.metric_versions),
        "memory": {name: len(memory.bank) for name, memory in memories.items()},
        "searched_channels": {name: memory.searched.shape[1] for name, memory in memories.items()},
        "libraries": dict(contract.libraries),
        **({} if contract.tiles is None else {"tiles": asdict(contract.tiles)}),
    }


# Wanted number of parts with synthetic anomalies; most rounds over the calibration normals.
ANOMALIES, MOST_ROUNDS = 40, 4

QUANTISATION_PARTS = 24  # training normals for the ranges of a quantisation


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Prepared parts by purpose, none of the test split.

    Attributes:
        data: the source's name.
        training: some training normals for a quantisation, which must not use the calibration.
        calibration: every calibration normal.
        anomalous: calibration normals with synthetic anomalies of the validation's generators.
        distance: metres from the camera, least and most of the calibration parts' medians; None
            without 3D.
    """

    data: str
    training: list[PreparedSample]
    calibration: list[PreparedSample]
    anomalous: list[PreparedSample]
    distance: tuple[float, float] | None


def held_out_parts(
    run: Path,
    settings: PreparationSettings,
    acquisition: Acquisition | None = None,
    *,
    data: Path | None = None,
) -> HeldOut:
    """Prepare the parts of a run's split again.

    Args:
        run: the run's folder, with its ``config.yaml``.
        settings: of the model's contract.
        acquisition: likewise; None of earlier versions.
        data: folder of the data, if it has moved; None takes that of the run.

    Raises:
        ArtifactError: the run has no configuration, so that its split is unknown.
        DataError: the data are missing.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ArtifactError(
            f"{run} has no config.yaml, so that its calibration parts are unknown and the export "
            "cannot be checked. Name the run's folder, not the model's."
        )
    config = DetectionConfig.make(file=path)
    if "calibration" not in config.model_fields_set:  # a run of an earlier version
        config = config.model_copy(update={"calibration": "split"})
    # The lamp that the run chose itself is not in its settings.
    lamp = config.lamp if acquisition is None else acquisition.lamp
    source = source_of(config.model_copy(update={"data": data or config.data, "lamp": lamp}))
    split = split_of(config, source)
    cache = PreparationCache()
    split = replace(
        split,
        train=split_objects(source, split.train, settings),
        calibration=split_objects(source, split.calibration, settings),
    )
    step = max(1, len(split.train) // QUANTISATION_PARTS)
    training = [
        cache.get(source, ref, settings) for ref in split.train[::step][:QUANTISATION_PARTS]
    ]
    calibration = [cache.get(source, ref, settings) for ref in split.calibration]
    return HeldOut(
        data=source.name,
        training=training,
        calibration=calibration,
        anomalous=_with_anomalies(calibration, seed=config.seed),
        distance=distance_range(calibration),
    )


def _with_anomalies(parts: list[PreparedSample], *, seed: int) -> list[PreparedSample]:
    generator = validation_generator(probability=1.0)
    rounds = min(MOST_ROUNDS, math.ceil(ANOMALIES / len(parts)))
    synthetic = [
        synthesise(part, generator, seed=seed, epoch=epoch, index=index)
        for epoch in range(rounds)
        for index, part in enumerate(parts)
    ]
    return [part for part in synthetic if part.label == 1][:ANOMALIES]
