"""A bounded queue, bounded bodies, bounded time, keys; and models that change while they work."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from foretold import NORMALS, Bench, Start, grey, wait_until

URL = "/v1/models/gland/predict"


def depth_of(bench: Bench) -> float:
    lines = bench.client.get("/metrics").text.splitlines()
    return float(next(x for x in lines if x.startswith("chiasm_queue_depth ")).split()[1])


def hold(bench: Bench) -> threading.Event:
    """Make the detector wait until the event is set."""
    bench.loaded[0].gate = threading.Event()
    return bench.loaded[0].gate


def test_a_full_queue_says_when_to_come_again_and_loses_nothing(start: Start, part):
    bench = start(queue=3, threads=1)
    gate = hold(bench)
    with ThreadPoolExecutor(3) as clients:
        sent = [clients.submit(bench.client.post, URL, files=part) for _ in range(3)]
        wait_until(lambda: depth_of(bench) == 3)
        refused = bench.client.post(URL, files=part)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "busy"
        gate.set()
        assert [one.result().status_code for one in sent] == [200] * 3
    assert depth_of(bench) == 0
    assert bench.client.post(URL, files=part).status_code == 200


def test_who_waits_too_long_is_told_and_the_place_stays_taken(start: Start, part):
    bench = start(queue=2, threads=1, timeout=0.3)
    gate = hold(bench)
    late = bench.client.post(URL, files=part)
    assert late.status_code == 504
    assert depth_of(bench) == 1  # the work itself has not ended
    gate.set()
    wait_until(lambda: depth_of(bench) == 0)
    wait_until(lambda: bench.client.get("/v1/verdicts").json()["total"] == 1)


def test_large_bodies_are_refused_while_they_are_read(start: Start, part):
    bench = start(max_mb=0.25)
    large = {**part, "rgb": ("p.png", grey(0.2) + bytes(2**20))}
    answer = bench.client.post(URL, files=large)
    assert answer.status_code == 413
    assert "0.25 MB" in answer.json()["error"]["message"]

    def chunks():  # no Content-Length
        for _ in range(64):
            yield bytes(2**14)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert bench.client.post(URL, content=chunks(), headers=kind).status_code == 413
    url = "/v1/verdicts/" + "0" * 32 + "/correction"
    said = json.dumps({"says": "right", "by": "x" * 2**19})
    assert bench.client.post(url, content=said).status_code == 413
    assert bench.client.post(URL, files=part).status_code == 200
    assert bench.loaded[0].calls == 1


def test_waiting_bodies_hold_no_more_than_their_share(start: Start):
    from chiasm.service.admission import Admission
    from chiasm.service.refusals import Refusal

    admission = Admission(places=8, held_bytes=100, workers=1)
    one, two = admission.enter(), admission.enter()
    one.hold(60)
    with pytest.raises(Refusal, match="busy"):
        two.hold(60)
    two.leave()
    one.leave()
    one.leave()  # twice is once
    assert admission.depth == 0
    admission.enter().hold(100)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What requests are said to have taken, in the order in which they end."""
    from chiasm.service.admission import Admission

    found: list[float | None] = []
    leave = Admission.leave

    def noted(self: Admission, held: int, seconds: float | None) -> None:
        found.append(seconds)
        leave(self, held, seconds)

    monkeypatch.setattr(Admission, "leave", noted)
    return found


def test_time_in_the_queue_is_no_work(start: Start, part, measured: list[float | None]):
    bench = start(queue=4, threads=1)
    gate = hold(bench)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as clients:
        sent = [clients.submit(bench.client.post, URL, files=part) for _ in range(4)]
        wait_until(lambda: depth_of(bench) == 4 and bench.loaded[0].calls == 2)
        wait_until(lambda: time.monotonic() - began > 1)
        released = time.monotonic()
        gate.set()
        assert [one.result().status_code for one in sent] == [200] * 4
    wait_until(lambda: len(measured) == 4)
    # Two are judged at a time; the others came while those were held, and were worked on after.
    assert sorted(measured)[1] < time.monotonic() - released


