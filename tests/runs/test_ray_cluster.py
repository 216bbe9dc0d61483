"""Addresses of Ray clusters that do not answer, and shards on a cluster of this machine."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.runs import ray_cluster as module
from chiasm.runs.crew import gather
from chiasm.runs.ray_cluster import ray_cluster
from chiasm.runs.shards import predict_in_shards
from stub_crew import squared
from stub_job import NumberJob

TESTS = Path(__file__).parents[1]  # where workers find the stub
REMEDY = "Start one with 'ray start --head'"
# Ray leaves the processes of its cluster to be collected while they still end.
RAY_LEAVES = pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")


@pytest.fixture
def ray(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'chiasm[cluster]'")
    # Ray warns of how it will treat accelerators, which are not asked for here.
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    yield
    gc.collect()  # what Ray leaves of its own processes is gone before warnings are errors again


def refusal(address: str) -> str:
    with pytest.raises(ConfigurationError) as refused, ray_cluster(address):
        pass
    return str(refused.value)


def test_an_address_where_nothing_listens_is_refused(ray):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # bound, and does not listen
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            assert address in refusal(address) and REMEDY in refusal(address)


def test_a_machine_that_listens_and_says_nothing_is_refused(ray, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert "timed out" in refusal(address) and REMEDY in refusal(address)


def test_what_is_no_address_is_refused(ray):
    assert "HOST:PORT" in refusal("cluster")


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert "pip install 'chiasm[cluster]'" in refusal("local")


def test_another_version_of_the_cluster_is_said(ray, monkeypatch):
    import ray as library

    def mismatched(**options):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.1.0")

    monkeypatch.setattr(library, "init", mismatched)
    monkeypatch.setattr(module, "_check_answers", lambda address: None)
    assert "Install the same versions on all machines" in refusal("10.0.0.1:6379")


@RAY_LEAVES
@pytest.mark.timeout(300)
def test_a_cluster_of_two_workers_writes_the_same(ray, tmp_path: Path, monkeypatch):
    """Relative paths, a worker that is lost once, and then a disk that is no disk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    for folder in ("in", "model"):
        Path(folder).mkdir()
    Path("model/model.txt").write_text("a model")
    for number in range(8):
        Path(f"in/{number:02d}.txt").write_text("die 1" if number == 5 else str(number))
    job = NumberJob(Path("in"), Path("model"))
    with ray_cluster("local", cpus=2) as library:  # one cluster for all
        _check_crew(tmp_path, monkeypatch)
        module._check_answers(library.get_runtime_context().gcs_address)  # a cluster does
        prediction = predict_in_shards(job, Path("out"), workers=2, ray="local", quiet=True)
        values = [
            value
            for part in sorted(Path("out/verdicts").iterdir())
            for value in pq.read_table(part)["value"].to_pylist()
        ]
        assert values == [0, 1, 2, 3, 4, 0, 6, 7]
        assert (prediction.tally.inputs, prediction.tally.failed) == (8, 0)
        table = Path("out/verdicts/part-00001.parquet")
        table.unlink()
        table.mkdir()  # no file can take its place
        with pytest.raises(ArtifactError, match=r"3 of 4 shards are complete \(6 of 8 numbers\)"):
            predict_in_shards(job, Path("out"), workers=2, ray="local", quiet=True)


def _check_crew(folder: Path, monkeypatch) -> None:
    """Tasks of a cluster compute as a crew: one is lost, one raises, and paths are looked for."""
    with gather(None, "local", shared=(folder / "in",)) as crew:
        assert crew.size == 2
        items = [(number, str(folder / "mark") if number == 3 else "") for number in range(6)]
        computed = dict(crew.in_order(squared, items))
        assert [computed[item][0] for item in items] == [n**2 for n in range(6)]
        places, processes = zip(*((place, process) for _, place, process in computed.values()))
        assert set(places) == {str(folder)} and os.getpid() not in processes
        with pytest.raises(DataError, match="-1 is negative"):
            list(crew.compute(squared, [(-1, "")]))
    with (
        gather(2, "local", shared=(folder / "elsewhere",)) as crew,
        pytest.raises(ConfigurationError, match=r"does not see .*elsewhere"),
    ):
        list(crew.compute(squared, [(1, "")]))
    monkeypatch.setattr("chiasm.training.device.gpus_of", {"cuda": 1}.get)
    with (
        pytest.raises(ConfigurationError, match=r"has no GPU.*--device cpu"),
        gather(2, "local", device="cuda"),
    ):
        pass
