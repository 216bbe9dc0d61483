"""Origins and host names: which pages may change anything, and by which name."""

from __future__ import annotations

import pytest
from stub_service import Start

from chiasm.service.settings import host_names_of

URL = "/v1/models/gland/predict"
ELSEWHERE = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://testserver:8001", "Host": "testserver:8000"},
    {"Origin": "http://testserver", "Host": "testserver:8000"},
    {"Origin": "null"},
    {"Origin": "http://testserver:99999999"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-site"},
]
OUR_OWN = [
    {},
    {"Origin": "http://testserver"},
    {"Origin": "http://testserver:8000", "Host": "testserver:8000"},
    {"Origin": "https://testserver", "Host": "testserver:443"},
    {"Origin": "https://testserver:8443", "Host": "testserver"},
    {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_pages_of_other_origins_change_nothing(start: Start, part, headers: dict[str, str]):
    service = start()
    for address in ("/v1/models/gland/reload", "/v1/verdicts/" + "0" * 32 + "/correction", URL):
        refused = service.client.post(address, headers=headers)
        assert refused.status_code == 403
        assert "own page" in refused.json()["error"]["message"]
        assert "content-security-policy" in refused.headers
    assert service.client.get("/v1/models/gland", headers=headers).json()["reloads"] == 0


@pytest.mark.parametrize("headers", OUR_OWN, ids=str)
def test_the_own_page_and_programs_are_let_through(start: Start, headers: dict[str, str]):
    answer = start().client.post("/v1/models/gland/reload", headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("line-7.example", 200),
        ("LINE-7.example:8000", 200),
        ("10.0.0.7:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("line-7.example.evil.example", 403),
        ("10.0.0.7.evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_a_service_with_a_name_answers_to_no_other(start: Start, host: str, status: int):
    client = start(host_names=("line-7.example",)).client
    for address in ("/v1/models", "/"):
        answer = client.get(address, headers={"Host": host})
        assert answer.status_code == status
        assert status == 200 or "--host-names" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("names", "host", "keys", "accepted"),
    [
        ("", "127.0.0.1", (), ("localhost",)),
        ("", "::1", (), ("localhost",)),
        ("", "127.0.0.1", ("a key",), ()),
        ("", "0.0.0.0", (), ()),
        ("A.example, b.example", "127.0.0.1", (), ("a.example", "b.example")),
    ],
)
def test_a_service_for_this_machine_alone_is_called_localhost(names, host, keys, accepted):
    assert host_names_of(names, host=host, keys=keys) == accepted
