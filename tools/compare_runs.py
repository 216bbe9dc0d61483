"""Compare the figures of two evaluations: ``python tools/compare_runs.py NEW LAST``.

Prints every figure of both ``metrics.json`` files. Ends with status 1 if a figure of the new one
lies below the interval of the last one: then something was lost, and not by chance alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def figures(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float, Any]]:
    """Yield name, value and lower end of each figure; those without a value are left out."""
    for name, inner in content.items():
        if not isinstance(inner, Mapping):
            continue
        if isinstance(inner.get("value"), int | float):
            yield f"{path}{name}", float(inner["value"]), inner.get("low")
        else:
            yield from figures(inner, f"{path}{name}.")


def compare(new: Mapping[str, Any], last: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return a line for each figure of both, and the names of those that fell."""
    before = {name: (value, low) for name, value, low in figures(last)}
    lines, fallen = [], []
    for name, value, _ in figures(new):
        if name not in before:
            continue
        old, low = before[name]
        worse = low is not None and value < low
        fallen += [name] if worse else []
        lines.append(f"{name:40} {old:.3f} -> {value:.3f}{'  FELL' if worse else ''}")
    return lines, fallen


def main() -> int:
    """Compare the files of the command line; return the exit status."""
    new, last = (Path(argument) for argument in sys.argv[1:3])
    if not last.is_file():
        sys.stdout.write("There is no earlier run to compare with.\n")
        return 0
    lines, fallen = compare(json.loads(new.read_text()), json.loads(last.read_text()))
    sys.stdout.write("\n".join([*lines, ""]))
    return int(bool(fallen))


if __name__ == "__main__":
    sys.exit(main())
