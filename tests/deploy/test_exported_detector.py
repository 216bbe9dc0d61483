"""An exported detector says what the trained one says, refuses nonsense and needs no torch."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import chiasm.runtime
from chiasm.cli.main import app
from chiasm.deploy.detection import held_out_parts
from chiasm.deploy.detection_parity import Parity, require_parity
from chiasm.deploy.export import export
from chiasm.deploy.graph_files import operations
from chiasm.detection.decision import AlarmRule
from chiasm.detection.layers.image_score import ImageScoreRule, Term
from chiasm.detection.predictor import DetectionPredictor
from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError, DataError
from chiasm.files.images import read_rgb, read_xyz
from chiasm.metrics.calibration import conformal_p_value
from chiasm.runtime.deployment import read_deployment, write_deployment
from chiasm.runtime.engine import open_engine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def model(detector: Path):
    loaded = chiasm.runtime.load(detector, threads=2)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def pairs(parts: Path):
    return [
        (read_rgb(path), read_xyz(path.parents[1] / "xyz" / f"{path.stem}.tiff"))
        for path in sorted(parts.glob("test/*/rgb/*.png"))[:4]
    ]


def test_it_judges_as_the_trained_model_does(model, detector_run: Path, pairs):
    trained = DetectionPredictor.load(detector_run)
    for rgb, xyz in pairs:
        ours, theirs = trained(rgb, xyz), model(rgb, xyz)
        unit = max(1.0, trained.display_threshold)
        np.testing.assert_allclose(
            theirs.anomaly_map.scores, ours.anomaly_map.scores, atol=1e-4 * unit
        )
        np.testing.assert_array_equal(theirs.anomaly_map.foreground, ours.anomaly_map.foreground)
        assert theirs.defective == ours.defective
        assert theirs.p_value == ours.p_value
        assert theirs.notes == ours.notes


def test_it_says_as_the_trained_model_does_what_was_seen_otherwise(
    model, detector_run: Path, pairs
):
    trained = DetectionPredictor.load(detector_run)
    assert model.acquisition == trained.acquisition
    rgb, xyz = pairs[0]
    ours, theirs = (one(rgb, xyz * np.float32(1.5)) for one in (trained, model))
    assert theirs.notes == ours.notes
    assert any("farther from the camera" in note for note in theirs.notes)
    card = (model.folder / "MODEL_CARD.md").read_text()
    assert "## How the parts were seen" in card and "of the frame is looked at" in card


def test_the_graph_itself_decides(model, pairs):
    scores = np.array(model.deployment.calibration_scores)
    from chiasm.detection.preparation.prepare import prepare
    from chiasm.detection.readers.checked_sample import sample_from_arrays

    for rgb, xyz in pairs:
        part = prepare(sample_from_arrays(rgb, xyz), model.deployment.preparation)
        found = model.run_graph(part)
        expected = conformal_p_value(found["score"], scores)
        np.testing.assert_allclose(found["p_value"], expected, rtol=1e-6)
        assert found["defective"][0] == (expected[0] <= model.deployment.false_alarm_rate)


def test_threads_and_the_stream_of_parts_agree(model, pairs):
    alone = [model(*pair).score for pair in pairs] * 3
    streamed = [f.result().score for f in [model.submit(*pair) for pair in pairs * 3]]
    with ThreadPoolExecutor(4) as pool:
        together = [v.score for v in pool.map(lambda pair: model(*pair), pairs * 3)]
        beside = [v.score for v in pool.map(lambda pair: model.prepared(*pair)(), pairs * 3)]
    np.testing.assert_allclose(streamed, alone, rtol=1e-5)
    np.testing.assert_allclose(beside, streamed, rtol=1e-5)
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_it_reads_files(model, parts: Path, pairs):
    rgb = sorted(parts.glob("test/*/rgb/*.png"))[0]
    xyz = rgb.parents[1] / "xyz" / f"{rgb.stem}.tiff"
    verdict = model(rgb, xyz, source=str(rgb))
    assert verdict.score == pytest.approx(model(*pairs[0]).score)
    assert verdict.source == str(rgb)


def test_bad_input_is_told_in_words(model, pairs):
    rgb, xyz = pairs[0]
    faults = {
        "no geometry": (rgb, None),
        "no rgb": (None, xyz),
        "millimetres": (rgb, xyz * 1000),
        "in metres": (rgb, xyz / 1000),
        "outside": (rgb * 255, xyz),
        "points are missing": (rgb, np.zeros_like(xyz)),
        "missing": (rgb, np.full_like(xyz, np.nan)),
        "at least 16": (rgb[:1, :1], xyz[:1, :1]),
        "same pixels": (rgb[:50], xyz),
        "floating point, in metres": (rgb, (xyz * 1000).astype(np.uint16)),
        "neither": (None, None),
    }
    for word, (colour, points) in faults.items():
        with pytest.raises(DataError, match=word):
            model(colour, points)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator alone")
def test_what_a_part_needed_is_kept_for_the_next():
    code = """
