"""Several services share models and a log: what they see of each other, and requests sent again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer
from stub_service import NORMALS, MeanBrightness, Start, TestClient, grey, wait_until

from chiasm.errors import ConfigurationError
from chiasm.service.app import build
from chiasm.service.log import verdict_log
from chiasm.service.log.replicas import LISTED, SILENT_AFTER, Replica, ServedModel, differences
from chiasm.service.settings import ServiceSettings, spool_folder

URL = "/v1/models/gland/predict"
KEY = "0123456789abcdef" * 2
NOW = 1_000_000.0
MODEL = ServedModel("f" * 64, "c0ffee00", 0.5)
Serve = Callable[..., TestClient]


def replica(name: str, **fields: Any) -> Replica:
    values: dict[str, Any] = {
        "station": "", "started": NOW - 99, "seen": NOW - 1, "clock_offset": 0.0,
        "chiasm": "1", "keep_days": 90.0, "waiting": 0, "models": {"gland": MODEL},
    }  # fmt: skip
    return Replica(name, **{**values, **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"models": {"gland": replace(MODEL, model_hash="e" * 64)}},
            ["2 versions", "eeeeeeeeeeee at b"],
        ),
        (
            {"models": {"gland": replace(MODEL, calibration="1", threshold=0.75)}},
            ["2 calibrations", "threshold 0.75"],
        ),
        ({"keep_days": 7.0}, ["7 days at b", "90 days at a"]),
        ({"clock_offset": -3601.0}, ["clock of b is 60 min behind"]),
        ({"clock_offset": 5.0}, ["clock of b is 5 s ahead of"]),
        ({"seen": NOW - 60, "station": "press"}, ["press (b) has not reported for 60 s"]),
    ],
)  # fmt: skip
def test_what_differs_is_said_in_one_sentence(fields: dict[str, Any], words: list[str]):
    said = differences([replica("a"), replica("b", **fields)], NOW)
    assert len(said) == 1
    assert all(word in said[0] for word in words), said


def test_services_that_are_alike_or_long_gone_are_not_remarked_on():
    other = {"gis": MODEL}
    gone = replica("c", seen=NOW - LISTED - 1, keep_days=1.0)
    slow = replica("d", seen=NOW - SILENT_AFTER + 1)
    assert differences([replica("a"), replica("b", models=other), gone, slow], NOW) == []


@pytest.fixture
def serve(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serve]:
    """Start services that share a database, and a model folder if none is named."""
    monkeypatch.setattr(verdict_log, "LOOKS_EVERY", 0.02)
    address = postgres.new_log()
    with ExitStack() as running:

        def begin(
            station: str, *, folder: str = "gland", scores: Any = NORMALS, **settings: Any
        ) -> TestClient:
            model = tmp_path / folder
            model.mkdir(exist_ok=True)
            if not (model / "deployment.json").exists():
                (model / "deployment.json").write_text(json.dumps({"scores": scores}))
            service = ServiceSettings(
                log=address, spool=tmp_path / "spool", station=station,
                **{"replica": f"{station}:8000", "watch": 0.02, **settings},
            )  # fmt: skip
            client = TestClient(build({"gland": model}, service, MeanBrightness))
            return running.enter_context(client)

        yield begin


def state_of(service: TestClient) -> dict[str, Any]:
    return service.get("/v1/state").json()


def test_every_service_shows_the_verdicts_of_all(serve: Serve, part: Any):
    left, right = serve("left"), serve("right")
    sent = {one.post(URL, files=part).json()["id"]: one for one in (left, right, left)}
    assert len(sent) == 3
    for service in (left, right):
        page = service.get("/v1/verdicts").json()
        assert {entry["id"] for entry in page["verdicts"]} == set(sent)
        assert page["total"] == 3
        assert service.get("/v1/verdicts?station=left").json()["total"] == 2
        assert service.get("/v1/models/gland/drift").json()["recent"] == 3
        assert service.get("/v1/models/gland/drift?station=right").json()["recent"] == 1
        wait_until(lambda service=service: len(state_of(service)["services"]) == 2)
        state = state_of(service)
        assert state["stations"] == ["left", "right"]
        assert state["notices"] == []
    said = right.post(f"/v1/verdicts/{next(iter(sent))}/correction", json={"says": "right"})
    assert said.status_code == 200
    assert left.get(f"/v1/verdicts/{next(iter(sent))}").json()["correction"]["says"] == "right"


def test_different_versions_are_seen_at_both_and_noted_in_each_verdict(serve: Serve, part: Any):
    left, right = serve("left"), serve("right", folder="other", scores=(1.0, *NORMALS))
    answers = {one: one.post(URL, files=part).json() for one in (left, right)}
    hashes = [answers[one]["model_hash"] for one in (left, right)]
    assert hashes[0] != hashes[1]
    for service in (left, right):
        wait_until(lambda service=service: bool(state_of(service)["notices"]))
        assert "gland is served in 2 versions" in state_of(service)["notices"][0]
        assert service.get("/readyz").json()["notices"] == 1
        for answer in answers.values():
            logged = service.get(f"/v1/verdicts/{answer['id']}").json()
            assert logged["model_hash"] == answer["model_hash"]
            assert logged["station"] == answer["station"]


def test_a_new_calibration_of_a_shared_folder_reaches_all(serve: Serve, tmp_path: Path):
    services = [serve("left"), serve("right")]
    (tmp_path / "gland" / "deployment.json").write_text(json.dumps({"scores": [2.0, *NORMALS]}))
    for service in services:
        wait_until(
            lambda service=service: (
                service.get("/v1/models/gland").json()["calibration_count"] == 100
            )
        )
    wait_until(lambda: not any(state_of(service)["notices"] for service in services))


def test_a_service_that_ends_in_order_is_not_missed(serve: Serve):
    left = serve("left")
    right = serve("right")
    wait_until(lambda: len(state_of(left)["services"]) == 2)
    right.__exit__(None, None, None)
    wait_until(lambda: len(state_of(left)["services"]) == 1)
    assert state_of(left)["notices"] == []


def test_two_services_of_one_name_are_noticed(serve: Serve):
    services = [serve("left"), serve("left")]
    wait_until(
        lambda: any("under the name" in "".join(state_of(one)["notices"]) for one in services)
    )


def test_a_request_that_is_sent_again_elsewhere_has_one_verdict(serve: Serve, part: Any):
    left, right = serve("left"), serve("right")
    key = {"Idempotency-Key": KEY}
    assert left.post(URL, files=part, headers=key).json()["id"] == KEY
    again = right.post(URL, files=part, headers=key).json()
    assert again["id"] == KEY
    page = left.get("/v1/verdicts").json()
    assert page["total"] == 1
    # The answer that the client has is the one in the log.
    assert page["verdicts"][0]["station"] == again["station"] == "right"
    assert right.get(f"/v1/verdicts/{KEY}/map.npy").status_code == 200


def test_a_key_of_another_part_is_refused_and_its_pictures_stay(start: Start, part: Any):
    service = start()
    key = {"Idempotency-Key": "01234567-89AB-CDEF-0123-456789abcdef"}
    first = service.client.post(URL, files=part, headers=key).json()
    assert first["id"] == KEY
    picture = service.client.get(f"/v1/verdicts/{KEY}/map.npy").content
    other = {**part, "rgb": ("other.png", grey(0.9))}
    refused = service.client.post(URL, files=other, headers=key)
    assert refused.status_code == 409
    assert "a key of its own" in refused.json()["error"]["message"]
    assert service.client.get(f"/v1/verdicts/{KEY}/map.npy").content == picture
    assert service.client.get("/v1/verdicts").json()["total"] == 1


@pytest.mark.parametrize("key", ["", "short", KEY + "0", "g" * 32])
def test_a_key_of_another_form_is_refused(start: Start, part: Any, key: str):
    refused = start().client.post(URL, files=part, headers={"Idempotency-Key": key})
    assert refused.status_code == 422
    assert "32 hexadecimal digits" in refused.json()["error"]["message"]


def test_names_and_folders_of_a_station(tmp_path: Path):
    assert spool_folder(ServiceSettings(log=tmp_path / "a.sqlite")) == tmp_path / "a.sqlite.spool"
    assert spool_folder(ServiceSettings(spool=tmp_path)) == tmp_path
    for station in (" x", "x\n", "x" * 65):
        with pytest.raises(ConfigurationError, match="station"):
            ServiceSettings(station=station)
