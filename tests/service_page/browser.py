"""A headless Chromium, and the page as an operator uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 20.0


def open_browser(chromium: str, chromedriver: str) -> Any:
    """Chromium without a window, which resolves no name and so reaches this machine alone."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(chromedriver))


class Page:
    """The page in a browser.

    Args:
        driver: that the page is opened in.
        address: of the service, with a slash at the end.
    """

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        self.address = address

    def begin(self, *, width: int, height: int, dark: bool, ready: str) -> None:
        """Open the page with empty storage, and wait until ``ready`` matches."""
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.metrics(width, height)
        self.media({"prefers-color-scheme": "dark" if dark else "light"})
        self.driver.get(self.address)
        self.wait(lambda: self.all(ready), f"{ready} did not appear")

    def leave(self) -> None:
        """Clear the origin's storage, and leave the page."""
        self.script("localStorage.clear(); sessionStorage.clear()")
        self.driver.get("about:blank")

    def metrics(self, width: int, height: int) -> None:
        """Size of the view, CSS pixels: 1280 pixels at 400 % zoom are 320."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def media(self, features: dict[str, str]) -> None:
        """Emulate preferences of the system."""
        listed = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def script(self, text: str, *values: Any) -> Any:
        return self.driver.execute_script(text, *values)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def button(self, label: str, within: str = "body") -> Any:
        """Return the button with this label."""
        buttons = [button for button in self.all(f"{within} button") if button.text == label]
        assert len(buttons) == 1, f"{len(buttons)} buttons say {label!r}"
        return buttons[0]

    def wait(self, condition: Callable[[], Any], what: str = "") -> Any:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        ignored = (StaleElementReferenceException,)
        waiting = WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=ignored)
        return waiting.until(lambda _: condition(), what)

    def pick(self, files: Sequence[Path]) -> None:
        """Choose files in the file dialog."""
        self.one("input[type=file]").send_keys("\n".join(str(file) for file in files))

    def choose(self, label: str, option: str) -> None:
        """Choose an option of the select with this label."""
        from selenium.webdriver.support.ui import Select

        for select in self.all("label select"):
            named = self.script("return arguments[0].closest('label').innerText", select)
            if named.strip().startswith(label) and select.is_displayed():
                Select(select).select_by_visible_text(option)
                return
        raise AssertionError(f"There is no select called {label!r}.")

    def open(self, view: str) -> None:
        """Go to a view by its link."""
        self.one(f"nav a[href='#{view}']").click()
        self.wait(lambda: self.all(f"nav a[href='#{view}'][aria-current=page]"))

    def words(self) -> dict[str, str]:
        """Return each listed part with its verdict."""
        pairs = self.script(
            "return [...document.querySelectorAll('[role=option]')].map(option => "
            "[option.querySelector('.name').innerText, option.querySelector('.word').innerText])"
        )
        return dict(pairs)

    def verdicts(self, parts: int) -> dict[str, str]:
        """Wait until so many parts are listed and checked; return them with their verdicts."""

        def finished() -> bool:
            words = self.words()
            busy = {"Checking …", "Waiting"}
            return len(words) == parts and not busy & set(words.values())

        self.wait(finished, f"{parts} parts were not finished: {self.words()}")
        return self.words()

    def pictures_are_there(self, count: int = 4) -> None:
        """Wait until grounds and heat maps are decoded and the cloud is drawn."""
        decoded = (
            "const all = [...document.querySelectorAll('#result figure img')]; "
            "return all.length === arguments[0] && all.every(i => i.complete && i.naturalWidth)"
        )
        self.wait(lambda: self.script(decoded, count) and self.all("canvas"), "no pictures")

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its view."""
        return int(
            self.script("const e = document.documentElement; return e.scrollWidth - e.clientWidth")
        )

    def complaints(self) -> list[str]:
        """Return the console's messages, without those of refused requests."""
        status = re.compile(
            r"Failed to load resource: the server responded with a status of (4\d\d|503)"
        )
        log = [entry for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]
        return [entry["message"] for entry in log if not status.search(entry["message"])]

    def foreign_requests(self) -> list[str]:
        """Return the addresses of other origins that the page requested."""
        allowed = (self.address, "data:", f"blob:{self.address}", "about:", "chrome")
        requested = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                requested.append(message["params"]["request"]["url"])
        assert any(url.startswith(f"{self.address}v1/") for url in requested), (
            "no request was recorded"
        )
        return [url for url in requested if not url.startswith(allowed)]
