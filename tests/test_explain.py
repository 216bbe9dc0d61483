"""``chiasm explain``: the sections of the page of errors."""

import re
from pathlib import Path

from typer.testing import CliRunner

from chiasm.cli.explain import error_sections
from chiasm.cli.main import app

PAGE = Path(__file__).parents[1] / "docs/how-to/errors.md"


def test_a_section_is_printed_as_the_page_has_it():
    shown = CliRunner().invoke(app, ["explain", "docs/how-to/errors.md#unit"]).output
    assert shown.startswith("### Unit\n") and "chiasm data convert parts/ metres/" in shown
    assert "](" not in CliRunner().invoke(app, ["explain", "no-layout"]).output  # no links


def test_every_section_is_listed_and_another_refused():
    headings = re.findall(r"^### (.+)$", PAGE.read_text(), re.MULTILINE)
    listed = CliRunner().invoke(app, ["explain"]).output.splitlines()
    assert [line.split(maxsplit=1) for line in listed] == [
        [heading.lower().replace(" ", "-"), heading] for heading in headings
    ]
    assert len(error_sections()) == len(headings)
    refused = CliRunner().invoke(app, ["explain", "nothing"])
    assert "no section 'nothing'" in str(refused.exception)
