"""Simulated recordings that the tests of this wing share."""

from __future__ import annotations

from pathlib import Path

import pytest

from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.simulator.simulator import make_recordings


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discharges")
    make_recordings(folder, count=20, sessions=10, seed=3, workers=1)
    return folder


@pytest.fixture(scope="session")
def store(files: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return open_store(files, cache=tmp_path_factory.mktemp("cache"))
