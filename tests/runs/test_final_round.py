"""The final round: equal steps, the field halved, a record that is trusted for what it holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.final_round import FinalistTraining, RoundResult, each, final_round, rung_lengths
from stub_crew import InTwos

STEPS_PER_EPOCH = 10


class Training:
    """Trains nothing: keeps account, and moves a clock by the seconds that an epoch takes.

    Args:
        quality: figure of each finalist after given epochs.
        pace: seconds that an epoch of a finalist takes.
        stops: called before each training, with the finalist and the epochs.
    """

    def __init__(
        self,
        quality: Callable[[str, int], float],
        *,
        pace: Callable[[str], float] = lambda _: 1.0,
        stops: Callable[[str, int], None] = lambda *_: None,
    ) -> None:
        self.quality, self.pace, self.stops = quality, pace, stops
        self.epochs: dict[str, int] = {}
        self.calls: list[tuple[str, int]] = []
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def train(self, training: FinalistTraining[str]) -> dict[str, float]:
        fusion, epochs = training.fusion, training.epochs
        (self.folder / "checkpoints" / training.name).mkdir(parents=True, exist_ok=True)
        self.stops(fusion, epochs)
        self.seconds += self.pace(fusion) * (epochs - self.epochs.get(fusion, 0))
        self.epochs[fusion] = epochs
        self.calls.append((fusion, epochs))
        return {"steps": epochs * STEPS_PER_EPOCH, "ap": self.quality(fusion, epochs)}

    def run(
        self,
        finalists: str,
        folder: Path,
        *,
        epochs: int = 4,
        seconds: float = math.inf,
        crew: Crew = ALONE,
    ) -> RoundResult:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        return final_round(
            list(finalists),
            folder=folder,
            epochs=epochs,
            steps_per_epoch=STEPS_PER_EPOCH,
            train=self.train,
            rank=each(lambda figures: (figures["ap"],)),
            crew=crew,
            seconds=seconds,
            clock=self.clock,
        )


def alphabet(fusion: str, epochs: int) -> float:
    """Later letters are better."""
    return ord(fusion) / 1000


def rows(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "finalists.json").read_text())


@pytest.mark.parametrize("count", range(2, 12))
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 13])
def test_rungs_double_up_to_the_epochs(count: int, epochs: int):
    lengths = rung_lengths(count, epochs)
    assert lengths[-1] == epochs
    assert all(a < b <= 2 * a for a, b in pairwise(lengths))
    assert len(lengths) <= math.ceil(math.log2(count))


def test_all_of_a_rung_make_equal_steps_and_the_better_half_goes_on(tmp_path: Path):
    training = Training(alphabet)
    result = training.run("abcdefgh", tmp_path)
    assert training.calls == [(f, 1) for f in "abcdefgh"] + [
        *((f, 2) for f in "efgh"),
        *((f, 4) for f in "gh"),
    ]
    assert replace(result, last={}) == RoundResult(
        7, {"ap": alphabet("h", 4)}, 4 * STEPS_PER_EPOCH, 8
    )
    assert not list((tmp_path / "checkpoints").iterdir())


def test_slow_finalists_are_trained_as_long_as_quick_ones(tmp_path: Path):
    # With equal seconds the slow one, which is the best after equal steps, would lose.
    training = Training(
        lambda fusion, epochs: epochs * (2.0 if fusion == "b" else 1.0),
        pace=lambda fusion: 50.0 if fusion == "b" else 1.0,
    )
    result = training.run("ab", tmp_path, seconds=400.0)
    assert set(training.epochs.values()) == {4}
    assert result.winner == 1
    assert [row["steps"] for row in rows(tmp_path)] == [40, 40]


def test_what_leads_early_can_lose_late(tmp_path: Path):
    training = Training(lambda fusion, epochs: epochs * ord(fusion) if fusion != "a" else 150.0)
    assert training.run("abcd", tmp_path).winner == 3


@pytest.mark.parametrize("seconds", [1.0, 3.0, 5.0, 8.0, 11.0, 13.0, 16.0])
def test_minutes_decide_how_many_are_compared_and_not_how_long(tmp_path: Path, seconds: float):
    training = Training(alphabet)
    result = training.run("abcdefgh", tmp_path, seconds=seconds)
    assert training.seconds <= seconds
    lengths = [1, 2, 4]
    for length in lengths:
        trained = [fusion for fusion, epochs in training.calls if epochs == length]
        assert len(trained) == len(set(trained))
    assert result.compared == len([c for c in training.calls if c[1] == 1])
    assert result.steps / STEPS_PER_EPOCH in lengths
    assert (result.compared == 8) == (seconds == 16.0)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_a_crew_of_two_finds_the_same(tmp_path: Path, count: int):
    names = "hbgcfdea"[:count]
    alone = Training(alphabet).run(names, tmp_path / "alone")
    together = Training(alphabet).run(names, tmp_path / "together", crew=InTwos(pickled=False))
    assert together == alone

    def ordered(folder: Path) -> list[str]:
        return sorted(map(str, rows(folder)))

    assert ordered(tmp_path / "together") == ordered(tmp_path / "alone")


def test_a_crew_of_two_has_time_for_twice_as_many(tmp_path: Path):
    # Its clock counts the seconds of both, one after the other, so that what is left runs out as
    # for one; but what is ahead is expected to take half as long.
    alone, together = Training(alphabet), Training(alphabet)
    alone.run("abcdefgh", tmp_path / "alone", seconds=9.0)
    together.run("abcdefgh", tmp_path / "together", seconds=9.0, crew=InTwos(pickled=False))
    assert len(together.calls) > len(alone.calls)


@pytest.mark.parametrize("seconds", [0.0, -60.0])
def test_without_any_time_the_first_wins(tmp_path: Path, seconds: float):
    training = Training(alphabet)
    assert training.run("abc", tmp_path, seconds=seconds) == RoundResult(0, {}, 0, 0)
    assert training.calls == []


def test_a_rung_that_cannot_be_finished_is_not_begun(tmp_path: Path):
    # The second finalist is slower than the first let expect.
    training = Training(alphabet, pace=lambda fusion: 1.0 if fusion == "a" else 4.0)
    result = training.run("abcd", tmp_path, seconds=16.0, epochs=4)
    assert {epochs for _, epochs in training.calls} == {2}
    assert result.steps == 2 * STEPS_PER_EPOCH


def test_nan_loses(tmp_path: Path):
    values = {"a": math.nan, "b": 0.9, "c": math.nan, "d": 0.1}
    training = Training(lambda fusion, _: values[fusion])
    assert training.run("abcd", tmp_path).winner == 1
    assert {fusion for fusion, epochs in training.calls if epochs == 4} == {"b", "d"}
    # The record holds NaN, and is read again.
    assert Training(alphabet).run("abcd", tmp_path).winner == 1


def test_a_finalist_that_made_fewer_steps_loses_and_is_trained_again(tmp_path: Path):
    class Cut(Training):
        def train(self, training: FinalistTraining[str]) -> dict[str, float]:
            figures = super().train(training)
            return figures | ({"steps": 3} if training.fusion == "b" else {})

    assert Cut(alphabet).run("ab", tmp_path).winner == 0
    assert [row["steps"] for row in rows(tmp_path)] == [40, 3]
    again = Training(alphabet)
    assert again.run("ab", tmp_path).winner == 1
    assert again.calls == [("b", 4)]


def test_a_shorter_record_is_not_trusted(tmp_path: Path):
    asked = {"steps": [4, 80], "ap": 0.99}  # what was asked for, as version 0.2 wrote it
    short = {"steps": 37, "ap": 0.98}
    (tmp_path / "finalists.json").write_text(
        json.dumps([{"cells": "a", **asked}, {"cells": "a", **short}])
    )
    training = Training(alphabet)
    assert training.run("ab", tmp_path).winner == 1
    assert training.calls == [("a", 4), ("b", 4)]


@pytest.mark.parametrize("stop", [("a", 1), ("c", 1), ("c", 2), ("d", 2), ("d", 4)])
def test_an_interrupted_round_goes_on_and_ends_the_same(tmp_path: Path, stop: tuple[str, int]):
    order = {"a": 0.5, "b": 0.1, "c": 0.7, "d": 0.9, "e": 0.2, "f": 0.3}

    def interrupt(fusion: str, epochs: int) -> None:
        if (fusion, epochs) == stop:
            raise KeyboardInterrupt

    whole = Training(lambda fusion, _: order[fusion])
    (tmp_path / "whole").mkdir()
    expected = whole.run("abcdef", tmp_path / "whole")
    cut = Training(lambda fusion, _: order[fusion], stops=interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut.run("abcdef", tmp_path)
    resumed = Training(lambda fusion, _: order[fusion])
    assert resumed.run("abcdef", tmp_path) == expected
    assert cut.calls + resumed.calls == whole.calls


def test_a_record_follows_the_fusion_and_not_its_number(tmp_path: Path):
    Training(alphabet).run("ab", tmp_path)
    training = Training(alphabet)
    assert training.run("bc", tmp_path).winner == 1
    assert training.calls == [("c", 4)]
