"""Verdicts of the service at the plant's systems."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_service import Start, grey, plane, tiff

from chiasm.line.delivery import Delivery
from line_receiver import Receiver
from line_records import wait_until


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def outlets(tmp_path: Path, receiver: Receiver) -> Path:
    path = tmp_path / "outlets.yaml"
    path.write_text(
        f"outlets: [{{type: webhook, name: mes, url: '{receiver.url}', retry_s: 0.02}}]"
    )
    return path


def files(tmp_path: Path, share: float) -> dict[str, Any]:
    points = tiff(plane(), tmp_path / "xyz.tiff")
    return {"rgb": ("a.png", grey(share)), "xyz": ("a.tiff", points)}


def test_every_verdict_and_error_is_sent(
    start: Start, outlets: Path, receiver: Receiver, tmp_path: Path
):
    service = start(outlets=outlets, station="press")
    address = "/v1/models/gland/predict"
    answer = service.client.post(address, files=files(tmp_path, 0.99)).json()
    assert service.client.post(address, files={"xyz": ("a.tiff", b"x")}).status_code == 422
    series = {"series": ("s.csv", b"\n".join([b"500"] * 256))}
    said = service.client.post("/v1/models/gis/predict", files=series).json()
    wait_until(lambda: len(receiver.got) == 3)
    part, error, recording = receiver.got
    shared = ("id", "station", "source", "score", "p_value", "threshold", "model_hash")
    assert {name: part[name] for name in shared} == {name: answer[name] for name in shared}
    assert (part["decision"], part["alarm"]) == ("defective", answer["defective"])
    assert error["decision"] == "error" and error["error"] and error["score"] is None
    assert recording["decision"] == said["kind"] == "loud" and recording["alarm"] is None
    assert recording["probabilities"] == said["probabilities"]


def test_a_receiver_that_is_away_is_a_notice_and_gets_all_later(
    start: Start, outlets: Path, receiver: Receiver, tmp_path: Path
):
    receiver.status = 503
    service = start(outlets=outlets)
    for _ in range(3):
        service.client.post("/v1/models/gland/predict", files=files(tmp_path, 0.5))
    wait_until(lambda: service.client.get("/readyz").json()["notices"])
    (sentence,) = service.client.get("/v1/state").json()["notices"]
    assert "mes is away" in sentence and "503" in sentence
    (outlet,) = service.client.get("/v1/state").json()["outlets"]
    assert (outlet["state"], outlet["waiting"], outlet["kind"]) == ("failed", 3, "webhook")
    assert "503" in outlet["why"] and outlet["last_sent"] is None
    receiver.status = 204
    wait_until(lambda: len(receiver.got) == 3)
    wait_until(lambda: not service.client.get("/v1/state").json()["notices"])
    (outlet,) = service.client.get("/v1/state").json()["outlets"]
    assert (outlet["state"], outlet["sent"], outlet["why"]) == ("sent", 3, "")
    assert outlet["last_sent"]


def test_a_verdict_that_cannot_be_kept_is_not_given(
    start: Start, outlets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    service = start(outlets=outlets)

    def full(self: Delivery, record: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("chiasm.line.delivery.Channel.put", full)
    answer = service.client.post("/v1/models/gland/predict", files=files(tmp_path, 0.5))
    assert answer.status_code == 503
    assert "No space left" in answer.json()["error"]["message"]
