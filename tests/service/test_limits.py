"""Limits of queue, bodies and time; keys; and models that change while they work."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from stub_service import NORMALS, RunningService, Start, grey, wait_until

from chiasm.service.admission import Admission
from chiasm.service.refusals import Refusal

URL = "/v1/models/gland/predict"
Files = dict[str, tuple[str, bytes]]


def depth_of(service: RunningService) -> float:
    lines = service.client.get("/metrics").text.splitlines()
    return float(next(x for x in lines if x.startswith("chiasm_queue_depth ")).split()[1])


def hold(service: RunningService) -> threading.Event:
    """Make the detector wait until the event is set."""
    release = service.loaded[0].release = threading.Event()
    return release


def post_all(
    service: RunningService, clients: ThreadPoolExecutor, part: Files, count: int
) -> list[Future[int]]:
    """Send a part several times at once; statuses of the answers."""
    return [
        clients.submit(lambda: service.client.post(URL, files=part).status_code)
        for _ in range(count)
    ]


def test_a_full_queue_says_when_to_retry_and_loses_nothing(start: Start, part):
    service = start(queue=3, threads=1)
    release = hold(service)
    with ThreadPoolExecutor(3) as clients:
        sent = post_all(service, clients, part, 3)
        wait_until(lambda: depth_of(service) == 3)
        refused = service.client.post(URL, files=part)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "busy"
        release.set()
        assert [status.result() for status in sent] == [200] * 3
    assert depth_of(service) == 0
    assert service.client.post(URL, files=part).status_code == 200


def test_a_late_verdict_is_refused_and_its_slot_stays_taken(start: Start, part):
    service = start(queue=2, threads=1, timeout=0.3)
    release = hold(service)
    late = service.client.post(URL, files=part)
    assert late.status_code == 504
    assert depth_of(service) == 1  # the work itself has not ended
    release.set()
    wait_until(lambda: depth_of(service) == 0)
    wait_until(lambda: service.client.get("/v1/verdicts").json()["total"] == 1)


def test_large_bodies_are_refused_while_they_are_read(start: Start, part):
    service = start(max_mb=0.25)
    large = {**part, "rgb": ("p.png", grey(0.2) + bytes(2**20))}
    answer = service.client.post(URL, files=large)
    assert answer.status_code == 413
    assert "0.25 MB" in answer.json()["error"]["message"]

    def chunks():  # no Content-Length
        for _ in range(64):
            yield bytes(2**14)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert service.client.post(URL, content=chunks(), headers=kind).status_code == 413
    url = "/v1/verdicts/" + "0" * 32 + "/correction"
    correction = json.dumps({"says": "right", "by": "x" * 2**19})
    assert service.client.post(url, content=correction).status_code == 413
    assert service.client.post(URL, files=part).status_code == 200
    assert service.loaded[0].calls == 1


def test_waiting_bodies_hold_no_more_than_their_share():
    admission = Admission(slots=8, held_bytes=100, workers=1)
    first, second = admission.enter(), admission.enter()
    first.hold(60)
    with pytest.raises(Refusal, match="busy"):
        second.hold(60)
    second.leave()
    first.leave()
    first.leave()  # without effect
    assert admission.depth == 0
    admission.enter().hold(100)


def test_two_more_than_threads_are_worked_on_at_a_time(start: Start, part):
    service = start(threads=2)
    release, called = hold(service), service.loaded[0].called
    with ThreadPoolExecutor(6) as clients:
        sent = post_all(service, clients, part, 6)
        assert all(called.acquire(timeout=20) for _ in range(4))
        wait_until(lambda: depth_of(service) == 6)
        assert not called.acquire(timeout=0.2)
        release.set()
        assert [status.result() for status in sent] == [200] * 6


@pytest.mark.parametrize(("threads", "room"), [(1, 1), (2, 1), (4, 2)])
def test_preparation_is_limited_and_others_are_scored_meanwhile(
    start: Start, part, threads: int, room: int
):
    service = start(threads=threads)
    model = service.loaded[0]
    model.release = threading.Event()
    fits, exceeds = threading.Barrier(room), threading.Barrier(room + 1)

    def prepare() -> None:
        with pytest.raises(threading.BrokenBarrierError):
            exceeds.wait(0.2)
        fits.wait(20)

    model.before_prepare = prepare
    with ThreadPoolExecutor(6) as clients:
        sent = post_all(service, clients, part, 6)
        # Two are scored at a time while the next ones are prepared.
        assert all(model.called.acquire(timeout=20) for _ in range(2))
        model.release.set()
        assert [status.result() for status in sent] == [200] * 6


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Working times of the requests, in the order in which they end."""
    times: list[float | None] = []
    leave = Admission.leave

    def record(self: Admission, held: int, seconds: float | None) -> None:
        times.append(seconds)
        leave(self, held, seconds)

    monkeypatch.setattr(Admission, "leave", record)
    return times


