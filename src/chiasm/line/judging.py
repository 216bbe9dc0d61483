"""Files of a part in, a record out; the model is read again when its folder is replaced."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2

from chiasm.detection.products.models import PRODUCTS, read_products
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.detection.readers.range_image import RangeSettings, read_range
from chiasm.detection.report.overlay import HeatScale, heat_overlay
from chiasm.diagnosis.quantities.severity import levels_for, rated
from chiasm.diagnosis.recorders.recorder_files import read_recorder_file
from chiasm.diagnosis.recorders.recorder_settings import SETTINGS_FILE, recorder_settings
from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError, DataError
from chiasm.files.appearing import appearing
from chiasm.line.arrivals import Arrival
from chiasm.line.console import tell
from chiasm.line.pairing import Needs
from chiasm.line.record import ERROR, UNDECIDED, LineRecord, decision_of, diagnosed
from chiasm.samples import Diagnosis, Verdict

logger = logging.getLogger(__name__)

_DESCRIPTIONS = ("deployment.json", "contract.json", "model/contract.json", PRODUCTS)


class Model(Protocol):
    """What a watch asks of a trained or an exported model of either wing."""

    @property
    def wing(self) -> str:
        """``"detector"`` or ``"classifier"``."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model looks at."""
        ...

    @property
    def model_hash(self) -> str:
        """SHA-256 of what decides."""
        ...

    def __call__(self, *, source: str, **arrays: Any) -> Any:
        """Return a ``Verdict`` or a ``Diagnosis``; raises ``DataError``."""
        ...


