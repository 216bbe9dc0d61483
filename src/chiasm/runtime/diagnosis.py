"""An exported classifier as a function: recording in, diagnosis out, without torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.decision import Array, diagnosis_from_logits
from chiasm.diagnosis.preparation.network_inputs import (
    RecordingForm,
    absences,
    picture_input,
    present,
    series_windows,
)
from chiasm.diagnosis.preparation.scales import window_length
from chiasm.diagnosis.readers.checked_sample import _sample, read_series
from chiasm.errors import DataError
from chiasm.files.images import read_rgb
from chiasm.runtime.deployment import Deployment
from chiasm.runtime.engines import Engines
from chiasm.samples import Diagnosis, FloatArray, RecordingSample

JOINT = "logits"


class DiagnosisRuntime:
    """An exported classifier; threads may share it.

    Args:
        folder: that ``chiasm export`` wrote.
        deployment: what is said there.
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
        self._blank = {
            p.name: np.zeros(
                tuple(n if isinstance(n, int) else self.form.segment for n in p.shape)
            ).astype(np.float32)
            for p in deployment.inputs
        }
        self._engines = Engines(
            folder / deployment.graph,
            name=self.name,
            threads=threads,
            precision=deployment.precision,
        )

    def __call__(
        self,
        image: FloatArray | None = None,
        series: NDArray[Any] | None = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
    ) -> Diagnosis:
        """Diagnose one recording; one of the two may be missing.

        Args:
            image: ``(H, W, 3)`` float in [0, 1], phase-resolved pattern.
            series: ``(C, T)`` pulse amplitudes in the recorder's counts.
            frequency: of the mains, Hz.
            samples_per_cycle: values of the series to a mains cycle.
            source: a name for the diagnosis.

        Raises:
            DataError: shapes, types or values do not fit, or neither is given.
        """
        sample = _sample(image, series, frequency, samples_per_cycle, source)
        return self.diagnose(sample)

    def diagnose(self, sample: RecordingSample, *, streaming: bool = False) -> Diagnosis:
        """Diagnose one recording; raises ``DataError`` where it cannot be diagnosed."""
        alone, joint, there = self.logits(sample, streaming=streaming)
        return diagnosis_from_logits(
            alone,
            joint,
            kinds=self.deployment.kinds,
            temperatures=self.deployment.temperatures,
            unknown_below=self.deployment.unknown_below,
            source=sample.source,
            notes=absences(there, self.deployment.modalities),
        )

    def logits(
        self, sample: RecordingSample, *, streaming: bool = False
    ) -> tuple[dict[str, Array], Array, tuple[str, ...]]:
        """Logits ``(K,)`` by modality that is there, of all of them, and which these are."""
        names = self.deployment.modalities
        there = present(sample, names)
        engine = self._engines.get(streaming=streaming)
        inputs = dict(self._blank)
        if "image" in there:
            inputs["image"] = picture_input(sample, self.form)[None]
        windows = series_windows(sample, self.form) if "series" in there else None
        looks = []
        for number in range(1 if windows is None else len(windows)):
            if windows is not None:
                inputs["series"] = windows[number : number + 1]
            looks.append(engine.run(inputs))
        # Means over windows in float64, as after training.
        mean: dict[str, NDArray[np.float64]] = {
            name: np.stack([k[name][0] for k in looks]).astype(np.float64).mean(axis=0)
            for name in looks[0]
        }
        if len(names) == 1:
            return {names[0]: mean[JOINT]}, mean[JOINT], there
        alone = {m: mean[f"{JOINT}_{m}"] for m in there}
        return alone, mean[JOINT] if len(there) > 1 else alone[there[0]], there

    def submit(
        self,
        image: FloatArray | None = None,
        series: NDArray[Any] | None = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
    ) -> Future[Diagnosis]:
        """Diagnose one recording beside others; the future raises what a call would raise."""
        return self._engines.submit(
            lambda: self.prepared(
                image,
                series,
                frequency=frequency,
                samples_per_cycle=samples_per_cycle,
                source=source,
            )
        )

    def prepared(
        self,
        image: FloatArray | None = None,
        series: NDArray[Any] | None = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
    ) -> Callable[[], Diagnosis]:
        """Check one recording, and give what diagnoses it, beside those of other callers.

        For callers with threads of their own, who would only wait for what they submit. Raises
        what a call would raise.
        """
        sample = _sample(image, series, frequency, samples_per_cycle, source)
        return partial(self.diagnose, sample, streaming=True)

    def predict_files(
        self,
        image_path: str | Path | None = None,
        series_path: str | Path | None = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
    ) -> Diagnosis:
        """Diagnose one recording from a picture and a table (CSV, or an array as ``.npy``).

        Rows of a table follow each other in time where the model takes one channel, and are
        channels otherwise. Raises ``DataError``.
        """
        image = None if image_path is None else read_rgb(image_path)
        series = None if series_path is None else read_series(Path(series_path), self.form.channels)
        return self(
            image,
            series,
            frequency=frequency,
            samples_per_cycle=samples_per_cycle,
            source=source or str(image_path or series_path),
        )

    def stream(
        self,
        image: FloatArray | None = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
    ) -> RecordingStream:
        """A recording that arrives in chunks; raises ``DataError`` where no series is looked at."""
        if "series" not in self.deployment.modalities:
            raise DataError(f"{self.name} does not look at series, so that nothing can stream.")
        blank = _sample(image, None, frequency, samples_per_cycle, source)
        return RecordingStream(self.diagnose, blank, self.form)

    def warm_up(self, *, streaming: bool = False) -> None:
        """Compile what a call needs (or ``submit``, with ``streaming``) and run it once."""
        self._engines.get(streaming=streaming).run(self._blank)

    def close(self) -> None:
        """Finish what was submitted and take no more."""
        self._engines.close()


