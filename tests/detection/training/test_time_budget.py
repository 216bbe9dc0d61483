"""A budget of minutes decides how many parts train before any time is spent on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.detector import Detector
from chiasm.detection.training.time_budget import (
    LEAST_PARTS,
    PartSeconds,
    measure_part,
    parts_in_time,
    rotations_in_time,
    spread_evenly,
)
from chiasm.samples import CropBox, PreparedSample

SECONDS = PartSeconds(0.2, 0.5)


@pytest.mark.parametrize("seconds_left", [20.0, 60.0, 600.0])
@pytest.mark.parametrize("calibration", [0, 9])
def test_what_is_prepared_leaves_time_for_the_training(seconds_left, calibration):
    count = parts_in_time(5_000, calibration, SECONDS, seconds_left=seconds_left)
    spent = count * SECONDS.training + calibration * SECONDS.calibration
    assert spent <= max(seconds_left / 2, LEAST_PARTS * SECONDS.training + calibration)
    assert count == LEAST_PARTS or spent > 0.2 * seconds_left


def test_without_a_budget_all_parts_train():
    assert parts_in_time(5_000, 9, SECONDS, seconds_left=math.inf) == 5_000
    assert parts_in_time(3, 9, SECONDS, seconds_left=-1.0) == 3
    assert rotations_in_time(5, SECONDS, seconds_left=1e6) == 12
    assert rotations_in_time(5, SECONDS, seconds_left=10.0) == 1


def test_parts_are_taken_from_all_of_the_recording():
    chosen = spread_evenly(100, 7)
    assert len(set(chosen)) == 7
    assert chosen == sorted(chosen)
    assert np.diff(chosen).max() - np.diff(chosen).min() <= 1


def test_a_part_is_timed_by_a_clock(tmp_path):
    class Clock:
        seconds = 0.0

        def __call__(self) -> float:
            return self.seconds

    clock = Clock()

    class Parts(list):
        def __getitem__(self, position):
            clock.seconds += 3.0
            return super().__getitem__(position)

    class Timed(Detector):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def frozen_pass(self, batch) -> None:
            clock.seconds += 2.0 * len(batch.foreground)

    config = DetectionConfig.make(data=tmp_path, out=tmp_path, modalities="rgb")
    size, on = (8, 8), np.ones((8, 8), bool)
    part = PreparedSample(
        rgb=np.zeros((*size, 3), np.float32),
        xyz=None,
        height=None,
        normals=None,
        depth=None,
        valid=on,
        foreground=on,
        mask=None,
        box=CropBox(0, 0, 8, 8, 8),
    )
    assert measure_part(Parts([part] * 40), Timed(), config, clock=clock) == PartSeconds(3.0, 2.0)
    assert measure_part(Parts([part] * 2), None, config, clock=clock) == PartSeconds(3.0, 0.0)


def test_no_time_is_left_is_never_negative_nor_infinite(tmp_path, monkeypatch):
    import chiasm.detection.datamodule as module

    now = 1_000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    data = object.__new__(DetectionDataModule)
    data.config = DetectionConfig.make(data=tmp_path, out=tmp_path, minutes=0.3)
    data.started, data.reserved = now - 470.0, 2.0
    assert data.seconds_left() == 0.0
    data.started = now - 10.0
    assert data.seconds_left() == pytest.approx(6.0)
