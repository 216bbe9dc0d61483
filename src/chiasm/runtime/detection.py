"""An exported detector as a function: RGB and xyz in, verdict out, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.detection.decision import (
    AlarmRule,
    failed_verdict,
    frame_verdict,
    predict_each,
    verdict_on,
)
from chiasm.detection.prediction.regions import with_regions
from chiasm.detection.preparation.acquisition import Acquisition, prepare_as_trained
from chiasm.detection.preparation.geometry import geometry_picture
from chiasm.detection.preparation.tiles import TilePlan
from chiasm.detection.readers.checked_sample import check_fits_model, sample_from_arrays
from chiasm.errors import ChiasmError, DataError
from chiasm.runtime.deployment import Deployment
from chiasm.runtime.engine import Engine
from chiasm.runtime.engines import Engines
from chiasm.samples import PreparedSample, RGBDSample, Verdict

_WARM_UP_SIZES = 4


class DetectionRuntime:
    """An exported detector; threads may share it.

    Args:
        folder: written by ``chiasm export``.
        deployment: content of its ``deployment.json``.
        threads: processor threads.
    """

    wing = "detector"
    products: tuple[str, ...] = ()  # the model is of one
    is_baseline = False  # these are not exported
    genotype = None  # the graph holds the fusion
    parameters = None

    def __init__(self, folder: Path, deployment: Deployment, *, threads: int) -> None:
        assert deployment.preparation is not None and deployment.geometry is not None
        self.folder = folder
        self.name = folder.resolve().name
        self.deployment = deployment
        self.model_hash = deployment.model_hash
        self.threads = threads
        self._preparation = deployment.preparation
        self._geometry = deployment.geometry
        self._engines = Engines(
            folder / deployment.graph,
            name=self.name,
            threads=threads,
            precision=deployment.precision,
            batch=1,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model looks at."""
        return self.deployment.modalities

    @property
    def alarm_rule(self) -> AlarmRule:
        """How scores become decisions, and what is promised of them."""
        return self.deployment.alarm_rule

    def rule_for(self, verdict: Verdict) -> AlarmRule:
        """Return the rule that decided on a part."""
        return self.alarm_rule

    @property
    def promise(self) -> str:
        """What is promised of false alarms, as a sentence."""
        return self.alarm_rule.promise

    @property
    def acquisition(self) -> Acquisition | None:
        """How the model's run saw its normal parts; None of earlier versions."""
        return self.deployment.acquisition

    @property
    def tiles(self) -> TilePlan | None:
        """Tiles that its crops are looked at in, within the graph; None of whole crops."""
        plan = self.deployment.origin.get("tiles")
        return None if plan is None else TilePlan(**plan)

    @property
    def method(self) -> str:
        """Registered name of the detector that was exported."""
        return self.deployment.method

    @property
    def seed(self) -> int:
        """Seed of the run, by which parts were held out."""
        return int(self.deployment.origin["seed"])

    @property
    def backbone_weights(self) -> str | None:
        """Published weights of the frozen features, in words."""
        weights: str | None = self.deployment.origin.get("backbone_weights")
        return weights

    def __call__(
        self,
        rgb: Any = None,
        xyz: Any = None,
        *,
        depth: Any = None,
        intrinsics: Any = None,
        depth_unit: float | None = None,
        source: str = "",
    ) -> Verdict:
        """Predict the verdict on one part, with all threads.

        Args:
            rgb: image as an array ``(H, W, 3)``, a tensor, a PIL image or a path; None without.
            xyz: points ``(H, W, 3)`` in metres, 0 or NaN where missing, or a path; None without.
            depth, intrinsics, depth_unit: depth image and its camera instead of ``xyz``; see
                ``chiasm.detection.readers.checked_sample.sample_from_arrays``.
            source: a name for the verdict.

        Raises:
            DataError: shapes, types, units or modalities do not fit the model, or the frame shows
                no part.
        """
        sample = sample_from_arrays(
            rgb, xyz, depth=depth, intrinsics=intrinsics, depth_unit=depth_unit, source=source
        )
        return self.predict(sample)

    def predict(self, sample: RGBDSample) -> Verdict:
        """Predict the verdict on one sample; raises ``DataError`` where it cannot be scored."""
        return self._prepared(sample, streaming=False)()

    def predict_all(
        self, samples: Iterable[RGBDSample | tuple[str, RGBDSample | ChiasmError]]
    ) -> Iterator[Verdict]:
        """Predict the verdicts on many samples, one after the other.

        A sample that cannot be scored yields a verdict with ``error`` and no decision, and so does
        an error of a reader.

        Args:
            samples: samples, or pairs of a source and its sample or the error at reading it.
        """
        return predict_each(self.predict, samples)

    def submit(self, rgb: Any = None, xyz: Any = None, **options: Any) -> Future[Verdict]:
        """Predict the verdict on one part in a pipeline: more parts a second, each a little later.

        One part is prepared while the graph runs on another. Arguments are those of a call; the
        future raises what a call would raise.
        """
        return self._engines.submit(lambda: self.prepared(rgb, xyz, **options))

    def prepared(self, rgb: Any = None, xyz: Any = None, **options: Any) -> Callable[[], Verdict]:
        """Prepare one part, and return a function that predicts its verdict.

        For callers with threads of their own, which would only wait for a submitted part, and
        which may want to limit the two stages separately: preparation holds Python's interpreter
        lock, the graph does not. Takes and raises what a call does.
        """
        return self._prepared(sample_from_arrays(rgb, xyz, **options), streaming=True)

    def warm_up(self, *, streaming: bool = False) -> None:
        """Compile the graph for calls (or for ``submit``, with ``streaming``) and run it.

        It runs on parts of several sizes up to half of the crop, because a graph that looks at the
        part's cells alone adapts to their number. Where both kinds of call are used, both graphs
        are compiled, at about 100 MB each.
        """
        blank = {
            port.name: np.zeros((1, *(int(n) for n in port.shape[1:])), np.float32)
            for port in self.deployment.inputs
        }
        rows = blank["foreground"].shape[2]
        for share in range(_WARM_UP_SIZES):
            blank["foreground"][:, :, : rows * share // (2 * _WARM_UP_SIZES)] = 1
            self._engines.get(streaming=streaming).run(blank)

    def close(self) -> None:
        """Finish the submitted parts and accept no more."""
        self._engines.close()

    def inputs_of(self, part: PreparedSample) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for a prepared part, a batch of one."""
        inputs: dict[str, NDArray[Any]] = {"foreground": _batch(part.foreground[..., None])}
        if "rgb" in self.deployment.modalities:
            assert part.rgb is not None
            inputs["rgb"] = _batch(part.rgb)
        if "geometry" in self.deployment.modalities:
            inputs["geometry"] = _batch(geometry_picture(part, self._geometry))
        return inputs

    def graph_inputs(
        self, rgb: Any = None, xyz: Any = None, **options: Any
    ) -> list[dict[str, NDArray[Any]]]:
        """Return what the graph takes, float32, for each part of a frame: one unless it is split.

        For other runtimes: ``numpy.savez("part.npz", **inputs)`` is what ``examples/cpp`` judges.
        Arguments are those of a call, and so are its errors.
        """
        sample = sample_from_arrays(rgb, xyz, **options)
        inputs = []
        for part in self._parts(sample):
            if isinstance(part, DataError):
                raise part
            inputs.append(self.inputs_of(part))
        return inputs

    def run_graph(self, part: PreparedSample) -> dict[str, NDArray[Any]]:
        """Return the graph's outputs for a prepared part, a batch of one."""
        return self._engines.get(streaming=False).run(self.inputs_of(part))

    def _prepared(self, sample: RGBDSample, *, streaming: bool) -> Callable[[], Verdict]:
        engine = self._engines.get(streaming=streaming)
        waiting = [
            partial(failed_verdict, f"{sample.source}#{number}", part)
            if isinstance(part, DataError)
            else partial(self._verdict, engine, sample, part, self.inputs_of(part))
            for number, part in enumerate(self._parts(sample), 1)
        ]
        if self._preparation.objects != "split":
            return waiting[0]
        return lambda: frame_verdict([predict() for predict in waiting], source=sample.source)

    def _parts(self, sample: RGBDSample) -> list[PreparedSample | DataError]:
        seen, distance = self.deployment.acquisition, self.deployment.distance
        check_fits_model(sample, modalities=self.modalities, distance=distance)
        return prepare_as_trained(sample, self._preparation, seen, distance=distance)

    def _verdict(
        self,
        engine: Engine,
        sample: RGBDSample,
        part: PreparedSample,
        inputs: dict[str, NDArray[Any]],
    ) -> Verdict:
        outputs = engine.run(inputs)
        # Not the graph's p-value: a recalibration may have replaced the calibration scores since.
        rule = self.deployment.alarm_rule
        verdict = verdict_on(
            part, outputs["anomaly_map"][0, 0], float(outputs["score"][0]), rule=rule
        )
        return with_regions(verdict, sample, rule=rule)


def _batch(image: NDArray[Any]) -> NDArray[np.float32]:
    """``(S, S, C)`` as ``(1, C, S, S)`` float32."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
