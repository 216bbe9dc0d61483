"""``chiasm explain``: what an error means and how it is mended, from the page of errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown

from chiasm.cli.tables import output_console
from chiasm.errors import ConfigurationError

# Beside this module in a wheel (``setup.py``), in the documentation of a source checkout.
_PLACES = (
    Path(__file__).with_name("errors.md"),
    Path(__file__).parents[3] / "docs/how-to/errors.md",
)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def explain(
    section: Annotated[
        str, typer.Argument(help="Section that an error names; none lists all sections.")
    ] = "",
) -> None:
    """Explain an error and how to mend it: the section that stands below its sentence."""
    sections = error_sections()
    if not section:
        for name, text in sections.items():
            typer.echo(f"{name:24} {text.partition(chr(10))[0].lstrip('# ')}")
        return
    name = section.rpartition("#")[2].lower()
    if name not in sections:
        raise ConfigurationError(
            f"There is no section '{section}'; there are: {', '.join(sections)}."
        )
    console = output_console()
    text = _LINK.sub(r"\1", sections[name])
    console.print(Markdown(text) if console.is_terminal else text, markup=False, highlight=False)


def error_sections() -> dict[str, str]:
    """Return the sections of the page of errors as Markdown, by the anchors of their headings."""
    page = next(place for place in _PLACES if place.is_file()).read_text(encoding="utf-8")
    parts = re.split(r"^(?=#{2,3} )", page, flags=re.MULTILINE)[1:]
    return {_anchor(part): part.strip() for part in parts if part.startswith("### ")}


def _anchor(section: str) -> str:
    heading = section.partition("\n")[0].lstrip("# ").lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading)).strip("-")
