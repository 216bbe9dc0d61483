"""A recording that arrives in chunks, diagnosed as it grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chiasm.data.discharge.network_inputs import RecordingForm
from chiasm.data.discharge.tensors import window_length
from chiasm.errors import DataError
from chiasm.samples import Diagnosis, DischargeSample


class RecordingStream:
    """Takes a series chunk by chunk; made by ``ClassifierRuntime.stream``.

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
        diagnose: Callable[[DischargeSample], Diagnosis],
        blank: DischargeSample,
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
