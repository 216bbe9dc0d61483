"""An exported classifier as a function: recording in, diagnosis out, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.diagnosis.decision import Array, diagnosis_from_logits, distance_of, predict_each
from chiasm.diagnosis.preparation.network_inputs import (
    RecordingForm,
    absence_notes,
    recording_arrays,
)
from chiasm.diagnosis.preparation.recorders import Polarity
from chiasm.diagnosis.quantities.assessment import assessed
from chiasm.diagnosis.readers.checked_sample import sample_from_arrays
from chiasm.errors import ChiasmError
from chiasm.runtime.deployment import Deployment
from chiasm.runtime.engines import Engines
from chiasm.samples import Diagnosis, RecordingSample

JOINT = "logits"


class DiagnosisRuntime:
    """An exported classifier; threads may share it.

    Args:
        folder: that ``chiasm export`` wrote.
        deployment: content of the folder's ``deployment.json``.
        threads: processor threads.
    """

    wing = "classifier"

    def __init__(self, folder: Path, deployment: Deployment, *, threads: int) -> None:
        assert deployment.recording is not None
        self.folder = folder
        self.name = folder.resolve().name
        self.deployment = deployment
        self.model_hash = deployment.model_hash
        self.threads = threads
        self.form: RecordingForm = deployment.recording
        self._zeros = {
            p.name: np.zeros(
                tuple(n if isinstance(n, int) else self.form.segment for n in p.shape), np.float32
            )
            for p in deployment.inputs
        }
        self._engines = Engines(
            folder / deployment.graph,
            name=self.name,
            threads=threads,
            precision=deployment.precision,
            generated=False,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model looks at."""
        return self.deployment.modalities

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.deployment.kinds

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
                channels=self.form.recorded_channels,
                frequency=frequency,
                samples_per_cycle=samples_per_cycle,
                source=source,
                **measured,
            )
        )

    def predict(self, sample: RecordingSample, *, streaming: bool = False) -> Diagnosis:
        """Diagnose one recording; ``DataError`` if it does not fit the model.

        ``streaming`` uses the engine that serves several callers at the same time.
        """
        return assessed(self, sample, partial(self.classify, streaming=streaming))

    @property
    def polarity(self) -> Polarity:
        """How the model's recordings are written."""
        return self.form.polarity

    @property
    def has_phase(self) -> bool:
        """Whether the model's recordings have the phase of a mains."""
        return self.form.phase == "mains"

    def classify(self, sample: RecordingSample, *, streaming: bool = False) -> Diagnosis:
        """Diagnose one recording as ``predict`` does, without what is measured on its pulses."""
        single, joint, present = self.logits(sample, streaming=streaming)
        return diagnosis_from_logits(
            single,
            joint,
            kinds=self.deployment.kinds,
            temperatures=self.deployment.temperatures,
            unknown_below=self.deployment.unknown_below,
            distance=distance_of(sample, self.form, present, self.deployment.unknown),
            source=sample.source,
            notes=absence_notes(present, self.deployment.modalities),
        )

    def predict_all(
        self, samples: Iterable[RecordingSample | tuple[str, RecordingSample | ChiasmError]]
    ) -> Iterator[Diagnosis]:
        """Diagnose many recordings, or pairs of a source and its recording or reading error.

        A recording that cannot be read or diagnosed yields ``error`` and no kind.
        """
        return predict_each(self.predict, samples)

    def logits(
        self, sample: RecordingSample, *, streaming: bool = False
    ) -> tuple[dict[str, Array], Array, tuple[str, ...]]:
        """Return logits ``(K,)`` by modality, of all modalities together, and which are present."""
        names = self.deployment.modalities
        arrays = recording_arrays(sample, self.form, names)
        present = tuple(arrays)
        engine = self._engines.get(streaming=streaming)
        inputs = {**self._zeros, **arrays}
        windows = len(arrays.get("series", [None]))
        outputs = []
        for number in range(windows):
            if "series" in arrays:
                inputs["series"] = arrays["series"][number : number + 1]
            outputs.append(engine.run(inputs))
        # Means over windows in float64, as the trained model computes them.
        mean: dict[str, Array] = {
            name: np.stack([output[name][0] for output in outputs]).astype(np.float64).mean(axis=0)
            for name in outputs[0]
        }
        if len(names) == 1:
            return {names[0]: mean[JOINT]}, mean[JOINT], present
        single = {m: mean[f"{JOINT}_{m}"] for m in present}
        return single, mean[JOINT] if len(present) > 1 else single[present[0]], present

    def submit(
        self,
        image: Any = None,
        series: Any = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
        **measured: Any,
    ) -> Future[Diagnosis]:
        """Diagnose one recording in the background; the future raises what a call would raise."""
        return self._engines.submit(
            lambda: self.prepared(
                image,
                series,
                frequency=frequency,
                samples_per_cycle=samples_per_cycle,
                source=source,
                **measured,
            )
        )

    def prepared(
        self,
        image: Any = None,
        series: Any = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
        **measured: Any,
    ) -> Callable[[], Diagnosis]:
        """Check one recording, and return a function that diagnoses it.

        For callers with threads of their own. Raises what a call would raise.
        """
        sample = sample_from_arrays(
            image,
            series,
            channels=self.form.recorded_channels,
            frequency=frequency,
            samples_per_cycle=samples_per_cycle,
            source=source,
            **measured,
        )
        return partial(self.predict, sample, streaming=True)

    def warm_up(self, *, streaming: bool = False) -> None:
        """Compile the engine of a call (or of ``submit``, with ``streaming``) and run it once."""
        self._engines.get(streaming=streaming).run(self._zeros)

    def close(self) -> None:
        """Finish what was submitted, and accept no more."""
        self._engines.close()
