"""Few good parts calibrate as the rate needs, or it is said what they can promise."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chiasm.detection.readers.calibration_plan import (
    LEAST_TRAINING,
    Promise,
    few_calibration_warning,
    outlook,
    plan_split,
)
from chiasm.detection.readers.source import SampleRef
from chiasm.metrics.calibration import alarm_rank


@dataclass
class Source:
    """Good parts in two splits, without files."""

    train: int
    validation: int = 0
    groups: int = 1
    name: str = "parts"
    problems: tuple = ()
    lamps: tuple = ()
    refs: tuple = field(init=False)

    def __post_init__(self) -> None:
        self.refs = tuple(
            SampleRef(
                f"{split}{i}", {"rgb": Path(f"{split}{i}")}, split, 0, group=str(i % self.groups)
            )
            for split, count in (("train", self.train), ("validation", self.validation))
            for i in range(count)
        )


def planned(source: Source, rate: float = 0.05, *, pooled: bool = False, **options):
    options = {"mode": "auto", "calibration_share": 0.2} | options
    promise = Promise(rate, options.pop("confidence", None))
    return plan_split(source, promise, pools_scores=lambda: pooled, **options)


def shape(split) -> tuple[int, int]:
    return len(split.train), len(split.calibration)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_split_that_suffices_stays_as_it_was(pooled):
    for source in (Source(100), Source(40, 20), Source(200, groups=9)):
        assert planned(source, pooled=pooled) == planned(source, mode="split")


@pytest.mark.parametrize("good", [14, 15, 20, 40])
def test_as_many_parts_calibrate_as_the_rate_needs(good):
    split = planned(Source(good), 0.1)
    assert shape(split) == (good - 9, 9)
    assert alarm_rank(len(split.calibration), 0.1) == 1
    assert not {ref.source for ref in split.train} & {ref.source for ref in split.calibration}
    pooled = planned(Source(good), 0.1, pooled=True)
    assert pooled.crossed
    assert len(pooled.train) == good


def test_the_validation_split_calibrates_first():
    split = planned(Source(30, 8), 0.05)
    assert shape(split) == (19, 19)
    assert sum(ref.split == "validation" for ref in split.calibration) == 8


def test_groups_are_held_out_whole():
    split = planned(Source(60, groups=10), 0.05)
    assert len(split.calibration) >= 19
    assert not {ref.group for ref in split.train} & {ref.group for ref in split.calibration}


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("good", "rate"), [(15, 0.05), (20, 0.01), (4, 0.1), (2, 0.05)])
def test_what_no_division_promises_is_said_with_a_rate_that_can(good, rate, pooled):
    promise = Promise(rate)
    split = planned(Source(good), rate, pooled=pooled)
    warning = few_calibration_warning(split, promise)
    assert "undecided" in warning
    least = promise.least(len(split.calibration))
    assert f"false_alarm_rate={least:g}" in warning
    # The remedy works when it is followed.
    assert Promise(least).kept_by(len(split.calibration))
    again = planned(Source(good), least, pooled=pooled)
    assert Promise(least).kept_by(len(again.calibration))


def test_a_check_of_data_says_what_few_parts_can_promise():
    assert outlook(Source(24).refs, Promise(0.05)) == ""
    assert outlook(Source(10, 19).refs, Promise(0.05)) == ""
    sentence = outlook(Source(15).refs, Promise(0.05))
    assert "false_alarm_rate=0.091" in sentence
    assert shape(planned(Source(15), 0.091)) == (LEAST_TRAINING, 10)
    assert outlook(Source(15).refs, Promise(0.1)) == ""  # 15 good parts: alarms at 10 %


def test_a_confidence_holds_out_more_parts_too():
    split = planned(Source(60), confidence=0.9)
    assert shape(split) == (15, 45)
    assert shape(planned(Source(40), confidence=0.9)) == (32, 8)  # the training refuses it


def test_shots_keep_their_training_parts():
    assert len(planned(Source(40), shots=10).train) == 10
    assert len(planned(Source(12), 0.1, shots=10).train) == 10
