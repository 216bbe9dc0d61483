"""Diagnoses of any number of recordings: what workers open, judge and write.

Nothing here needs PyTorch; the model that a worker loads may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiasm.diagnosis.prediction.outcomes import columns_of, outcome_of, say_summary
from chiasm.diagnosis.prediction.pictures import MANY, PatternPictures, cost_of_pictures
from chiasm.diagnosis.quantities.assessment import measured
from chiasm.diagnosis.quantities.severity import SeverityLevels, levels_for, rated
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.readers.source import RecordingRef, RecordingSource, problem_message
from chiasm.errors import ChiasmError
from chiasm.files.readers import without_listing
from chiasm.runs.console import MAX_LISTED
from chiasm.runs.shard_plan import Item, Listing
from chiasm.runs.shards import predict_in_shards
from chiasm.runs.tally import Outcome, Tally
from chiasm.samples import Diagnosis, RecordingSample


@dataclass(frozen=True)
class RecordingJob:
    """A prediction of recordings; see ``Job``.

    Attributes:
        model: folder of a trained or an exported model.
        model_files: that tell this model from others.
        inputs: folder or table.
        load: loads a model's folder with a number of processor threads.
        recorder: ``NAME=VALUE`` each, what the recorder's files do not say.
        severity: YAML file of levels; None takes ``severity.yaml`` beside the inputs, or the
            default levels.
        patterns: folder for a picture of each recording's pattern; None draws none.
    """

    model: Path
    model_files: tuple[Path, ...]
    inputs: Path
    load: Callable[[Path, int], Any]
    noun: str = "recordings"
    recorder: tuple[str, ...] = ()
    severity: Path | None = None
    patterns: Path | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """What else decides the tables."""
        levels = levels_for(self.inputs, self.severity)
        options: dict[str, Any] = {} if levels is None else {"severity": str(dict(levels.bounds))}
        options |= {"recorder": sorted(self.recorder)} if self.recorder else {}
        return options | ({} if self.patterns is None else {"patterns": True})

    @property
    def pictures(self) -> bool:
        """Recordings have no heat maps; their patterns are files of their own."""
        return False

    def open_model(self, threads: int) -> Any:
        """Load the model."""
        return self.load(self.model, threads)

    def listing(self, model: Any) -> Listing:
        """List the recordings."""
        source = open_source(self.inputs, recorder=self.recorder)
        reader = without_listing(source)
        used = [p.sentence for p in source.problems if not p.left_out][:MAX_LISTED]
        if self.patterns is not None and len(source.refs) >= MANY:
            used.append(cost_of_pictures(len(source.refs)))
        return Listing(
            source.refs,
            problems=tuple((p.source, problem_message(p)) for p in source.problems if p.left_out),
            remarks=tuple(used),
            reader=reader,
            # The values of a store's recordings lie in its own files.
            files=() if reader is not None else tuple(sorted(self.inputs.iterdir())),
        )

    def judge(self, model: Any, reader: Any) -> RecordingJudge:
        """Join a model and a reader; the store is opened where there is none."""
        if reader is None:
            reader = open_source(self.inputs, recorder=self.recorder)
        levels = levels_for(self.inputs, self.severity)
        drawn = None if self.patterns is None else PatternPictures(self.patterns, model)
        return RecordingJudge(model, reader, levels, drawn)


class RecordingJudge:
    """Diagnoses recordings one by one; see ``Judge``.

    Args:
        model: trained or exported.
        reader: of the recordings.
        levels: of severity; None takes the defaults.
        drawn: where patterns are drawn; None draws none.
    """

    def __init__(
        self,
        model: Any,
        reader: RecordingSource,
        levels: SeverityLevels | None = None,
        drawn: PatternPictures | None = None,
    ) -> None:
        self.model, self.reader, self.levels, self.drawn = model, reader, levels, drawn
        self.columns = columns_of(model.kinds)

    def judge(self, item: Item) -> tuple[Outcome]:
        """Diagnose one recording."""
        ref = _ref(item)
        # A reader remembers what it repaired; one for each recording forgets it again.
        reader: RecordingSource = without_listing(self.reader) or self.reader
        recording: RecordingSample | ChiasmError
        remarks: tuple[str, ...] = ()
        try:
            recording = reader.load(ref)
            remarks = tuple(p.sentence for p in reader.repairs(ref) if not p.left_out)
        except ChiasmError as error:
            recording = error
        diagnosis = next(self.model.predict_all([(ref.source, recording)]))
        if isinstance(recording, RecordingSample):
            diagnosis = rated(measured(diagnosis, recording), self.levels)
            if self.drawn is not None and not diagnosis.error:
                self.drawn.write(recording, diagnosis)
        return (outcome_of(diagnosis, self.model.kinds, remarks=remarks),)

    def failed(self, source: str, sentence: str) -> Outcome:
        """Return the outcome of a recording that cannot be diagnosed."""
        return outcome_of(Diagnosis(source, None, error=sentence), self.model.kinds)


def predict_shards(
    job: RecordingJob, out: Path, *, workers: int | None, ray: str | None, quiet: bool = False
) -> Tally:
    """Diagnose any number of recordings, and print their summary.

    Args:
        job: model and inputs.
        out: folder of the results: ``verdicts/part-*.parquet``, and ``patterns``.
        workers: processes at work at a time; None takes all processors of a cluster.
        ray: address of a cluster; None takes processes of this machine.
        quiet: print no progress.

    Raises:
        ConfigurationError, ArtifactError: see ``predict_in_shards``.
        DataError: no recording could be diagnosed.
    """
    prediction = predict_in_shards(job, out, workers=workers, ray=ray, quiet=quiet)
    say_summary(prediction.tally, out)
    return prediction.tally


def _ref(item: Item) -> RecordingRef:
    files = {role: Path(path) for role, path in item["files"].items()}
    return RecordingRef(**{**item, "files": files})
