"""An exported detector as a function: RGB and xyz in, verdict out, without torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.detection.preparation.distance import check_distance
from chiasm.detection.preparation.geometry import geometry_picture
from chiasm.detection.preparation.prepare import paste, paste_mask, prepare
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.errors import DataError
from chiasm.files.images import read_rgb, read_xyz
from chiasm.metrics.calibration import conformal_p_value
from chiasm.runtime.deployment import Deployment
from chiasm.runtime.engine import Engine
from chiasm.runtime.engines import Engines
from chiasm.samples import AnomalyMap, FloatArray, PreparedSample, RGBDSample, Verdict

SMALLEST_SIDE = 16  # pixels; of less, nothing can be said
_SIZES = 4  # of parts, at a warm-up


class DetectionRuntime:
    """An exported detector; threads may share it.

    Args:
        folder: that ``chiasm export`` wrote.
        deployment: what is said there.
        threads: processor threads.
    """

    wing = "detector"

    def __init__(self, folder: Path, deployment: Deployment, *, threads: int) -> None:
        assert deployment.preparation is not None and deployment.geometry is not None
        self.folder = folder
        self.name = folder.resolve().name
        self.deployment = deployment
        self.model_hash = deployment.model_hash
        self.threads = threads
        self._preparation = deployment.preparation
        self._geometry = deployment.geometry
        self._calibration = np.asarray(deployment.calibration_scores)
        self._engines = Engines(
            folder / deployment.graph,
            name=self.name,
            threads=threads,
            precision=deployment.precision,
            batch=1,
        )

    def __call__(
        self, rgb: FloatArray | None, xyz: FloatArray | None, *, source: str = ""
    ) -> Verdict:
        """Judge one part, with all threads.

        Args:
            rgb: ``(H, W, 3)`` float in [0, 1], or None for a 3D-only model.
            xyz: ``(H, W, 3)`` float metres, 0 where missing, or None for an RGB-only model.
            source: a name for the verdict.

        Raises:
            DataError: shapes, types, units or modalities do not fit, or no part is to be seen.
        """
        return self._prepared(rgb, xyz, source, streaming=False)()

    def submit(
        self, rgb: FloatArray | None, xyz: FloatArray | None, *, source: str = ""
    ) -> Future[Verdict]:
        """Judge one part beside others: more parts a second, each a little later.

        Preparing one part and running the graph on another go on at once. The future raises what
        a call would raise.
        """
        return self._engines.submit(lambda: self.prepared(rgb, xyz, source=source))

    def prepared(
        self, rgb: FloatArray | None, xyz: FloatArray | None, *, source: str = ""
    ) -> Callable[[], Verdict]:
        """Prepare one part, and give what judges it, beside those of other callers.

        For callers with threads of their own, who would only wait for what they submit, and who
        may want to tell the two apart: preparing needs Python's interpreter, judging does not.
        Raises what a call would raise.
        """
        return self._prepared(rgb, xyz, source, streaming=True)

    def predict_files(
        self,
        rgb_path: str | Path | None,
        xyz_path: str | Path | None,
        *,
        source: str = "",
    ) -> Verdict:
        """Judge one part from an image file and an xyz TIFF; raises ``DataError``."""
        rgb = None if rgb_path is None else read_rgb(rgb_path)
        xyz = None if xyz_path is None else read_xyz(xyz_path)
        return self(rgb, xyz, source=source or str(rgb_path or xyz_path))

    def warm_up(self, *, streaming: bool = False) -> None:
        """Compile what a call needs (or ``submit``, with ``streaming``) and run it.

        With parts of several sizes up to half of the crop, for a graph that looks at a part's own
        cells alone prepares itself for their number. Both are compiled where both are used, at
        about 100 MB each.
        """
        blank = {
            port.name: np.zeros((1, *(int(n) for n in port.shape[1:])), np.float32)
            for port in self.deployment.inputs
        }
        rows = blank["foreground"].shape[2]
        for share in range(_SIZES):
            blank["foreground"][:, :, : rows * share // (2 * _SIZES)] = 1
            self._engines.get(streaming=streaming).run(blank)

    def close(self) -> None:
        """Finish what was submitted and take no more."""
        self._engines.close()

    def inputs_of(self, part: PreparedSample) -> dict[str, NDArray[Any]]:
        """The graph's inputs for a prepared part, a batch of one."""
        found: dict[str, NDArray[Any]] = {"foreground": _batch(part.foreground[..., None])}
        if "rgb" in self.deployment.modalities:
            assert part.rgb is not None
            found["rgb"] = _batch(part.rgb)
        if "geometry" in self.deployment.modalities:
            found["geometry"] = _batch(geometry_picture(part, self._geometry))
        return found

    def run_graph(self, part: PreparedSample) -> dict[str, NDArray[Any]]:
        """The graph's outputs for a prepared part, a batch of one."""
        return self._engines.get(streaming=False).run(self.inputs_of(part))

    def _prepared(
        self, rgb: FloatArray | None, xyz: FloatArray | None, source: str, *, streaming: bool
    ) -> Callable[[], Verdict]:
        engine = self._engines.get(streaming=streaming)
        sample = sample_from_arrays(rgb, xyz, source=source)
        self._check(sample)
        part = prepare(sample, self._preparation)
        return partial(self._judged, engine, part, self.inputs_of(part), source)

    def _judged(
        self, engine: Engine, part: PreparedSample, inputs: dict[str, NDArray[Any]], source: str
    ) -> Verdict:
        found = engine.run(inputs)
        score = float(found["score"][0])
        if not np.isfinite(score):
            raise DataError(f"{source or 'This part'} has no finite score; is the input sound?")
        # Not the graph's own p-value: operators' corrections may have calibrated anew since.
        p_value = float(conformal_p_value(np.array([score]), self._calibration)[0])
        return Verdict(
            source=source,
            score=score,
            p_value=p_value,
            defective=p_value <= self.deployment.false_alarm_rate,
            anomaly_map=AnomalyMap(
                scores=paste(found["anomaly_map"][0, 0], part.box),
                foreground=paste_mask(part.foreground, part.box),
                image_score=score,
                source=source,
            ),
        )

    def _check(self, sample: RGBDSample) -> None:
        """Refuse what the preparation would take and the model was not made for."""
        what = sample.source or "This part"
        for name, given in (("rgb", sample.rgb), ("geometry", sample.xyz)):
            if name in self.deployment.modalities and given is None:
                word = "an RGB image" if name == "rgb" else "3D points"
                raise DataError(f"{what} has no {name}; {self.name} needs {word}.")
        height, width = sample.valid.shape
        if min(height, width) < SMALLEST_SIDE:
            raise DataError(
                f"{what} is {width} x {height} pixels; at least {SMALLEST_SIDE} a side are needed."
            )
        if sample.xyz is not None:
            check_distance(sample.xyz, self.deployment.distance, what)


def _batch(image: NDArray[Any]) -> NDArray[np.float32]:
    """``(S, S, C)`` as ``(1, C, S, S)`` float32."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
