"""A trained detector as a function: RGB and xyz in, verdict out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from chiasm.detection.contract import DetectionContract, acquisition_of, load_model
from chiasm.detection.decision import (
    AlarmRule,
    failed_verdict,
    frame_verdict,
    predict_each,
    verdict_on,
)
from chiasm.detection.detector import Detector
from chiasm.detection.prediction.regions import with_regions
from chiasm.detection.preparation.acquisition import Acquisition, prepare_as_trained
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.tiles import TilePlan
from chiasm.detection.readers.checked_sample import check_fits_model, sample_from_arrays
from chiasm.errors import ChiasmError, DataError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model
from chiasm.runs.model_folder import model_folder, parameter_count
from chiasm.samples import PreparedSample, RGBDSample, Verdict
from chiasm.training.device import device_errors, device_of, find_device, in_chunks


class DetectionPredictor:
    """A trained detector with its contract: scores, p-values and decisions.

    Args:
        detector: put into evaluation mode; it computes on the device where it is.
        contract: preparation, calibration scores and false-alarm rate of the detector.
        genotype: its fusion, where it was searched.
        folder: that it was loaded from, whose settings say what early contracts do not.
    """

    wing = "detector"
    products: tuple[str, ...] = ()  # the model is of one

    def __init__(
        self,
        detector: Detector,
        contract: DetectionContract,
        genotype: Genotype | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        self.detector = detector.eval()
        self.contract = contract
        self.genotype = genotype
        self.folder = folder

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> DetectionPredictor:
        """Load the model of a model's folder or of a run's folder onto a device.

        Raises ``ConfigurationError`` where there is no such device, see ``find_device``.
        """
        place = find_device(device)
        detector, contract, genotype = load_model(model_folder(folder))
        return cls(detector.to(place), contract, genotype, folder=Path(folder))

    @property
    def alarm_rule(self) -> AlarmRule:
        """How scores become decisions, and what is promised of them."""
        return self.contract.alarm_rule

    def rule_for(self, verdict: Verdict) -> AlarmRule:
        """Return the rule that decided on a part."""
        return self.alarm_rule

    @property
    def promise(self) -> str:
        """What is promised of false alarms, as a sentence."""
        return self.alarm_rule.promise

    @property
    def acquisition(self) -> Acquisition | None:
        """How the model's run saw its normal parts; of earlier versions, what its settings say."""
        if self.folder is None:
            return self.contract.acquisition
        return acquisition_of(self.folder, self.contract)

    @property
    def tiles(self) -> TilePlan | None:
        """Tiles that its crops are looked at in; None of whole crops."""
        return self.contract.tiles

    @property
    def method(self) -> str:
        """Registered name of the detector."""
        return self.contract.method

    @property
    def is_baseline(self) -> bool:
        """Whether it stands here for comparison alone."""
        return find_model(self.contract.method).baseline

    @property
    def seed(self) -> int:
        """Seed of the run, by which parts were held out."""
        return self.contract.seed

    @property
    def backbone_weights(self) -> str | None:
        """Published weights of the frozen features, in words."""
        return self.contract.backbone_weights

    @property
    def parameters(self) -> int | None:
        """Number of the detector's parameters."""
        return parameter_count(self.detector)

    @property
    def display_threshold(self) -> float:
        """Alarm threshold as a number, for displays; see ``AlarmRule.display_threshold``."""
        return self.alarm_rule.display_threshold

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model looks at."""
        return self.contract.modalities

    @property
    def model_hash(self) -> str:
        """SHA-256 of the weights."""
        return self.contract.weights_sha256

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
        """Predict the verdict on one part.

        Args:
            rgb: image as an array ``(H, W, 3)``, a tensor, a PIL image or a path; None without.
            xyz: points ``(H, W, 3)`` in metres, 0 or NaN where missing, or a path; None without.
            depth, intrinsics, depth_unit: depth image and its camera instead of ``xyz``; see
                ``chiasm.detection.readers.checked_sample.sample_from_arrays``.
            source: a name for the verdict.

        Raises:
            DataError: shapes, types, units or modalities do not fit the model.
        """
        sample = sample_from_arrays(
            rgb, xyz, depth=depth, intrinsics=intrinsics, depth_unit=depth_unit, source=source
        )
        return self.predict(sample)

    def predict(self, sample: RGBDSample) -> Verdict:
        """Predict the verdict on one sample; raises ``DataError`` where it cannot be scored.

        Of a frame that is split, see ``frame_verdict``.
        """
        contract = self.contract
        check_fits_model(sample, modalities=contract.modalities, distance=contract.distance)
        parts = prepare_as_trained(
            sample, contract.preparation, contract.acquisition, distance=contract.distance
        )
        verdicts = [
            failed_verdict(f"{sample.source}#{number}", part)
            if isinstance(part, DataError)
            else with_regions(self.predict_prepared([part])[0], sample, rule=self.alarm_rule)
            for number, part in enumerate(parts, 1)
        ]
        if contract.preparation.objects != "split":
            return verdicts[0]
        return frame_verdict(verdicts, source=sample.source)

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

    def predict_prepared(self, parts: Sequence[PreparedSample]) -> list[Verdict]:
        """Predict the verdicts on prepared parts of one size, as one batch."""
        maps, scores = self.crop_scores(parts)
        rule = self.alarm_rule
        return [
            verdict_on(part, crop_map, score, rule=rule)
            for part, crop_map, score in zip(parts, maps[:, 0].cpu().numpy(), scores.tolist())
        ]

    @torch.no_grad()
    def crop_scores(self, parts: Sequence[PreparedSample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute maps ``(N, 1, S, S)`` and image-level scores ``(N,)`` of prepared parts.

        Both are on the detector's device. Parts that do not fit its memory together are scored in
        smaller batches.

        Raises:
            OutOfMemoryError: a single part does not fit.
            DeviceLostError: the device answers no more.
        """
        device = device_of(self.detector)

        def score(chosen: slice) -> tuple[torch.Tensor, torch.Tensor]:
            batch = to_batch(
                parts[chosen],
                self.contract.geometry,
                modalities=self.contract.modalities,
                device=device,
            )
            output = self.detector(batch)
            maps = self.detector.scores(output, batch.foreground)
            return maps, self.detector.image_scores(output, maps, batch.foreground)

        with device_errors(device, remedy="Predict with device=cpu, or free the device's memory."):
            maps, scores = zip(*in_chunks(score, len(parts), len(parts)))
        return torch.cat(maps), torch.cat(scores)
