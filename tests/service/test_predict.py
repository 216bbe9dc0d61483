"""Requests that are answered: verdicts, diagnoses, pictures, the log and corrections."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from stub_service import RunningService, Start, grey, plane, png

URL = "/v1/models/gland/predict"


def test_files_become_a_verdict_that_is_logged(start: Start, part):
    service = start()
    answer = service.client.post(URL, files=part)
    assert answer.status_code == 200, answer.text
    verdict = answer.json()
    assert verdict["score"] == pytest.approx(20, abs=0.01)
    assert verdict["defective"] is False
    assert verdict["p_value"] == pytest.approx(0.81)
    assert verdict["threshold"] == 95.0
    row = service.client.get(f"/v1/verdicts/{verdict['id']}").json()
    for shared in ("score", "p_value", "model_hash", "source", "latency_ms", "time"):
        assert row[shared] == verdict[shared], shared
    assert row["decision"] == "good"


def test_arrays_depth_and_images_say_the_same(start: Start, part):
    client = start().client
    rgb = np.full((32, 32, 3), 51, np.uint8)

    def npy(array: np.ndarray) -> bytes:
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    camera = {"fx": "40", "fy": "40", "cx": "16", "cy": "16"}
    sent = [
        {"files": part},
        {"files": {"rgb": ("a.npy", npy(rgb)), "xyz": ("b.npy", npy(plane()))}},
        {"files": {"rgb": ("a.npy", npy(rgb.astype(np.float32) / 255)), "xyz": part["xyz"]}},
        {
            "files": {"rgb": part["rgb"], "depth": ("d.png", png(np.full((32, 32), 500, "u2")))},
            "data": camera,
        },
    ]
    scores = {client.post(URL, **request).json()["score"] for request in sent}
    assert len(scores) == 1


def test_pictures_and_points_are_those_of_the_part(start: Start, part):
    client = start().client
    links = client.post(URL, files=part).json()["links"]
    scores = np.load(io.BytesIO(client.get(links["map"]).content))
    assert scores.shape == (32, 32)
    heat = cv2.imdecode(
        np.frombuffer(client.get(links["heat_rgb"]).content, np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert heat.shape == (32, 32, 4)
    assert heat[..., 3].max() == 0  # far below the threshold: nothing is coloured
    ground = cv2.imdecode(
        np.frombuffer(client.get(links["rgb"]).content, np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert (ground == 51).all()
    cloud = np.frombuffer(client.get(links["points"]).content, "<f4").reshape(-1, 8)
    np.testing.assert_array_equal(cloud[:, :3], plane().reshape(-1, 3))
    np.testing.assert_allclose(cloud[:, 3], scores.ravel())
    np.testing.assert_allclose(cloud[:, 4:7], 0.2, atol=1e-6)
    assert not cloud[:, 7].any()
    assert client.get(links["rgb"].replace("rgb.png", "map.png?over=depth")).status_code == 200


def test_recordings_are_diagnosed(start: Start):
    client = start().client
    answer = client.post("/v1/models/gis/predict", files={"series": ("r.csv", b"1,2\n3,400\n")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["kind"] == "loud"
    assert answer.json()["conflict"] is None
    rows = client.get("/v1/verdicts", params={"decision": "loud"}).json()
    assert rows["total"] == 1
    assert rows["verdicts"][0]["score"] == 0.75


def test_the_log_filters_and_pages(start: Start, part):
    client = start().client
    for share in (0.1, 0.2, 0.99):
        client.post(URL, files={**part, "rgb": ("p.png", grey(share))})
    page = client.get("/v1/verdicts", params={"decision": "good", "limit": 1}).json()
    assert page["total"] == 2
    assert len(page["verdicts"]) == 1
    second = client.get("/v1/verdicts", params={"decision": "good", "limit": 1, "offset": 1}).json()
    assert second["verdicts"][0]["score"] < page["verdicts"][0]["score"]  # newest first
    assert client.get("/v1/verdicts", params={"model": "gis"}).json()["total"] == 0
    since = page["verdicts"][0]["time"]
    assert client.get("/v1/verdicts", params={"since": since}).json()["total"] == 2


def test_corrections_are_kept_and_must_not_contradict(start: Start, part):
    client = start().client
    bad = client.post(URL, files={**part, "rgb": ("p.png", grey(0.99))}).json()
    assert bad["defective"] is True
    url = f"/v1/verdicts/{bad['id']}/correction"
    refused = client.post(url, json={"says": "missed"})
    assert refused.status_code == 409
    assert "missed" in refused.json()["error"]["message"]
    done = client.post(url, json={"says": "false alarm", "by": "Ann"})
    assert done.json()["correction"]["says"] == "false alarm"
    client.post(url, json={"says": "right", "by": "Bo"})
    assert client.get(f"/v1/verdicts/{bad['id']}").json()["correction"]["by"] == "Bo"
    assert client.post(url, json={"says": "perhaps"}).status_code == 422
    assert client.post(url.replace(bad["id"], "0" * 32), json={"says": "right"}).status_code == 404


def test_the_models_say_what_they_are(start: Start):
    client = start().client
    gland, gis = client.get("/v1/models").json()
    assert gland["threshold"] == 95.0
    assert gland["confidence"] is None
    assert "with 90 % confidence at most" in gland["promise"]
    assert sum(gland["calibration"]["counts"]) == gland["calibration_count"] == 99
    assert gis["kinds"] == ["quiet", "loud"]
    assert gis["false_alarm_rate"] is None
    assert gis["promise"] == ""
    assert client.get("/v1/models/gland").json() == gland


def test_drift_is_told_apart_from_none(start: Start, part):
    client = start().client
    assert "too few" in client.get("/v1/models/gland/drift").json()["sentence"]
    for share in np.linspace(0.01, 0.99, 25):
        client.post(URL, files={**part, "rgb": ("p.png", grey(float(share)))})
    alike = client.get("/v1/models/gland/drift", params={"recent": 25}).json()
    assert alike["drifted"] is False
    assert sum(alike["recent_counts"]) == alike["recent"] == 25
    for _ in range(25):
        client.post(URL, files={**part, "rgb": ("p.png", grey(0.9))})
    moved = client.get("/v1/models/gland/drift", params={"recent": 25}).json()
    assert moved["drifted"] is True
    assert "higher" in moved["sentence"]


def test_health_readiness_and_metrics(start: Start, part):
    service: RunningService = start()
    assert all(model.warm for model in service.loaded)
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json()["models"] == ["gland", "gis"]
    service.client.post(URL, files=part)
    text = service.client.get("/metrics").text
    assert 'chiasm_verdicts_total{decision="good",model="gland"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert "chiasm_queue_depth 0.0" in text
    assert 'route="/v1/models/{name}/predict",status="200"' in text


def test_a_diagnosis_has_quantities_severity_and_a_picture(start: Start, part):
    service = start()
    series = np.zeros((1, 12_800), np.float32)
    series[0, 32::128] = 400
    stream = io.BytesIO()
    np.save(stream, series)
    files = {"series": ("r.npy", stream.getvalue())}
    url = "/v1/models/gis/predict"
    plain = service.client.post(url, files=files).json()
    assert plain["quantities"]["charge_largest_uncalibrated"] == 400
    assert plain["severity"]["level"] == "medium" and plain["sources"] == []
    answer = service.client.post(url, files=files, data={"charge": "10", "frequency": "50"}).json()
    assert answer["quantities"]["charge_largest_pc"] == 4000
    assert answer["quantities"]["rate_per_s"] == 50
    assert answer["severity"]["level"] == "high" and "pC" in answer["severity"]["reasons"][0]
    picture = service.client.get(answer["links"]["pattern"], params={"theme": "dark"})
    assert picture.headers["content-type"] == "image/png"
    pixels = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape[1] == 960 and pixels[5, 5].max() < 40
    verdict = service.client.post(URL, files=part).json()["id"]
    assert service.client.get(f"/v1/verdicts/{verdict}/pattern.png").status_code == 404
    assert service.client.get(f"/v1/verdicts/{answer['id']}/map.png").status_code == 404
