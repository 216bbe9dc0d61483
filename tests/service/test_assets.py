"""Assets at the service: their trend from the log, alarms at the outlets, and who has seen them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_service import Loudest, RunningService, Start, wait_until

from chiasm.diagnosis.monitoring.alarms import AlarmRule
from chiasm.discharge import MeasuringSystem, Pulses, Quantities
from chiasm.line.record import json_schema
from chiasm.samples import Diagnosis, RecordingSample
from chiasm.service.assets.alarm_watch import AlarmWatch
from chiasm.service.assets.facts import facts_of
from chiasm.service.log.verdict_log import VerdictLog
from line_receiver import Receiver

DAY = "2024-05-{:02d}T10:00"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def send(service: RunningService, value: int, **fields: str) -> Any:
    """Send a recording whose class is loud above 100, else quiet; each has other values."""
    digits = "".join(letter for letter in fields.get("recorded", "") if letter.isdigit())
    salt = str(int(digits[4:8] or 0) % 44)
    series = "\n".join(["1"] * 254 + [salt, str(value)]).encode()
    return service.client.post(
        "/v1/models/gis/predict", files={"series": ("s.csv", series)}, data=fields
    )


def record(service: RunningService, asset: str, values: list[int]) -> None:
    for day, value in enumerate(values, start=1):
        said = send(service, value, asset=asset, recorded=DAY.format(day))
        assert said.status_code == 200, said.text


@pytest.fixture
def service(
    start: Start, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> RunningService:
    judge = Loudest.__call__

    def measured(self: Loudest, image: Any = None, series: Any = None, **settings: Any) -> Any:
        quantities = Quantities("uncalibrated", 1, 1.0, float(series.max()), rate_per_s=1.0)
        return replace(judge(self, image, series, **settings), quantities=quantities)

    monkeypatch.setattr(Loudest, "__call__", measured)
    path = tmp_path / "outlets.yaml"
    path.write_text(f"outlets: [{{type: webhook, url: '{receiver.url}', only: [trend]}}]")
    return start(outlets=path, station="bay 3")


def test_a_change_of_class_is_an_alarm_once_and_is_acknowledged(
    service: RunningService, receiver: Receiver, tmp_path: Path
):
    record(service, "T1", [50] * 10 + [200] * 4)
    record(service, "T2", [50] * 6)
    sent: list[Any] = []
    with_log = VerdictLog(tmp_path / "verdicts.sqlite", station="bay 3")
    watch = AlarmWatch(with_log, sent.append, AlarmRule(), every=1000.0)
    assert watch.look() + watch.look() == len(sent) == 1
    watch.close()
    again = AlarmWatch(with_log, sent.append, AlarmRule(), every=1000.0)
    assert again.look() == 0  # after a restart it is in the log
    again.close()
    with_log.close()
    (alarm,) = sent
    assert (alarm["decision"], alarm["source"], alarm["alarm"]) == ("trend", "T1", True)
    assert alarm["station"] == "bay 3" and "loud" in alarm["notes"][0]
    assert set(alarm) == set(json_schema()["required"])

    listed = service.client.get("/v1/assets").json()
    assert [one["asset"] for one in listed["assets"]] == ["T1", "T2"]
    first, second = listed["assets"]
    assert first["recordings"] == 14 and first["kind"] == "loud" and not second["alarms"]
    assert (
        first["alarms"][0]["id"] == alarm["id"] and first["alarms"][0]["since"][:10] == "2024-05-11"
    )
    address = f"/v1/alarms/{alarm['id']}/acknowledgement"
    assert service.client.post(address, json={"by": "Ada"}).json()["by"] == "Ada"
    seen = service.client.post(address, json={"by": "Bob"}).json()
    assert seen["by"] == "Ada" and seen["acknowledged"]
    assert service.client.post(f"/v1/alarms/{'0' * 32}/acknowledgement", json={}).status_code == 404


def test_the_trend_of_an_asset_is_that_of_its_rows(service: RunningService):
    record(service, "T1", [50] * 6)
    send(service, 50, asset="T1", recorded="2024-06-01", recorder="gain 2")
    found = service.client.get("/v1/assets/trend", params={"asset": "T1"}).json()
    assert [one["time"][:10] for one in found["observations"]] == [
        *(f"2024-05-0{day}" for day in range(1, 7)),
        "2024-06-01",
    ]
    assert {one["kind"] for one in found["observations"]} == {"quiet"}
    assert found["observations"][0]["quantities"] == {"charge_repeated": 50.0, "rate_per_s": 1.0}
    assert any("gain 2" in note for note in found["notes"])
    assert service.client.get("/v1/assets/trend", params={"asset": "x"}).status_code == 404
    assert service.client.get("/v1/assets", params={"station": "bay 4"}).json()["assets"] == []
    rows = service.client.get("/v1/verdicts").json()["verdicts"]
    assert {row["asset"] for row in rows} == {"T1"}
    assert "T1" in service.client.get("/v1/verdicts.csv").text


def test_a_calibration_factor_and_a_list_of_pulses_are_kept_for_the_trend():
    pulses = Pulses(np.array([90.0]), np.array([2.0]), np.array([0.1]))
    plain = RecordingSample(None, np.ones((1, 1280), np.float32), frequency=50.0)
    known = replace(plain, series=None, pulses=pulses, system=MeasuringSystem(charge_pc=10.0))
    said = Diagnosis("x", "quiet", {"quiet": 1.0}, quantities=None)
    kept = [json.loads(facts_of({"asset": "T1"}, s, said, 0.0)[1]) for s in (plain, known)]
    assert "pC" not in kept[0]["recorder"]
    assert "list of pulses, pC" in kept[1]["recorder"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"asset": "T1", "recorded": "03/04/2024"}, "2024-05-31"),
        ({"asset": "T1", "recorded": "yesterday"}, "2024-05-31"),
        ({"recorded": "2024-05-31"}, "asset"),
        ({"asset": "T" * 200}, "120"),
        ({"asset": "T\x07"}, "printable"),
    ],
)
def test_what_cannot_be_a_field_of_an_asset_is_refused(
    service: RunningService, fields: dict[str, str], word: str
):
    said = send(service, 50, **fields)
    assert said.status_code == 422 and word in said.json()["error"]["message"]


def test_the_service_looks_by_itself(
    start: Start, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chiasm.service.assets.alarm_watch.LOOKS_EVERY", 0.05)
    path = tmp_path / "outlets.yaml"
    path.write_text(f"outlets: [{{type: webhook, url: '{receiver.url}', only: [trend]}}]")
    service = start(outlets=path)
    record(service, "T1", [50] * 10 + [200] * 4)
    # The charges of this history may alarm before its class does.
    wait_until(lambda: any("from quiet to loud" in one["notes"][0] for one in list(receiver.got)))
    assert {one["source"] for one in receiver.got} == {"T1"}
