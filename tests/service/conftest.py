"""Fixtures of the service's tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer
from stub_service import (
    NORMALS,
    Loudest,
    MeanBrightness,
    RunningService,
    Start,
    TestClient,
    grey,
    plane,
    tiff,
)

from chiasm.service.app import build
from chiasm.service.settings import ServiceSettings


@pytest.fixture(scope="session")
def postgres_of_session() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def postgres(postgres_of_session: PostgresServer) -> Iterator[PostgresServer]:
    """A running server; a test may stop it."""
    postgres_of_session.start()
    yield postgres_of_session
    postgres_of_session.thaw()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[TestClient] = []

    def begin(**settings: Any) -> RunningService:
        loaded: list[MeanBrightness] = []
        folders = {name: tmp_path / name for name in ("gland", "gis")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
            (folder / "deployment.json").write_text(json.dumps({"scores": NORMALS}))

        def load(folder: Path) -> MeanBrightness:
            kind = MeanBrightness if folder.name == "gland" else Loudest
            loaded.append(kind(folder))
            return loaded[-1]

        log = tmp_path / "verdicts.sqlite"
        service_settings = ServiceSettings(**{"log": log, "watch": 0.0, **settings})
        client = TestClient(build(folders, service_settings, load), raise_server_exceptions=False)
        client.__enter__()
        running.append(client)
        return RunningService(client, folders, loaded, log)

    yield begin
    for client in running:
        client.__exit__(None, None, None)


@pytest.fixture
def part(tmp_path: Path) -> dict[str, tuple[str, bytes]]:
    """A part that is fine: its score is 20."""
    return {
        "rgb": ("part.png", grey(0.2)),
        "xyz": ("part.tiff", tiff(plane(), tmp_path / "part.tiff")),
    }
