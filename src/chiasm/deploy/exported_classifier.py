"""An exported classifier in the form that an evaluation takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from chiasm.diagnosis.contract import SplitDescription
from chiasm.diagnosis.decision import Array, UnknownRule, distance_of
from chiasm.diagnosis.predictor import NetworkOutputs
from chiasm.errors import ArtifactError
from chiasm.runtime.diagnosis import DiagnosisRuntime
from chiasm.samples import Diagnosis, RecordingSample


@dataclass(frozen=True, slots=True)
class ExportedContract:
    """What an evaluation asks of a contract; see ``DiagnosisContract``."""

    method: str
    kinds: tuple[str, ...]
    modalities: tuple[str, ...]
    temperatures: Mapping[str, float]
    split: SplitDescription
    validation_samples: int
    unknown_below: Mapping[str, float]
    unknown: UnknownRule | None


class ExportedClassifier:
    """Logits and diagnoses of an exported classifier; it has no embeddings and no densities.

    Args:
        runtime: the exported model.

    Raises:
        ArtifactError: an earlier version exported it, without a word on its training's groups.
    """

    parameters = None

    def __init__(self, runtime: DiagnosisRuntime) -> None:
        self.runtime = runtime
        deployment = runtime.deployment
        if "split" not in deployment.origin:
            raise ArtifactError(
                f"{runtime.folder} was exported by an earlier version, which did not note the "
                "groups of recordings that trained the model, so that none can be told to be new "
                "to it. Export it again, or evaluate the run that it was exported from."
            )
        self.contract = ExportedContract(
            method=deployment.method,
            kinds=deployment.kinds,
            modalities=deployment.modalities,
            temperatures=deployment.temperatures,
            split=SplitDescription(**deployment.origin["split"]),
            validation_samples=deployment.origin["validation_samples"],
            unknown_below=deployment.unknown_below,
            unknown=deployment.unknown,
        )

    def predict(self, sample: RecordingSample) -> Diagnosis:
        """Diagnose one recording."""
        return self.runtime.predict(sample)

    def outputs(self, samples: Iterable[RecordingSample], *, single: bool = True) -> NetworkOutputs:
        """Compute the logits of some recordings; each modality alone is there without asking."""
        names = self.contract.modalities
        nothing = np.full(len(self.contract.kinds), np.nan)
        joint: list[Array] = []
        alone: dict[str, list[Array]] = {name: [] for name in names}
        distances: dict[str, list[float]] = {key: [] for key in (*names, "+".join(names))}
        labels, sources = [], []
        for sample in samples:
            logits, together, present = self.runtime.logits(sample)
            for key, values in distances.items():
                shown = key.split("+") if set(key.split("+")) <= set(present) else ()
                far = distance_of(sample, self.runtime.form, shown, self.contract.unknown)
                values.append(math.nan if far is None else far.value)
            joint.append(together if set(names) <= set(present) else nothing)
            for name in names:
                alone[name].append(logits.get(name, nothing))
            labels.append(-1 if sample.label is None else sample.label)
            sources.append(sample.source)
        rows = {**alone, "+".join(names): joint}
        return NetworkOutputs(
            logits={subset: np.array(values) for subset, values in rows.items()},
            pooled={},
            labels=np.array(labels, dtype=np.int64),
            before={},
            after={},
            flow_nll={},
            sources=tuple(sources),
            distance={key: np.array(values) for key, values in distances.items()},
        )
