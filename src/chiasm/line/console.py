"""Lines for people and for the journal of a service: one event is one line, however long."""

from __future__ import annotations


def tell(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)
