"""What a job tells the person who waits for it."""

from __future__ import annotations

from rich.console import Console

_console = Console(highlight=False)


def say(text: str) -> None:
    """Print a line for people."""
    _console.print(text, markup=False)
