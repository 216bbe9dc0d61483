"""The service on a port of this machine, and a browser that can reach nothing else."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, open_browser
from stub_models import Amplitude, BrightSpot

from chiasm.service.state_routes import PAGE


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    pytest.importorskip("selenium", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("Chromium and chromedriver are not installed.")
    if not (PAGE / "index.html").is_file():
        pytest.skip("The page is not built: run 'npm ci && npm run build' in web/.")
    driver = open_browser(chromium, chromedriver)
    yield driver
    driver.quit()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start services with both models; return their addresses."""
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    from chiasm.service.app import build
    from chiasm.service.settings import ServiceSettings

    running: list[tuple[Any, threading.Thread, socket.socket]] = []

    def begin(**settings: Any) -> str:
        folders = {name: tmp_path / name for name in ("disc", "gis")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
            (folder / "deployment.json").write_text(json.dumps({}))

        def load(folder: Path) -> Any:
            return BrightSpot() if folder.name == "disc" else Amplitude()

        service_settings = ServiceSettings(
            **{"log": tmp_path / "verdicts.sqlite", "watch": 0.0, **settings}
        )
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            build(folders, service_settings, load), log_level="error", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread, listening))
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"

    yield begin
    for server, thread, listening in running:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture
def open_page(driver: Any, serve: Callable[..., str]) -> Iterator[Callable[..., Page]]:
    """Open the page; check for errors and requests to other origins at the end."""
    opened: list[Page] = []

    def begin(
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        ready: str = "input[type=file]",
        **settings: Any,
    ) -> Page:
        page = Page(driver, serve(**settings))
        opened.append(page)
        page.begin(width=width, height=height, dark=dark, ready=ready)
        return page

    yield begin
    for page in opened:
        page.leave()
        assert page.complaints() == []
        assert page.foreign_requests() == []
