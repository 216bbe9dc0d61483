"""A classifier's run to a folder that runs without torch, refused where it is not the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiasm.deploy.graph_files import write_onnx, write_openvino
from chiasm.deploy.model_card import classifier_card
from chiasm.deploy.whole_folder import whole_folder
from chiasm.diagnosis.calibrate import calibrate
from chiasm.diagnosis.classifier import Classifier, FittedClassifier
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import DiagnosisContract
from chiasm.diagnosis.datamodule import division, group_digests
from chiasm.diagnosis.decision import Array
from chiasm.diagnosis.layers.tokens import SegmentEmbedding
from chiasm.diagnosis.models.mad import Mad
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.preparation.network_inputs import RecordingForm, picture_input, series_windows
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.splits import RecordingSplit
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.unseen import kind_of_group, own_division
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.metrics.classification import macro_f1
from chiasm.runtime.deployment import GRAPHS, Deployment, Port, with_hashes, write_deployment
from chiasm.runtime.diagnosis import DiagnosisRuntime
from chiasm.samples import RecordingBatch, RecordingSample

COMPARED_ON = 200  # validation recordings at most

QUANTISED_ON = 24


def export_diagnosis(
    run: Path, out: Path, *, to: str, precision: str, data: Path | None = None
) -> Deployment:
    """Export, compare with the trained model on validation recordings, and write.

    Args:
        run: the run's folder.
        out: folder to write; it appears whole, or not at all.
        to: ``"openvino"`` or ``"onnx"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        data: where the run's recordings lie now.

    Raises:
        ArtifactError: the exported model differs from the trained one beyond the limits.
        ConfigurationError: the method or the precision cannot be exported so.
    """
    model = DiagnosisPredictor.load(run)
    contract = model.contract
    graph = classifier_graph(model.network, modalities=contract.modalities)
    store, learned, validation, config = _recordings(run, contract, data)
    form = contract.recording
    with whole_folder(out) as folder:
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
        )
        _write_graph(graph, (store.load(ref) for ref in learned), folder, deployment)
        runtime = DiagnosisRuntime(folder, deployment, threads=torch.get_num_threads())
        seen = model.observe(store, validation)
        theirs = _logits(runtime, store, validation)
        exact = precision == "fp32"
        if not exact:
            temperatures, unknown_below = calibrate(theirs, seen.labels, share=config.unknown_share)
            deployment = replace(deployment, temperatures=temperatures, unknown_below=unknown_below)
        parity: LogitParity = compare_logits(seen.logits, theirs, seen.labels, exact=exact)
        insist_on_logits(parity, what=str(out))
        deployment = replace(deployment, parity=parity.as_json())
        (folder / "MODEL_CARD.md").write_text(classifier_card(deployment, run=run))
        deployment = with_hashes(folder, deployment)
        write_deployment(folder, deployment)
    return deployment


def _recordings(
    run: Path, contract: DiagnosisContract, data: Path | None
) -> tuple[RecordingStore, Sequence[RecordingRef], Sequence[RecordingRef], DiagnosisConfig]:
    """The run's store, and some of its training and validation recordings."""
    path = run / "config.yaml"
    if not path.is_file():
        raise ArtifactError(
            f"{run} has no config.yaml, so that its validation recordings are not known and "
            "nothing can be proven on them. Name the run's folder, not the model's."
        )
    config = DiagnosisConfig.make(file=path)
    store = open_store(data or config.data, cache=config.cache)
    if store.kinds != contract.kinds:
        raise ArtifactError(
            f"The recordings have the classes {', '.join(store.kinds)} and {run} was trained on "
            f"{', '.join(contract.kinds)}. Name its data with --data."
        )
    split = _division(run, contract, store, config, data or config.data)
    whole = [r for r in split.validation if _complete(store, r, contract.modalities)]
    if not whole:
        raise ArtifactError(
            f"No validation recording has {' and '.join(contract.modalities)}, so that nothing "
            "can be proven."
        )
    step = max(1, len(whole) // COMPARED_ON)
    some = [r for r in split.train if _complete(store, r, contract.modalities)]
    return store, some[:: max(1, len(some) // QUANTISED_ON)], whole[::step], config


def _division(
    run: Path,
    contract: DiagnosisContract,
    store: RecordingStore,
    config: DiagnosisConfig,
    data: Path,
) -> RecordingSplit:
    """What training learned from and validated on: as the run kept it, or as its groups tell."""
    labelled = [ref for ref in store.refs if ref.label is not None]
    own = own_division(run, store, labelled, data)
    if own is not None:
        return own
    described, by = contract.split, kind_of_group(contract.split)
    trained, tuned = set(described.training_groups), set(described.validation_groups or ())
    if tuned and not trained & tuned:
        learned, validation = (
            tuple(ref for ref in labelled if group_digests(by, [ref]) & names)
            for names in (trained, tuned)
        )
        return RecordingSplit(learned, validation, ())
    # The same recordings elsewhere, of a run whose groups do not tell: divided anew, they fall as
    # before. Where one equipment was left out, the others stand in both lists, by session.
    split = division(store, labelled, config)
    if trained & tuned or config.test_group is not None:
        return split
    # What was trained on proves nothing.
    kept = tuple(r for r in split.validation if not group_digests(by, [r]) & trained)
    return RecordingSplit(split.train, kept, split.test)


def _complete(store: RecordingStore, ref: RecordingRef, modalities: Sequence[str]) -> bool:
    sample = store.load(ref)
    return all(getattr(sample, m) is not None for m in modalities)


def _write_graph(
    graph: ClassifierGraph, learned: Any, folder: Path, deployment: Deployment
) -> None:
    path = folder / GRAPHS["onnx"]
    form = deployment.recording
    assert form is not None
    axes: list[dict[int, Any]] = [{} for _ in graph.inputs]
    if "series" in graph.inputs:
        tokens = torch.export.Dim("tokens", min=2, max=_most_tokens(graph, form))
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
    samples = None
    if deployment.precision == "int8":
        samples = [_graph_inputs(sample, graph.modalities, form) for sample in learned]
    write_openvino(path, folder / GRAPHS["openvino"], quantised_on=samples)
    path.unlink()


def _most_tokens(graph: ClassifierGraph, form: RecordingForm) -> int:
    """Tokens of the longest series that a graph takes: that for which positions are stored."""
    if isinstance(graph.network, Mad):
        embedding = graph.network.embeddings["series"]
        assert isinstance(embedding, SegmentEmbedding)
        return len(embedding.positions)
    usual = graph.network.example_batch(1).series
    assert usual is not None
    return usual.shape[2] // form.segment


def _graph_inputs(
    sample: RecordingSample, modalities: Sequence[str], form: RecordingForm
) -> dict[str, np.ndarray]:
    found = {}
    if "image" in modalities:
        found["image"] = picture_input(sample, form)[None]
    if "series" in modalities:
        found["series"] = series_windows(sample, form)[:1]
    return found


def _logits(
    runtime: DiagnosisRuntime, store: RecordingStore, refs: Sequence[RecordingRef]
) -> dict[str, np.ndarray]:
    """As ``DiagnosisPredictor.observe``: by the modalities that were shown, ``(N, K)``."""
    rows: dict[str, list[np.ndarray]] = {}
    for ref in refs:
        alone, joint, there = runtime.logits(store.load(ref))
        for key, value in {**alone, "+".join(there): joint}.items():
            rows.setdefault(key, []).append(value)
    return {key: np.array(values) for key, values in rows.items()}


def _inputs(graph: ClassifierGraph, form: RecordingForm) -> tuple[Port, ...]:
    known = {
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
            f"one window of pulse amplitudes, made likewise; L a multiple of {form.segment}",
        ),
    }
    return tuple(known[name] for name in graph.inputs)


def _origin(contract: DiagnosisContract) -> dict[str, Any]:
    return {
        "weights_sha256": contract.weights_sha256,
        "training_data": contract.split.training_data,
        "training_samples": contract.split.training_samples,
        "validation_samples": contract.split.validation_samples,
        "split_by": contract.split.by,
        "seed": contract.seed,
        "evidence_rule": contract.evidence_rule,
        "metric_versions": dict(contract.metric_versions),
        "libraries": dict(contract.libraries),
    }


JOINT = "logits"


class ClassifierGraph(nn.Module):
    """What is exported: logits of all modalities together and of each alone.

    One graph serves a missing modality, too: it is fed with zeros, and only the outputs that do
    not depend on it are believed.

    Args:
        network: in evaluation mode.
        modalities: that it looks at, in the order of the graph's inputs.
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
        alone = tuple(f"{JOINT}_{m}" for m in self.modalities)
        return (JOINT, *alone) if len(alone) > 1 else (JOINT,)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Logits ``(1, K)`` by ``outputs``, of one window.

        Args:
            tensors: picture ``(1, 3, S, S)`` and window of the series ``(1, C, L)``, those of
                them that the network looks at.
        """
        given = dict(zip(self.modalities, tensors))
        if len(given) == 1:
            return (self._logits(**given),)
        if isinstance(self.network, Mad):
            return self._with_shared_tokens(self.network, given)
        return (self._logits(**given), *(self._logits(**{m: given[m]}) for m in self.modalities))

    def _logits(self, **given: Tensor) -> Tensor:
        batch = RecordingBatch(given.get("image"), given.get("series"))
        logits: Tensor = self.network(batch).logits
        return logits

    def _with_shared_tokens(self, network: Mad, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """As the network, but tokens and flows of a modality are computed once for all looks."""
        tokens = {m: network.flows[m](network.embeddings[m](x))[0] for m, x in given.items()}
        looks = [tokens, *({m: tokens[m]} for m in self.modalities)]
        return tuple(network.decide(look) for look in looks)


def classifier_graph(network: Classifier, *, modalities: Sequence[str]) -> ClassifierGraph:
    """The graph of a trained classifier.

    Raises:
        ConfigurationError: the method has no such graph.
    """
    if isinstance(network, FittedClassifier):
        raise ConfigurationError(
            f"{type(network).__name__} cannot be exported: what it fitted is a model of another "
            "library and no graph of tensors. Export mad_small or another network."
        )
    return ClassifierGraph(network, modalities=modalities)


def example_inputs(network: Classifier, modalities: Sequence[str]) -> list[Tensor]:
    """Zeros in the shapes of a usual recording."""
    batch = network.example_batch(1)
    found = [batch.image if name == "image" else batch.series for name in modalities]
    return [tensor for tensor in found if tensor is not None]


# Of float32: largest difference of a logit; float32 itself is no finer after four layers.
LOGIT_LIMIT = 1e-3

# Of less: macro-F1 on validation recordings, as a share (0.005 are 0.5 points).
F1_LIMIT = 0.005


@dataclass(frozen=True)
class LogitParity:
    """What was compared with the float32 model, on validation recordings.

    Attributes:
        exact: the strict limits hold: logit difference and identical classes.
        recordings: how many.
        logit_difference: largest, by whatever modalities were shown.
        classes_changed: recordings whose likeliest class is another, all modalities shown.
        macro_f1, macro_f1_float32: on these recordings.
    """

    exact: bool
    recordings: int
    logit_difference: float
    classes_changed: int
    macro_f1: float
    macro_f1_float32: float

    def as_json(self) -> dict[str, Any]:
        """Figures by name, with the limits that they were held to."""
        limits = (
            {"logit_difference": LOGIT_LIMIT, "classes_changed": 0}
            if self.exact
            else {"macro_f1_loss": F1_LIMIT}
        )
        return {**asdict(self), "limits": limits}


def compare_logits(
    trained: Mapping[str, Array],
    exported: Mapping[str, Array],
    labels: np.ndarray,
    *,
    exact: bool,
) -> LogitParity:
    """Compare logits ``(N, K)`` by the modalities that were shown, e.g. ``"image+series"``."""
    whole = max(trained, key=len)
    guesses = [logits[whole].argmax(axis=1) for logits in (trained, exported)]
    classes = trained[whole].shape[1]
    return LogitParity(
        exact=exact,
        recordings=len(labels),
        logit_difference=max(float(np.abs(trained[key] - exported[key]).max()) for key in trained),
        classes_changed=int((guesses[0] != guesses[1]).sum()),
        macro_f1=float(macro_f1(labels, guesses[1], classes)),
        macro_f1_float32=float(macro_f1(labels, guesses[0], classes)),
    )


def insist_on_logits(parity: LogitParity, *, what: str) -> None:
    """Raise ``ArtifactError`` where a limit is passed."""
    if parity.exact and (parity.logit_difference > LOGIT_LIMIT or parity.classes_changed):
        raise ArtifactError(
            f"{what} was not written: its logits differ from the trained model's by up to "
            f"{parity.logit_difference:.2g} (limit {LOGIT_LIMIT:g}) and {parity.classes_changed} "
            f"of {parity.recordings} recordings get another class."
        )
    loss = parity.macro_f1_float32 - parity.macro_f1
    if not parity.exact and loss > F1_LIMIT:
        raise ArtifactError(
            f"{what} was not written: macro-F1 on validation recordings falls from "
            f"{parity.macro_f1_float32:.4f} to {parity.macro_f1:.4f} (limit {F1_LIMIT:g}). "
            "Export with more precision."
        )
