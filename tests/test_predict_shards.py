"""Predictions in shards of both wings say what predictions in one process say."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import chiasm
from chiasm import api
from chiasm.cli.main import app
from chiasm.detection import predict as predict_parts
from chiasm.detection.decision import AlarmRule, failed_verdict, frame_verdict, predict_each
from chiasm.detection.prediction import job as part_job
from chiasm.detection.prediction.part_files import PartFiles
from chiasm.diagnosis.readers.opening import open_source as open_recordings
from chiasm.diagnosis.readers.opening import open_store
from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.files.images import write_rgb, write_xyz
from chiasm.files.readers import without_listing
from chiasm.samples import AnomalyMap, Region, RGBDSample, Verdict
from stub_job import judge_here
from version_1_weights import part, recording, write_model

STORED = Path(__file__).parent / "version_1"


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """Six parts of several brightness; the points of one cannot be read."""
    folder = tmp_path_factory.mktemp("data") / "parts"
    for role in ("rgb", "xyz"):
        (folder / role).mkdir(parents=True)
    rgb, xyz = part()
    for number in range(6):
        image = rgb.copy()
        image[40:50, 40:50] *= 1 - 0.2 * number
        write_rgb(folder / f"rgb/{number}.png", image)
        write_xyz(folder / f"xyz/{number}.tiff", xyz)
    (folder / "xyz/2.tiff").write_bytes(b"no points")
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Five recordings, of which one lacks its series and one cannot be read."""
    folder = tmp_path_factory.mktemp("data") / "recordings"
    folder.mkdir()
    image, series = recording()
    for number in range(5):
        write_rgb(folder / f"{number}.png", np.roll(image, number, axis=1))
        np.save(folder / f"{number}.npy", np.roll(series, 7 * number))
    (folder / "1.npy").unlink()
    (folder / "3.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    return write_model(STORED / "btf", tmp_path_factory.mktemp("models") / "btf")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    return write_model(STORED / "mad", tmp_path_factory.mktemp("models") / "mad")


@pytest.fixture
def here(monkeypatch) -> list[int]:
    return judge_here(monkeypatch)


def rows(out: Path, name: str = "verdicts") -> list[dict]:
    files = sorted((out / name).glob("part-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def plain_rows(out: Path, name: str) -> list[dict]:
    content = json.loads((out / f"{name}.json").read_text())
    return [
        {key: x for key, x in row.items() if key not in ("picture", "details")} for row in content
    ]


def summary(text: str, out: Path) -> str:
    return " ".join(text.replace("\n", " ").split()).replace(str(out), "OUT")


def test_parts_have_the_same_rows_and_the_same_summary(parts, detector, here, tmp_path, capsys):
    api.predict(detector, parts, out=tmp_path / "plain")
    plain = summary(capsys.readouterr().out, tmp_path / "plain")
    api.predict_shards(detector, parts, out=tmp_path / "out", workers=2, quiet=True)
    assert rows(tmp_path / "out") == plain_rows(tmp_path / "plain", "verdicts")
    assert summary(capsys.readouterr().out, tmp_path / "out") == plain
    assert len(here) > 1 and "1 not judged" in plain


def test_workers_write_the_same_files_of_parts(parts, detector, here, tmp_path):
    asked = {"maps": "npy", "masks": True, "coco": True}
    api.predict(detector, parts, out=tmp_path / "plain", **asked)
    api.predict_shards(detector, parts, out=tmp_path / "out", workers=2, quiet=True, **asked)
    assert rows(tmp_path / "out") == plain_rows(tmp_path / "plain", "verdicts")
    names = [
        f"{folder}/{path.name}"
        for folder in ("maps", "masks")
        for path in (tmp_path / "plain" / folder).iterdir()
    ]
    assert len(names) == 10  # of five parts that can be read
    for name in (*names, "coco.json", "columns.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    with pytest.raises(ConfigurationError, match="other options"):
        api.predict_shards(detector, parts, out=tmp_path / "out", workers=2, quiet=True)


class FourCorners:
    """Splits each frame into at most four parts; the darker a corner, the stranger.

    Corners of less than half the brightness are not there, and black ones cannot be judged.
    """

    products: tuple[str, ...] = ()
    promise = "Promised."
    acquisition = None

    def rule_for(self, verdict: Verdict) -> AlarmRule:
        return AlarmRule([0.1 * n for n in range(1, 10)], 0.2, None)

    def predict_all(self, samples):
        return predict_each(self.predict, samples)

    def predict(self, sample: RGBDSample) -> Verdict:
        found = []
        for rows, columns in product(np.array_split(np.arange(16), 2), repeat=2):
            place = np.zeros((16, 16), bool)
            place[np.ix_(rows, columns)] = True
            brightness = float(sample.rgb[place].mean())
            source = f"{sample.source}#{len(found) + 1}"
            if brightness == 0:
                found.append(failed_verdict(source, DataError(f"{source} is black.")))
                continue
            if brightness < 0.5:
                continue
            score = 1 - brightness
            scores = np.where(place, np.float32(score), np.float32(0))
            found_map = AnomalyMap(scores, place, score, source)
            regions = (Region((int(columns[0]), int(rows[0]), 8, 8), (4.0, 4.0), 64, score),)
            bad = score > 0.3
            found.append(
                Verdict(
                    source,
                    score,
                    0.1,
                    bad,
                    found_map,
                    notes=("seen",),
                    regions=regions if bad else (),
                    pixel_threshold=0.2 if bad else None,
                )
            )
        if not found:
            raise DataError(f"{sample.source} is empty.")
        return frame_verdict(found, source=sample.source)


@pytest.mark.parametrize("seed", range(3))
def test_a_frame_of_several_parts_has_the_same_rows_in_processes(seed, here, tmp_path, capsys):
    generator = np.random.default_rng(seed)
    for number in range(5):
        image = np.repeat(np.repeat(generator.choice([0, 0.2, 0.6, 0.8], (2, 2)), 8, 0), 8, 1)
        path = tmp_path / f"in/rgb/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rgb(path, np.repeat(image[..., None], 3, -1).astype(np.float32))
    model = FourCorners()

    def files(folder: Path) -> PartFiles:
        return PartFiles(folder, maps="npy", masks=True, coco=True)

    plain, out = tmp_path / "plain", tmp_path / "out"
    predict_parts.predict(model, tmp_path / "in", out=plain, files=files(plain))
    said = summary(capsys.readouterr().out, plain)
    job = part_job.PartJob(
        model=tmp_path,
        model_files=(),
        inputs=tmp_path / "in",
        load=lambda folder, threads: model,
        lamp=None,
        heat_maps="all",
        files=files(out),
    )
    tally = part_job.predict_shards(job, out, workers=2, ray=None, quiet=True)
    assert summary(capsys.readouterr().out, out) == said
    assert rows(out) == plain_rows(plain, "verdicts") and len(here) > 1
    assert tally.inputs == len(rows(out)) > 5
    for path in plain.rglob("*.npy"), plain.glob("masks/*"), plain.glob("*.json*"):
        for file in path:
            if file.name != "verdicts.json":
                assert (out / file.relative_to(plain)).read_bytes() == file.read_bytes()
    drawn = {row["source"]: row["png"] for row in rows(out, "heat_maps")}
    pictures = {
        row["source"]: (plain / row["picture"]).read_bytes()
        for row in json.loads((plain / "verdicts.json").read_text())
        if row["picture"]
    }
    assert drawn == pictures
    here.clear()
    part_job.predict_shards(job, out, workers=2, ray=None, quiet=True)
    assert here == []  # what is complete is told by its inputs, and not by its rows


def test_recordings_have_the_same_rows_pictures_and_summary(
    recordings, classifier, here, tmp_path, capsys
):
    levels = tmp_path / "ours.yaml"
    levels.write_text("name: ours\nrate_per_s: {medium: 1, high: 2}\n")
    found = api.predict(classifier, recordings, out=tmp_path / "plain", severity=levels)
    plain = summary(capsys.readouterr().out, tmp_path / "plain")
    api.predict_shards(
        classifier, recordings, out=tmp_path / "out", workers=2, severity=levels, quiet=True
    )
    assert rows(tmp_path / "out") == plain_rows(tmp_path / "plain", "diagnoses")
    # One process that draws may show how far it is.
    assert plain.endswith(summary(capsys.readouterr().out, tmp_path / "out"))
    assert not (tmp_path / "out/heat_maps").exists()
    drawn, expected = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "patterns").iterdir()}
        for name in ("out", "plain")
    )
    assert drawn == expected and len(drawn) == 4
    row = json.loads((tmp_path / "plain/diagnoses.json").read_text())[0]
    details = row["details"]
    assert row["severity"] == details["severity"]["level"] == "high"
    assert details["severity"]["levels"] == found[0].severity.levels == "ours"
    assert row["charge_unit"] == found[0].quantities.unit == "uncalibrated"
    charge = details["quantities"]["charge_largest_uncalibrated"]
    assert row["charge_largest"] == pytest.approx(charge, rel=1e-5)


def test_a_store_of_recordings_is_judged_as_its_files_are(recordings, classifier, here, tmp_path):
    (tmp_path / "good").mkdir()
    for number in (0, 2, 4):
        for suffix in (".png", ".npy"):
            (tmp_path / f"good/{number}{suffix}").write_bytes(
                (recordings / f"{number}{suffix}").read_bytes()
            )
    store = open_store(tmp_path / "good", cache=tmp_path / "cache").path
    for name, data in (("files", tmp_path / "good"), ("store", store)):
        api.predict_shards(
            classifier, data, out=tmp_path / name, workers=1, pictures=False, quiet=True
        )
    judged = [pd.DataFrame(rows(tmp_path / name)) for name in ("files", "store")]
    figures = [table.drop(columns=["source", "notes"]) for table in judged]
    pd.testing.assert_frame_equal(*figures)


@pytest.mark.parametrize("heat_maps", ["none", "defective", "all"])
def test_heat_maps_are_those_of_one_process(parts, detector, here, tmp_path, heat_maps):
    api.predict(detector, parts, out=tmp_path / "plain")
    plain = json.loads((tmp_path / "plain/verdicts.json").read_text())
    api.predict_shards(
        detector, parts, out=tmp_path / "out", workers=2, heat_maps=heat_maps, quiet=True
    )
    wanted = {
        row["source"]: cv2.imread(str(tmp_path / "plain" / row["picture"]))
        for row in plain
        if row["picture"]
        and (heat_maps == "all" or (heat_maps == "defective" and row["defective"]))
    }
    drawn = {
        row["source"]: cv2.imdecode(np.frombuffer(row["png"], np.uint8), cv2.IMREAD_COLOR)
        for row in rows(tmp_path / "out", "heat_maps")
    }
    assert drawn.keys() == wanted.keys()
    assert all(np.array_equal(drawn[source], wanted[source]) for source in drawn)
    assert (tmp_path / "out/heat_maps").exists() == (heat_maps != "none")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_of_paths_are_read(parts, detector, here, tmp_path, suffix):
    table = pd.DataFrame(
        {
            "rgb": [f"rgb/{number}.png" for number in (4, 0, 9)],
            "xyz": [f"xyz/{number}.tiff" for number in (4, 0, 9)],
        }
    )
    path = parts / f"table{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    api.predict_shards(detector, path, out=tmp_path / "out", workers=1, quiet=True)
    path.unlink()
    judged = rows(tmp_path / "out")
    assert [Path(row["source"]).name for row in judged[:2]] == ["4.png", "0.png"]
    assert "does not exist" in judged[2]["error"]


@pytest.mark.parametrize(("wing", "data"), [("detection", "parts"), ("diagnosis", "recordings")])
def test_exported_models_need_nothing_of_training(wing, data, request, tmp_path):
    """Listing and judging in a process that can import no PyTorch."""
    pytest.importorskip("onnxruntime")
    model, inputs = STORED / f"exported_{wing}", request.getfixturevalue(data)
    code = f"""
import sys
class Absent:
    names = {{"torch", "pandas", "lightning", "pydantic", "sklearn", "skimage", "yaml", "onnx"}}
    names |= {{"scipy", "imagecodecs", "matplotlib", "jinja2"}}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(name + " is not installed here", name=name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from chiasm import api
from chiasm.runs import shards
from chiasm.runs.shard_worker import judge_shard, open_task
def run(task, queue, *, workers):
    open_task(task)
    while (following := queue.take()) is not None:
        yield following[0], judge_shard(*following)
shards.run_locally = run
shards.call_apart = lambda function, *args, threads: function(*args)
api.predict_shards({str(model)!r}, {str(inputs)!r}, out={str(tmp_path / "out")!r}, workers=1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = chiasm.load(model)
    judged = [row for row in rows(tmp_path / "out") if not row["error"]]
    assert len(judged) >= 4
    for row in judged:
        source = Path(row["source"])
        if wing == "detection":
            points = source.parents[1] / "xyz" / f"{source.stem}.tiff"
            assert row["score"] == loaded(source, points).score
        else:
            series = source.with_suffix(".npy")
            said = loaded(source, series if series.exists() else None)
            assert row["kind"] == said.kind


def test_the_process_that_is_started_loads_no_pytorch(detector):
    """It holds counts alone; its memory is that of its libraries."""
    code = f"""
import sys
from pathlib import Path
from chiasm.api.loading import identity
import chiasm.detection.prediction.job, chiasm.diagnosis.prediction.job
assert identity(Path({str(detector)!r}))[0] == "detector"
assert not {{"torch", "pandas"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_anomaly_map_outlives_its_part(parts, detector, here, tmp_path, monkeypatch):
    alive: list[int] = []
    draw = predict_parts.heat_overlay

    def counted(*args, **options):
        alive.append(sum(type(known) is AnomalyMap for known in gc.get_objects()))
        return draw(*args, **options)

    gc.collect()
    before = sum(type(known) is AnomalyMap for known in gc.get_objects())
    monkeypatch.setattr(predict_parts, "heat_overlay", counted)
    monkeypatch.setattr(part_job, "heat_overlay", counted)
    ended = CliRunner().invoke(
        app, ["predict", *map(str, (detector, parts)), "--out", str(tmp_path)]
    )
    assert ended.exit_code == 3 and len(alive) == 5  # one part cannot be read
    api.predict_shards(
        detector, parts, out=tmp_path / "out", workers=1, heat_maps="all", quiet=True
    )
    assert len(alive) > 10  # some parts are timed before
    assert max(alive) <= before + 2  # that of the part, and of the one before


def test_readers_without_their_listing_load_the_same(parts, recordings):
    from chiasm.detection.readers.opening import open_source

    for source in (open_source(parts), open_recordings(recordings)):
        reader = without_listing(source)
        assert not reader.refs and not reader.problems and source.refs
        ref = source.refs[0]
        one, other = source.load(ref), reader.load(ref)
        for name in ("rgb", "xyz", "image", "series"):
            assert np.array_equal(getattr(one, name, None), getattr(other, name, None))


def test_what_does_not_fit_is_refused(parts, recordings, detector, classifier, here, tmp_path):
    out = {"out": tmp_path / "out", "quiet": True}
    with pytest.raises(ConfigurationError, match="heat_maps are for models of the other kind"):
        api.predict_shards(classifier, recordings, heat_maps="all", **out)
    with pytest.raises(ConfigurationError, match="one at least is needed"):
        api.predict_shards(detector, parts, workers=0, **out)
    with pytest.raises(ArtifactError, match="holds no model"):
        api.predict_shards(tmp_path, parts, **out)
    (tmp_path / "bad/rgb").mkdir(parents=True)
    (tmp_path / "bad/rgb/a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="None of the 1 parts could be evaluated"):
        api.predict_shards(detector, tmp_path / "bad", **out)

    def error(*words: str) -> str:
        called = ["predict", str(detector), str(parts), *words]
        return str(CliRunner().invoke(app, called).exception)

    assert "needs no workers" in error("--workers", "2", "--xyz", "a.tiff")
    assert "--heat-maps belong to results that are written in shards" in error("--heat-maps", "all")


@pytest.mark.timeout(300)
def test_the_command_judges_in_two_processes(recordings, classifier, tmp_path):
    api.predict(classifier, recordings, out=tmp_path / "plain", pictures=False)
    words = ["predict", *map(str, (classifier, recordings)), "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, [*words, "--workers", "2", "--no-pictures"])
    assert ended.exit_code == 3, ended.output  # one recording cannot be read
    assert rows(tmp_path / "out") == plain_rows(tmp_path / "plain", "diagnoses")
