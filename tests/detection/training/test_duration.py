"""Estimates of a run's length: sums of its stages, and steps that leave no trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chiasm.detection.config import DetectionConfig
from chiasm.detection.models.adnas import adnas_slim
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.training.duration import (
    MeasuredSeconds,
    RunSize,
    estimate_in_words,
    reserved_seconds,
    searches_in_time,
    seconds_per_part,
    stage_seconds,
)

SIZE = RunSize(training=160, held_out=60, made=280, calibration=10, batch=16)
SECONDS = MeasuredSeconds(part=0.5, supernet=0.02, fixed=0.01)


def stages(size=SIZE, seconds=SECONDS, **settings):
    return stage_seconds(DetectionConfig.make(data="d", out="o", **settings), size, seconds)


def test_stages_are_those_that_the_settings_ask_for():
    assert list(stages()) == [
        *("synthetic anomalies", "search", "final round", "training", "calibration"),
    ]
    assert "final round" not in stages(search={"finalists": 1})
    assert "final round" in stages(search={"finalists": 1}, fusion="best")
    assert "search" not in stages(fusion="concatenation")


def test_seconds_are_proportional_to_epochs_and_to_what_was_measured():
    once, twice = stages(train_epochs=10), stages(train_epochs=20)
    assert twice["training"] == 2 * once["training"]
    slower = stages(seconds=MeasuredSeconds(part=1.0, supernet=0.02, fixed=0.01))
    assert slower["synthetic anomalies"] == 280.0 == 2 * stages()["synthetic anomalies"]
    assert slower["training"] == stages()["training"]  # stored features are made once
    epochs = [stages(search={"epochs": n})["search"] for n in (3, 6)]
    assert epochs[1] == pytest.approx(2 * epochs[0])


def test_finalists_take_at_least_their_steps():
    few = stages(search={"final_epochs": 1, "final_steps": 1})["final round"]
    many = stages(search={"final_epochs": 1, "final_steps": 40})["final round"]
    # Ten steps an epoch: of 8 finalists all make one, 4 of them a second, 2 of these two more.
    assert many / 16 == pytest.approx(few / 8)


def test_a_source_that_learns_makes_its_parts_in_every_epoch():
    fresh = RunSize(training=160, held_out=60, made=0, calibration=10, batch=8)
    assert "synthetic anomalies" not in stages(size=fresh)
    assert stages(size=fresh)["training"] > stages()["training"] + 30 * 160 * SECONDS.part


def test_a_crew_halves_what_it_divides_and_nothing_else():
    settings = {"fusion": "search", "search": {"method": "evolution"}}
    alone, two = stages(**settings), stages(size=replace(SIZE, workers=2), **settings)
    halved = {"synthetic anomalies", "evolution", "final round"}
    assert halved < alone.keys()
    assert two == {name: t / 2 if name in halved else t for name, t in alone.items()}


def test_the_sentence_says_what_a_budget_cuts():
    parts = {"search": 600.0, "training": 300.0}
    assert "about 15 minutes: search 10 minutes" in estimate_in_words(parts)
    cut = estimate_in_words(parts, seconds_left=300.0)
    assert "would take about 15 minutes" in cut and "after 5 minutes" in cut


def test_the_second_of_two_short_steps_is_timed_and_no_weight_changes(parts, scale):
    detector = adnas_slim("concatenation", modalities=("rgb",), image_size=32)
    before = [p.detach().clone() for p in detector.parameters()]
    batch = to_batch(parts, scale, modalities=("rgb",), clean=parts)
    ticks = iter([0.0, 4.0, 100.0, 110.0])  # one that takes seconds is enough
    assert seconds_per_part(detector, batch, clock=lambda: next(ticks)) == 10.0 / len(parts)
    ticks = iter([0.0, 15.0])
    assert seconds_per_part(detector, batch, clock=lambda: next(ticks)) == 15.0 / len(parts)
    assert all(torch.equal(a, b) for a, b in zip(before, detector.parameters(), strict=True))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_search_is_given_up_where_it_leaves_too_few_steps(share):
    config = DetectionConfig.make(data="d", out="o", search={"share": share})
    size, seconds = replace(SIZE, training=1600), MeasuredSeconds(0.5, supernet=0.02, fixed=0.01)
    times = [
        s for s in range(10, 1000, 10) if searches_in_time(config, size, seconds, seconds_left=s)
    ]
    assert times and times == list(range(times[0], 1000, 10))  # more time never forbids it
    # Half of the seconds store features; of the rest the search has its share.
    assert (1 - share) * 0.5 * times[0] >= 100 * 16 * seconds.fixed
    slower = replace(seconds, supernet=2.0)
    assert not searches_in_time(config, size, slower, seconds_left=times[0])


def test_what_follows_the_training_is_reserved():
    more = replace(SIZE, calibration=SIZE.calibration + 10)
    assert reserved_seconds(more, SECONDS) - reserved_seconds(SIZE, SECONDS) >= 10 * SECONDS.part
    assert reserved_seconds(SIZE, SECONDS) > SIZE.calibration * SECONDS.part
