"""The service with the real runtime, and the examples of its OpenAPI description."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from functools import partial
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from exported import brightest, disc
from stub_service import TestClient, wait_until
from typer.testing import CliRunner

from chiasm.cli.main import app as command_line
from chiasm.runtime import load
from chiasm.service.app import build
from chiasm.service.schemas import PartVerdict, RecordingDiagnosis
from chiasm.service.settings import ServiceSettings

URL = "/v1/models/disc/predict"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    folder = brightest(root / "disc")
    settings = ServiceSettings(log=root / "log.sqlite", watch=0.0)
    with TestClient(build({"disc": folder}, settings, partial(load, threads=1))) as client:
        yield client


def sent(brightness: float = 0.5, *, unit: float = 1.0) -> dict[str, tuple[str, bytes]]:
    rgb, xyz = disc(brightness)
    points = io.BytesIO()
    tifffile.imwrite(points, xyz * np.float32(unit), photometric="minisblack",
                     planarconfig="contig")  # fmt: skip
    return {
        "rgb": ("disc.png", cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()),
        "xyz": ("disc.tiff", points.getvalue()),
    }


def test_the_service_answers_as_the_runtime(client: TestClient, root: Path):
    for brightness in (0.4, 0.9):
        answer = client.post(URL, files=sent(brightness)).json()
        rgb, xyz = disc(brightness)
        verdict = load(root / "disc")(rgb.astype(np.float32) / 255, xyz)
        assert answer["score"] == verdict.score
        assert answer["p_value"] == verdict.p_value
        assert answer["defective"] is bool(verdict.defective)
        scores = np.load(io.BytesIO(client.get(answer["links"]["map"]).content))
        np.testing.assert_array_equal(scores, verdict.anomaly_map.scores)
    assert answer["defective"] is True


def test_millimetres_are_recognised_and_refused(client: TestClient):
    answer = client.post(URL, files=sent(unit=1000.0))
    assert answer.status_code == 422
    assert "millimetres" in answer.json()["error"]["message"]


def test_a_small_image_a_missing_view_and_other_sizes_are_refused(client: TestClient):
    whole = sent()
    small = disc(0.5, size=4)[0]
    tiny = {**whole, "rgb": ("s.png", cv2.imencode(".png", small)[1].tobytes())}
    for files in (tiny, {"rgb": whole["rgb"]}, {"xyz": whole["xyz"]}):
        answer = client.post(URL, files=files)
        assert answer.status_code == 422, answer.text
        assert len(answer.json()["error"]["message"]) > 20


def test_corrections_move_the_threshold_of_a_running_service(tmp_path: Path):
    folder = brightest(tmp_path / "disc")
    log = tmp_path / "log.sqlite"
    settings = ServiceSettings(log=log, watch=0.02)
    with TestClient(build({"disc": folder}, settings, partial(load, threads=1))) as client:
        rates = []
        for brightness in np.linspace(0.5, 0.7, 30):
            verdict = client.post(URL, files=sent(float(brightness))).json()
            says = "false alarm" if verdict["defective"] else "right"
            client.post(f"/v1/verdicts/{verdict['id']}/correction", json={"says": says})
            rates.append(verdict["defective"])
        assert sum(rates) > 10
        before = client.get("/v1/models/disc").json()
        done = CliRunner().invoke(command_line, ["recalibrate", str(folder), "--log", str(log)])
        assert done.exit_code == 0, done.output
        wait_until(lambda: client.get("/v1/models/disc").json()["reloads"] > 0)
        after = client.get("/v1/models/disc").json()
        assert after["threshold"] > before["threshold"]
        assert after["model_hash"] == before["model_hash"]
        assert client.post(URL, files=sent(0.65)).json()["defective"] is False


def test_a_byte_changed_in_a_folder_is_refused_and_the_old_model_stays(tmp_path: Path):
    folder = brightest(tmp_path / "disc")
    settings = ServiceSettings(log=tmp_path / "log.sqlite", watch=0.0)
    with TestClient(build({"disc": folder}, settings, partial(load, threads=1))) as client:
        graph = folder / "model.onnx"
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        refused = client.post("/v1/models/disc/reload")
        assert refused.status_code == 409
        assert "altered" in refused.json()["error"]["message"]
        assert client.post(URL, files=sent()).status_code == 200
    started = CliRunner().invoke(
        command_line, ["serve", str(folder), "--log", str(tmp_path / "other.sqlite")]
    )
    assert started.exit_code != 0
    assert "altered" in str(started.exception)


def test_the_examples_are_answers_of_models(client: TestClient):
    stored = json.loads(resources("chiasm.service").joinpath("examples.json").read_text())
    answer = client.post(URL, files={**sent(0.65), "rgb": ("part_017.png", sent(0.65)["rgb"][1])})
    now = answer.json()
    if os.environ.get("CHIASM_WRITE_EXAMPLES"):
        stored["part"] = now
        path = Path(str(resources("chiasm.service").joinpath("examples.json")))
        path.write_text(json.dumps(stored, indent=1) + "\n")
    PartVerdict.model_validate(stored["part"])
    recording = RecordingDiagnosis.model_validate(stored["recording"])
    assert sum(recording.probabilities.values()) == pytest.approx(1)
    assert set(RecordingDiagnosis.model_fields) == set(stored["recording"])
    for name in ("model", "wing", "source", "defective", "false_alarm_rate", "confidence", "notes"):
        assert stored["part"][name] == now[name], name
    for name in ("score", "p_value", "threshold"):
        assert stored["part"][name] == pytest.approx(now[name], rel=1e-5), name
    moved = {
        k: v.replace(stored["part"]["id"], now["id"]) for k, v in stored["part"]["links"].items()
    }
    assert moved == now["links"]
    assert _shape(stored["part"]) == _shape(now)
    described = client.get("/openapi.json").json()["paths"]["/v1/models/{name}/predict"]["post"]
    shown = described["responses"]["200"]["content"]["application/json"]["examples"]
    # The description of the interface leaves nulls out.
    assert shown["part"]["value"] == {k: v for k, v in stored["part"].items() if v is not None}


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    return type(value).__name__
