"""One network trained in several processes: as in one, resumed, and refused with a remedy."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from chiasm.errors import ConfigurationError, DataError
from chiasm.runs import training_rank
from chiasm.runs.crew import ALONE, Crew
from chiasm.runs.data_parallel import check_device, check_rows, fit_together
from chiasm.runs.ray_cluster import processors_each, ray_cluster
from chiasm.runs.training_rank import RankTask, open_rank, training_versions
from chiasm.runs.workers import WorkerLost
from chiasm.training.keep_best import KeepBest
from chiasm.training.trainer import LAST, Budget
from stub_training import Line, Losses, StubCrew, line_batches

TESTS = Path(__file__).parents[1]  # where workers find the stub
TWO = StubCrew(2)
# Ray leaves the processes of its cluster to be collected while they still end.
RAY_LEAVES = pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")


def train(folder: Path, module: Line, crew: Crew, **options: Any) -> tuple[Losses, KeepBest]:
    losses = Losses()
    best = KeepBest(module.network, metric="validation_loss", mode="min")
    given = {"budget": Budget(None), "epochs": 4, "quiet": True} | options
    fit_together(
        module,
        line_batches(),
        line_batches(),
        crew=crew,
        folder=folder,
        name="line",
        callbacks=[losses, best],
        precision="32",
        **given,
    )
    return losses, best


def assert_same(one: Line, other: Line) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.allclose(other.state_dict()[name], tensor, rtol=1e-6), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Line, Losses, KeepBest]:
    module = Line()
    return module, *train(tmp_path_factory.mktemp("alone"), module, ALONE)


@pytest.mark.timeout(300)
def test_a_lost_worker_ends_the_training_and_the_next_one_resumes(
    tmp_path: Path, alone: tuple[Line, Losses, KeepBest]
):
    accident = tmp_path / "accident"
    accident.touch()
    with pytest.raises(WorkerLost) as lost:
        train(tmp_path, Line(accident=accident), TWO)
    sentence = str(lost.value)
    last = tmp_path / "checkpoints/line" / LAST
    assert "Worker 2 of 2 was lost while it trained." in sentence and "signal 9" in sentence
    assert str(last) in sentence and "start the same command again" in sentence
    assert last.exists() and [path.name for path in last.parent.iterdir()] == [LAST]

    resumed = Line(accident=accident)
    losses, best = train(tmp_path, resumed, TWO)
    assert TWO.rested
    module, expected, expected_best = alone
    assert losses.values == pytest.approx(expected.values, rel=1e-6)
    assert_same(module, resumed)
    assert resumed.steps == 12
    assert best.best_epoch == expected_best.best_epoch
    assert best.value == pytest.approx(expected_best.value, rel=1e-6)
    # What is saved and exported holds plain batch norms.
    assert [type(layer) for layer in resumed.network] == [nn.Linear, nn.BatchNorm1d, nn.Linear]
    # A checkpoint is one of any number of processes.
    again = Line()
    assert train(tmp_path, again, ALONE)[0].values == losses.values
    assert_same(resumed, again)


@pytest.mark.timeout(300)
def test_what_a_rank_raises_is_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chiasm.runs.data_parallel.GRACE", 0.5)
    with pytest.raises(DataError, match="the file is damaged"):
        train(tmp_path, Line(fault=DataError("the file is damaged")), TWO)


@RAY_LEAVES
@pytest.mark.timeout(300)
def test_two_workers_of_a_cluster_train_as_one_process(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    alone: tuple[Line, Losses, KeepBest],
):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'chiasm[cluster]'")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    accident = tmp_path / "accident"
    with ray_cluster("local", cpus=2):
        accident.touch()
        with pytest.raises(WorkerLost, match="Worker 2 of 2 was lost while it trained"):
            train(tmp_path, Line(accident=accident), StubCrew(2, "local"))
        resumed = Line(accident=accident)
        losses, _ = train(tmp_path, resumed, StubCrew(2, "local"), quiet=False)
        with pytest.raises(ConfigurationError, match="2 processors for 3 workers"):
            train(tmp_path / "other", Line(), StubCrew(3, "local"))
    assert losses.values == pytest.approx(alone[1].values, rel=1e-6)
    assert_same(alone[0], resumed)
    assert "Line: 12 of 12 steps in " in capfd.readouterr().out
    gc.collect()  # what Ray leaves of its own processes is gone before warnings are errors again


# What is refused before a process is started


def test_more_workers_than_rows_are_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="A step has 2 rows, and there are 3 workers"):
        train(tmp_path, Line(), StubCrew(3))
    assert not (tmp_path / "checkpoints").exists()
    check_rows(TWO, line_batches())
    with pytest.raises(ConfigurationError, match="Give 2 workers or fewer"):
        check_rows(StubCrew(3), line_batches())


def test_devices_that_workers_cannot_share_are_refused(monkeypatch: pytest.MonkeyPatch):
    check_device(ALONE, "cuda:1")
    check_device(StubCrew(1), "cuda:1")
    check_device(TWO, "cpu")
    with pytest.raises(ConfigurationError, match="Give device=cuda; CUDA_VISIBLE_DEVICES"):
        check_device(TWO, "cuda:1")
    monkeypatch.setattr("chiasm.runs.data_parallel.find_device", torch.device)
    with pytest.raises(ConfigurationError, match="There are 0 GPUs for 2 workers"):
        check_device(TWO, "cuda")
    check_device(StubCrew(2, "auto"), "cuda")
    with pytest.raises(ConfigurationError, match="Give device=cpu"):
        check_device(StubCrew(None, "auto"), "mps")


@pytest.fixture
def task(tmp_path: Path) -> RankTask:
    (tmp_path / "task").write_bytes(b"work")
    return RankTask(
        work=tmp_path / "task",
        digest="0" * 64,
        number=0,
        count=2,
        device="cpu",
        one_machine=True,
        needed=(),
        directory=str(Path.cwd()),
        versions=training_versions(),
    )


def test_a_worker_that_does_not_see_run_or_data_says_so(
    task: RankTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ConfigurationError, match="in a folder that all machines share"):
        open_rank(task)
    with pytest.raises(ConfigurationError, match="in a folder that all machines share"):
        open_rank(replace(task, work=tmp_path / "absent"))
    monkeypatch.setattr(training_rank, "_digest", lambda content: task.digest)
    with pytest.raises(ConfigurationError, match=r"does not see parts/.*mount them"):
        open_rank(replace(task, needed=("parts/",)))
    elsewhere = replace(task, needed=("parts/",), directory=str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match="give absolute paths"):
        open_rank(elsewhere)


def test_a_worker_of_other_versions_says_so(task: RankTask):
    for name in ("chiasm", "Python", "PyTorch"):
        other = replace(task, versions=training_versions() | {name: "0.1"})
        with pytest.raises(ConfigurationError, match=f"has {name} .*Install the same version"):
            open_rank(other)


def test_workers_get_the_processors_that_they_can_have_at_once():
    assert processors_each([{"CPU": 16.0}, {"CPU": 16.0}], 2) == 16
    assert processors_each([{"CPU": 16.0}, {"CPU": 16.0}], 3) == 8
    assert processors_each([{"CPU": 2.0}, {}], 3) == 0
