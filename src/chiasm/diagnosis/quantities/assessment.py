"""Quantities and severity of a recording, joined to its diagnosis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from chiasm.diagnosis.preparation.recorders import Polarity
from chiasm.diagnosis.quantities.charge_quantities import quantities_of
from chiasm.diagnosis.quantities.pulse_extraction import DEAD_TIME_S, extract_pulses
from chiasm.diagnosis.quantities.severity import rate_severity
from chiasm.discharge import Array, Pulses, Quantities
from chiasm.samples import Diagnosis, RecordingSample


def recording_pulses(
    sample: RecordingSample, polarity: Polarity | None = None
) -> tuple[Pulses, float | None, tuple[str, ...]] | None:
    """Return the pulses of a recording, their noise floor, and remarks; None without any.

    Args:
        sample: with single pulses or a series; of several channels the first one counts.
        polarity: how its series is written; None tells it from the values.
    """
    if sample.pulses is not None:
        return sample.pulses, None, ()
    if sample.series is None:
        return None
    extracted = extract_pulses(
        sample.series[0],
        frequency=sample.frequency,
        samples_per_cycle=sample.samples_per_cycle,
        polarity=polarity,
        dead_time_s=sample.system.dead_time_s or DEAD_TIME_S,
    )
    said = [
        f"Pulses are peaks more than {extracted.threshold:.3g} units above the quiet level of a "
        f"series read as {extracted.polarity}."
    ]
    clipped = clipped_pulses(extracted.pulses.amplitude)
    if clipped:
        said.append(
            f"{clipped} pulses are at the recorder's upper limit, so that larger charges are read "
            "too small: record with less gain."
        )
    if len(sample.series) > 1:
        said.append(f"They are those of the first of {len(sample.series)} channels.")
    return extracted.pulses, extracted.floor, tuple(said)


def clipped_pulses(amplitude: Array) -> int:
    """Return how many pulses ``(N,)`` have the largest amplitude, if it is a recorder's limit.

    It is one where at least five pulses have it, three times as many as the next amplitude.
    """
    values, counts = np.unique(np.abs(amplitude), return_counts=True)
    if len(values) < 2 or counts[-1] < 5 or counts[-1] < 3 * counts[-2]:
        return 0
    return int(counts[-1])


def recording_quantities(
    sample: RecordingSample, polarity: Polarity | None = None
) -> Quantities | None:
    """Return the quantities of a recording; None where it has neither pulses nor a series."""
    read = recording_pulses(sample, polarity)
    if read is None:
        return None
    pulses, floor, said = read
    return quantities_of(
        pulses,
        duration_s=duration_of(sample),
        frequency=sample.frequency,
        system=sample.system,
        floor=floor,
        remarks=said,
    )


def duration_of(sample: RecordingSample) -> float | None:
    """Return the seconds of a recording; None of a pattern that does not tell them."""
    if sample.series is None:
        return None
    return sample.series.shape[1] / (sample.frequency * sample.samples_per_cycle)


class Classifying(Protocol):
    """A trained or exported classifier."""

    @property
    def polarity(self) -> Polarity:
        """How its recordings are written."""
        ...

    def classify(self, sample: RecordingSample, **options: Any) -> Diagnosis:
        """Diagnose one recording."""
        ...


def assessed(model: Classifying, sample: RecordingSample, **options: Any) -> Diagnosis:
    """Return a model's diagnosis with quantities and severity by the default levels.

    Args:
        model: that classifies.
        sample: the recording.
        options: of its ``classify``.
    """
    diagnosis = model.classify(sample, **options)
    quantities = recording_quantities(sample, model.polarity)
    if quantities is None:
        return diagnosis
    return replace(diagnosis, quantities=quantities, severity=rate_severity(quantities))
