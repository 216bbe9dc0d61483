"""A service around stub models with predictable answers, and the files that are sent to it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.scales import PictureScale, SeriesScale
from chiasm.diagnosis.quantities.assessment import assessed
from chiasm.errors import ArtifactError, DataError
from chiasm.runtime.deployment import Deployment
from chiasm.samples import AnomalyMap, Diagnosis, RecordingSample, Verdict

with warnings.catch_warnings():
    # Its warning recommends a successor of httpx that does the same here.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

NORMALS = tuple(float(score) for score in range(1, 100))


def stub_deployment(**fields: Any) -> Deployment:
    """Return the description of a model without files."""
    required: dict[str, Any] = {"format": "onnx", "precision": "fp32", "inputs": (), "outputs": ()}
    return Deployment(**required, origin={}, parity={}, files={}, **fields)


def stub_form() -> RecordingForm:
    """Return the form of recordings with a series of one channel."""
    return RecordingForm(
        image_size=32,
        channels=1,
        samples_per_cycle=128,
        segment=128,
        series=SeriesScale(),
        picture=PictureScale(),
    )


@dataclass(eq=False)
class MeanBrightness:
    """A detector whose score is 100 times the mean brightness; 99 normals scored 1 to 99.

    Attributes:
        before_prepare: called before a part is prepared.
        release: if given, calls wait for it.
        called: released at every call.
    """

    folder: Path
    wing: str = "detector"
    closed: bool = False
    warm: bool = False
    before_prepare: Callable[[], None] = lambda: None
    release: threading.Event | None = None
    called: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    calls: int = 0
    deployment: Deployment = field(init=False)
    model_hash: str = field(init=False)

    def __post_init__(self) -> None:
        path = self.folder / "deployment.json"
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise ArtifactError(f"{path} was altered; copy the folder again.") from error
        self.model_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        self.deployment = stub_deployment(
            wing=self.wing,
            method="brightness",
            modalities=("rgb", "geometry"),
            calibration_scores=tuple(content["scores"]),
            false_alarm_rate=0.05,
        )

    def __call__(self, rgb: Any, xyz: Any, *, source: str = "") -> Verdict:
        assert not self.closed, "a closed model was called"
        self.calls += 1
        self.called.release()
        if self.release is not None:
            assert self.release.wait(20)
        if rgb is None:
            raise DataError("This model needs an RGB image and points; the RGB image is missing.")
        if min(rgb.shape[:2]) < 8:
            raise DataError("The image is smaller than 8 x 8 pixels.")
        scores = rgb.mean(axis=2) * 100
        score = float(scores.mean())
        p = (1 + sum(normal >= score for normal in self.deployment.calibration_scores)) / (
            1 + len(self.deployment.calibration_scores)
        )
        map_ = AnomalyMap(scores.astype(np.float32), scores > 0, score, source)
        return Verdict(source, score, p, p <= 0.05, map_)

    def prepared(self, *arrays: Any, **settings: Any) -> Callable[[], Any]:
        self.before_prepare()
        return partial(self, *arrays, **settings)

    def warm_up(self, *, streaming: bool = False) -> None:
        self.warm = True

    def close(self) -> None:
        self.closed = True


@dataclass(eq=False)
class Loudest(MeanBrightness):
    """A classifier that says 'loud' if the series' largest value is above 100."""

    wing: str = "classifier"

    def __post_init__(self) -> None:
        self.model_hash = "c" * 64
        self.deployment = stub_deployment(
            wing=self.wing,
            method="loudest",
            modalities=("image", "series"),
            kinds=("quiet", "loud"),
            recording=stub_form(),
        )

    polarity = "unipolar"
    modalities = ("image", "series")
    has_phase = True

    def __call__(self, image: Any = None, series: Any = None, **facts: Any) -> Diagnosis:
        if series is None:
            raise DataError("This model needs a series.")
        return assessed(self, RecordingSample(image, series, **facts))

    def classify(self, sample: RecordingSample) -> Diagnosis:
        loud = 0.75 if sample.series.max() > 100 else 0.25
        kind = "loud" if loud > 0.5 else "quiet"
        voices = {"quiet": 1 - loud, "loud": loud}
        return Diagnosis(sample.source, kind, voices, {}, 0.5, float("nan"))


@dataclass
class RunningService:
    """A running service, its models and its log."""

    client: TestClient
    folders: dict[str, Path]
    loaded: list[MeanBrightness]
    log: Path


Start = Callable[..., RunningService]


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def grey(share: float, size: int = 32) -> bytes:
    """A picture whose mean brightness is ``share``."""
    return png(np.full((size, size, 3), round(255 * share), np.uint8))


def tiff(values: np.ndarray, path: Path) -> bytes:
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", metadata=None)
    return path.read_bytes()


def plane(size: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size
    return np.dstack([columns, rows, np.full_like(rows, 0.5)]).astype(np.float32)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.005)
