"""Run the tutorials as they stand, and write what their commands print below them.

``python tools/tutorials.py [NAME ...]`` runs pages of ``docs/tutorials`` in fresh folders, the
blocks of ``sh`` in their order. A block of ``text`` after ``<!-- output -->`` receives the output
of the one before. ``<!-- run: COMMAND -->`` runs a command that the page does not show, for example
to keep a picture in ``$PICTURES``. A block after ``<!-- not run -->`` is left alone. A command that
fails ends the run, but for a block after ``<!-- status N -->``.

``--check`` writes nothing and refuses output whose words differ from those on the page; figures
and times may differ between machines.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/tutorials"
WIDTH = "110"
MOST_LINES = 40

_STEP = re.compile(
    r"<!-- run: (?P<hidden>.+?) -->"
    r"|(?P<skip><!-- not run -->\n)?(?:<!-- status (?P<status>\d+) -->\n)?"
    r"^```sh\n(?P<shown>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_OUTPUT = re.compile(r"\s*<!-- output -->\n```text\n(.*?)```", re.DOTALL)
_PROGRESS = re.compile(r"^.*(\bleft\b|/s\b.*left).*$")
_FIGURE = re.compile(r"\d[\d.,e+-]*")


class TutorialError(Exception):
    """A command of a tutorial that failed, or output that is not the page's."""


@dataclass(frozen=True, slots=True)
class Step:
    """Commands of a page.

    Attributes:
        commands: text for a shell.
        status: exit status that is expected.
        start, end: place of the text that holds its output; equal where none is shown.
    """

    commands: str
    status: int
    start: int
    end: int


def steps(text: str) -> Iterator[Step]:
    """Yield what a page runs, in its order."""
    for match in _STEP.finditer(text):
        if match["skip"]:
            continue
        output = _OUTPUT.match(text, match.end())
        place = output.span(1) if output else (0, 0)
        yield Step(match["hidden"] or match["shown"], int(match["status"] or 0), *place)


def run_page(path: Path, folder: Path, *, pictures: Path | None = None) -> str:
    """Run a page in a folder; return its text with the output that came out.

    Raises:
        TutorialError: a command ended with another status than the page says.
    """
    text = path.read_text()
    environment = os.environ | {
        "CHIASM_CACHE": str(folder / ".cache"),
        "COLUMNS": WIDTH,
        "PICTURES": str(pictures or folder / ".pictures"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    Path(environment["PICTURES"]).mkdir(parents=True, exist_ok=True)
    parts, position = [], 0
    for step in steps(text):
        status, output = _run(step.commands, folder, environment)
        if status != step.status:
            raise TutorialError(
                f"{path.name}: status {status} instead of {step.status} of\n{step.commands}\n"
                f"{output}"
            )
        if step.end:
            parts += [text[position : step.start], readable(output, folder)]
            position = step.end
    return "".join([*parts, text[position:]])


def readable(output: str, folder: Path) -> str:
    """Return output for a page: without progress, folders of this machine, and its end if long."""
    lines = output.replace(f"{folder}/", "").replace(str(folder), ".").splitlines()
    kept = [line.rstrip() for line in lines if not _PROGRESS.match(line)]
    if len(kept) > MOST_LINES:
        kept = [*kept[: MOST_LINES - 1], f"... {len(kept) - MOST_LINES + 1} more lines"]
    return "".join(f"{line}\n" for line in kept)


def same_words(one: str, other: str) -> bool:
    """Return whether two pages differ in figures alone."""

    def words(text: str) -> list[str]:
        return _FIGURE.sub("#", text).split()

    return words(one) == words(other)


def _run(commands: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Return status and output of commands; those of chiasm alone need no new interpreter."""
    lines = commands.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    with tempfile.TemporaryFile() as stream:
        plain = all(not line or line[0] == "chiasm" for line in words)
        if plain and not re.search(r"[|&;<>$*]", commands):
            for arguments in filter(None, words):
                child = multiprocessing.get_context("fork").Process(
                    target=_chiasm, args=(arguments, folder, environment, stream.fileno())
                )
                child.start()
                child.join()
                status = int(child.exitcode or 0)
                if status:
                    break
        else:
            status = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        stream.seek(0)
        return status, stream.read().decode(errors="replace")


def _chiasm(arguments: list[str], folder: Path, environment: dict[str, str], output: int) -> None:
    """Run a command of chiasm in this process, a copy of one that has imported it."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = arguments
    from chiasm.cli.main import main

    main()


def main() -> int:
    """Run the named pages, all by default; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="pages without .md; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing, compare words")
    given = parser.parse_args()
    import chiasm.api.configuration

    chiasm.api.configuration.register_models()  # before the copies of this process are made
    pages = [PAGES / f"{name}.md" for name in given.names] or sorted(PAGES.glob("*.md"))
    for page in pages:
        if not any(steps(page.read_text())):
            continue
        sys.stdout.write(f"{page.name} ...\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
            pictures = None if given.check else PAGES / "images"
            try:
                made = run_page(page, Path(folder), pictures=pictures)
            except TutorialError as error:
                sys.stderr.write(f"{error}\n")
                return 1
        if not given.check:
            page.write_text(made)
        elif not same_words(made, page.read_text()):
            sys.stderr.write(f"{page.name}: the output has other words than the page.\n{made}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