class Judge:
    """A model's folder, and the records of what it judges.

    Args:
        folder: of a run, of a model, or an exported one.
        load: opens it.
        station: name of the place, for the records.
        options: of every call of the model, e.g. ``intrinsics`` of a depth image; and
            ``recorder``, ``NAME=VALUE`` each, which ``recorder.yaml`` in the watched folder may
            hold as well.
        heat_maps: folder for pictures of defective parts; None writes none.

    Raises:
        ChiasmError: the folder is broken.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path], Any],
        *,
        station: str = "",
        options: Mapping[str, Any] | None = None,
        heat_maps: Path | None = None,
    ) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self._load = load
        self._station = station
        self._options = {k: v for k, v in (options or {}).items() if v is not None}
        self._recorder: tuple[str, ...] = self._options.pop("recorder", ())
        self._heat_maps = heat_maps
        self._stamp = self._looked()
        self.model: Model = _warm(load(folder))
        self.needs = Needs.of(self.model.wing, self.model.modalities)
        self._refuse_strange_options()

    def _refuse_strange_options(self) -> None:
        if self._recorder:
            if "series" not in self.needs.roles:
                raise ConfigurationError(
                    f"{self.folder} holds a {self.model.wing} without series, which takes no "
                    "--recorder; leave it out."
                )
            given = self._options.keys() & {"frequency", "samples_per_cycle"}
            if given:
                name = min(given)
                raise ConfigurationError(
                    f"--{name.replace('_', '-')} and --recorder are both given; write "
                    f"--recorder {name}={self._options[name]:g} instead."
                )
            recorder_settings(self.folder, self._recorder)  # says what is wrong with them
        taken = inspect.signature(type(self.model).__call__).parameters
        for name in self._options:
            if name not in taken:
                word = {"intrinsics": "camera"}.get(name, name).replace("_", "-")
                raise ConfigurationError(
                    f"{self.folder} holds a {self.model.wing}, which takes no --{word}; leave it "
                    "out."
                )
        told = self._recorder or "frequency" in self._options
        if "series" in self.needs.roles and not told:
            tell(
                "Files of recordings name no mains frequency: 60 Hz and 128 values a cycle are "
                "assumed, unless recorder.yaml in the watched folder, --recorder, --frequency or "
                "--samples-per-cycle says otherwise."
            )

    def refresh(self) -> None:
        """Read the model again if its folder was replaced; a broken one leaves the old in use."""
        stamp = self._looked()
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            model = _warm(self._load(self.folder))
            if Needs.of(model.wing, model.modalities) != self.needs:
                raise ArtifactError(
                    f"{self.folder} now holds a {model.wing} of {', '.join(model.modalities)}; "
                    "start the watch again to judge by it."
                )
        except ChiasmError as error:
            tell(f"The model is kept as it was, because its new version cannot be used: {error}")
            return
        close = getattr(self.model, "close", None)
        if close is not None:
            close()
        self.model = model
        tell(
            f"The model in {self.folder} was replaced; parts are judged by {model.model_hash[:8]}."
        )

    def judge(self, arrival: Arrival, *, folder: Path) -> LineRecord:
        """Judge a part; what is wrong with it is the record's error.

        Args:
            arrival: the part.
            folder: that is watched.

        Raises:
            DataError: a file cannot be read, or not as what it should be.
            DeviceLostError: nothing can be judged any more.
        """
        start = time.monotonic()
        record = LineRecord(
            id=self._identity(arrival, folder),
            time=time.time(),
            source=arrival.name,
            decision=ERROR,
            station=self._station,
            model=self.name,
            model_hash=self.model.model_hash,
            wing=self.model.wing,
            error=arrival.problem,
        )
        if not arrival.problem:
            answer = self._answer(arrival, folder)
            if isinstance(answer, Diagnosis):
                answer = rated(answer, levels_for(folder))
            record = _FILLED[record.wing](record, answer, self.model)
            if record.alarm and self._heat_maps is not None:
                self._draw(arrival, answer, self._heat_maps / f"{arrival.name}-{record.id[:8]}.png")
        return replace(record, latency_ms=round(1000 * (time.monotonic() - start), 3))

    def failed(self, arrival: Arrival, error: Exception, *, folder: Path) -> LineRecord:
        """Return the record of a part that cannot be judged."""
        if not isinstance(error, ChiasmError):
            logger.error("%s could not be judged.", arrival.name, exc_info=error)
            error = DataError(f"{arrival.name} could not be judged ({type(error).__name__}).")
        return self.judge(replace(arrival, problem=str(error)), folder=folder)

    def _answer(self, arrival: Arrival, folder: Path) -> Any:
        files: dict[str, Any] = dict(arrival.by_role().items())
        if "xyz" in files:
            files.pop("depth", None)
        options = dict(self._options)
        if "depth" in files and "intrinsics" not in options:
            raise DataError(
                f"{files['depth']} is a depth image, from which points are computed with the "
                "camera's intrinsics; name their JSON file with --camera."
            )
        if "xyz" in files and self.needs.missing(files):
            # Colours that are in the point cloud.
            image = read_range(files["xyz"], RangeSettings())
            files |= {"xyz": image.xyz, "rgb": image.rgb}
        if "depth" not in files:
            options = {k: v for k, v in options.items() if k not in ("intrinsics", "depth_unit")}
        if "series" in files and (self._recorder or (folder / SETTINGS_FILE).is_file()):
            return self._of_recorder(arrival, files, options, folder)
        return self.model(source=arrival.name, **files, **options)

    def _of_recorder(
        self, arrival: Arrival, files: dict[str, Any], options: dict[str, Any], folder: Path
    ) -> Any:
        """Diagnose a recording whose recorder is described; its notes say what was assumed."""
        given = [f"{name}={value:g}" for name, value in options.items()]
        settings = recorder_settings(folder, (*self._recorder, *given))
        recorded = read_recorder_file(files["series"], settings)
        files |= {"series": recorded.series, "image": files.get("image", recorded.image)}
        facts = {
            "frequency": recorded.frequency,
            "samples_per_cycle": recorded.samples_per_cycle,
            "pulses": recorded.pulses,
            "system": recorded.system,
        }
        diagnosis = self.model(source=arrival.name, **files, **{**options, **facts})
        return replace(diagnosis, notes=(*recorded.remarks, *diagnosis.notes))

    def _draw(self, arrival: Arrival, verdict: Verdict, path: Path) -> None:
        """Draw a part; what prevents that must not change its verdict."""
        try:
            self._draw_on(arrival, verdict, path)
        except (OSError, ChiasmError, cv2.error) as error:
            tell(f"The heat map {path} could not be written: {error}")

    def _draw_on(self, arrival: Arrival, verdict: Verdict, path: Path) -> None:
        rule = getattr(self.model, "rule_for")(verdict)  # noqa: B009
        files: dict[str, Any] = {k: v for k, v in arrival.by_role().items() if k in ("rgb", "xyz")}
        if "rgb" not in files and "rgb" in self.needs.roles and "xyz" in files:
            files["rgb"] = read_range(files["xyz"], RangeSettings()).rgb
        sample = sample_from_arrays(files.get("rgb"), files.get("xyz")) if files else None
        if sample is None or verdict.anomaly_map is None:
            return
        scale = HeatScale.of(rule.calibration_scores, rule.display_threshold)
        done, content = cv2.imencode(".png", heat_overlay(verdict.anomaly_map, sample, scale=scale))
        if done:
            with appearing(path) as half:
                half.write_bytes(content.tobytes())

    def _identity(self, arrival: Arrival, folder: Path) -> str:
        """Return the id of a part's verdict: the same files have the same, after a kill as well."""
        place = f"{self._station}\n{folder.resolve()}\n{arrival.name}\n"
        digest = hashlib.sha256(place.encode("utf-8", "surrogateescape"))
        for file in arrival.files:
            try:
                with file.path.open("rb") as stream:
                    content = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError:
                content = "unreadable"  # which the model says with its reason
            digest.update(f"{file.role} {file.size} {file.mtime_ns} {content}\n".encode())
        return digest.hexdigest()[:32]

    def _looked(self) -> tuple[Any, ...] | None:
        """Return what changes with the model; None while there is none."""
        stamp = _stamp(self.folder)
        if stamp is None or stamp[0] != PRODUCTS:
            return stamp
        try:
            products = read_products(self.folder)
        except ArtifactError:
            return None  # it is being written
        # Each product has a threshold of its own, which may change alone.
        return *stamp, *(_stamp(self.folder / product.folder) for product in products)