import resource, sys
import numpy as np
from chiasm.runtime.engines import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def part():
    arrays = [np.ones(200_000, np.float32) for _ in range(8)]
for count in range(25):
    if count == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    part()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    fresh = {
        way: int(subprocess.check_output([sys.executable, "-c", code, way]))
        for way in ("kept", "given back")
    }
    assert 10 * fresh["kept"] < fresh["given back"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads their own priority")
def test_only_threads_of_streams_have_a_lower_priority(detector: Path):
    path = detector / "model.xml"
    tasks = Path("/proc/self/task")
    mine = os.getpriority(os.PRIO_PROCESS, 0)

    lower = min(mine + 10, 19)

    def threads_at_lower_priority(streams: int) -> int:
        before = set(tasks.iterdir())
        engine = open_engine(path, threads=2, batch=1, streams=streams)
        new = set(tasks.iterdir()) - before
        assert engine is not None and new
        return sum(os.getpriority(os.PRIO_PROCESS, int(task.name)) == lower for task in new)

    assert threads_at_lower_priority(streams=1) == 0
    assert threads_at_lower_priority(streams=2) >= 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine
    with ThreadPoolExecutor(1) as later:
        assert later.submit(os.getpriority, os.PRIO_PROCESS, 0).result() == mine


def test_priority_that_cannot_be_had_is_done_without(detector: Path, monkeypatch):
    def forbidden(*which: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    assert open_engine(detector / "model.xml", threads=2, streams=2, batch=1) is not None


def test_after_closing_it_refuses(detector: Path, pairs):
    model = chiasm.runtime.load(detector, threads=1)
    futures = [model.submit(*pairs[0]) for _ in range(3)]
    model.close()
    assert all(np.isfinite(future.result().score) for future in futures)
    with pytest.raises(ChiasmError, match="closed"):
        model.submit(*pairs[0])


def test_one_byte_changed_anywhere_is_refused(detector: Path, tmp_path: Path):
    for name in sorted(path.name for path in detector.iterdir()):
        folder = tmp_path / name
        shutil.copytree(detector, folder)
        content = bytearray((folder / name).read_bytes())
        digits = [i for i, byte in enumerate(content) if 48 <= byte < 57]
        content[digits[len(digits) // 2]] += 1
        (folder / name).write_bytes(bytes(content))
        with pytest.raises(ArtifactError, match="altered"):
            chiasm.runtime.load(folder)
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match=r"has no|not an exported"):
            chiasm.runtime.load(folder)


def test_a_new_calibration_decides_anew(detector: Path, pairs, tmp_path: Path):
    from dataclasses import replace

    shutil.copytree(detector, tmp_path / "copy")
    before = read_deployment(tmp_path / "copy")
    write_deployment(
        tmp_path / "copy", replace(before, calibration_scores=(0.0,) * 9, false_alarm_rate=0.1)
    )
    model = chiasm.runtime.load(tmp_path / "copy", threads=1)
    verdict = model(*pairs[0])
    assert (verdict.p_value, verdict.defective) == (0.1, True)
    assert model.model_hash == before.model_hash


def test_nothing_of_training_is_needed(detector: Path, parts: Path):
    rgb = sorted(parts.glob("test/*/rgb/*.png"))[0]
    xyz = rgb.parents[1] / "xyz" / f"{rgb.stem}.tiff"
    code = f"""
import sys
class Absent:
    names = {{"torch", "pandas", "lightning", "pydantic", "sklearn", "skimage", "yaml", "onnx"}}
    names |= {{"scipy", "imagecodecs", "matplotlib", "jinja2"}}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Absent())
import chiasm.runtime
model = chiasm.runtime.load({str(detector)!r}, threads=1)
print(model({str(rgb)!r}, {str(xyz)!r}).score)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0


def test_the_card_and_the_deployment_say_what_was_measured(detector: Path):
    card = (detector / "MODEL_CARD.md").read_text()
    deployment = read_deployment(detector)
    assert deployment.parity["exact"] is True
    assert deployment.parity["calibration_parts"] == len(deployment.calibration_scores) == 5
    for words in ("Intended use", "Limits", "on average at most 25 %", "flange", "8 good parts"):
        assert words in card
    assert {port.name for port in deployment.outputs} == {
        "anomaly_map",
        "score",
        "p_value",
        "defective",
    }


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_chosen_rule_of_the_image_s_score_is_in_the_graph(
    detector_run: Path, pairs, tmp_path: Path, to: str
):
    run = tmp_path / "run"
    shutil.copytree(detector_run, run, ignore=shutil.ignore_patterns("features", "checkpoints"))
    rule = ImageScoreRule(
        (Term("top_share", 0.02, 0.6), Term("local_mean", 1 / 48, 0.4)),
        link="softplus",
        background=0.9,
        usual_background=-1.0,
        usual_spread=0.8,
    )
    path = run / "model/contract.json"
    written = json.loads(path.read_text()) | {"image_score": asdict(rule)}
    path.write_text(json.dumps(written))
    trained = DetectionPredictor.load(run)
    parts = held_out_parts(run, trained.contract.preparation).calibration
    written["calibration_scores"] = sorted(trained.crop_scores(parts)[1].tolist())
    path.write_text(json.dumps(written))
    trained = DetectionPredictor.load(run)
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "o"), "--to", to])
    assert done.exit_code == 0, (done.output, done.exception)
    if to == "onnx":
        file = tmp_path / "o" / "model.onnx"
        assert str(Path(chiasm.__file__).parent).encode() not in file.read_bytes()
        graph = onnx.load(str(file))
        assert "BatchNormalization" not in operations(graph)
        # What it is, for programs that have the file alone; the threshold stands beside it.
        said = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
        described = json.loads((tmp_path / "o" / "deployment.json").read_text())
        facts = ("wing", "method", "modalities", "inputs", "outputs", "preparation", "geometry")
        for name in facts:
            assert said[f"chiasm.{name}"] == described[name]
        assert not {"chiasm.threshold", "chiasm.calibration_scores"} & said.keys()
    exported = chiasm.runtime.load(tmp_path / "o", threads=1)
    common = DetectionPredictor.load(detector_run)
    for pair in pairs:
        ours, theirs = trained(*pair), exported(*pair)
        assert theirs.score == pytest.approx(ours.score, rel=1e-3)
        assert (theirs.p_value, theirs.defective) == (ours.p_value, ours.defective)
        assert ours.score != pytest.approx(common(*pair).score, rel=1e-2)


def test_what_cannot_be_exported_is_told(detector_run: Path, tmp_path: Path):
    for words, settings in {
        "ONNX is written in fp32": {"to": "onnx", "precision": "int8"},
        "no format": {"to": "tensorrt"},
        "no precision": {"precision": "fp4"},
        "descriptors is too small": {"memory_entries": 2},
    }.items():
        with pytest.raises(ConfigurationError, match=words):
            export(detector_run, tmp_path / "x", **settings)
    with pytest.raises(ArtifactError, match="run's folder"):
        export(tmp_path, tmp_path / "x")
    with pytest.raises(ArtifactError, match=r"config\.yaml"):
        export(detector_run / "model", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"map_difference": 2e-4},
        {"map_difference_tied": 0.03},
        {"decisions_changed": 1},
        {"exact": False, "auroc": 0.98},
    ],
)
def test_a_model_beyond_the_limits_is_refused(change):
    figures = {
        "exact": True,
        "calibration_parts": 20,
        "anomalous_parts": 40,
        "map_difference": 1e-6,
        "map_difference_raw": 1e-5,
        "map_difference_tied": 0.01,
        "score_difference": 0.0,
        "decisions_changed": 0,
        "auroc": 0.99,
        "auroc_float32": 0.99,
        "alarms": 0.05,
        "false_alarm_rate": 0.05,
    }
    require_parity(Parity(**figures), target="x")
    with pytest.raises(ArtifactError, match="was not written"):
        require_parity(Parity(**(figures | change)), target="x")


@pytest.mark.parametrize(("cells", "written"), [(1, True), (40, False)])
def test_single_cells_may_fall_either_way_and_whole_maps_may_not(cells: int, written: bool):
    from chiasm.deploy.detection_parity import compare

    draw = np.random.default_rng(0)
    trained = [(draw.random((64, 64), np.float32), float(score)) for score in range(30)]
    exported = [(maps.copy(), score) for maps, score in trained]
    exported[3][0].ravel()[: 64 * cells] += 0.2
    rule = AlarmRule([score for _, score in trained[:20]], 0.05, None)
    parity = compare(trained, exported, normals=20, rule=rule, exact=True)
    assert parity.map_difference_tied == pytest.approx(0.2 / 19, rel=1e-3)
    if written:
        require_parity(parity, target="x")
    else:
        with pytest.raises(ArtifactError, match="maps differ"):
            require_parity(parity, target="x")


def test_a_graph_s_memory_says_what_the_memory_says(detector_run: Path, parts: Path):
    import torch

    from chiasm.deploy.detection_graph import GraphMemory

    memory = DetectionPredictor.load(detector_run).detector.source.memories["rgb"]
    draw = torch.Generator().manual_seed(0)
    features = {
        stride: torch.rand(2, count, 64 // stride, 64 // stride, generator=draw)
        for stride, count in memory.channels.items()
    }
    foreground = (torch.rand(2, 1, 64, 64, generator=draw) > 0.99).float()
    expected = memory(features, foreground)
    everything = GraphMemory(memory, entries=10_000, channels=memory.dimension)
    # All principal directions are a rotation, which leaves distances as they are.
    rotated = GraphMemory(memory, channels=memory.dimension - 1)
    for found in (everything(features, foreground), rotated(features, foreground)):
        for name in ("residual", "distance", "relative"):
            torch.testing.assert_close(
                getattr(found, name), getattr(expected, name), rtol=2e-3, atol=1e-4
            )
    few = GraphMemory(memory, entries=50, channels=16)
    assert len(few.bank.unique(dim=0)) == 50  # groups of one length hold some of them twice
    assert few.searched.shape == (16, 64)
    assert (few(features, foreground).distance >= expected.distance - 1e-4).all()


@pytest.mark.parametrize("cells", [0, 1, 31, 32, 127, 128, 129, 200])
def test_a_graph_s_memory_looks_at_the_object_alone(cells: int, detector_run: Path):
    import torch

    from chiasm.deploy.detection_graph import GraphMemory

    memory = DetectionPredictor.load(detector_run).detector.source.memories["rgb"]
    draw = torch.Generator().manual_seed(cells)
    features = {
        stride: torch.rand(2, count, 80 // stride, 80 // stride, generator=draw)
        for stride, count in memory.channels.items()
    }
    foreground = torch.zeros(2, 1, 10, 10)
    foreground.view(-1)[torch.randperm(200, generator=draw)[:cells]] = 1
    looked: list[int] = []
    graph = GraphMemory(memory, channels=16)
    nearest = graph._nearest
    graph._nearest = lambda *parts: looked.append(parts[0].shape[1]) or nearest(*parts)
    found = graph(features, foreground.repeat_interleave(8, 2).repeat_interleave(8, 3))
    assert sum(looked) - 128 <= cells < sum(looked)  # portions of 128 are filled up
    assert sum(looked) % 128 == 0
    for values in (found.residual, found.distance, found.relative):
        assert torch.isfinite(values).all()
        assert ((values != 0).any(dim=1, keepdim=True) <= (foreground > 0)).all()
    assert (found.distance > 0).sum() == cells


def test_an_axis_that_came_out_fixed_is_an_error(tmp_path: Path):
    import torch

    from chiasm.deploy.graph_files import write_onnx

    class Fixed(torch.nn.Module):
        def forward(self, *tensors):
            (x,) = tensors
            return x.reshape(len(x), -1).unflatten(0, (2, 1))

    with pytest.raises(ArtifactError, match="fixed length"):
        write_onnx(
            Fixed(),
            [torch.rand(2, 3)],
            tmp_path / "x.onnx",
            inputs=["x"],
            outputs=["y"],
            dynamic=[{0: torch.export.Dim("batch")}],
        )


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("--memory", "--memory-entries", "descriptors is too small"),
        ("--search", "--search-channels", "are too few to search in"),
    ],
)
def test_earlier_names_of_options_are_read_with_a_remark(tmp_path: Path, old, new, error):
    for name, remark in ((old, f"'{old}' is now called '{new}'"), (new, "")):
        done = CliRunner().invoke(app, ["export", "run", "--out", str(tmp_path), name, "4"])
        with pytest.raises(ConfigurationError, match=error):
            raise done.exception
        assert (remark in done.output) if remark else not done.output


def test_int8_is_written_with_its_own_calibration(detector_run: Path, tmp_path: Path, monkeypatch):
    # A detector of one epoch is hardly better than chance, and is not held to the limits here.
    monkeypatch.setattr("chiasm.deploy.detection_parity.AUROC_LIMIT", 1.0)
    done = export(detector_run, tmp_path / "q", precision="int8", search_channels=64)
    exact = DetectionPredictor.load(detector_run).contract.calibration_scores
    assert done.calibration_scores != exact
    assert json.loads((tmp_path / "q" / "deployment.json").read_text())["precision"] == "int8"
    graph = pytest.importorskip("openvino").Core().read_model(tmp_path / "q" / "model.xml")
    for kind in ("Convolution", "GroupConvolution"):
        held = [_kind_of_weights(n) for n in graph.get_ops() if n.get_type_name() == kind]
        assert held.count("i8") >= 0.9 * len(held) > 0


def _kind_of_weights(product) -> str:
    node = product.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node.get_element_type().get_type_name()
