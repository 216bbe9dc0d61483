"""Lines for people and for the journal of a service: one event is one line, however long."""

from __future__ import annotations

import sys


def tell(text: str) -> None:
    """Print a line at once, also into a pipe."""
    # A file may have a name that is no text, and a terminal letters that it cannot show.
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)