def test_work_that_nobody_waited_for_is_not_counted(
    start: Start, part, measured: list[float | None]
):
    bench = start(queue=4, threads=1, timeout=0.3)
    gate = hold(bench)
    with ThreadPoolExecutor(4) as clients:  # the fourth never begins
        late = [clients.submit(bench.client.post, URL, files=part) for _ in range(4)]
        assert [one.result().status_code for one in late] == [504] * 4
    gate.set()
    wait_until(lambda: depth_of(bench) == 0)
    assert measured == [None] * 4


def test_when_to_come_again_is_how_long_the_queue_takes():
    from chiasm.service.admission import Admission
    from chiasm.service.refusals import Refusal

    admission = Admission(places=12, held_bytes=100, workers=3)
    for _ in range(200):
        admission.enter().leave(2.0)
    admission.enter().leave()
    for _ in range(12):
        admission.enter()
    with pytest.raises(Refusal) as full:
        admission.enter()
    assert full.value.retry_after == 8  # twelve of two seconds, three at a time


def test_every_answer_has_the_headers_that_protect_the_page(start: Start, part, monkeypatch):
    bench = start()

    def fails(*views: object, **more: object) -> None:
        raise ZeroDivisionError

    found = {
        bench.client.get(address).status_code: bench.client.get(address)
        for address in ("/healthz", "/v1/nothing", "/v1/verdicts?limit=0")
    }
    monkeypatch.setattr(bench.loaded[0], "prepared", fails)
    found[500] = bench.client.post(URL, files=part)
    assert set(found) == {200, 404, 422, 500}
    assert found[500].status_code == 500
    for answer in found.values():
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert found[500].headers["cache-control"] == "no-store"


def test_a_key_is_asked_for_where_there_are_keys(start: Start, part):
    client = start(api_keys=("first-key-of-sixteen", "second-key-of-sixteen")).client
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": "first-key-of-sixteen "[:-2]}):
        refused = client.post(URL, files=part, headers=headers)
        assert refused.status_code == 401
        assert "X-API-Key" in refused.json()["error"]["message"]
    assert client.get("/v1/verdicts").status_code == 401
    for free in ("/healthz", "/readyz", "/metrics", "/"):
        assert client.get(free).status_code == 200
    key = {"X-API-Key": "second-key-of-sixteen"}
    assert client.post(URL, files=part, headers=key).status_code == 200


def test_a_new_version_takes_over_and_the_old_one_ends_its_work(start: Start, part):
    bench = start()
    old = bench.loaded[0]
    gate = hold(bench)
    with ThreadPoolExecutor(1) as clients:
        sent = clients.submit(bench.client.post, URL, files=part)
        wait_until(lambda: old.calls == 1)
        (bench.folders["gland"] / "deployment.json").write_text(json.dumps({"scores": [1.0] * 99}))
        assert bench.client.post("/v1/models/gland/reload").json()["reloads"] == 1
        new = bench.loaded[-1]
        assert new.warm
        assert new is not old
        assert not old.closed  # someone still waits for it
        assert bench.client.post(URL, files=part).json()["model_hash"] == new.model_hash
        gate.set()
        assert sent.result().json()["model_hash"] == old.model_hash
    assert old.closed
    assert not new.closed


def test_a_written_folder_is_seen_and_a_broken_one_changes_nothing(start: Start, part):
    bench = start(watch=0.02)
    path = bench.folders["gland"] / "deployment.json"
    path.write_text("{broken")
    refused = bench.client.post("/v1/models/gland/reload")
    assert refused.status_code == 409
    assert "altered" in refused.json()["error"]["message"]
    assert bench.client.post(URL, files=part).status_code == 200
    path.write_text(json.dumps({"scores": [2.0, *NORMALS]}))
    wait_until(lambda: bench.client.get("/v1/models/gland").json()["calibration_count"] == 100)


def test_no_request_is_lost_while_models_change(start: Start, part):
    bench = start(threads=2)
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            assert bench.client.post("/v1/models/gland/reload").status_code == 200

    with ThreadPoolExecutor(4) as clients:
        changing = clients.submit(change)
        sent = [clients.submit(bench.client.post, URL, files=part) for _ in range(60)]
        found = [one.result().status_code for one in sent]
        ended.set()
        changing.result()
    assert found == [200] * 60
    assert bench.client.get("/v1/verdicts").json()["total"] == 60
    gland = [one for one in bench.loaded if one.wing == "detector"]
    assert len(gland) > 2
    assert [one.closed for one in gland] == [True] * (len(gland) - 1) + [False]
