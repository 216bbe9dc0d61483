"""A threshold that is changed by HTTP: shown before, for administrators alone, and adopted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from exported import NORMALS, brightest
from stub_service import TestClient

from chiasm.metrics.calibration import conformal_threshold
from chiasm.runtime import load
from chiasm.runtime.deployment import read_deployment
from chiasm.service.app import build
from chiasm.service.settings import ServiceSettings

READER, ADMIN = {"X-API-Key": "reader-0123456789ab"}, {"X-API-Key": "admin-0123456789ab"}
URL = "/v1/models/disc/threshold"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return brightest(tmp_path / "disc")


@pytest.fixture
def client(folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = ServiceSettings(
        log=tmp_path / "log.sqlite",
        watch=0.0,
        api_keys=(READER["X-API-Key"],),
        admin_keys=(ADMIN["X-API-Key"],),
    )
    with TestClient(build({"disc": folder}, settings, partial(load, threads=1))) as client:
        yield client


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("confidence", [None, 0.9])
def test_what_is_shown_before_is_what_a_change_brings(client, folder: Path, confidence):
    asked: dict[str, Any] = {"false_alarm_rate": 0.1, "confidence": confidence}
    before = files(folder)
    given = {name: value for name, value in asked.items() if value is not None}
    shown = client.get(URL, params=given, headers=ADMIN).json()
    expected = conformal_threshold(NORMALS, 0.1, confidence)
    assert shown["after"]["threshold"] == expected != shown["before"]["threshold"]
    assert shown["may_change"] and shown["recent"] == 0 and files(folder) == before
    changed = client.post(URL, json=asked, headers=ADMIN)
    assert changed.status_code == 200
    assert changed.json()["threshold"] == expected
    assert changed.json()["promise"] == shown["after"]["promise"]
    assert client.get("/v1/models/disc", headers=READER).json()["threshold"] == expected
    assert read_deployment(folder).alarm_rule.threshold == expected
    assert any("until" in path.name for path in folder.iterdir())


def test_recent_alarms_are_counted_by_both_thresholds(client, monkeypatch: pytest.MonkeyPatch):
    from chiasm.service.log.verdict_log import VerdictLog

    scores = [0.1, 0.55, 0.585, 0.599, 0.7]
    monkeypatch.setattr(VerdictLog, "recent_scores", lambda *arguments: scores)
    shown = client.get(URL, params={"false_alarm_rate": 0.02}, headers=READER).json()
    counted = [
        sum(score > shown[side]["threshold"] for score in scores) for side in ("before", "after")
    ]
    assert [shown["alarms_before"], shown["alarms_after"]] == counted == [3, 2]
    assert shown["recent"] == 5 and not shown["may_change"]


@pytest.mark.parametrize(
    ("asked", "headers", "status", "words"),
    [
        ({"false_alarm_rate": 0.1}, READER, 403, "administrator"),
        ({"false_alarm_rate": 0.1}, {}, 401, "X-API-Key"),
        ({"false_alarm_rate": 0.001}, ADMIN, 422, "needs at least 999"),
        ({"false_alarm_rate": 1.0}, ADMIN, 422, "false_alarm_rate"),
        ({"false_alarm_rate": 0.1, "threshold": 3}, ADMIN, 422, "threshold"),
    ],
)
def test_what_must_not_be_changes_nothing(client, folder: Path, asked, headers, status, words):
    before = files(folder)
    refused = client.post(URL, json=asked, headers=headers)
    assert refused.status_code == status and words in refused.json()["error"]["message"]
    assert files(folder) == before


def test_without_keys_of_administrators_nobody_changes_it(folder: Path, tmp_path: Path):
    settings = ServiceSettings(log=tmp_path / "log.sqlite", watch=0.0)
    with TestClient(build({"disc": folder}, settings, partial(load, threads=1))) as client:
        assert client.get(URL).json()["may_change"] is False
        refused = client.post(URL, json={"false_alarm_rate": 0.1})
    assert refused.status_code == 403 and "--admin-key-file" in refused.json()["error"]["message"]
