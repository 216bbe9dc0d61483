"""A classifier's run to a folder that runs without torch, refused where it is not the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chiasm.classifiers.mad import Mad
from chiasm.classifiers.tokens import SegmentEmbedding
from chiasm.data.discharge.network_inputs import RecordingForm, picture_input, series_windows
from chiasm.data.discharge.opening import open_as_store
from chiasm.data.discharge.source import DischargeRef
from chiasm.data.discharge.splits import DischargeSplit
from chiasm.data.discharge.store import DischargeStore
from chiasm.deploy.classifier_graph import ClassifierGraph, classifier_graph, example_inputs
from chiasm.deploy.graph_files import write_openvino
from chiasm.deploy.logit_parity import LogitParity, compare_logits, insist_on_logits
from chiasm.deploy.model_card import classifier_card
from chiasm.deploy.onnx_graph import write_onnx
from chiasm.deploy.whole_folder import whole_folder
from chiasm.diagnoser import Diagnoser
from chiasm.diagnosis_artifact import DiagnosisContract
from chiasm.discharge_config import DiagnosisConfig
from chiasm.errors import ArtifactError
from chiasm.runtime.classifier import ClassifierRuntime
from chiasm.runtime.deployment import GRAPHS, Deployment, Port, with_hashes, write_deployment
from chiasm.samples import DischargeSample
from chiasm.workflows.judged_lists import kind_of_group, own_division
from chiasm.workflows.keep_diagnosis import calibrate
from chiasm.workflows.recording_division import division, group_digests

COMPARED_ON = 200  # validation recordings at most
QUANTISED_ON = 24


def export_classifier(
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
    model = Diagnoser.load(run)
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
        runtime = ClassifierRuntime(folder, deployment, threads=torch.get_num_threads())
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
) -> tuple[DischargeStore, Sequence[DischargeRef], Sequence[DischargeRef], DiagnosisConfig]:
    """The run's store, and some of its training and validation recordings."""
    path = run / "config.yaml"
    if not path.is_file():
        raise ArtifactError(
            f"{run} has no config.yaml, so that its validation recordings are not known and "
            "nothing can be proven on them. Name the run's folder, not the model's."
        )
    config = DiagnosisConfig.make(file=path)
    store = open_as_store(data or config.data, cache=config.cache)
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
    store: DischargeStore,
    config: DiagnosisConfig,
    data: Path,
) -> DischargeSplit:
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
        return DischargeSplit(learned, validation, ())
    # The same recordings elsewhere, of a run whose groups do not tell: divided anew, they fall as
    # before. Where one equipment was left out, the others stand in both lists, by session.
    split = division(store, labelled, config)
    if trained & tuned or config.test_group is not None:
        return split
    # What was trained on proves nothing.
    kept = tuple(r for r in split.validation if not group_digests(by, [r]) & trained)
    return DischargeSplit(split.train, kept, split.test)


def _complete(store: DischargeStore, ref: DischargeRef, modalities: Sequence[str]) -> bool:
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
    sample: DischargeSample, modalities: Sequence[str], form: RecordingForm
) -> dict[str, np.ndarray]:
    found = {}
    if "image" in modalities:
        found["image"] = picture_input(sample, form)[None]
    if "series" in modalities:
        found["series"] = series_windows(sample, form)[:1]
    return found


def _logits(
    runtime: ClassifierRuntime, store: DischargeStore, refs: Sequence[DischargeRef]
) -> dict[str, np.ndarray]:
    """As ``Diagnoser.observe``: by the modalities that were shown, ``(N, K)``."""
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
