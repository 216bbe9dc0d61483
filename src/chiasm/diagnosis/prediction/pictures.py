"""Pictures of the patterns of recordings, one for each prediction."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from chiasm.diagnosis.prediction.occlusion import WINDOWS, speaking_phases
from chiasm.diagnosis.quantities.assessment import duration_of, recording_pulses
from chiasm.diagnosis.quantities.pattern import phase_pattern
from chiasm.errors import ConfigurationError
from chiasm.files.appearing import appearing
from chiasm.runs.console import say
from chiasm.samples import Diagnosis, RecordingSample

NO_MATPLOTLIB = (
    "Patterns are drawn by matplotlib, which is not installed: pip install matplotlib, or leave "
    "them out with --no-pictures."
)


MANY = 100  # recordings whose pictures take long


def cost_of_pictures(count: int) -> str:
    """Return a sentence on what the pictures of many recordings cost."""
    return (
        f"Each of {count} recordings is judged {WINDOWS} times more for its picture; --no-pictures "
        "leaves them out."
    )


class PatternPictures:
    """A folder of pictures.

    Args:
        folder: is made with the first picture.
        model: trained or exported; judges the recording without some of its phases.
    """

    def __init__(self, folder: Path, model: Any) -> None:
        self.folder, self.model = folder, model
        self._able = True

    def write(self, sample: RecordingSample, diagnosis: Diagnosis) -> Path | None:
        """Write the picture of a recording; says once that matplotlib is absent."""
        if not self._able:
            return None
        try:
            png = pattern_picture(self.model, sample, diagnosis)
        except ConfigurationError as error:
            self._able = False
            say(str(error))
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / picture_name(diagnosis.source)
        with appearing(path) as half:
            half.write_bytes(png)
        return path


def picture_name(source: str) -> str:
    """Return the name of a recording's picture: its stem, and what tells equal stems apart."""
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{Path(source).stem or 'recording'}-{digest}.png"


def pattern_picture(
    model: Any,
    sample: RecordingSample,
    diagnosis: Diagnosis,
    *,
    theme: Literal["light", "dark"] = "light",
) -> bytes:
    """Return the picture of a recording's pattern as PNG, with the phases that speak for its class.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    try:
        from chiasm.diagnosis.report.pattern_plot import pattern_png
    except ModuleNotFoundError as cause:
        raise ConfigurationError(NO_MATPLOTLIB) from cause
    read = recording_pulses(sample, model.polarity)
    seconds = None if model.has_phase else duration_of(sample)
    factor = sample.system.charge_pc
    return pattern_png(
        None if read is None else phase_pattern(read.pulses, factor, seconds=seconds),
        diagnosis,
        picture=sample.image,
        speaks=speaking_phases(model.classify, sample, diagnosis) if model.has_phase else None,
        theme=theme,
    )
