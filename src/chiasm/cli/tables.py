"""Tables of the command line: they adapt to the terminal, and cut nothing off."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_LEAST_TEXT = 30  # columns for the text of a row; with fewer it stands below the figures
_LOG_WIDTH = 100_000  # of a pipe, where a row stays on its line

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, console: Console | None = None
) -> None:
    """Print rows of a name, figures, and a text; only the text is wrapped, and nothing is cut.

    In a pipe a row is one line. On a terminal that is too narrow for the text beside the figures,
    each row becomes a paragraph.

    Args:
        headings: of all columns; that of the text may be empty.
        rows: as many cells each.
        console: to print on; None is standard output.
    """
    console = console or output_console()
    widths = [
        max(cell_len(row[column]) for row in [headings, *rows])
        for column in range(len(headings) - 1)
    ]
    if console.width - sum(widths) - 2 * len(widths) >= _LEAST_TEXT:
        _print_rows(console, headings, rows)
        return
    console.print(Text(headings[0], style="bold"), soft_wrap=True)
    for row in rows:
        figures = [f"{h} {cell}" for h, cell in zip(headings[1:-1], row[1:-1]) if cell]
        console.print(Text(row[0], style="bold"), soft_wrap=True)
        for text in filter(None, ("; ".join(figures), row[-1])):
            console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))


def output_console() -> Console:
    """Return the console of standard output; it has no colours and wraps nothing in a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return Console(highlight=False)
    return Console(highlight=False, width=_LOG_WIDTH)


def print_json(content: Any) -> None:
    """Print a value of mappings, sequences, numbers and texts as JSON."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Send what is said to people to standard error, so that the output is JSON alone."""
    if not wanted:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def _print_rows(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    last = len(headings) - 1
    for number, heading in enumerate(headings):
        figures = 0 < number < last and _are_figures(rows, number)
        table.add_column(
            heading, justify="right" if figures else "left", no_wrap=number < last, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _are_figures(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column] for row in rows]
    return all(
        cell in ("", "–") or cell.replace(",", "").replace(".", "").isdigit() for cell in cells
    )
