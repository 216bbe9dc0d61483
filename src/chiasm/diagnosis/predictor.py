"""A loaded classifier as a function: recording in, diagnosis out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.diagnosis.batch import cut, to_batch
from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.contract import DiagnosisContract, load_model
from chiasm.diagnosis.decision import Array, diagnosis_from_logits, distance_of, predict_each
from chiasm.diagnosis.preparation.network_inputs import absence_notes, recording_arrays
from chiasm.diagnosis.preparation.recorders import Polarity
from chiasm.diagnosis.quantities.assessment import assessed
from chiasm.diagnosis.readers.checked_sample import sample_from_arrays
from chiasm.errors import ChiasmError
from chiasm.runs.model_folder import model_folder, parameter_count
from chiasm.samples import Diagnosis, RecordingBatch, RecordingSample
from chiasm.training.device import device_errors, find_device, in_chunks, in_double


@dataclass(frozen=True, eq=False)
class NetworkOutputs:
    """The network's outputs for N recordings, before calibration.

    Attributes:
        logits: modalities that the network was shown, e.g. ``"image+series"``, to ``(N, K)``
            float64; NaN for a recording that lacks one of them.
        pooled: the same modalities to the embeddings ``(N, D)`` on which the logits stand.
        labels: ``(N,)`` int64, -1 for unknown.
        before, after: modality to ``(N, D)`` means of its tokens before and after the flow; empty
            for a method without tokens.
        flow_nll: modality to ``(N,)`` negative log-likelihood, nats per token and channel; empty
            for a method without flows.
        sources: path of each recording.
        distance: the modalities of ``logits`` to ``(N,)`` distances from the trained classes, NaN
            where a recording or the model has none.
    """

    logits: dict[str, Array]
    pooled: dict[str, Array]
    labels: NDArray[np.int64]
    before: dict[str, Array]
    after: dict[str, Array]
    flow_nll: dict[str, Array]
    sources: tuple[str, ...]
    distance: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Output:
    """The outputs for one recording, averaged over its windows; as in ``NetworkOutputs``."""

    logits: Array
    pooled: Array
    before: dict[str, Array]
    after: dict[str, Array]
    flow_nll: dict[str, Array]


class DiagnosisPredictor:
    """A trained classifier with its contract.

    Args:
        network: in evaluation mode, on any device.
        contract: says how recordings become inputs, and logits a diagnosis.
    """

    wing = "classifier"

    def __init__(self, network: Classifier, contract: DiagnosisContract) -> None:
        self.network = network.eval()
        self.contract = contract

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> DiagnosisPredictor:
        """Load from a model's folder, or from that of the run that made it, onto a device.

        Raises ``ConfigurationError`` where there is no such device, see ``find_device``.
        """
        place = find_device(device)
        network, contract = load_model(model_folder(folder))
        return cls(network.to(place), contract)

    @property
    def parameters(self) -> int | None:
        """Number of the network's parameters."""
        return parameter_count(self.network)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.contract.kinds

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model looks at."""
        return self.contract.modalities

    @property
    def model_hash(self) -> str:
        """SHA-256 of the weights."""
        return self.contract.weights_sha256

    def __call__(
        self,
        image: Any = None,
        series: Any = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
        **measured: Any,
    ) -> Diagnosis:
        """Diagnose one recording; one of the two modalities may be missing.

        Args:
            image: phase-resolved pattern: a path, an array ``(H, W, 3)``, a PIL image or a tensor.
            series: pulse amplitudes in the recorder's counts as a path or an array ``(C, T)``.
            frequency: of the mains, Hz.
            samples_per_cycle: values of the series in a mains cycle.
            source: name of the recording in the diagnosis.
            measured: ``charge``, the pC of one unit; or ``pulses`` and ``system`` of a reader.

        Raises:
            DataError: a shape, type or value does not fit, or both modalities are missing.
        """
        return self.predict(
            sample_from_arrays(
                image,
                series,
                channels=self.contract.recording.recorded_channels,
                frequency=frequency,
                samples_per_cycle=samples_per_cycle,
                source=source,
                **measured,
            )
        )

    def predict(self, sample: RecordingSample) -> Diagnosis:
        """Diagnose one recording; a modality may be missing.

        Probabilities are the network's on all modalities that are present. Each modality's opinion
        is the network's on that one alone. Uncertainty and belief are of the combined opinions.
        Quantities, severity and sources are those of ``assessed``.

        Raises:
            DataError: the recording has none of the network's modalities, or one does not fit.
        """
        return assessed(self, sample)

    @property
    def polarity(self) -> Polarity:
        """How the model's recordings are written."""
        return self.contract.recording.polarity

    @property
    def has_phase(self) -> bool:
        """Whether the model's recordings have the phase of a mains."""
        return self.contract.recording.phase == "mains"

    def classify(self, sample: RecordingSample) -> Diagnosis:
        """Diagnose one recording as ``predict`` does, without what is measured on its pulses."""
        batch, present = self._batch(sample)
        single = {m: self._output(batch, (m,)).logits for m in present}
        joint = self._output(batch, present).logits if len(present) > 1 else single[present[0]]
        return diagnosis_from_logits(
            single,
            joint,
            kinds=self.contract.kinds,
            temperatures=self.contract.temperatures,
            unknown_below=self.contract.unknown_below,
            distance=distance_of(sample, self.contract.recording, present, self.contract.unknown),
            source=sample.source,
            notes=absence_notes(present, self.contract.modalities),
        )

    def predict_all(
        self, samples: Iterable[RecordingSample | tuple[str, RecordingSample | ChiasmError]]
    ) -> Iterator[Diagnosis]:
        """Diagnose many recordings, or pairs of a source and its recording or reading error.

        A recording that cannot be read or diagnosed yields ``error`` and no kind.
        """
        return predict_each(self.predict, samples)

    def outputs(self, samples: Iterable[RecordingSample], *, single: bool = True) -> NetworkOutputs:
        """Compute the network's outputs for some recordings, one after the other.

        Args:
            samples: recordings, with or without labels.
            single: also show the network each modality by itself.
        """
        names = self.contract.modalities
        subsets = [names] + [(name,) for name in names if single and len(names) > 1]
        outputs: dict[tuple[str, ...], list[_Output | None]] = {subset: [] for subset in subsets}
        distances: dict[str, list[float]] = {"+".join(subset): [] for subset in subsets}
        labels, sources = [], []
        for sample in samples:
            batch, present = self._batch(sample)
            for subset, rows in outputs.items():
                has = set(subset) <= set(present)
                rows.append(self._output(batch, subset) if has else None)
                distances["+".join(subset)].append(self._distance(sample, subset if has else ()))
            labels.append(-1 if sample.label is None else sample.label)
            sources.append(sample.source)
        # The flow of a modality does not depend on the other modality.
        by_modality = {m: outputs[(m,) if (m,) in outputs else names] for m in names}
        return NetworkOutputs(
            logits={
                "+".join(subset): _rows(None if row is None else row.logits for row in rows)
                for subset, rows in outputs.items()
            },
            pooled={
                "+".join(subset): _rows(None if row is None else row.pooled for row in rows)
                for subset, rows in outputs.items()
            },
            labels=np.array(labels, dtype=np.int64),
            before=_by_modality("before", by_modality),
            after=_by_modality("after", by_modality),
            flow_nll=_by_modality("flow_nll", by_modality),
            sources=tuple(sources),
            distance={key: np.array(values) for key, values in distances.items()},
        )

    def _distance(self, sample: RecordingSample, subset: Sequence[str]) -> float:
        """Return the distance from the trained classes by some modalities, or NaN."""
        far = distance_of(sample, self.contract.recording, subset, self.contract.unknown)
        return math.nan if far is None else far.value

    def _batch(self, sample: RecordingSample) -> tuple[RecordingBatch, tuple[str, ...]]:
        """Return a batch with one row for each window, and the modalities that are present."""
        arrays = recording_arrays(sample, self.contract.recording, self.contract.modalities)
        batch = to_batch(arrays.get("image"), arrays.get("series"), device=self.network.device)
        return batch, tuple(arrays)

    @torch.inference_mode()
    def _output(self, batch: RecordingBatch, subset: Sequence[str]) -> _Output:
        """Return the network's output for a recording of which it is shown some modalities.

        Windows that do not fit the device's memory together are shown to it a few at a time.

        Raises:
            OutOfMemoryError: a single window does not fit.
            DeviceLostError: the device answers no more.
        """
        hidden = {m: None for m in ("image", "series") if m not in subset}
        if "series" not in subset and batch.image is not None:
            batch = replace(batch, image=batch.image[:1])
        batch = replace(batch, **hidden)
        windows = max(len(t) for t in (batch.image, batch.series) if t is not None)
        with device_errors(self.network.device, remedy="Predict with device=cpu, or free memory."):
            outputs = in_chunks(lambda chosen: self._means(cut(batch, chosen)), windows, windows)
        if len(outputs) == 1:
            return outputs[0][1]
        return _joined(outputs)

    def _means(self, batch: RecordingBatch) -> tuple[int, _Output]:
        """Return the number of windows in a batch, and the means over them."""
        output = self.network(batch)
        means = _Output(
            logits=_mean(output.logits),
            pooled=_mean(output.pooled),
            before={m: _mean(tokens.mean(dim=1)) for m, tokens in output.embedded.items()},
            after={m: _mean(tokens.mean(dim=1)) for m, tokens in output.aligned.items()},
            flow_nll={m: _mean(nll) for m, nll in output.flow_nll.items()},
        )
        return len(output.logits), means