class RecordingStream:
    """Takes a series chunk by chunk; made by ``DiagnosisRuntime.stream``.

    A diagnosis comes whenever a further window is complete, of everything that has arrived, so
    that the last one is the whole recording's. Windows are as long as the model's: of ``seconds``,
    or where it takes recordings whole, a second, and no less than what one token folds.

    Args:
        diagnose: of the runtime.
        blank: the recording without its series.
        form: of the model.
    """

    def __init__(
        self,
        diagnose: Callable[[RecordingSample], Diagnosis],
        blank: RecordingSample,
        form: RecordingForm,
    ) -> None:
        self._diagnose = diagnose
        self._blank = blank
        self._channels = form.channels
        per_cycle, fold = form.samples_per_cycle, form.series.shrink
        wanted = max(1, round((form.seconds or 1.0) * blank.frequency * per_cycle))
        self._window = window_length(
            10**9, per_cycle=per_cycle, segment=form.segment, wanted=wanted, fold=fold
        )
        self._chunks: list[NDArray[np.float32]] = []
        self._arrived = 0

    def push(self, chunk: NDArray[np.generic]) -> list[Diagnosis]:
        """Take ``(C, n)`` further values.

        Returns:
            A diagnosis for each window that they complete, of the recording up to its end.

        Raises:
            DataError: the chunk does not fit.
        """
        if chunk.ndim != 2 or chunk.shape[0] != self._channels or chunk.dtype.kind not in "iuf":
            raise DataError(
                f"A chunk of shape {chunk.shape} came; ({self._channels}, values) was expected."
            )
        if not np.isfinite(chunk).all():
            raise DataError("A chunk holds values that are no finite numbers.")
        before = self._arrived // self._window
        self._chunks.append(np.ascontiguousarray(chunk, np.float32))
        self._arrived += chunk.shape[1]
        complete = range(before + 1, self._arrived // self._window + 1)
        return [self._of(count * self._window) for count in complete]

    def finish(self) -> Diagnosis:
        """The diagnosis of everything; raises ``DataError`` where it is too short."""
        if not self._arrived and self._blank.image is None:
            raise DataError("Nothing has arrived, so that there is nothing to diagnose.")
        return self._of(self._arrived)

    def _of(self, values: int) -> Diagnosis:
        if len(self._chunks) > 1:
            self._chunks = [np.concatenate(self._chunks, axis=1)]
        series = self._chunks[0][:, :values] if self._chunks else None
        return self._diagnose(replace(self._blank, series=series))
