"""Diagnoses, the log and drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from browser import Page
from stub_models import write_part, write_recording

from chiasm.service.log import verdict_log

OpenPage = Callable[..., Page]


def send(page: Page, files: Sequence[Path]) -> None:
    """Send a part to the service without the page."""
    fields = {role: (file.name, file.read_bytes()) for role, file in zip(("rgb", "xyz"), files)}
    assert httpx.post(f"{page.address}v1/models/disc/predict", files=fields).status_code == 200


def meters(page: Page) -> dict[str, float]:
    """Every bar of the diagnosis: kind, voice and value."""
    values = page.script(
        "return [...document.querySelectorAll('#result li [role=meter]')].map(m => "
        "[m.closest('li').querySelector('h3').innerText + ', ' + m.ariaLabel, +m.ariaValueNow])"
    )
    return dict(values)


def test_a_recording_is_diagnosed(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.choose("Model", "gis")
    page.pick(write_recording(tmp_path, "w", brightness=204, loudest=50))
    assert page.verdicts(1) == {"w": "void"}
    assert page.text(".banner h2") == "void"
    values = {name: round(value, 3) for name, value in meters(page).items()}
    assert values["void, together"] == 0.65
    assert values["void, pattern alone"] == 0.8
    assert values["corona, pulse series alone"] == 0.5
    assert "30%" in page.text("[aria-labelledby=conflict-heading]")
    assert "partly disagree" in page.text("[aria-labelledby=conflict-heading]")
    assert page.text("#severity-heading") == "Severity: low"
    assert "nobody’s limits" in page.text("[aria-labelledby=severity-heading]")
    # The service draws the pattern of its pulses.
    drawn = "return [...document.images].some(i => i.naturalWidth === 960)"
    page.wait(lambda: page.script(drawn))


def test_a_series_is_drawn_by_phase(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.choose("Model", "gis")
    page.pick(write_recording(tmp_path, "w", brightness=204, loudest=50))
    page.verdicts(1)
    page.wait(lambda: page.all("[aria-labelledby=pulses-heading] canvas"))
    assert "10 cycles" in page.one("[aria-labelledby=pulses-heading] [role=img]").get_attribute(
        "aria-label"
    )
    # One pulse of 1,280 values, at value 100 of 128: alone in its column above the ground.
    bright = """
        const canvas = document.querySelector('[aria-labelledby=pulses-heading] canvas');
        const {data, width, height} = canvas.getContext('2d').getImageData(0, 0, 128, 96);
        const lit = [];
        for (let i = 0; i < width * height; i++)
            if (data[4 * i] > 40) lit.push([i % width, Math.floor(i / width)]);
        return lit"""
    lit = page.wait(lambda: page.script(bright))
    assert [100, 0] in lit and all(row == 95 for column, row in lit if [column, row] != [100, 0])
    assert len(lit) == 129


def test_sensors_that_disagree_are_unknown(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.choose("Model", "gis")
    page.pick(write_recording(tmp_path, "w", brightness=0, loudest=100))
    assert page.verdicts(1) == {"w": "Unknown"}
    assert "different things" in page.text("[aria-labelledby=conflict-heading]")


def test_one_sensor_alone_is_enough(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.choose("Model", "gis")
    page.pick(write_recording(tmp_path, "w", brightness=255, loudest=0)[:1])
    assert page.verdicts(1) == {"w": "Incomplete"}
    page.button("Check without it").click()
    assert page.verdicts(1) == {"w": "void"}
    assert "One sensor alone" in page.text("[aria-labelledby=conflict-heading]")


def test_the_log_is_live_filtered_and_corrected(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.open("history")
    page.wait(lambda: "No verdict yet" in page.text("main"))
    page.open("inspect")
    page.pick([*write_part(tmp_path, "a", spot=True), *write_part(tmp_path, "b", spot=False)])
    page.verdicts(2)
    page.open("history")
    page.wait(lambda: len(page.all("tbody tr")) == 2)
    page.choose("Decision", "defective")
    page.wait(lambda: len(page.all("tbody tr")) == 1)
    page.button("Right", "tbody").click()
    page.wait(lambda: page.all("tbody button[aria-pressed=true]"))
    page.choose("Decision", "All")
    page.choose("Model", "gis")  # above the views: changes no row of the log
    page.wait(lambda: len(page.all("tbody tr")) == 2)
    page.one("button.look[aria-label='Look at b_rgb.png']").click()
    page.wait(lambda: page.text(".banner h2") == "Good")
    page.pictures_are_there()


def test_the_log_shows_what_others_sent(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.open("history")
    send(page, write_part(tmp_path, "line", spot=True))
    page.wait(lambda: "line_rgb.png" in page.text("tbody"))


@pytest.mark.parametrize("key", ["", "k" * 20])
def test_the_log_is_saved_as_it_is_filtered(open_page: OpenPage, tmp_path: Path, key: str) -> None:
    page = open_page(api_keys=(key,), ready=".notice") if key else open_page()
    if key:
        page.script("sessionStorage.setItem('chiasm-api-key', arguments[0])", key)
        page.driver.refresh()
        page.wait(lambda: page.all("input[type=file]"))
    saved = tmp_path / "saved"
    where = {"behavior": "allow", "downloadPath": str(saved)}
    page.driver.execute_cdp_cmd("Page.setDownloadBehavior", where)
    page.pick([*write_part(tmp_path, "a", spot=True), *write_part(tmp_path, "b", spot=False)])
    page.verdicts(2)
    page.open("history")
    page.choose("Decision", "defective")
    page.wait(lambda: len(page.all("tbody tr")) == 1)
    page.button("Save as CSV").click()
    table = saved / "verdicts.csv"
    page.wait(table.is_file, "nothing was saved")
    assert [line.split(",")[3] for line in table.read_text().splitlines()] == [
        *("source", "a_rgb.png")
    ]


def test_names_of_files_are_broken_at_separators_alone(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(width=1000, station="press 3, on the left")
    send(page, write_part(tmp_path, "cable_gland_left_2026-11-30_000123", spot=True))
    broken = {"xyz": ("points_of_the_part.tiff", b"x")}
    httpx.post(f"{page.address}v1/models/disc/predict", files=broken)
    page.open("history")
    page.wait(lambda: len(page.all("tbody tr")) == 2)
    lines = page.script(
        """return [...document.querySelectorAll('td.file .breaks')].map(name => {
            const rows = {};
            for (const text of name.childNodes) if (text.data) {
                const range = document.createRange();
                range.selectNodeContents(text);
                if (range.getClientRects().length > 1) return [text.data];
                const top = Math.round(range.getBoundingClientRect().top);
                rows[top] = (rows[top] ?? '') + text.data;
            }
            return Object.values(rows); })"""
    )
    names = {"".join(rows): rows for rows in lines}
    assert names.keys() == {
        "cable_gland_left_2026-11-30_000123_rgb.png",
        "points_of_the_part.tiff",
    }
    assert max(map(len, lines)) <= 2


def test_drift_another_threshold_and_the_systems_are_said(
    open_page: OpenPage, tmp_path: Path
) -> None:
    outlets = tmp_path / "outlets.yaml"
    outlets.write_text(
        "outlets: [{type: webhook, name: mes, url: 'http://127.0.0.1:1/T0/secret-token'}]"
    )
    page = open_page(outlets=outlets)
    files = write_part(tmp_path, "bright", spot=True)
    for _ in range(20):
        send(page, files)
    page.open("drift")
    page.wait(lambda: "drifted" in page.text(".sentence"))
    assert "20 recent scores" in page.text("main")
    assert page.all("main svg[role=img][aria-label*='drifted']")
    section = "section[aria-labelledby=threshold-heading]"
    page.wait(lambda: page.all(f"{section} input"))
    assert "on average at most 5 %" in page.text(f"{section} .rule")
    page.one(f"{section} input").send_keys("20")
    page.button("Show the effect", section).click()
    page.wait(lambda: page.all(f"{section} .then"))
    assert "at most 20 %" in page.text(f"{section} .then")
    assert "20 of the last 20 parts are alarms." in page.text(f"{section} .then")
    assert "administrator" in page.text(section)  # whose key this page does not have
    assert not [b for b in page.all(f"{section} button") if "Use this" in b.text]
    page.one(f"{section} input").clear()
    page.one(f"{section} input").send_keys("0.1")
    page.button("Show the effect", section).click()
    page.wait(lambda: "needs at least 999" in page.text(f"{section} [role=alert]"))
    page.open("stations")
    page.wait(lambda: page.all("[data-testid=outlet] .bad"))
    said = page.text("[data-testid=outlet]")
    assert "Failed" in said and "cannot be reached" in said and "Webhook" in said
    assert "secret-token" not in page.driver.page_source
    page.open("drift")
    page.choose("Model", "gis")
    page.wait(lambda: "diagnoses recordings" in page.text("main"))


def test_one_page_shows_all_stations(
    open_page: OpenPage, serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict_log, "LOOKS_EVERY", 0.1)
    page = open_page(station="press 1", replica="a:8000", keep_days=30.0)
    other = Page(page.driver, serve(station="press 2", replica="b:8000", keep_days=60.0))
    for where, name in ((page, "x"), (other, "y"), (other, "z")):
        send(where, write_part(tmp_path, name, spot=True))
    page.open("stations")
    page.wait(lambda: len(page.all("tbody tr")) == 2)
    assert "press 1" in page.text("tbody tr:first-child")
    assert "this page’s own" in page.text("tbody tr:first-child")
    assert "disc, version dddddddd" in page.text("tbody tr:last-child")
    page.wait(lambda: "60 days at press 2 (b:8000)" in page.text("main [role=status]"))
    page.open("history")
    page.wait(lambda: len(page.all("tbody tr")) == 3)
    page.choose("Station", "press 2")
    page.wait(lambda: len(page.all("tbody tr")) == 2)
    assert "press 1" not in page.text("tbody")
    page.open("drift")
    page.choose("Station", "press 1")
    page.wait(lambda: "1 recent parts" in page.text(".sentence"))


def test_the_page_says_that_the_database_is_away(open_page: OpenPage, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    page = open_page(log="postgresql://nobody@127.0.0.1:1/log", spool=tmp_path / "spool")
    page.pick(write_part(tmp_path, "a", spot=True))
    assert page.verdicts(1) == {"a": "Defective"}
    page.wait(lambda: "1 verdict is on this service's disk" in page.text("main [role=status]"))
    page.open("history")
    page.wait(lambda: "cannot be used" in page.text("main .complaint"))
