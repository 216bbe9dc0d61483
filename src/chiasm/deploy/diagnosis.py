"""Export a classifier to a folder that runs without torch; refused if its outputs differ."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiasm.deploy.graph_attention import replace_attention
from chiasm.deploy.graph_files import describe_graph, write_onnx, write_openvino
from chiasm.deploy.model_card import classifier_card
from chiasm.deploy.whole_folder import whole_folder
from chiasm.diagnosis.calibrate import belief_share, calibrate, decided_by_distance
from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import DiagnosisContract
from chiasm.diagnosis.datamodule import division, group_digests
from chiasm.diagnosis.decision import Array, UnknownRule
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.preparation.network_inputs import RecordingForm, recording_arrays
from chiasm.diagnosis.procedures.choose import FOLDER as CANDIDATES
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.splits import RecordingSplit
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.unseen import stored_split
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.metrics.classification import macro_f1
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runtime.deployment import GRAPHS, Deployment, Port, with_hashes, write_deployment
from chiasm.runtime.diagnosis import DiagnosisRuntime
from chiasm.samples import FloatArray, RecordingSample
from chiasm.training.progress import counted

# Validation recordings on which the exported model is compared, at most.
COMPARED_ON = 200

# Training recordings that choose the ranges of int8.
QUANTISED_ON = 24


def export_diagnosis(
    run: Path,
    out: Path,
    *,
    to: str,
    precision: str,
    data: Path | None = None,
    force: bool = False,
) -> Deployment:
    """Export a classifier after a comparison with the trained model on validation recordings.

    Args:
        run: the run's folder.
        out: folder to write; it appears complete or not at all.
        to: ``"openvino"`` or ``"onnx"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        data: the run's recordings, if they have moved.
        force: replace an exported model that ``out`` holds already.

    Raises:
        ArtifactError: the exported model differs from the trained one beyond the limits.
        ConfigurationError: the method cannot be exported, or not in this precision.
    """
    model = DiagnosisPredictor.load(run, device="cpu")
    contract = model.contract
    graph = classifier_graph(model.network, modalities=contract.modalities, run=run)
    store, training, validation, config = _recordings(run, contract, data)
    form = contract.recording
    with whole_folder(out, force=force) as folder:
        deployment = Deployment(
            wing="classifier",
            method=contract.method,
            format=to,
            precision=precision,
            modalities=contract.modalities,
            inputs=_inputs(graph, form),
            outputs=tuple(
                Port(name, (1, len(contract.kinds)), "float32", "logits of one window")
                for name in graph.outputs
            ),
            origin=_origin(contract),
            parity={},
            files={},
            recording=form,
            kinds=contract.kinds,
            temperatures=contract.temperatures,
            unknown_below=contract.unknown_below,
            unknown=contract.unknown,
        )
        say(f"Writing the graph ({to}, {precision}) ...")
        _write_graph(graph, (store.load(ref) for ref in training), folder, deployment)
        runtime = DiagnosisRuntime(folder, deployment, threads=torch.get_num_threads())
        scored = counted("Scoring", validation, unit="recordings")
        outputs = model.outputs(store.load(ref) for ref in scored)
        logits, labels = _logits(runtime, store, validation), outputs.labels
        exact = precision == "fp32"
        if not exact:
            # Distances are of the recordings, not of the graph: its precision does not change them.
            rule = contract.unknown or UnknownRule("belief", config.unknown_share, {}, {})
            temperatures, unknown_below = calibrate(
                logits, labels, share=belief_share(rule), without=decided_by_distance(rule)
            )
            deployment = replace(deployment, temperatures=temperatures, unknown_below=unknown_below)
        parity = compare_logits(outputs.logits, logits, labels, exact=exact)
        check_parity(parity, out)
        deployment = replace(deployment, parity=parity.as_json())
        (folder / "MODEL_CARD.md").write_text(classifier_card(deployment, run=run))
        if to == "onnx":
            describe_graph(folder / GRAPHS[to], deployment)
        deployment = with_hashes(folder, deployment)
        write_deployment(folder, deployment)
    return deployment


def _recordings(
    run: Path, contract: DiagnosisContract, data: Path | None
) -> tuple[RecordingStore, Sequence[RecordingRef], Sequence[RecordingRef], DiagnosisConfig]:
    """Return the run's store, some of its training and validation recordings, and its settings."""
    path = run / "config.yaml"
    if not path.is_file():
        raise ArtifactError(
            f"{run} has no config.yaml, so that its validation recordings are unknown and the "
            "exported model cannot be compared. Name the run's folder, not the model's."
        )
    config = DiagnosisConfig.make(file=path)
    store = open_store(data or config.data, cache=config.cache)
    if store.kinds != contract.kinds:
        raise ArtifactError(
            f"The recordings have the classes {', '.join(store.kinds)} and {run} was trained on "
            f"{', '.join(contract.kinds)}. Name its data with --data."
        )
    split = _division(run, contract, store, config, data or config.data)
    validation = [r for r in split.validation if _complete(store, r, contract.modalities)]
    if not validation:
        raise ArtifactError(
            f"No validation recording has {' and '.join(contract.modalities)}, so that the "
            "exported model cannot be compared."
        )
    training = [r for r in split.train if _complete(store, r, contract.modalities)]
    return (
        store,
        training[:: max(1, len(training) // QUANTISED_ON)],
        validation[:: max(1, len(validation) // COMPARED_ON)],
        config,
    )


def _division(
    run: Path,
    contract: DiagnosisContract,
    store: RecordingStore,
    config: DiagnosisConfig,
    data: Path,
) -> RecordingSplit:
    """Return the split of the run as the run stored it, or as its groups tell."""
    labelled = [ref for ref in store.refs if ref.label is not None]
    stored = stored_split(run, store, labelled, data)
    if stored is not None:
        return stored
    description = contract.split
    group_kind = description.groups_by
    training_groups = set(description.training_groups)
    validation_groups = set(description.validation_groups or ())
    if validation_groups and not training_groups & validation_groups:
        training, validation = (
            tuple(ref for ref in labelled if group_digests(group_kind, [ref]) & groups)
            for groups in (training_groups, validation_groups)
        )
        return RecordingSplit(training, validation, ())
    # The recordings have moved, and the groups do not tell: a new division of the same recordings
    # is the same. If one equipment was the test, the others are in both lists, by session.
    split = division(store, labelled, config)
    if training_groups & validation_groups or config.test_group is not None:
        return split
    # A comparison on training recordings proves nothing.
    validation = tuple(
        r for r in split.validation if not group_digests(group_kind, [r]) & training_groups
    )
    return RecordingSplit(split.train, validation, split.test)


def _complete(store: RecordingStore, ref: RecordingRef, modalities: Sequence[str]) -> bool:
    sample = store.load(ref)
    return all(getattr(sample, m) is not None for m in modalities)


def _write_graph(
    graph: ClassifierGraph,
    samples: Iterable[RecordingSample],
    folder: Path,
    deployment: Deployment,
) -> None:
    path = folder / GRAPHS["onnx"]
    form = deployment.recording
    assert form is not None
    axes: list[dict[int, Any]] = [{} for _ in graph.inputs]
    if "series" in graph.inputs:
        longest = graph.network.example_batch().series
        assert longest is not None
        tokens = torch.export.Dim("tokens", min=2, max=longest.shape[2] // form.segment)
        axes[graph.inputs.index("series")] = {2: form.segment * tokens}
    write_onnx(
        graph,
        example_inputs(graph.network, graph.modalities),
        path,
        inputs=graph.inputs,
        outputs=graph.outputs,
        dynamic=axes,
    )
    if deployment.format == "onnx":
        return
    inputs = None
    if deployment.precision == "int8":
        inputs = [_graph_inputs(sample, form, graph.modalities) for sample in samples]
    write_openvino(path, folder / GRAPHS["openvino"], quantised_on=inputs)
    path.unlink()


def _graph_inputs(
    sample: RecordingSample, form: RecordingForm, modalities: Sequence[str]
) -> dict[str, FloatArray]:
    """Return the inputs for the first window of a recording."""
    arrays = recording_arrays(sample, form, modalities)
    return {modality: array[:1] for modality, array in arrays.items()}


def _logits(
    runtime: DiagnosisRuntime, store: RecordingStore, refs: Sequence[RecordingRef]
) -> dict[str, np.ndarray]:
    """Return logits ``(N, K)`` by modalities, as ``DiagnosisPredictor.outputs`` does."""
    rows: dict[str, list[np.ndarray]] = {}
    for ref in counted("Comparing", refs, unit="recordings"):
        single, joint, present = runtime.logits(store.load(ref))
        for key, value in {**single, "+".join(present): joint}.items():
            rows.setdefault(key, []).append(value)
    return {key: np.array(values) for key, values in rows.items()}


def _inputs(graph: ClassifierGraph, form: RecordingForm) -> tuple[Port, ...]:
    ports = {
        "image": Port(
            "image",
            (1, 3, form.image_size, form.image_size),
            "float32",
            "phase-resolved pattern as the deployment's recording format makes it",
        ),
        "series": Port(
            "series",
            (1, form.channels, "L"),
            "float32",
            f"one window of pulse amplitudes as that format makes it; L a multiple of "
            f"{form.segment}",
        ),
    }
    return tuple(ports[name] for name in graph.inputs)


def _origin(contract: DiagnosisContract) -> dict[str, Any]:
    return {
        "weights_sha256": contract.weights_sha256,
        "training_data": contract.training_data,
        "training_samples": contract.training_samples,
        "validation_samples": contract.validation_samples,
        "split_by": contract.split.by,
        "split": contract.split.model_dump(mode="json"),
        "seed": contract.seed,
        **({} if contract.chosen is None else {"chosen": contract.chosen}),
        "evidence_rule": contract.evidence_rule,
        "metric_versions": dict(contract.metric_versions),
        "libraries": dict(contract.libraries),
    }


JOINT = "logits"


class ClassifierGraph(nn.Module):
    """The exported graph: logits of all modalities together and of each alone.

    The graph also serves recordings that lack a modality: the runtime feeds zeros for it, and uses
    only the outputs that do not depend on it.

    Args:
        network: in evaluation mode.
        modalities: of the network, in the order of the graph's inputs.
    """

    def __init__(self, network: Classifier, *, modalities: Sequence[str]) -> None:
        super().__init__()
        self.network = network.eval()
        self.modalities = tuple(modalities)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return self.modalities

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        single = tuple(f"{JOINT}_{m}" for m in self.modalities)
        return (JOINT, *single) if len(single) > 1 else (JOINT,)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute logits ``(1, K)`` by ``outputs``, of one window.

        Args:
            tensors: picture ``(1, 3, S, S)`` and window of the series ``(1, C, L)``, in the order
                of ``modalities``.
        """
        return tuple(self.network.logits_by_modality(dict(zip(self.modalities, tensors))).values())


def classifier_graph(
    network: Classifier, *, modalities: Sequence[str], run: Path | None = None
) -> ClassifierGraph:
    """Return the graph of a trained classifier, which is not changed.

    ``run`` is its folder, for the remedy where it has no graph.

    Raises:
        ConfigurationError: the method has no such graph.
    """
    if not network.exportable:
        raise ConfigurationError(
            f"{type(network).__name__} cannot be exported: what it fitted is a model of another "
            f"library and no graph of tensors. {_exportable_instead(run)}"
        )
    exported = copy.deepcopy(network)
    replace_attention(exported)
    return ClassifierGraph(exported, modalities=modalities)


def _exportable_instead(run: Path | None) -> str:
    """Return what can be exported in place of a method that was chosen among several."""
    tried = sorted(run.glob(f"{CANDIDATES}/*/model")) if run is not None else []
    networks = [p.parent for p in tried if not find_model(p.parent.name).fitted]
    if not networks:
        return (
            "Export mad_small or another network; chiasm predict and watch take the run as it is."
        )
    return (
        f"What was tried beside it can: chiasm export {networks[0]} --out FOLDER; choice.json has "
        "its figures. chiasm predict and watch take the run as it is."
    )


def example_inputs(network: Classifier, modalities: Sequence[str]) -> list[Tensor]:
    """Return zeros in the shapes of the longest recordings."""
    batch = network.example_batch()
    tensors = [batch.image if name == "image" else batch.series for name in modalities]
    return [tensor for tensor in tensors if tensor is not None]


# Largest difference of a float32 logit; rounding alone reaches it after four layers.
LOGIT_LIMIT = 1e-3

# Largest loss of macro-F1 in lower precision, as a share (0.005 are 0.5 points).
F1_LIMIT = 0.005


@dataclass(frozen=True)
class LogitParity:
    """Comparison with the float32 model on validation recordings.

    Attributes:
        exact: whether the strict limits apply: logit difference and identical classes.
        recordings: number of recordings.
        logit_difference: largest difference of a logit, over all subsets of modalities.
        classes_changed: recordings whose likeliest class differs, with all modalities.
        macro_f1, macro_f1_float32: of the exported and of the trained model.
    """

    exact: bool
    recordings: int
    logit_difference: float
    classes_changed: int
    macro_f1: float
    macro_f1_float32: float

    def as_json(self) -> dict[str, Any]:
        """Return figures by name, with the limits that apply."""
        limits = (
            {"logit_difference": LOGIT_LIMIT, "classes_changed": 0}
            if self.exact
            else {"macro_f1_loss": F1_LIMIT}
        )
        return {"summary": self.in_words(), **asdict(self), "limits": limits}

    def in_words(self) -> str:
        """Return what a person asks first: whether classes and logits are the same."""
        return (
            f"Compared with the trained model on {self.recordings} validation recordings: "
            f"{self.classes_changed} other classes, logits differ by at most "
            f"{self.logit_difference:.2g}, macro-F1 is {self.macro_f1:.4f} instead of "
            f"{self.macro_f1_float32:.4f}."
        )


def compare_logits(
    trained: Mapping[str, Array],
    exported: Mapping[str, Array],
    labels: np.ndarray,
    *,
    exact: bool,
) -> LogitParity:
    """Compare logits ``(N, K)`` by modalities, e.g. ``"image+series"``."""
    joint = max(trained, key=len)
    guesses = [logits[joint].argmax(axis=1) for logits in (trained, exported)]
    classes = trained[joint].shape[1]
    return LogitParity(
        exact=exact,
        recordings=len(labels),
        logit_difference=max(float(np.abs(trained[key] - exported[key]).max()) for key in trained),
        classes_changed=int((guesses[0] != guesses[1]).sum()),
        macro_f1=float(macro_f1(labels, guesses[1], classes)),
        macro_f1_float32=float(macro_f1(labels, guesses[0], classes)),
    )


def check_parity(parity: LogitParity, folder: Path) -> None:
    """Raise ``ArtifactError`` if a limit is exceeded."""
    if parity.exact and (parity.logit_difference > LOGIT_LIMIT or parity.classes_changed):
        raise ArtifactError(
            f"{folder} was not written: its logits differ from the trained model's by up to "
            f"{parity.logit_difference:.2g} (limit {LOGIT_LIMIT:g}) and {parity.classes_changed} "
            f"of {parity.recordings} recordings get another class."
        )
    loss = parity.macro_f1_float32 - parity.macro_f1
    if not parity.exact and loss > F1_LIMIT:
        raise ArtifactError(
            f"{folder} was not written: macro-F1 on validation recordings falls from "
            f"{parity.macro_f1_float32:.4f} to {parity.macro_f1:.4f} (limit {F1_LIMIT:g}). "
            "Export with more precision."
        )
