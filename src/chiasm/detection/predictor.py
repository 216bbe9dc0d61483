"""A loaded model as a function: RGB and xyz in, verdict out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from chiasm.detection.contract import DetectionContract, load_model
from chiasm.detection.detector import Detector
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.distance import check_distance
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings, paste, paste_mask, prepare
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.errors import ChiasmError, SplitError
from chiasm.fusion.genotype import Genotype
from chiasm.metrics.calibration import conformal_p_value, conformal_threshold
from chiasm.samples import AnomalyMap, FloatArray, PreparedSample, RGBDSample, Verdict


class DetectionPredictor:
    """A trained detector with its contract: scores, p-values and decisions.

    Args:
        detector: in evaluation mode.
        contract: what its numbers mean.
        genotype: its fusion, where it was searched.
    """

    def __init__(
        self, detector: Detector, contract: DetectionContract, genotype: Genotype | None = None
    ) -> None:
        self.detector = detector.eval()
        self.contract = contract
        self.genotype = genotype
        chosen = contract.preparation
        self.settings = PreparationSettings(
            size=chosen.size,
            remove_background=chosen.remove_background,
            plane_distance=chosen.plane_distance,
            plane_margin=chosen.plane_margin,
            crop_fraction=chosen.crop_fraction,
        )
        self.scale = GeometryScale(
            kind=chosen.geometry_kind,
            height=chosen.geometry_height,
            smoothing=chosen.geometry_smoothing,
        )

    @classmethod
    def load(cls, folder: str | Path) -> DetectionPredictor:
        """Load from a model's folder, or from a run's folder that holds one."""
        path = Path(folder)
        if not (path / "contract.json").exists() and (path / "model" / "contract.json").exists():
            path = path / "model"
        return cls(*load_model(path))

    def __call__(
        self, rgb: FloatArray | None, xyz: FloatArray | None, *, source: str = ""
    ) -> Verdict:
        """Judge one part.

        Args:
            rgb: ``(H, W, 3)`` float in [0, 1], or None for a 3D-only model.
            xyz: ``(H, W, 3)`` float metres, 0 where missing, or None for an RGB-only model.
            source: a name for the verdict.

        Raises:
            DataError: shapes, types or modalities do not fit.
        """
        return self.judge(sample_from_arrays(rgb, xyz, source=source))

    @property
    def alarm_score(self) -> float:
        """Image-level score from which a part is called defective.

        The largest calibration score where there are too few normals for the false-alarm rate;
        0 without calibration.
        """
        scores = np.asarray(self.contract.calibration_scores)
        try:
            return float(conformal_threshold(scores, self.contract.false_alarm_rate))
        except SplitError:
            return float(scores.max(initial=0.0))

    def judge(self, sample: RGBDSample) -> Verdict:
        """Judge one sample; raises ``DataError`` where it cannot be judged."""
        if sample.xyz is not None:
            check_distance(sample.xyz, self.contract.distance, sample.source or "This part")
        return self.judge_prepared([prepare(sample, self.settings)])[0]

    @torch.no_grad()
    def crop_scores(self, parts: list[PreparedSample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps ``(N, 1, S, S)`` and image scores ``(N,)`` of prepared parts."""
        batch = to_batch(parts, self.scale, modalities=self.contract.modalities)
        output = self.detector(batch)
        maps = self.detector.scores(output, batch.foreground)
        return maps, self.detector.image_scores(output, maps)

    def judge_prepared(self, parts: list[PreparedSample]) -> list[Verdict]:
        """Judge prepared parts of one size together."""
        maps, scores = self.crop_scores(parts)
        calibration = np.asarray(self.contract.calibration_scores)
        verdicts = []
        for part, scored, score in zip(parts, maps[:, 0].numpy(), scores.tolist()):
            anomaly_map = AnomalyMap(
                scores=paste(scored, part.box),
                foreground=paste_mask(part.foreground, part.box),
                image_score=score,
                source=part.source,
            )
            p_value = (
                float(conformal_p_value(np.array([score]), calibration)[0])
                if len(calibration)
                else float("nan")
            )
            decision = p_value <= self.contract.false_alarm_rate if len(calibration) else None
            verdicts.append(Verdict(part.source, score, p_value, decision, anomaly_map))
        return verdicts

    def judge_all(
        self, samples: Iterable[tuple[str, RGBDSample | ChiasmError]]
    ) -> Iterator[Verdict]:
        """Judge many; one that cannot be judged yields a verdict with ``error`` and no decision."""
        for source, sample in samples:
            try:
                if isinstance(sample, ChiasmError):
                    raise sample
                yield self.judge(sample)
            except ChiasmError as error:
                nan = float("nan")
                yield Verdict(source, nan, nan, None, None, error=str(error))


def failed(source: str, error: ChiasmError) -> Verdict:
    """The verdict on a part that could not be judged."""
    return Verdict(source, math.nan, math.nan, None, None, error=str(error))
