"""Small benchmarks end to end: killed and restarted, crashes, and the command line."""

from __future__ import annotations

import gc
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from chiasm import api
from chiasm.benchmarks import benchmark, pool, run_trial
from chiasm.benchmarks.benchmark import TRIALS, run_table
from chiasm.benchmarks.detection import DetectionSuite
from chiasm.benchmarks.detection_tables import describe
from chiasm.benchmarks.figure_drawing import draw_parts
from chiasm.benchmarks.render import write
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.table import Entry, Table, fill
from chiasm.benchmarks.trial import Trial
from chiasm.cli.main import app
from chiasm.detection.scenes.maker import make_scenes
from chiasm.errors import ConfigurationError, DataError, OutOfMemoryError

METHODS = ("brightness", "area")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(
        folder, products=("flange",), train=6, validation=3, test_good=2, test_per_defect=1, size=96
    )
    return folder


def command(scenes: Path, out: Path, methods: tuple[str, ...] = METHODS[:1]) -> list[str]:
    words = ["bench", "rivals", "--data", str(scenes), "--out", str(out)]
    return [*words, "--methods", ";".join(methods), "image_size=64"]


def figures(out: Path) -> list[tuple]:
    """What does not depend on time."""
    entries = json.loads((out / "rivals.json").read_text())["entries"]
    kept = [e for e in entries if e["figure"].split(".")[0] in ("image", "pixel", "region")]
    return [(e["row"], e["column"], e["value"], e["low"], e["high"]) for e in kept]


