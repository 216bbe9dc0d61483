"""Predictions in shards: the same table whatever happens to the workers, resumed, and refused."""

from __future__ import annotations

import errno
import os
import random
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.files.parquet import ParquetFile
from chiasm.runs import shard_plan, shard_worker, shards
from chiasm.runs.shard_worker import judge_shard, open_task
from chiasm.runs.shards import RETRIES, predict_in_shards
from chiasm.runs.tally import MOST_NOTES, Outcome, Tally
from chiasm.runs.workers import WorkerLost
from stub_job import NumberJob, judge_here, raise_killed


@pytest.fixture
def job(tmp_path: Path) -> NumberJob:
    (tmp_path / "in").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.txt").write_text("a model")
    for number in range(12):
        (tmp_path / f"in/{number:02d}.txt").write_text(str(number))
    return NumberJob(tmp_path / "in", tmp_path / "model", raise_killed)


@pytest.fixture
def inline(monkeypatch) -> list[int]:
    """Shards are judged in this process. Returns their numbers as they are begun."""
    return judge_here(monkeypatch)


def predict(job: NumberJob, out: Path, **options) -> Tally:
    return predict_in_shards(job, out, workers=3, ray=None, quiet=True, **options).tally


def rows(out: Path) -> list[dict]:
    parts = sorted((out / "verdicts").glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def values(out: Path) -> list[float | None]:
    return [row["value"] for row in rows(out)]


def test_shards_hold_all_inputs_in_their_order(job, inline, tmp_path):
    tally = predict(job, tmp_path / "out")
    assert values(tmp_path / "out") == list(range(12))
    assert (tally.inputs, tally.failed, tally.kinds["large"]) == (12, 0, 6)
    assert inline == list(range(6))  # two for each worker at least
    assert len({row["source"] for row in rows(tmp_path / "out")}) == 12


def test_shards_take_about_as_long_as_planned(job, inline, tmp_path, monkeypatch):
    for number in range(12, 100):
        (job.inputs / f"{number:02d}.txt").write_text(str(number))
    now = [0.0]

    def clock():
        now[0] += shard_plan.SECONDS / 10  # the difference of two calls is one input
        return now[0]

    monkeypatch.setattr(shard_plan.time, "perf_counter", clock)
    predict(job, tmp_path / "out")
    assert inline == list(range(10))
    assert values(tmp_path / "out") == list(range(100))


def test_a_complete_shard_is_not_judged_again(job, inline, tmp_path):
    whole = predict(job, tmp_path / "out")
    (tmp_path / "out/verdicts/part-00003.parquet").unlink()
    (tmp_path / "out/verdicts/part-00001.parquet").write_bytes(b"cut short")
    inline.clear()
    assert predict(job, tmp_path / "out") == whole
    assert inline == [1, 3]
    inline.clear()
    assert predict(job, tmp_path / "out") == whole
    assert not inline


def test_another_prediction_in_the_folder_is_refused(job, inline, tmp_path):
    predict(job, tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"\(other options\)"):
        predict(replace(job, option="b"), tmp_path / "out")
    (job.model / "model.txt").write_text("another model")
    with pytest.raises(ConfigurationError, match=r"\(other model\)"):
        predict(job, tmp_path / "out")
    (job.model / "model.txt").write_text("a model")
    (job.inputs / "03.txt").write_text("333")  # the same name, another content
    with pytest.raises(ConfigurationError, match=r"\(other inputs\)"):
        predict(job, tmp_path / "out")
    (tmp_path / "out" / shard_plan.PLAN).unlink()
    with pytest.raises(ConfigurationError, match="holds verdicts without"):
        predict(job, tmp_path / "out")


def test_nothing_to_judge_is_refused(job, inline, tmp_path):
    for path in job.inputs.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds nothing to judge"):
        predict(job, tmp_path / "out")


@pytest.mark.parametrize("seed", range(3))
def test_workers_killed_three_times_at_random_leave_the_same_table(job, inline, tmp_path, seed):
    whole = predict(job, tmp_path / "whole")
    chosen = random.Random(seed).choices(range(12), k=RETRIES)
    for number in set(chosen):
        (job.inputs / f"{number:02d}.txt").write_text(f"die {chosen.count(number)}")
    tally = predict(job, tmp_path / "out")
    expected = [0.0 if number in chosen else number for number in range(12)]
    assert values(tmp_path / "out") == expected  # a file that killed holds 0 in the end
    assert (tally.inputs, tally.failed) == (whole.inputs, 0)
    assert not list((tmp_path / "out").rglob(".*"))


def test_an_input_that_always_kills_costs_its_own_row_alone(job, inline, tmp_path):
    (job.inputs / "05.txt").write_text("die")
    tally = predict(job, tmp_path / "out")
    assert values(tmp_path / "out") == [0, 1, 2, 3, 4, None, 6, 7, 8, 9, 10, 11]
    assert (
        "lost several times while it judged this input: signal 9"
        in rows(tmp_path / "out")[5]["error"]
    )
    assert (tally.failed, tally.failures[0][0]) == (1, 5)
    assert inline.count(2) == RETRIES + 2


def test_a_shard_of_which_every_input_kills_is_given_up(job, inline, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_plan, "_size", lambda *_: 6)
    for number in range(6):
        (job.inputs / f"{number:02d}.txt").write_text("die")
    tally = predict(job, tmp_path / "out")
    assert values(tmp_path / "out") == [None] * 6 + [6, 7, 8, 9, 10, 11]
    assert tally.failed == 6
    assert "workers were lost" in rows(tmp_path / "out")[5]["error"]


def test_an_error_that_nobody_expected_is_a_row(job, inline, tmp_path):
    (job.inputs / "05.txt").write_text("fault")
    predict(job, tmp_path / "out")
    (failed,) = (row for row in rows(tmp_path / "out") if row["error"])
    assert failed["source"].endswith("05.txt")
    assert "ValueError: a fault of the program" in failed["error"]


def test_a_full_disk_ends_it_and_what_is_complete_stays(job, inline, tmp_path, monkeypatch):
    write, room = ParquetFile._write, [3]

    def limited(table):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(table)

    monkeypatch.setattr(ParquetFile, "_write", limited)
    with pytest.raises(
        ArtifactError, match=r"disk is full: .*3 of 6 shards are complete \(6 of 12"
    ):
        predict(job, tmp_path / "out")
    assert values(tmp_path / "out") == list(range(6))
    assert not [path for path in (tmp_path / "out/verdicts").iterdir() if path.name[0] == "."]
    room[0] = 100
    inline.clear()
    predict(job, tmp_path / "out")
    assert values(tmp_path / "out") == list(range(12)) and inline == [3, 4, 5]


def test_heat_maps_stand_beside_the_verdicts(job, inline, tmp_path):
    predict(replace(job, pictures=True), tmp_path / "out")
    parts = sorted((tmp_path / "out/heat_maps").iterdir())
    pictures = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [row["png"] for row in pictures] == [str(n).encode() for n in range(12)]
    assert [row["source"] for row in pictures] == [row["source"] for row in rows(tmp_path / "out")]
    metadata = [pq.read_schema(part).metadata for part in parts]
    assert len({m[b"chiasm.model"] for m in metadata}) == 1


def test_a_process_that_is_lost_while_it_lists_is_told_with_what_may_help(
    job, inline, tmp_path, monkeypatch
):
    def lost(*_, **__):
        raise WorkerLost("A worker process ended with signal 9.")

    monkeypatch.setattr(shards, "call_apart", lost)
    with pytest.raises(ArtifactError, match=r"signal 9\. Is there enough memory\?.*__main__"):
        predict(job, tmp_path / "out")


def task_of(job: NumberJob, out: Path) -> shard_worker.ShardTask:
    planned = shard_plan.make_plan(job, out, 3, 1)
    here = str(Path.cwd())
    return shard_worker.ShardTask(job, planned.plan, None, 1, shard_worker.versions(), here)


@pytest.mark.parametrize("name", ["chiasm", "Python"])
def test_a_worker_of_another_version_is_refused(job, tmp_path, name):
    task = task_of(job, tmp_path / "out")
    task = replace(task, versions={**task.versions, name: "0.0"})
    with pytest.raises(ConfigurationError, match=f"has {name} .*Install the same version"):
        open_task(task)


def test_a_worker_without_data_model_or_results_is_refused(job, tmp_path):
    task = task_of(job, tmp_path / "out")

    def refusal(**changes) -> str:
        with pytest.raises(ConfigurationError) as refused:
            open_task(replace(task, **changes))
        return str(refused.value)

    def unseen(path) -> str:
        return f"does not see {path}. All machines must see model and data"

    elsewhere = tmp_path / "elsewhere"
    assert unseen(elsewhere) in refusal(job=replace(job, inputs=elsewhere))
    assert unseen(elsewhere) in refusal(job=replace(job, model=elsewhere))
    assert "share: give one with --out" in refusal(plan=replace(task.plan, folder=elsewhere))
    open_task(task)
    (job.model / "model.txt").write_text("another model")
    assert "has another model at" in refusal()
    (job.inputs / "00.txt").unlink()
    (job.inputs / "01.txt").unlink()
    judge_shard(0, {})  # removed since they were listed, which their rows say
    assert all("No such file" in row["error"] for row in rows(tmp_path / "out"))
    # The folder is there, and nothing in it: another disk is mounted.
    for path in job.inputs.iterdir():
        path.unlink()
    with pytest.raises(ConfigurationError, match=r"does not see .*00\.txt"):
        judge_shard(0, {})


def test_relative_paths_belong_to_the_folder_of_the_one_that_asks(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = replace(job, inputs=Path("in"), model=Path("model"))
    task = task_of(relative, Path("out"))
    monkeypatch.chdir("/")
    open_task(task)
    judge_shard(0, {})
    assert rows(tmp_path / "out")[0]["source"] == "in/00.txt"
    with pytest.raises(ConfigurationError, match="give absolute paths"):
        monkeypatch.chdir("/")
        open_task(replace(task, directory="/no/such/folder"))


def test_a_tally_is_of_one_size_and_merges_in_any_order():
    outcomes = [
        Outcome({}, kinds=("bad",), notes=(f"note {i}",), failure=f"failure {i}" * (i % 3 == 0))
        for i in range(MOST_NOTES + 50)
    ]
    whole, parts = Tally(), [Tally() for _ in range(7)]
    for position, outcome in enumerate(outcomes):
        whole.add(outcome, position)
        parts[position % 7].add(outcome, position)
    merged = Tally()
    for part in reversed(parts):
        merged.merge(Tally.from_json(part.to_json()))
    assert len(whole.notes) == MOST_NOTES + 1 and len(merged.notes) == MOST_NOTES + 1
    assert merged.notes.total() == whole.notes.total()
    assert replace(merged, notes=whole.notes) == whole
    assert [text for _, text in whole.failures] == [f"failure {i}" for i in (0, 3, 6, 9, 12)]


@pytest.mark.timeout(300)
def test_processes_that_are_killed_leave_the_same_table(job, tmp_path):
    job = NumberJob(job.inputs, job.model)
    for number in (1, 8):
        (job.inputs / f"{number:02d}.txt").write_text("die 1")
    prediction = predict_in_shards(job, tmp_path / "out", workers=2, ray=None, quiet=True)
    assert values(tmp_path / "out") == [0, 0, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11]
    assert (prediction.tally.failed, prediction.promise) == (0, "Sure.")
