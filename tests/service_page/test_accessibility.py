"""Accessibility: keyboard, narrow and dark views, screen readers, API keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from stub_models import write_part, write_recording

OpenPage = Callable[..., Page]
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
TAB, ENTER, DOWN, RIGHT = "\ue004", "\ue007", "\ue015", "\ue014"


def press(page: Page, key: str) -> None:
    """A key of the keyboard, wherever the focus is."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).send_keys(key).perform()


def focused(page: Page) -> str:
    return page.script(
        "const e = document.activeElement; "
        "return e.innerText || e.getAttribute('aria-label') || e.id || e.type || e.tagName"
    )


def tab_to(page: Page, selector: str) -> Any:
    """Press Tab until the focus is there, and see it."""
    for _ in range(40):
        press(page, TAB)
        if page.script("return document.activeElement.matches(arguments[0])", selector):
            # A file input is inside of its label, which shows the ring.
            return page.script(
                "const e = document.activeElement; const ring = e.type === 'file' ? "
                "e.parentElement : e; return getComputedStyle(ring).outlineStyle"
            )
    raise AssertionError(f"Tab never reaches {selector}; it ends on {focused(page)!r}.")


def test_keys_alone_do_it_all(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    assert tab_to(page, "a.skip") == "solid"
    assert tab_to(page, "input[type=file]") == "solid"
    files = [*write_part(tmp_path, "a", spot=False), *write_part(tmp_path, "b", spot=True)]
    page.pick(files)  # the browser's own dialog is out of reach of a test
    assert page.verdicts(2) == {"a": "Good", "b": "Defective"}
    assert tab_to(page, "[role=listbox]") == "solid"
    press(page, DOWN)
    page.wait(lambda: page.text(".banner h2") == "Defective")
    assert tab_to(page, ".banner button") == "solid"
    press(page, ENTER)
    page.wait(lambda: "Noted: right" in page.text(".banner"))
    page.pictures_are_there()
    assert tab_to(page, "[role=application]") == "solid"
    before = page.one("[role=application]").get_attribute("data-turned")
    press(page, RIGHT)
    assert page.one("[role=application]").get_attribute("data-turned") != before
    press(page, TAB)
    assert page.script("return !document.activeElement.matches('[role=application]')")
    page.script("document.body.focus(); document.querySelector('a.skip').focus()")
    press(page, ENTER)
    assert page.script("return document.activeElement.id") == "result"


def test_four_hundred_percent(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(width=320, height=256)
    long = "a_part_with_a_name_that_does_not_end_before_it_reaches_the_other_side"
    page.pick([*write_part(tmp_path, long, spot=True), *write_part(tmp_path, "b", spot=False)])
    page.verdicts(2)
    page.pictures_are_there()
    assert page.overflow() == 0
    for view in ("history", "assets", "drift", "stations", "inspect"):
        page.open(view)
        page.wait(lambda: page.all("main section"))
        assert page.overflow() == 0, view
    page.choose("Model", "gis")
    page.pick(write_recording(tmp_path, "r", brightness=200, loudest=90))
    page.verdicts(1)
    assert page.overflow() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(open_page: OpenPage, tmp_path: Path, dark: bool) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there: run 'npm ci' in web/.")
    page = open_page(dark=dark)

    def violations() -> list[str]:
        if not page.script("return typeof axe === 'object'"):
            page.script(AXE.read_text(encoding="utf-8"))
        run = (
            "const done = arguments[0]; axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', "
            "'wcag21aa', 'wcag22aa', 'best-practice']}).then(r => done(r.violations.map(v => "
            "v.id + ': ' + v.nodes.map(n => n.target + ' ' + n.failureSummary).join(' | '))))"
        )
        return page.driver.execute_async_script(run)

    assert violations() == []
    torn = tmp_path / "torn_rgb.png"
    torn.write_bytes(b"torn")
    page.pick(
        [
            *write_part(tmp_path, "a", spot=True),
            *write_part(tmp_path, "b", spot=False),
            torn,
            write_part(tmp_path / "other", "torn", spot=False)[1],
        ]
    )
    page.verdicts(3)
    page.pictures_are_there()
    assert violations() == []
    page.all("[role=option]")[2].click()
    page.wait(lambda: page.text(".banner h2") == "Not checked")
    assert violations() == []
    page.open("history")
    page.wait(lambda: len(page.all("tbody tr")) == 3)
    assert violations() == []
    page.open("drift")
    page.wait(lambda: page.all(".sentence"))
    assert violations() == []
    page.open("stations")
    page.wait(lambda: page.all("tbody tr"))
    assert violations() == []
    page.open("inspect")
    page.choose("Model", "gis")
    page.one("input[maxlength='120']").send_keys("T1")
    page.pick(write_recording(tmp_path, "r", brightness=200, loudest=90))
    page.verdicts(1)
    assert violations() == []
    page.open("assets")
    page.wait(lambda: page.all(".assets svg[role=img]"))
    assert "T1" in page.text(".assets h3") and "No alarm" in page.text(".assets .chip")
    assert violations() == []


def test_light_and_dark(open_page: OpenPage) -> None:
    page = open_page(dark=True)

    def luminance() -> float:
        colour = page.script("return getComputedStyle(document.documentElement).backgroundColor")
        return sum(float(part) for part in colour.strip("rgb()").split(",")[:3]) / 765

    assert luminance() < 0.2
    page.choose("Appearance", "Light")
    assert luminance() > 0.8
    page.driver.refresh()
    page.wait(lambda: page.all("input[type=file]"))
    assert luminance() > 0.8, "the choice is remembered"
    page.choose("Appearance", "As the system")
    assert luminance() < 0.2


def test_less_motion_where_asked(open_page: OpenPage) -> None:
    page = open_page()
    page.media({"prefers-reduced-motion": "reduce"})
    moving = (
        "return [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).animationName "
        "!== 'none' || getComputedStyle(e).transitionDuration !== '0s').length"
    )
    assert page.script(moving) == 0


def test_a_key_opens_it_and_is_kept_in_the_tab(open_page: OpenPage, tmp_path: Path) -> None:
    key = "sixteen-letters-or-more"
    page = open_page(api_keys=(key,), ready=".notice")
    page.wait(lambda: "asks for an API key" in page.text("main"))
    page.one("summary").click()
    page.one("#api-key").send_keys("wrong" + ENTER)
    page.wait(lambda: page.all(".notice"))
    page.one("summary").click()
    page.one("#api-key").send_keys(key + ENTER)
    page.wait(lambda: page.all("input[type=file]"))
    page.pick(write_part(tmp_path, "a", spot=True))
    assert page.verdicts(1) == {"a": "Defective"}
    page.pictures_are_there()
    assert page.script("return Object.values(localStorage)") == []
    assert page.script("return document.cookie") == ""