def test_time_in_the_queue_is_not_counted(start: Start, part, measured: list[float | None]):
    service = start(queue=5, threads=1)
    release = hold(service)
    with ThreadPoolExecutor(5) as clients:
        sent = post_all(service, clients, part, 5)
        wait_until(lambda: depth_of(service) == 5 and service.loaded[0].calls == 3)
        released = time.monotonic()
        release.set()
        assert [status.result() for status in sent] == [200] * 5
    wait_until(lambda: len(measured) == 5)
    # Three are worked on at a time: the other two waited before the release and worked after it.
    assert sorted(measured)[1] < time.monotonic() - released


def test_work_of_late_verdicts_is_not_counted(start: Start, part, measured: list[float | None]):
    service = start(queue=4, threads=1, timeout=0.3)
    release = hold(service)
    with ThreadPoolExecutor(4) as clients:  # the fourth never starts
        late = post_all(service, clients, part, 4)
        assert [status.result() for status in late] == [504] * 4
    release.set()
    wait_until(lambda: depth_of(service) == 0)
    assert measured == [None] * 4


def test_the_time_to_retry_is_that_of_the_queue():
    admission = Admission(slots=12, held_bytes=100, workers=3)
    for _ in range(200):
        admission.enter().leave(2.0)
    admission.enter().leave()
    for _ in range(12):
        admission.enter()
    with pytest.raises(Refusal) as full:
        admission.enter()
    assert full.value.retry_after == 8  # twelve requests of two seconds, three at a time


def test_every_answer_has_the_headers_that_protect_the_page(start: Start, part):
    service = start()

    def fail() -> None:
        raise ZeroDivisionError

    service.loaded[0].before_prepare = fail
    answers = [service.client.get(x) for x in ("/healthz", "/v1/nothing", "/v1/verdicts?limit=0")]
    answers.append(service.client.post(URL, files=part))
    assert [answer.status_code for answer in answers] == [200, 404, 422, 500]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answers[-1].headers["cache-control"] == "no-store"


def test_a_key_is_required_if_there_are_keys(start: Start, part):
    client = start(api_keys=("first-key-of-sixteen", "second-key-of-sixteen")).client
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": "first-key-of-sixteen "[:-2]}):
        refused = client.post(URL, files=part, headers=headers)
        assert refused.status_code == 401
        assert "X-API-Key" in refused.json()["error"]["message"]
    assert client.get("/v1/verdicts").status_code == 401
    for open_path in ("/healthz", "/readyz", "/metrics", "/"):
        assert client.get(open_path).status_code == 200
    key = {"X-API-Key": "second-key-of-sixteen"}
    assert client.post(URL, files=part, headers=key).status_code == 200


def test_a_new_version_takes_over_and_the_old_one_finishes_its_requests(start: Start, part):
    service = start()
    old = service.loaded[0]
    release = hold(service)
    with ThreadPoolExecutor(1) as clients:
        sent = clients.submit(service.client.post, URL, files=part)
        wait_until(lambda: old.calls == 1)
        (service.folders["gland"] / "deployment.json").write_text(
            json.dumps({"scores": [1.0] * 99})
        )
        assert service.client.post("/v1/models/gland/reload").json()["reloads"] == 1
        new = service.loaded[-1]
        assert new.warm
        assert new is not old
        assert not old.closed  # a request still waits for it
        assert service.client.post(URL, files=part).json()["model_hash"] == new.model_hash
        release.set()
        assert sent.result().json()["model_hash"] == old.model_hash
    assert old.closed
    assert not new.closed


def test_a_changed_folder_is_reloaded_and_a_broken_one_is_not(start: Start, part):
    service = start(watch=0.02)
    path = service.folders["gland"] / "deployment.json"
    path.write_text("{broken")
    refused = service.client.post("/v1/models/gland/reload")
    assert refused.status_code == 409
    assert "altered" in refused.json()["error"]["message"]
    assert service.client.post(URL, files=part).status_code == 200
    path.write_text(json.dumps({"scores": [2.0, *NORMALS]}))
    wait_until(lambda: service.client.get("/v1/models/gland").json()["calibration_count"] == 100)


def test_no_request_is_lost_while_models_change(start: Start, part):
    service = start(threads=2)
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            assert service.client.post("/v1/models/gland/reload").status_code == 200

    with ThreadPoolExecutor(4) as clients:
        changing = clients.submit(change)
        sent = post_all(service, clients, part, 60)
        statuses = [status.result() for status in sent]
        ended.set()
        changing.result()
    assert statuses == [200] * 60
    assert service.client.get("/v1/verdicts").json()["total"] == 60
    gland = [model for model in service.loaded if model.wing == "detector"]
    assert len(gland) > 2
    assert [model.closed for model in gland] == [True] * (len(gland) - 1) + [False]