def _stamp(folder: Path) -> tuple[Any, ...] | None:
    """Return the name and the state of the file that describes a model; None without."""
    for name in _DESCRIPTIONS:
        try:
            # An open file, because a share may say of a name what was true a minute ago.
            with (folder / name).open("rb") as stream:
                status = os.fstat(stream.fileno())
        except OSError:
            continue
        return name, status.st_ino, status.st_mtime_ns, status.st_size
    return None


def _warm(model: Any) -> Any:
    """Return a model whose first part takes no longer than the others."""
    warm_up = getattr(model, "warm_up", None)
    if warm_up is not None:
        warm_up()
    return model


def _of_part(record: LineRecord, verdict: Verdict, model: Any) -> LineRecord:
    return replace(
        record,
        decision=ERROR if verdict.error else decision_of(verdict.defective),
        alarm=verdict.defective,
        score=verdict.score,
        p_value=verdict.p_value,
        threshold=model.rule_for(verdict).threshold,
        product=verdict.product,
        regions=verdict.regions,
        parts=verdict.parts,
        notes=verdict.notes,
        error=verdict.error,
    )


def _of_recording(record: LineRecord, diagnosis: Diagnosis, model: Any) -> LineRecord:
    return replace(
        record,
        decision=ERROR if diagnosis.error else diagnosis.kind or UNDECIDED,
        **diagnosed(diagnosis),
        notes=diagnosis.notes,
        error=diagnosis.error,
    )


_FILLED: dict[str, Callable[[LineRecord, Any, Any], LineRecord]] = {
    "detector": _of_part,
    "classifier": _of_recording,
}
