"""A threshold from corrections: the promised rate holds, or the calibration is refused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from chiasm.cli.main import app as command_line
from chiasm.errors import ChiasmError, ConfigurationError, SplitError
from chiasm.metrics.calibration import conformal_threshold
from chiasm.runtime.deployment import Deployment, read_deployment, with_hashes, write_deployment
from chiasm.service.log.record import LoggedVerdict
from chiasm.service.log.verdict_log import VerdictLog
from chiasm.service.recalibration import balanced_confirmations, recalibrate

OLD = tuple(np.linspace(0.0, 1.0, 99).tolist())
RATE = 0.05


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "gland"
    path.mkdir()
    (path / "model.onnx").write_bytes(b"a graph")
    deployment = Deployment(
        wing="detector",
        method="adnas_light",
        format="onnx",
        precision="fp32",
        modalities=("rgb",),
        inputs=(),
        outputs=(),
        origin={},
        parity={},
        files={},
        calibration_scores=OLD,
        false_alarm_rate=RATE,
    )
    write_deployment(path, with_hashes(path, deployment))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[VerdictLog]:
    opened = VerdictLog(tmp_path / "log.sqlite")
    yield opened
    opened.close()


def log_verdicts(
    log: VerdictLog,
    folder: Path,
    scores: np.ndarray,
    corrections: dict[int, str] | None = None,
    *,
    model: str = "gland",
    seed: int = 0,
    after: float = 0.0,
    station: str = "",
) -> None:
    """Log parts with the model's decisions, and corrections of some.

    Parts of one number are the same input in every call.
    """
    deployment = read_deployment(folder)
    limit = conformal_threshold(deployment.calibration_scores, deployment.false_alarm_rate)
    waiting = []
    random = np.random.default_rng(seed)
    for index, score in enumerate(scores.tolist()):
        name = uuid.UUID(bytes=random.bytes(16)).hex
        decision = "defective" if score > limit else "good"
        row = LoggedVerdict(
            name, after + index, model, deployment.model_hash, "detector", "part",
            f"part {station}{index}", score, 0.5, limit, decision, 1.0, station=station,
        )  # fmt: skip
        waiting.append(log.add(row))
        if corrections and index in corrections:
            waiting.append(log.correct(name, corrections[index], "Ann"))
    for done in waiting:
        done.result(10)


def test_false_alarms_after_a_drift_come_back_to_the_promised_rate(
    folder: Path, log: VerdictLog
) -> None:
    # Scores have moved up by 0.3, so that a third of good parts alarm. All alarms are reviewed,
    # and one in five of the others: unbalanced, most of the reviewed parts would be alarms.
    random = np.random.default_rng(1)
    scores = random.uniform(0.3, 1.3, 2000)
    limit = conformal_threshold(OLD, RATE)
    corrections = {
        index: "false alarm" if score > limit else "right"
        for index, score in enumerate(scores)
        if score > limit or index % 5 == 0
    }
    log_verdicts(log, folder, scores, corrections)
    assert (scores > limit).mean() > 0.3
    done = recalibrate(folder, log)
    later = random.uniform(0.3, 1.3, 20_000)
    # Within four standard deviations of a quantile of that many scores.
    spread = 4 * np.sqrt(RATE * (1 - RATE) / (done.good + done.false_alarms))
    assert abs((later > done.after).mean() - RATE) < spread
    assert done.left_out > done.false_alarms
    new = read_deployment(folder)
    assert conformal_threshold(new.calibration_scores, new.false_alarm_rate) == done.after
    assert new.model_hash == read_deployment(folder).model_hash
    assert done.backup.is_file()
    assert "confirmed" in new.notes[-1]
    assert str(done.good + done.false_alarms) in str(done)


def test_old_scores_stay_with_keep_old(folder: Path, log: VerdictLog) -> None:
    log_verdicts(log, folder, np.full(30, 0.5), dict.fromkeys(range(30), "right"))
    done = recalibrate(folder, log, keep_old=True, false_alarm_rate=0.02)
    deployment = read_deployment(folder)
    assert len(deployment.calibration_scores) == 129
    assert deployment.false_alarm_rate == 0.02
    assert done.old == 99


def test_a_confidence_is_kept_and_needs_its_number_of_parts(folder: Path, log: VerdictLog) -> None:
    log_verdicts(log, folder, np.linspace(0.1, 0.5, 40), dict.fromkeys(range(40), "right"))
    with pytest.raises(SplitError, match=r"0\.05 with 90 % confidence needs 45\."):
        recalibrate(folder, log, confidence=0.9)
    log_verdicts(
        log, folder, np.linspace(0.1, 0.5, 50), dict.fromkeys(range(50), "right"), seed=1, after=99
    )
    done = recalibrate(folder, log, confidence=0.9)
    new = read_deployment(folder)
    assert new.confidence == 0.9
    assert done.after == conformal_threshold(new.calibration_scores, RATE, 0.9)
    assert new.alarm_rule.promise in str(done)
    again = recalibrate(folder, log)  # keeps the model's confidence
    assert (again.after, again.backup != done.backup) == (done.after, True)


def test_missed_defects_are_counted_separately(folder: Path, log: VerdictLog) -> None:
    corrections = {**dict.fromkeys(range(40), "right"), 40: "missed", 41: "missed"}
    log_verdicts(log, folder, np.array([*np.linspace(0, 0.5, 40), 0.4, 0.9]), corrections)
    done = recalibrate(folder, log)
    assert (done.defects, done.caught) == (2, 1)
    assert done.good == 40


def test_too_few_confirmations_are_refused(folder: Path, log: VerdictLog) -> None:
    before = (folder / "deployment.json").read_bytes()
    with pytest.raises(SplitError, match="too few"):
        recalibrate(folder, log)
    log_verdicts(log, folder, np.array([2.0, 3.0]), {})
    with pytest.raises(SplitError, match="None of 2 alarms was reviewed"):
        recalibrate(folder, log)
    other_log = VerdictLog(log.path.with_name("other.sqlite"))
    log_verdicts(
        other_log, folder, np.array([2.0] * 30 + [0.1]), dict.fromkeys(range(30), "false alarm")
    )
    with pytest.raises(SplitError, match="blind"):
        recalibrate(folder, other_log)
    other_log.close()
    assert (folder / "deployment.json").read_bytes() == before


def test_scores_of_another_graph_do_not_count(folder: Path, log: VerdictLog) -> None:
    log_verdicts(log, folder, np.full(30, 0.5), dict.fromkeys(range(30), "right"))
    (folder / "model.onnx").write_bytes(b"another graph")
    write_deployment(folder, with_hashes(folder, _without_check(folder)))
    with pytest.raises(SplitError, match="0 confirmed"):
        recalibrate(folder, log)


def _without_check(folder: Path) -> Deployment:
    graph = folder / "model.onnx"
    now = graph.read_bytes()
    graph.write_bytes(b"a graph")
    deployment = read_deployment(folder)
    graph.write_bytes(now)
    return deployment


def test_stations_that_share_an_export_do_not_share_their_parts(
    folder: Path, log: VerdictLog
) -> None:
    log_verdicts(log, folder, np.full(30, 0.5), dict.fromkeys(range(30), "right"), model="left")
    log_verdicts(
        log, folder, np.full(25, 0.7), dict.fromkeys(range(25), "right"), model="right", seed=1
    )
    with pytest.raises(ConfigurationError, match=r"several names: left, right\."):
        recalibrate(folder, log)
    with pytest.raises(ConfigurationError, match=r"'middle'; it has left, right\."):
        recalibrate(folder, log, name="middle")
    command = ["recalibrate", str(folder), "--log", str(log.path), "--name", "right"]
    done = CliRunner().invoke(command_line, command)
    assert done.exit_code == 0, done.output
    assert read_deployment(folder).calibration_scores == (0.7,) * 25


def test_parts_of_one_station_or_of_all_count_and_are_named(folder: Path, log: VerdictLog) -> None:
    for seed, (station, score, count) in enumerate([("left", 0.5, 30), ("right", 0.7, 25)]):
        scores = np.full(count, score)
        names = dict.fromkeys(range(count), "right")
        log_verdicts(log, folder, scores, names, seed=seed, station=station)
    with pytest.raises(ConfigurationError, match=r"station 'middle'; it has 'left', 'right'\."):
        recalibrate(folder, log, station="middle")
    done = recalibrate(folder, log)
    assert done.good == 55
    assert "They come from 2 stations: left, right" in str(done)
    command = ["recalibrate", str(folder), "--log", str(log.path), "--station", "right"]
    one = CliRunner().invoke(command_line, command)
    assert one.exit_code == 0, one.output
    assert "stations" not in one.output
    assert read_deployment(folder).calibration_scores == (0.7,) * 25


def test_a_part_that_was_sent_again_counts_once(folder: Path, log: VerdictLog) -> None:
    scores = np.linspace(0.1, 0.5, 25)
    log_verdicts(log, folder, scores, dict.fromkeys(range(25), "right"))
    # Sent again: 22 without a correction, 2 with a new one.
    again = {22: "missed", 23: "missed"}
    log_verdicts(log, folder, scores[:24], again, seed=1, after=100.0)
    version = read_deployment(folder).model_hash
    assert log.counts("gland", version) == {"good": 25}
    rows = log.corrected("gland", version)
    assert len(rows) == 25
    assert {row["input_sha256"]: row["says"] for row in rows}["part 22"] == "missed"
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    done = recalibrate(folder, log)
    assert (done.good, done.defects) == (23, 2)


def test_an_input_that_succeeded_later_is_not_an_error(folder: Path, log: VerdictLog) -> None:
    log_verdicts(log, folder, np.full(3, 0.5))
    row = log.find()[0][0]
    columns = {field.name: row[field.name] for field in fields(LoggedVerdict)}
    failed = LoggedVerdict(**{**columns, "id": "e" * 32, "decision": "error", "time": 1e9})
    log.add(failed).result(10)
    assert log.counts("gland", read_deployment(folder).model_hash) == {"good": 3}


@pytest.mark.parametrize(("share", "confirmed"), [(0.02, 20), (0.01, 40)])
def test_rare_false_alarms_are_not_rounded_away(share: float, confirmed: int) -> None:
    # Less than half a false alarm belongs to so few confirmed parts; without any, every threshold
    # would lie below the one that decided on the few.
    random = np.random.default_rng(2)
    rates = []
    for _ in range(1000):
        scores = random.random(2000)
        alarm = scores > 1 - share
        good = random.choice(np.flatnonzero(~alarm), confirmed, replace=False)
        rows = [
            *({"score": scores[i], "decision": "good", "says": "right"} for i in good),
            *(
                {"score": scores[i], "decision": "defective", "says": "false alarm"}
                for i in np.flatnonzero(alarm)
            ),
        ]
        counts = {"good": int((~alarm).sum()), "defective": int(alarm.sum())}
        balanced = balanced_confirmations(rows, counts)
        threshold = conformal_threshold([row["score"] for kind in balanced for row in kind], RATE)
        rates.append(1 - threshold)
    # The mean over many calibrations is what is promised; four of its standard errors.
    assert np.mean(rates) < RATE + 4 * np.std(rates) / np.sqrt(len(rates))


def test_an_altered_folder_is_refused(folder: Path, log: VerdictLog) -> None:
    (folder / "model.onnx").write_bytes(b"A graph")
    with pytest.raises(ChiasmError, match="altered"):
        recalibrate(folder, log)