def _joined(outputs: Sequence[tuple[int, _Output]]) -> _Output:
    """Return the means over the windows of all parts of a batch."""
    shares = np.array([count for count, _ in outputs]) / sum(count for count, _ in outputs)

    def joined(values: Sequence[Array]) -> Array:
        mean: Array = np.tensordot(shares, np.stack(values), axes=1)
        return mean

    return _Output(
        logits=joined([output.logits for _, output in outputs]),
        pooled=joined([output.pooled for _, output in outputs]),
        **{
            name: {
                m: joined([getattr(output, name)[m] for _, output in outputs])
                for m in getattr(outputs[0][1], name)
            }
            for name in ("before", "after", "flow_nll")
        },
    )


def _mean(rows: torch.Tensor) -> Array:
    """Return the mean over windows, float64."""
    mean: Array = in_double(rows).mean(dim=0).cpu().numpy()
    return mean


def _by_modality(name: str, outputs: Mapping[str, Sequence[_Output | None]]) -> dict[str, Array]:
    """Return one attribute of the outputs by modality, of those modalities that have it."""
    arrays = {}
    for modality, rows in outputs.items():
        values = [None if row is None else getattr(row, name).get(modality) for row in rows]
        if any(value is not None for value in values):
            arrays[modality] = _rows(values)
    return arrays


def _rows(values: Iterable[Array | None]) -> Array:
    """Stack one row for each recording; a missing one is NaN."""
    rows = list(values)
    like = next((row for row in rows if row is not None), np.zeros(1))
    return np.array([np.full_like(like, np.nan) if row is None else row for row in rows])
