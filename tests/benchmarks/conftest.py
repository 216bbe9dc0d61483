"""A benchmark in a process that is killed as soon as a file appears."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chiasm.benchmarks import pool, run_trial
from chiasm.cli.main import app

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
    """Run a command line to its end, with its phases in this process.

    What is killed, and what runs on a cluster, has them in processes of their own.
    """

    def run(arguments: Sequence[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:

            def phase_here(phase: str, description: Path, run: Path, threads: int) -> None:
                (description.parent / f"{phase}.log").touch()
                patch.setattr("sys.argv", ["run_trial", phase, str(description), str(run)])
                run_trial.main()

            patch.setattr(pool, "_run_phase", phase_here)
            done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
            assert done.exit_code == 0, done.output

    return run
