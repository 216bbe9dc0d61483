"""Verdicts on any number of parts: what workers open, judge and write.

Nothing here needs PyTorch; the model that a worker loads may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chiasm.detection.decision import failed_verdict
from chiasm.detection.prediction.outcomes import (
    COLUMNS,
    PRODUCT,
    outcome_of,
    row_of,
    say_summary,
    write_meanings,
)
from chiasm.detection.prediction.part_files import COCO, PartFiles, file_stem, png_bytes, write_coco
from chiasm.detection.products.data import open_for, with_product
from chiasm.detection.readers.source import Lamp, SampleRef, SampleSource
from chiasm.detection.report.overlay import HeatScale, heat_overlay
from chiasm.errors import ChiasmError, DataError
from chiasm.files.parquet import read_rows
from chiasm.files.readers import without_listing
from chiasm.runs.shard_plan import Item, Listing
from chiasm.runs.shards import predict_in_shards
from chiasm.runs.tally import Outcome, Tally
from chiasm.samples import RGBDSample, Verdict

HeatMaps = Literal["none", "defective", "all"]


@dataclass(frozen=True)
class PartJob:
    """A prediction of parts; see ``Job``.

    Attributes:
        model: folder of a trained or an exported model.
        model_files: that tell this model from others.
        inputs: folder or table.
        load: loads a model's folder with a number of processor threads.
        lamp: that the user gave; None takes the run's.
        heat_maps: of which parts.
        files: which further files are written.
    """

    model: Path
    model_files: tuple[Path, ...]
    inputs: Path
    load: Callable[[Path, int], Any]
    lamp: Lamp | None
    heat_maps: HeatMaps
    files: PartFiles
    noun: str = "parts"

    @property
    def options(self) -> Mapping[str, Any]:
        """What else decides the tables."""
        return {"lamp": self.lamp, "heat_maps": self.heat_maps, **self.files.options}

    @property
    def pictures(self) -> bool:
        """Whether there are heat maps."""
        return self.heat_maps != "none"

    def open_model(self, threads: int) -> Any:
        """Load the model."""
        return self.load(self.model, threads)

    def listing(self, model: Any) -> Listing:
        """List the parts, under the lamp that the model saw its own under."""
        source, remarks = open_for(model, self.inputs, lamp=self.lamp)
        return Listing(
            source.refs,
            problems=tuple((p.source, p.sentence) for p in source.problems),
            remarks=remarks,
            promise=model.promise,
            reader=without_listing(source),
        )

    def judge(self, model: Any, reader: Any) -> PartJudge:
        """Join a model and a reader."""
        return PartJudge(model, reader, self.heat_maps, self.files)


class PartJudge:
    """Judges parts one by one; see ``Judge``.

    Args:
        model: trained or exported.
        reader: of the parts.
        heat_maps: of which parts.
        files: which further files are written.
    """

    def __init__(
        self, model: Any, reader: SampleSource, heat_maps: HeatMaps, files: PartFiles
    ) -> None:
        self.model, self.reader, self.heat_maps, self.files = model, reader, heat_maps, files
        product = {PRODUCT: "string"} if model.products else {}
        self.columns = {**COLUMNS, **product, **files.columns}

    def judge(self, item: Item) -> tuple[Outcome, ...]:
        """Judge one part, or each part of a frame that the model splits."""
        ref = _ref(item)
        sample: RGBDSample | ChiasmError
        try:
            sample = with_product(self.reader.load(ref), ref)
        except ChiasmError as error:
            sample = error
        verdict = next(self.model.predict_all([(ref.source, sample)]))
        files = tuple(map(str, ref.files.values()))
        return tuple(self._outcome(part, sample, files) for part in verdict.parts or (verdict,))

    def _outcome(
        self, verdict: Verdict, sample: RGBDSample | ChiasmError, files: Sequence[str]
    ) -> Outcome:
        drawn = self.heat_maps == "all" or (self.heat_maps == "defective" and verdict.defective)
        picture = None
        if drawn and verdict.anomaly_map is not None and isinstance(sample, RGBDSample):
            rule = self.model.rule_for(verdict)
            scale = HeatScale.of(rule.calibration_scores, rule.display_threshold)
            picture = png_bytes(heat_overlay(verdict.anomaly_map, sample, scale=scale))
        name = file_stem(verdict.source, files)
        row = self.files.write_row(verdict, row_of(verdict), name=name)
        return outcome_of(verdict, picture=picture, row=row)

    def failed(self, source: str, sentence: str) -> Outcome:
        """Return the outcome of a part that cannot be judged."""
        return outcome_of(failed_verdict(source, DataError(sentence)))


def predict_shards(
    job: PartJob, out: Path, *, workers: int | None, ray: str | None, quiet: bool = False
) -> Tally:
    """Predict verdicts on any number of parts, and print their summary.

    Args:
        job: model, inputs and options.
        out: folder of the results: ``verdicts/part-*.parquet``, and ``heat_maps/part-*.parquet``
            with ``source`` and ``png``.
        workers: processes at work at a time; None takes all processors of a cluster.
        ray: address of a cluster; None takes processes of this machine.
        quiet: print no progress.

    Raises:
        ConfigurationError, ArtifactError: see ``predict_in_shards``.
        DataError: no part could be scored.
    """
    prediction = predict_in_shards(job, out, workers=workers, ray=ray, quiet=quiet)
    write_meanings(out)
    if job.files.coco:
        write_coco(read_rows(sorted((out / "verdicts").glob("part-*.parquet"))), out / COCO)
    say_summary(prediction.tally, out, promise=prediction.promise)
    return prediction.tally


def _ref(item: Item) -> SampleRef:
    files = {role: Path(path) for role, path in item["files"].items()}
    return SampleRef(**{**item, "files": files})
