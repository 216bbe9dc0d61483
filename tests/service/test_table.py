"""The log as a CSV table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from stub_service import Start

from chiasm.service.log import verdict_log
from chiasm.service.log.record import LoggedVerdict
from chiasm.service.log.verdict_log import VerdictLog


def fill(path: Path, count: int, **fields: object) -> None:
    log = VerdictLog(path)
    written = []
    for number in range(count):
        values = {
            "id": f"{number:032x}",
            "time": 1_700_000_000 + number // 3,  # several at one time
            "model": "gland" if number % 2 else "cap",
            "model_hash": "a" * 64,
            "wing": "detector",
            "source": f"part_{number}",
            "input_sha256": f"{number:064x}",
            "score": number / 7,
            "decision": "good",
            **fields,
        }
        written.append(log.add(LoggedVerdict(**values)))  # type: ignore[arg-type]
    for done in written:
        done.result(10)
    log.close()


def table(service: object, query: str = "") -> list[dict[str, str]]:
    answer = service.client.get(f"/v1/verdicts.csv{query}")  # type: ignore[attr-defined]
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    assert "verdicts.csv" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_all_verdicts_are_in_it_once_and_newest_first(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verdict_log, "_LISTED_AT_ONCE", 7)  # several pages, cut within one time
    fill(tmp_path / "verdicts.sqlite", 50)
    rows = table(start(keep_days=0))
    assert sorted(row["source"] for row in rows) == sorted(f"part_{n}" for n in range(50))
    times = [row["time"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert float(next(r for r in rows if r["source"] == "part_8")["score"]) == 8 / 7


def test_filters_are_those_of_the_history(start: Start, tmp_path: Path):
    fill(tmp_path / "verdicts.sqlite", 30)
    service = start(keep_days=0)
    assert len(table(service, "?model=gland")) == 15
    assert {row["model"] for row in table(service, "?model=gland")} == {"gland"}
    assert table(service, "?decision=defective") == []
    assert len(table(service, "?since=2023-11-14T22:13:28Z")) == 6
    assert service.client.get("/v1/verdicts.csv?since=soon").status_code == 422


def test_a_correction_is_in_it_and_text_is_no_formula(start: Start, tmp_path: Path):
    fill(tmp_path / "verdicts.sqlite", 1, source="=HYPERLINK(1)", error="two\nlines")
    service = start(keep_days=0)
    says = {"says": "right", "by": "Ann"}
    answer = service.client.post(f"/v1/verdicts/{0:032x}/correction", json=says)
    assert answer.status_code == 200
    (row,) = table(service)
    assert (row["correction"], row["corrected_by"]) == ("right", "Ann")
    assert row["corrected"].endswith("Z") and row["threshold"] == ""
    assert row["source"] == "'=HYPERLINK(1)" and row["error"] == "two lines"


def test_it_needs_the_key(start: Start):
    service = start(keep_days=0, api_keys=("k" * 20,))
    assert service.client.get("/v1/verdicts.csv").status_code == 401
