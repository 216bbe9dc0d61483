"""What of a recording and its diagnosis takes part in a trend."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from chiasm.diagnosis.monitoring.asset import QUANTITIES, Observation
from chiasm.samples import Diagnosis, RecordingSample

UNCALIBRATED_UNIT = "units of the recorder"


def observation_of(
    sample: RecordingSample,
    diagnosis: Diagnosis,
    *,
    time: float | None,
    source: str,
    recorder: str = "",
    digest: str | None = None,
) -> Observation:
    """Return what a recording says of its asset.

    Args:
        sample: the recording.
        diagnosis: of it.
        time: seconds since 1970, or None.
        source: its name.
        recorder: what else must be equal for charges and rates to be compared, in words.
        digest: of its files; None computes that of its values.
    """
    form = recorded_form(sample)
    quantities = measured(diagnosis)
    return Observation(
        source=source,
        time=time,
        kind=None if diagnosis.error else diagnosis.kind,
        confidence=max(diagnosis.probabilities.values(), default=math.nan),
        probabilities=diagnosis.probabilities,
        quantities=quantities,
        unit=charge_unit(sample) if quantities else "",
        severity=diagnosis.severity.level if diagnosis.severity is not None else "",
        recorder=f"{recorder}, {form}" if recorder else form,
        digest=digest_of(sample) if digest is None else digest,
        error=diagnosis.error,
    )


def measured(diagnosis: Diagnosis) -> Mapping[str, float]:
    """Return the known quantities of a diagnosis by name."""
    known = {name: getattr(diagnosis.quantities, name, None) for name in QUANTITIES}
    return {name: float(value) for name, value in known.items() if value is not None}


def charge_unit(sample: RecordingSample) -> str:
    """Return the unit of a recording's charges."""
    if sample.system.charge_pc is not None:
        return "pC"
    return sample.system.unit or UNCALIBRATED_UNIT


def recorded_form(sample: RecordingSample) -> str:
    """Return in words what must be equal for the charges of recordings to be compared."""
    if sample.series is None and sample.pulses is None:
        return f"{sample.frequency:g} Hz, picture alone"
    said = [f"{sample.frequency:g} Hz"]
    if sample.pulses is not None:
        said.append("list of pulses")
    elif sample.series is not None:
        channels = len(sample.series)
        said.append(f"{sample.samples_per_cycle} values a cycle")
        said.append(f"{channels} channel{'s' * (channels > 1)}")
    said.append(charge_unit(sample))
    if sample.system.charge_pc is None and sample.series is not None:
        # Counts of a converter and volts of a probe are written by different recorders.
        whole = bool(np.array_equal(sample.series, np.rint(sample.series)))
        below = not whole and float(sample.series.max(initial=0.0)) < 0
        said.append("levels below 0" if below else "whole numbers" if whole else "decimals")
    return ", ".join(said)


def digest_of(sample: RecordingSample) -> str:
    """Return a digest of the recording's values."""
    digest = hashlib.sha256()
    pulses = () if sample.pulses is None else (sample.pulses.phase, sample.pulses.amplitude)
    for array in (sample.image, sample.series, *pulses):
        if array is not None:
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
