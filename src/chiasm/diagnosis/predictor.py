"""A loaded classifier as a function: recording in, diagnosis out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.contract import DiagnosisContract, load_model
from chiasm.diagnosis.decision import Array, diagnosis_from_logits
from chiasm.diagnosis.preparation.network_inputs import (
    absences,
    picture_input,
    present,
    series_windows,
)
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.errors import ChiasmError
from chiasm.runs.model_folder import model_folder
from chiasm.samples import Diagnosis, RecordingBatch, RecordingSample


@dataclass(frozen=True, eq=False)
class Observations:
    """What the network makes of some recordings, before calibration.

    Attributes:
        logits: by the modalities that the network was shown, e.g. ``"image+series"``, to
            ``(N, K)`` float64; NaN where a recording lacks one of them.
        pooled: likewise to the embeddings ``(N, D)`` on which the logits stand.
        labels: ``(N,)`` int64, -1 where unknown.
        before, after: modality to ``(N, D)`` means of its tokens before and after the flow; of a
            method without tokens, nothing.
        flow_nll: modality to ``(N,)`` negative log-likelihood, nats per token and channel; nothing
            without flows.
        sources: path of each recording.
    """

    logits: dict[str, Array]
    pooled: dict[str, Array]
    labels: NDArray[np.int64]
    before: dict[str, Array]
    after: dict[str, Array]
    flow_nll: dict[str, Array]
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Look:
    """One pass over a recording's windows, averaged: as in ``Observations``, without ``N``."""

    logits: Array
    pooled: Array
    before: dict[str, Array]
    after: dict[str, Array]
    flow_nll: dict[str, Array]


class DiagnosisPredictor:
    """A trained classifier with its contract.

    Args:
        network: in evaluation mode, on whatever device.
        contract: what its numbers mean.
    """

    def __init__(self, network: Classifier, contract: DiagnosisContract) -> None:
        self.network = network.eval()
        self.contract = contract

    @classmethod
    def load(cls, folder: str | Path) -> DiagnosisPredictor:
        """Load from a model's folder, or from a run's folder that holds one."""
        return cls(*load_model(model_folder(folder)))

    def diagnose(self, sample: RecordingSample) -> Diagnosis:
        """Diagnose one recording; a modality may be missing.

        Probabilities are the network's on all that is there. Each modality's opinion is the
        network's on that one alone. Uncertainty and belief are of these opinions, combined.

        Raises:
            DataError: none of the network's modalities is there, or one does not fit it.
        """
        there = self._present(sample)
        batch, notes = self._batch(sample, there)
        looks = {m: self._look(batch, (m,)).logits for m in there}
        joint = self._look(batch, there).logits if len(there) > 1 else looks[there[0]]
        return diagnosis_from_logits(
            looks,
            joint,
            kinds=self.contract.kinds,
            temperatures=self.contract.temperatures,
            unknown_below=self.contract.unknown_below,
            source=sample.source,
            notes=notes,
        )

    def diagnose_all(
        self, samples: Iterable[tuple[str, RecordingSample | ChiasmError]]
    ) -> Iterator[Diagnosis]:
        """Diagnose many; one that cannot be diagnosed yields ``error`` and no kind."""
        for source, sample in samples:
            try:
                if isinstance(sample, ChiasmError):
                    raise sample
                yield self.diagnose(sample)
            except ChiasmError as error:
                yield Diagnosis(source, None, error=str(error))

    def observe(
        self, store: RecordingStore, refs: Sequence[RecordingRef], *, alone: bool = True
    ) -> Observations:
        """What the network makes of recordings of a store, one after the other.

        ``alone`` shows it each modality by itself, too.
        """
        return self.observe_samples((store.load(ref) for ref in refs), alone=alone)

    def observe_samples(
        self, samples: Iterable[RecordingSample], *, alone: bool = True
    ) -> Observations:
        """What the network makes of recordings, changed ones for example."""
        names = self.contract.modalities
        shown = [names] + [one for one in combinations(names, 1) if alone and len(names) > 1]
        found: dict[tuple[str, ...], list[_Look | None]] = {one: [] for one in shown}
        labels, sources = [], []
        for sample in samples:
            there = self._present(sample)
            batch, _ = self._batch(sample, there)
            for one, looks in found.items():
                looks.append(self._look(batch, one) if set(one) <= set(there) else None)
            labels.append(-1 if sample.label is None else sample.label)
            sources.append(sample.source)
        # What flows do to a modality does not depend on the other one.
        of = {m: found[(m,) if (m,) in found else names] for m in names}
        return Observations(
            logits={
                "+".join(one): _rows(k.logits if k else None for k in looks)
                for one, looks in found.items()
            },
            pooled={
                "+".join(one): _rows(k.pooled if k else None for k in looks)
                for one, looks in found.items()
            },
            labels=np.array(labels, dtype=np.int64),
            before=_of_each("before", of),
            after=_of_each("after", of),
            flow_nll=_of_each("flow_nll", of),
            sources=tuple(sources),
        )

    def _present(self, sample: RecordingSample) -> tuple[str, ...]:
        return present(sample, self.contract.modalities)

    def _batch(
        self, sample: RecordingSample, there: Sequence[str]
    ) -> tuple[RecordingBatch, tuple[str, ...]]:
        """One row for each window of the series, the picture in all of them; and remarks."""
        form = self.contract.recording
        device = self.network.device
        series = image = None
        if "series" in there:
            series = torch.from_numpy(series_windows(sample, form)).to(device)
        if "image" in there:
            pixels = torch.from_numpy(picture_input(sample, form))
            rows = 1 if series is None else len(series)
            image = pixels.to(device).expand(rows, -1, -1, -1)  # (W, 3, S, S)
        return RecordingBatch(image=image, series=series), absences(there, self.contract.modalities)

    @torch.inference_mode()
    def _look(self, batch: RecordingBatch, shown: Sequence[str]) -> _Look:
        """What the network makes of a recording when it is shown some of its modalities."""
        hidden = {m: None for m in ("image", "series") if m not in shown}
        if "series" not in shown and batch.image is not None:
            batch = replace(batch, image=batch.image[:1])
        out = self.network(replace(batch, **hidden))
        return _Look(
            logits=_mean(out.logits),
            pooled=_mean(out.pooled),
            before={m: _mean(tokens.mean(dim=1)) for m, tokens in out.embedded.items()},
            after={m: _mean(tokens.mean(dim=1)) for m, tokens in out.aligned.items()},
            flow_nll={m: _mean(nll) for m, nll in out.flow_nll.items()},
        )


def _mean(rows: torch.Tensor) -> Array:
    """Mean over windows, float64."""
    out: Array = rows.double().mean(dim=0).cpu().numpy()
    return out


def _of_each(what: str, looks: Mapping[str, Sequence[_Look | None]]) -> dict[str, Array]:
    """Modality to one row for each recording, of the modalities of which the network says it."""
    found = {}
    for name, own in looks.items():
        values = [None if look is None else getattr(look, what).get(name) for look in own]
        if any(value is not None for value in values):
            found[name] = _rows(values)
    return found


def _rows(values: Iterable[Array | None]) -> Array:
    """One row for each recording; NaN where there is none."""
    some = list(values)
    like = next((value for value in some if value is not None), np.zeros(1))
    return np.array([np.full_like(like, np.nan) if v is None else v for v in some])
