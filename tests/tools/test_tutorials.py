"""Tutorials are run as they stand; the cheapest of them here, all of them by ``make tutorials``."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "tools").is_dir():
    pytest.skip("Only the sources have the tools.", allow_module_level=True)
CHEAPEST = ROOT / "docs/tutorials/read-a-report.md"


def load(name: str) -> ModuleType:
    """Import a script of ``tools``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tutorials = load("tutorials")
PAGE = """# A page

```sh
echo "$PWD/file 12"; echo error >&2
```

<!-- output -->
```text
old
```

<!-- run: echo hidden > $PICTURES/name -->

<!-- status 3 -->
```sh
exit 3
```

<!-- not run -->
```sh
exit 4
```
"""


def test_a_page_gets_the_output_of_its_commands(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    (tmp_path / "work").mkdir()
    made = tutorials.run_page(page, tmp_path / "work", pictures=tmp_path / "pictures")
    assert made == PAGE.replace("old\n", "file 12\nerror\n")
    assert (tmp_path / "pictures/name").read_text() == "hidden\n"
    assert tutorials.same_words(made, made.replace("12", "13.5"))
    assert not tutorials.same_words(made, PAGE)


def test_a_command_that_fails_ends_the_page(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("status 3", "status 0"))
    with pytest.raises(tutorials.TutorialError, match=r"page.md: status 3 instead of 0 of\nexit 3"):
        tutorials.run_page(page, tmp_path)


def test_long_output_is_shortened_and_progress_left_out(tmp_path: Path):
    long = "".join(f"line {number}\n" for number in range(100))
    shown = tutorials.readable(f"Training: 3 of 9 parts, about 3 s left\n{long}", tmp_path)
    assert shown.startswith("line 0\n") and shown.endswith("... 61 more lines\n")
    assert shown.count("\n") == tutorials.MOST_LINES


def test_every_tutorial_is_run_and_shows_its_output():
    pages = sorted(set(CHEAPEST.parent.glob("*.md")) - {CHEAPEST.with_name("index.md")})
    assert len(pages) >= 6
    for page in pages:
        text = page.read_text()
        steps = list(tutorials.steps(text))
        assert any(step.end for step in steps), page
        shown = text.count("<!-- output -->")
        assert shown == sum(bool(step.end) for step in steps), page
        for picture in re.findall(r"\]\((images/[^)]+)\)", text):
            name = picture.removeprefix("images/")
            assert any(f"$PICTURES/{name}" in step.commands for step in steps), picture


def test_the_cheapest_tutorial_runs_and_says_what_the_page_says(tmp_path: Path):
    made = tutorials.run_page(CHEAPEST, tmp_path)
    assert tutorials.same_words(made, CHEAPEST.read_text())
