"""Quantities and severity of a recording, joined to its diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from chiasm.diagnosis.preparation.recorders import Polarity
from chiasm.diagnosis.quantities.charge_quantities import quantities_of
from chiasm.diagnosis.quantities.pulse_extraction import (
    DEAD_TIME_S,
    ExtractedPulses,
    extract_pulses,
)
from chiasm.diagnosis.quantities.severity import rate_severity
from chiasm.diagnosis.quantities.sources import Judge, discharge_sources
from chiasm.discharge import (
    LEVELS,
    Array,
    DischargeSource,
    Pulses,
    Quantities,
    Severity,
    digits,
)
from chiasm.samples import Diagnosis, RecordingSample

QUIET = "normal"  # the class without a discharge


@dataclass(frozen=True, slots=True, eq=False)
class RecordingPulses:
    """The pulses of a recording.

    Attributes:
        pulses: as the recorder lists them, or of the series.
        extracted: of the series; None where the recorder lists them.
        remarks: sentences on how they were found.
    """

    pulses: Pulses
    extracted: ExtractedPulses | None
    remarks: tuple[str, ...] = ()


def recording_pulses(
    sample: RecordingSample, polarity: Polarity | None = None
) -> RecordingPulses | None:
    """Return the pulses of a recording; None without any.

    Args:
        sample: with single pulses or a series; of several channels the first one counts.
        polarity: how its series is written; None tells it from the values.
    """
    if sample.pulses is not None:
        return RecordingPulses(sample.pulses, None, _limit(sample.pulses))
    if sample.series is None:
        return None
    extracted = extracted_pulses(sample, polarity)
    said = [
        f"Pulses are peaks more than {digits(extracted.threshold)} units above the quiet level of "
        f"a series read as {extracted.polarity}."
    ]
    said += _limit(extracted.pulses)
    if len(sample.series) > 1:
        said.append(f"They are those of the first of {len(sample.series)} channels.")
    return RecordingPulses(extracted.pulses, extracted, tuple(said))


def extracted_pulses(sample: RecordingSample, polarity: Polarity | None = None) -> ExtractedPulses:
    """Return the pulses of a recording's series, of its first channel."""
    assert sample.series is not None
    return extract_pulses(
        sample.series[0],
        frequency=sample.frequency,
        samples_per_cycle=sample.samples_per_cycle,
        polarity=polarity,
        dead_time_s=sample.system.dead_time_s or DEAD_TIME_S,
    )


def _limit(pulses: Pulses) -> tuple[str, ...]:
    """Return a sentence on pulses at the recorder's upper limit; () without any."""
    if pulses.count is not None or not (clipped := clipped_pulses(pulses.amplitude)):
        return ()
    return (
        f"{clipped} pulses are at the recorder's upper limit, so that larger charges are read too "
        "small: record with less gain.",
    )


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
    return None if read is None else _quantities(sample, read)


def _quantities(sample: RecordingSample, read: RecordingPulses) -> Quantities:
    return quantities_of(
        read.pulses,
        duration_s=duration_of(sample),
        frequency=sample.frequency,
        system=sample.system,
        floor=None if read.extracted is None else read.extracted.floor,
        remarks=read.remarks,
    )


def duration_of(sample: RecordingSample) -> float | None:
    """Return the seconds of a recording; None of a pattern that does not tell them."""
    if sample.series is None:
        return None
    return sample.series.shape[1] / (sample.frequency * sample.samples_per_cycle)


def measured(diagnosis: Diagnosis, sample: RecordingSample) -> Diagnosis:
    """Return a diagnosis with the quantities of its recording, also where no model could judge."""
    if diagnosis.quantities is not None:
        return diagnosis
    quantities = recording_quantities(sample)
    if quantities is None:
        return diagnosis
    return replace(diagnosis, quantities=quantities, severity=rate_severity(quantities))


class Classifying(Protocol):
    """A trained or exported classifier."""

    @property
    def polarity(self) -> Polarity:
        """How its recordings are written."""
        ...

    @property
    def has_phase(self) -> bool:
        """Whether its recordings have the phase of a mains."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it looks at."""
        ...

    def classify(self, sample: RecordingSample) -> Diagnosis:
        """Diagnose one recording."""
        ...


def assessed(
    model: Classifying, sample: RecordingSample, classify: Judge | None = None
) -> Diagnosis:
    """Return a model's diagnosis with quantities, severity by the default levels, and sources.

    Args:
        model: that classifies.
        sample: the recording.
        classify: in place of the model's own.
    """
    judge = classify or model.classify
    diagnosis = judge(sample)
    read = recording_pulses(sample, model.polarity)
    if read is None:
        return diagnosis
    quantities = _quantities(sample, read)
    sources: tuple[DischargeSource, ...] = ()
    separable = sample.series is not None and len(sample.series) == 1 and model.has_phase
    if separable and "series" in model.modalities:
        extracted = read.extracted or extracted_pulses(sample, model.polarity)
        sources = discharge_sources(judge, sample, extracted)
    notes = diagnosis.notes
    if sources:
        names = ", ".join(f"{s.kind} {s.share_of_charge:.0%} of the charge" for s in sources)
        notes += (f"{len(sources)} sources: {names}; the class is that of all pulses together",)
    severity = rate_severity(quantities)
    notes += contradiction(diagnosis.kind, severity)
    return replace(
        diagnosis,
        quantities=quantities,
        severity=severity,
        sources=sources,
        notes=notes,
    )


def contradiction(kind: str | None, severity: Severity | None) -> tuple[str, ...]:
    """Return a note where the class says that nothing discharges, and the severity is high.

    Examples:
        >>> contradiction("normal", Severity("high", ("there are 38 pulses a mains cycle",), ""))
        ('the class is normal, but there are 38 pulses a mains cycle: look at the pattern',)
        >>> contradiction("void", Severity("high", (), ""))
        ()
    """
    if kind != QUIET or severity is None or severity.level != LEVELS[-1]:
        return ()
    return (f"the class is {kind}, but {'; '.join(severity.reasons)}: look at the pattern",)
