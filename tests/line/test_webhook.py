"""Records by HTTP POST: what arrives, and what every answer means."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chiasm.line.outlets.outlet import OutletAwayError, RefusedRecordError
from chiasm.line.outlets.webhook import WebhookOutlet, signature
from line_records import record

Answer = Callable[[int], tuple[int, dict[str, str]]]


class Receiver(ThreadingHTTPServer):
    """A server that keeps what it gets; ``answer`` chooses the status of the n-th request."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes, str]] = []
        self.answer: Answer = lambda number: (204, {})
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), body, self.command))
        status, headers = self.server.answer(len(self.server.requests))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_record_arrives_as_json_with_its_id_and_a_signature(receiver: Receiver):
    sent = record(1)
    WebhookOutlet(receiver.url, secret="s3cret", headers={"X-Line": "3"}).send(sent)
    ((headers, body, _),) = receiver.requests
    assert json.loads(body) == sent
    assert headers["Idempotency-Key"] == sent["id"]
    assert headers["X-Line"] == "3"
    stamp = headers["X-Chiasm-Timestamp"]
    assert headers["X-Chiasm-Signature"] == signature("s3cret", stamp, body)
    assert headers["X-Chiasm-Signature"] != signature("other", stamp, body)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
def test_an_answer_that_may_change_is_tried_again(receiver: Receiver, status: int):
    receiver.answer = lambda number: (status, {})
    with pytest.raises(OutletAwayError, match=str(status)):
        WebhookOutlet(receiver.url).send(record(1))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_record_that_is_refused_for_good_is_not(receiver: Receiver, status: int):
    receiver.answer = lambda number: (status, {})
    with pytest.raises(RefusedRecordError, match=str(status)):
        WebhookOutlet(receiver.url).send(record(1))


def test_a_redirect_is_not_followed_because_the_body_would_be_lost(receiver: Receiver):
    receiver.answer = lambda number: (302, {"Location": "/elsewhere"})
    with pytest.raises(OutletAwayError, match="redirects to /elsewhere"):
        WebhookOutlet(receiver.url).send(record(1))
    assert [command for _, _, command in receiver.requests] == ["POST"]


def test_nobody_at_the_address_is_said(receiver: Receiver):
    with pytest.raises(OutletAwayError, match="cannot be reached"):
        WebhookOutlet("http://127.0.0.1:1/", timeout_s=1).send(record(1))
    with pytest.raises(OutletAwayError, match="cannot be reached"):
        WebhookOutlet("http://no-such-host.invalid/", timeout_s=1).send(record(1))


def test_no_secret_is_in_what_is_said_of_a_receiver(receiver: Receiver):
    token, key = "T0123/B4567/abcdefgh", "Bearer 0123456789abcdef"
    receiver.answer = lambda number: (503, {"Location": f"/hook/{token}/?said={key}"})
    outlet = WebhookOutlet(f"{receiver.url}/{token}", headers={"Authorization": key})
    with pytest.raises(OutletAwayError, match="answers 503") as caught:
        outlet.send(record(1))
    said = f"{caught.value} {outlet.where}"
    assert "abcdefgh" not in said and "0123456789abcdef" not in said
    assert outlet.where.startswith("http://127.0.0.1:") and outlet.where.endswith("/…")
    with pytest.raises(OutletAwayError) as caught:
        WebhookOutlet("http://127.0.0.1:1/abcdef ghijklmnop").send(record(1))
    assert "ghijklmnop" not in str(caught.value)