@pytest.fixture(scope="module")
def alone(scenes, tmp_path_factory, run_whole) -> Path:
    """A benchmark that was not interrupted."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIASM_CACHE", str(folder / "cache"))
        run_whole(command(scenes, folder / "out"))
    return folder / "out"


@pytest.mark.timeout(600)
def test_a_benchmark_that_is_killed_twice_ends_as_one_left_alone(
    scenes, alone, tmp_path, monkeypatch, run_killed, run_whole
):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    run_killed(command(scenes, tmp_path / "killed"), tmp_path / "killed", "measure.log")
    run_whole(command(scenes, tmp_path / "killed"))
    done = list((tmp_path / "killed").rglob("result.json"))
    written = {path: path.stat().st_mtime_ns for path in done}
    # A kill between the result and the table leaves the one without the other.
    for page in (tmp_path / "killed").glob("rivals.*"):
        page.unlink()
    run_whole(command(scenes, tmp_path / "killed"))
    assert figures(tmp_path / "killed") == figures(alone)
    # One baseline as it ran, and the two full sizes, which are listed and not run.
    values = [value for _, _, value, _, _ in figures(alone)]
    assert len(values) == 15 and values.count(None) == 10
    # What was finished before the kill was not computed again.
    assert written and {path: path.stat().st_mtime_ns for path in done} == written
    output = CliRunner().invoke(app, command(scenes, alone)).output
    assert "1 of 1 trials are stored, 0 to run." in output


def table_of(tmp_path: Path, models: tuple[str, ...]) -> Table:
    (tmp_path / "part" / "train").mkdir(parents=True, exist_ok=True)
    trials = [Trial("detector", tmp_path / "part", {"model": model}) for model in models]
    return Table("t", "A table", tuple(Entry(c.method, "x", "image.auroc", (c,)) for c in trials))


def test_a_trial_that_crashes_is_a_row_and_the_rest_goes_on(tmp_path, monkeypatch):
    def failure(phase, description, run, threads):
        model = json.loads(description.read_text())["settings"]["model"]
        if model == "area":
            return "crashed", "ValueError: no."
        if model == "brightness":
            return "out of memory", "The phase needed more memory than was available."
        if phase == "measure":
            for name, content in (
                ("report/metrics.json", {"image": {"auroc": {"value": 0.5}}}),
                ("speed.json", {}),
                ("model/contract.json", {}),
            ):
                (run / name).parent.mkdir(parents=True, exist_ok=True)
                (run / name).write_text(json.dumps(content))
        return None

    monkeypatch.setattr(pool, "_run_phase", failure)
    lines: list[str] = []
    table = table_of(tmp_path, ("area", "brightness", "missing_points"))
    filled = run_table(
        table, out=tmp_path / "out", command="c", report_progress=lines.append, jobs=2
    )
    assert [item.value for item in filled] == [None, None, 0.5]
    assert filled[0].remark == "crashed: ValueError: no."
    assert filled[1].remark.startswith("out of memory")
    # A trial that went wrong is tried again, one that is done is not.
    run_table(table, out=tmp_path / "out", command="c", report_progress=lines.append)
    assert lines.count("part: area ...") == 2
    assert lines.count("part: missing_points ...") == 1


def test_a_result_of_other_code_is_made_again_and_said_so(tmp_path, monkeypatch):
    table = table_of(tmp_path, ("area",))
    (trial,) = table.trials
    store = ResultStore(tmp_path / "out" / TRIALS)
    store.write(trial, Result("done", {"image": {"auroc": {"value": 0.1}}}, code="older"))
    monkeypatch.setattr(pool, "_run_phase", lambda *_: ("crashed", "as it should"))
    lines: list[str] = []
    with pytest.raises(DataError, match="All 1 trials failed: as it should"):
        run_table(table, out=tmp_path / "out", command="c", report_progress=lines.append)
    assert "part: the code of area changed; run it again." in lines
    (entry,) = json.loads((tmp_path / "out/t.json").read_text())["entries"]
    assert entry["value"] is None


def test_what_every_run_would_end_with_is_told_before_one_is_begun(tmp_path):
    table = table_of(tmp_path, ("area",))
    trial = replace(table.trials[0], settings={"model": "area", "train_epoch": 1})
    wrong = replace(table, entries=(replace(table.entries[0], trials=(trial,)),))
    with pytest.raises(ConfigurationError, match="'train_epochs' was probably meant"):
        run_table(wrong, out=tmp_path / "out", command="c", report_progress=str)
    with pytest.raises(ConfigurationError, match="no trial of these data and methods"):
        run_table(
            replace(table, entries=()), out=tmp_path / "out", command="c", report_progress=str
        )
    assert not (tmp_path / "out").exists()


def test_a_deadline_ends_a_table_with_what_there_is(tmp_path, monkeypatch):
    now = [0.0]

    def slow(*_):
        now[0] += 61.0
        return "crashed", "no"

    monkeypatch.setattr(pool, "_run_phase", slow)
    for module in (pool, benchmark):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    table = table_of(tmp_path, ("area", "brightness", "missing_points"))
    with pytest.raises(DataError, match="All 1 trials failed: no"):
        run_table(table, out=tmp_path / "out", command="c", minutes=1, report_progress=str)
    entries = json.loads((tmp_path / "out" / "t.json").read_text())["entries"]
    assert [entry["remark"] for entry in entries][1:] == ["not run", "not run"]
    assert "not run" in (tmp_path / "out" / "t.md").read_text()


def test_a_process_that_is_killed_for_memory_says_so(tmp_path, monkeypatch):
    class Ended:
        returncode = -signal.SIGKILL

    monkeypatch.setattr(pool.subprocess, "run", lambda *_, **__: Ended())
    description = tmp_path / "trial" / "trial.json"
    description.parent.mkdir()
    failure = pool._run_phase("train", description, description.parent / "run", 1)
    assert failure == (
        "out of memory",
        "The phase 'train' needed more memory than was available.",
    )


def test_the_command_line_tells_what_is_wrong(scenes, tmp_path):
    def error(*words):
        return str(CliRunner().invoke(app, ["bench", *words]).exception)

    assert "There is no table 'table0'" in error("table0", "--data", str(scenes))
    assert "There is no method 'x'" in error("rivals", "--data", str(scenes), "--methods", "x")
    assert "not of the form" in error("rivals", "size", "--data", str(scenes))


@pytest.fixture
def on_ray(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'chiasm[cluster]'")
    # Ray warns of how it will treat accelerators, which are not asked for here.
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    yield
    gc.collect()  # what Ray leaves of its own processes is gone before warnings are errors again


# Ray leaves the processes of its cluster to be collected while they still end.
RAY_LEAVES = pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")


@RAY_LEAVES
@pytest.mark.timeout(600)
def test_a_ray_cluster_of_two_workers_gives_the_same(scenes, alone, on_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    # A relative path, while workers stand elsewhere.
    words = command(scenes, Path("ray"), METHODS[:1])
    ended = CliRunner().invoke(app, [*words, "--ray", "local"], catch_exceptions=False)
    assert "0 of 1 trials are stored, 1 to run." in ended.output
    found = figures(tmp_path / "ray")
    rows = {row for row, *_ in found}
    assert found and found == [figure for figure in figures(alone) if figure[0] in rows]


@RAY_LEAVES
@pytest.mark.timeout(300)
def test_a_lost_worker_of_ray_is_a_row_and_the_rest_goes_on(tmp_path, on_ray, monkeypatch):
    def run(trial, store, threads, code):
        if trial.method == "area":
            os._exit(1)
        if trial.method == "brightness":
            raise MemoryError("no room")
        return Result("done", {"image": {"auroc": {"value": 0.5}}}, code=code)

    monkeypatch.setattr(pool, "run_phases", run)
    table = table_of(tmp_path, ("area", "brightness", "missing_points"))
    filled = run_table(table, out=tmp_path / "out", command="c", ray="local", report_progress=str)
    assert [item.value for item in filled] == [None, None, 0.5]
    assert filled[0].remark.startswith("crashed: ")
    assert filled[1].remark == "out of memory: MemoryError: no room"


@pytest.mark.parametrize(
    ("device", "asked"), [({}, 1), ("auto", 1), ("cuda", 1), ("cuda:1", 1), ("cpu", 0), ("mps", 0)]
)
def test_a_trial_asks_a_cluster_for_the_card_that_it_can_use(tmp_path, device, asked):
    settings = {"model": "area"} | ({"device": device} if device else {})
    assert pool.gpus_of_trial(Trial("detector", tmp_path, settings)) == asked


def test_figure_5_shows_the_first_part_of_each_kind(scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    settings = {"image_size": 64, "rotate": False}
    categories = {"flange": scenes / "flange"}
    suite = DetectionSuite(categories=categories, methods=("pixel_gaussian",), settings=settings)
    table = describe("fig5", suite)
    (trial,) = table.trials
    store = ResultStore(tmp_path / "out" / TRIALS)
    store.prepare(trial, "code")
    api.train(data=trial.data, out=store.run_folder(trial), **trial.settings)
    store.write(trial, Result("done", {}, code="code"))
    filled = fill(table, {trial.key: store.read(trial)})
    picture, facts = draw_parts(table, filled, store)
    kinds = [part["kind"] for part in facts["parts"]]
    assert kinds == sorted(set(kinds)) and "good" not in kinds
    assert all(part["part"].startswith("flange/test/") for part in facts["parts"])
    axes = picture.axes
    assert len(axes) == 4 * len(kinds)  # colour, height, truth, and the model's map
    assert axes[3].get_title().replace("\n", " ") == "pixel_gaussian, 64 px"
    page = write(table, filled, tmp_path / "out", {"command": "c"}, drawn=(picture, facts))
    assert json.loads(page.with_suffix(".json").read_text())["parts"] == facts["parts"]
    assert page.with_suffix(".png").stat().st_size > 1000


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("The device cuda:0 has no memory left for this."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
    ],
)
def test_a_gpu_without_memory_is_told_from_a_crash(tmp_path, monkeypatch, error):
    def fail(*_: Any) -> None:
        raise error

    (tmp_path / "trial.json").write_text("{}")
    monkeypatch.setattr(run_trial, "check_code", lambda description: None)
    monkeypatch.setitem(run_trial.PHASES, "train", fail)
    monkeypatch.setattr("sys.argv", ["run_trial", "train", str(tmp_path / "trial.json"), "run"])
    with pytest.raises(SystemExit) as ended:
        run_trial.main()
    assert ended.value.code == run_trial.EXIT_OUT_OF_MEMORY
