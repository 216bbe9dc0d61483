"""A benchmark in a process that is killed as soon as a file appears."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-c", "from chiasm.cli.main import main; main()"]


@pytest.fixture(scope="session")
def run_killed() -> Callable[[Sequence[str], Path, str], None]:
    """Run a command line, and kill it when ``folder`` holds a file of that name."""

    def run(arguments: Sequence[str], folder: Path, name: str) -> None:
        process = subprocess.Popen([*PROGRAM, *arguments])
        while process.poll() is None and not list(folder.rglob(name)):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.kill()
        process.wait()

    return run


@pytest.fixture(scope="session")
def run_whole() -> Callable[[Sequence[str]], None]:
    """Run a command line to its end."""

    def run(arguments: Sequence[str]) -> None:
        subprocess.run([*PROGRAM, *arguments], check=True)

    return run
