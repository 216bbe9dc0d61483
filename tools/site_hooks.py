"""Hooks of the site's build: generated pages, pages of the repository's root, and local links.

Files keep their places and their links, which work in the repository; here links that leave
``docs`` are led to the page that shows the same file. A link to nothing ends the build.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Files outside of docs that a page shows, and its address.
SHOWN = {
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "web/README.md": "project/web.md",
    "examples/cpp/README.md": "project/cpp.md",
    "examples/cpp/judge.cpp": "project/judge.cpp.txt",
    "LICENSE": "project/license.txt",
    "CITATION.cff": "project/citation.cff.txt",
}
TITLES = {
    "README.md": "Read me",
    "CONTRIBUTING.md": "Contributing",
    "CHANGELOG.md": "Changes",
    "SECURITY.md": "Security",
    "CODE_OF_CONDUCT.md": "Conduct",
}
_LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^)\s]+)(\))")
# A block without a language that begins with a command: it is typed, not read as output.
_COMMANDS = re.compile(
    r"\A( *```+)\n(?= *(?:#.*\n *)*"
    r"(?:\.venv/bin/|(?:cd|chiasm|curl|docker|g\+\+|make|npm|pip|podman|python3?|sudo) ))"
)
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
_places: dict[str, str] = {}  # address of a page that shows a file: the file's path from the root


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the decisions, the results and the project's own pages to the navigation."""
    sections = {next(iter(entry)): next(iter(entry.values())) for entry in config.nav or []}
    sections["Decisions"] += list(_listed("decisions", number=True))
    sections["Results"] += [{"Topics": list(_listed("results/topics"))}]
    sections["Results"] += [{"Tables": _told_apart(list(_listed("results")))}]
    sections["Project"] += [{title: SHOWN[name]} for name, title in TITLES.items()]
    return config


def _listed(folder: str, *, number: bool = False) -> Iterator[dict[str, str]]:
    for path in sorted((ROOT / "docs" / folder).glob("*.md")):
        if path.name != "README.md":
            title = _HEADING.search(path.read_text())
            words = re.sub(r"^\d+\.? ", "", title[1]) if title else path.stem
            words = f"{int(path.name[:4])}. {words}" if number else words
            yield {words.replace("`", ""): f"{folder}/{path.name}"}


def _told_apart(pages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return pages whose titles differ: equal ones get the name of their file."""
    count = Counter(title for page in pages for title in page)
    return [
        {title if count[title] == 1 else f"{title} ({PurePosixPath(address).stem})": address}
        for page in pages
        for title, address in page.items()
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and those of the root; refuse schemas that differ from the code."""
    # Here, because MkDocs takes its own entry off the path after it has loaded the hooks.
    sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "src")]
    import reference

    for name, address in SHOWN.items():
        files.append(File.generated(config, address, abs_src_path=str(ROOT / name)))
        _places[address] = name
    for name, schema in reference.schemas().items():
        if (reference.SCHEMAS / name).read_text() != reference.schema_text(schema):
            raise PluginError(
                f"docs/reference/schemas/{name} differs from the code; run 'python "
                "tools/reference.py' and commit what it writes."
            )
    document = reference.service_document()
    generated = {
        "reference/commands.md": reference.command_page(),
        "reference/settings.md": reference.settings_page(),
        "reference/http.md": reference.http_page(document),
        "reference/openapi.json": reference.schema_text(document),
    }
    for address, content in generated.items():
        files.append(File.generated(config, address, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that leave docs to the pages that show the same files."""
    address = page.file.src_uri
    source = _places.get(address, f"docs/{address}")
    return "".join(
        # The tests' mark of a block that is not run would hide the block from Markdown here.
        _COMMANDS.sub(r"\1sh\n", part.replace("```python no-run", "```python", 1))
        if code
        else _LINK.sub(lambda m: m[1] + _present(m[2], source, address) + m[3], part)
        for part, code in _with_fences(markdown)
    )


def _with_fences(markdown: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a page, and of each whether it is a block of code."""
    position = 0
    for fence in re.finditer(r"^( *)(```+).*?^\1\2`*\s*?$", markdown, re.MULTILINE | re.DOTALL):
        yield markdown[position : fence.start()], False
        yield fence[0], True
        position = fence.end()
    yield markdown[position:], False


def _present(link: str, source: str, address: str) -> str:
    """Return a link of a file of the repository as one between pages of the site."""
    parts = urlsplit(link)
    if parts.scheme or not parts.path or parts.path.startswith("/"):
        return link
    target = _normal(PurePosixPath(source).parent / parts.path)
    if target in SHOWN:
        place = SHOWN[target]
    elif target.startswith("docs/"):
        place = target.removeprefix("docs/")
        if (ROOT / target).is_dir():
            place += "/README.md"
    else:
        return link  # of which the build then says that it leads nowhere
    here = PurePosixPath(address).parent
    up = "../" * len([part for part in here.parts if part != "."])
    return f"{up}{place}" + (f"#{parts.fragment}" if parts.fragment else "")


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def on_post_build(config: MkDocsConfig) -> None:
    """Let pages that are opened as files search; refuse a site that is not whole.

    Such a site loads something from another server, or links to a file that it lacks.
    """
    site = Path(config.site_dir)
    index = (site / "search/search_index.json").read_text()
    (site / "search/search_index.js").write_text(f"var __index = {index};\n")
    faults = [fault for page in sorted(site.rglob("*.html")) for fault in _faults(page, site)]
    if faults:
        raise PluginError("\n".join(["The site is not whole:", *faults[:20]]))


def _faults(page: Path, site: Path) -> Iterator[str]:
    reader = _Reader()
    reader.feed(page.read_text())
    for tag, name, link in reader.links:
        parts = urlsplit(link)
        where = f"{page.relative_to(site)}: <{tag} {name}={link}>"
        loads = tag != "a" and not (tag == "link" and "canonical" in reader.kinds)
        if parts.scheme in ("http", "https") or parts.netloc:
            if loads:
                yield f"{where} is loaded from another server"
        elif parts.scheme or not parts.path or page.name == "404.html":
            continue
        elif not (page.parent / unquote(parts.path)).exists():
            yield f"{where} is not there"


class _Reader(HTMLParser):
    """Collects what a page links to and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.kinds: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        """Note the addresses of a tag."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append((tag, name, value))
