"""Build the packages and try each extra in a fresh environment: ``make packages``.

The wheel is installed with one extra at a time, without this checkout in reach, and one command
that needs the extra is run (``package_trials.py``); commands whose extra is absent must name it.
What the environment of ``[export]`` trains and exports is judged with in the environments of a
station. Outcomes and sizes go to ``docs/results/packages.json`` and its page, row by row: a row of
the same wheel is not tried again, so that the same command resumes. Environments are deleted.

``python tools/packages.py --python 3.11 --extras base runtime`` tries some; other rows stay.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sbom
from package_trials import ABSENT, BESIDE, MAKES, NEEDS, TRIALS, WITH_TORCH

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results/packages.json"
PAGE = ROOT / "src/chiasm/service/page/index.html"
TORCH = "torch==2.13.0"  # as constraints.txt: wheels of other versions bring CUDA's libraries
LEAST_FREE_GB = {False: 3.0, True: 8.0}  # without and with PyTorch, whose CUDA wheels take 6

Row = dict[str, Any]


def main() -> int:
    """Build, try what was asked for, and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", default=["3.11", "3.12", "3.13"])
    parser.add_argument("--extras", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--work", type=Path, default=ROOT / "build/packages")
    parser.add_argument("--again", action="store_true", help="try rows that are there already")
    parser.add_argument("--built", action="store_true", help="take the files of WORK/dist")
    given = parser.parse_args()
    pythons = {version: found for version in given.python if (found := find_python(version))}
    for version in sorted(set(given.python) - set(pythons)):
        sys.stdout.write(f"Python {version} is not here; it is left out.\n")
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    files = sorted((work / "dist").iterdir()) if given.built else build(work / "dist")
    wheel = next(path for path in files if path.suffix == ".whl")
    sbom.write("page", sbom.page_bom())
    content = results()
    done = {(r["python"], r["extra"]) for r in content["rows"] if _is_done(r, content_hash(wheel))}
    failed = 0
    for version, python, extra in trials(pythons, given.extras, work):
        asked = version in given.python and extra in given.extras
        if (version, extra) in done and not given.again and asked:
            sys.stdout.write(f"{version} [{extra}]: works, tried before\n")
            continue
        free = shutil.disk_usage(work).free / 1e9
        if free < LEAST_FREE_GB[extra in WITH_TORCH]:
            sys.stdout.write(f"{version} [{extra}]: not tried, only {free:.0f} GB are free\n")
            failed += 1
            continue
        row, absent = trial(wheel, extra, version, python, work)
        failed += row["result"] != "works" or any(not line["named"] for line in absent)
        content = results()  # another process may have tried others meanwhile
        content |= {"files": {path.name: path.stat().st_size for path in files}}
        _put(content["rows"], row, ("python", "extra"))
        for line in absent:
            _put(content["absent"], line, ("environment", "command"))
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")
        RESULTS.with_suffix(".md").write_text(page(content))
        sys.stdout.write(f"{version} [{extra}]: {row['result']}, {row['mb']} MB\n")
        sys.stdout.flush()
    return min(failed, 1)


def results() -> dict[str, Any]:
    """Return what was tried up to now."""
    content: dict[str, Any] = {"rows": [], "absent": [], "files": {}}
    if RESULTS.is_file():
        content |= json.loads(RESULTS.read_text())
    content.pop("commit", None)  # of each row
    content["rows"] = [row for row in content["rows"] if "wheel" in row]  # not of version 0.1.0
    return content | {"machine": f"{platform.machine()}, {platform.system()}"}


def trials(
    pythons: dict[str, str], extras: list[str], work: Path
) -> Iterator[tuple[str, str, str]]:
    """Yield version, interpreter and extra; first those whose models others need and lack."""
    needed = {NEEDS[extra] for extra in extras if extra in NEEDS}
    for maker, made in MAKES.items():
        if maker in needed and not (work / made).is_dir():
            version = min(pythons)
            yield version, pythons[version], maker
    for version, python in pythons.items():
        # Models that others take are made first.
        for extra in sorted(extras, key=lambda name: name not in MAKES):
            yield version, python, extra


def content_hash(wheel: Path) -> str:
    """Return a hash of what a wheel holds, whenever and from which commit it was built."""
    with zipfile.ZipFile(wheel) as archive:
        parts = sorted(f"{i.filename} {i.CRC:08x}" for i in archive.infolist())
    parts = [part for part in parts if not part.split()[0].endswith(("/RECORD", "/METADATA"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _is_done(row: Row, wheel: str) -> bool:
    return row["result"] == "works" and row.get("wheel") == wheel


def _put(rows: list[Row], row: Row, keys: tuple[str, str]) -> None:
    """Put a row in place of the one that has the same keys, and sort."""
    same = [tuple(r[key] for key in keys) == tuple(row[key] for key in keys) for r in rows]
    rows[:] = [r for r, is_same in zip(rows, same, strict=True) if not is_same] + [row]
    rows.sort(key=lambda r: tuple(r[key] for key in keys))


def find_python(version: str) -> str | None:
    """Return the interpreter of a version, from the path or from pyenv; None without any."""
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in sorted(homes.glob(f"{version}.*/bin/python"), reverse=True):
        return str(path)
    return shutil.which(f"python{version}")


def build(folder: Path) -> list[Path]:
    """Build sdist and, from it, the wheel; both hold the operators' page.

    Raises:
        SystemExit: the page is not built, or a file is not in the wheel.
    """
    if not PAGE.is_file():
        raise SystemExit("The operators' page is not built: run 'make page', which needs npm.")
    shutil.rmtree(folder, ignore_errors=True)
    tools = folder.with_name("tools")
    if not (tools / "bin/cyclonedx-py").exists():
        _install(sys.executable, tools, "build", sbom.CYCLONEDX)
    # The same sources make the same files, byte for byte.
    when = ["git", "log", "-1", "--format=%ct"]
    date = subprocess.run(when, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    environment = os.environ | ({"SOURCE_DATE_EPOCH": date.strip()} if date.strip() else {})
    _call(f"{tools}/bin/python -m build --outdir {folder} {ROOT}", folder.parent, environment)
    files = sorted(folder.iterdir())
    names = subprocess.run(
        [f"{tools}/bin/python", "-m", "zipfile", "-l", next(folder.glob("*.whl"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for needed in (
        "page/index.html",
        "page/licences.md",
        "chiasm/py.typed",
        "presets/recommended.yaml",
    ):
        if needed not in names:
            raise SystemExit(f"The wheel lacks {needed}; see package-data in pyproject.toml.")
    return files


def trial(wheel: Path, extra: str, version: str, python: str, work: Path) -> tuple[Row, list[Row]]:
    """Install the wheel with an extra, run its script, measure and remove the environment.

    Returns its row, and a row for each command of which another extra is absent there.
    """
    place = Path(tempfile.mkdtemp(prefix="extra-", dir=work))
    names = ",".join((() if extra == "base" else (extra,)) + BESIDE.get(extra, ()))
    row: Row = {"python": version, "extra": extra, "mb": None}
    row |= {"wheel": content_hash(wheel), "commit": commit()}
    absent: list[Row] = []
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")},
        "PATH": f"{place}/env/bin{os.pathsep}{os.environ['PATH']}",
        "WORK": str(work),
        "CHIASM_CACHE": str(work / "cache"),
    }
    try:
        packages = [f"{wheel}[{names}]" if names else str(wheel)]
        _install(python, place / "env", *packages, *([TORCH] if extra in WITH_TORCH else []))
        row["mb"] = round(_size(place / "env") / 1e6)
        row["torch"] = _torch_version(place / "env")
        _call(f"set -euo pipefail\n{TRIALS[extra]}", place, environment)
        if extra in sbom.SHIPPED:
            bom = sbom.environment_bom(place / "env/bin/python", work / "tools/bin/cyclonedx-py")
            sbom.write(sbom.SHIPPED[extra][0], bom)
        row["result"] = "works"
        absent = [
            absence(command, needed, extra, place, environment)
            for where, command, needed in ABSENT
            if where == extra and _has_models(command, work)
        ]
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{version} [{extra}]:\n{error.stdout}\n")
        row["result"] = "does not install" if row["mb"] is None else "the command failed"
    finally:
        shutil.rmtree(place)
    return row, absent


def _has_models(command: str, work: Path) -> bool:
    return all((work / name).exists() for name in re.findall(r"\$WORK/(\S+)", command))


def absence(command: str, needed: str, extra: str, place: Path, environment: dict[str, str]) -> Row:
    """Run a command whose extra is absent; its sentence must name the extra, with status 2."""
    done = subprocess.run(
        ["timeout", "300", "bash", "-c", command],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = done.stdout.strip().splitlines()
    named = done.returncode == 2 and f"pip install 'chiasm[{needed}]'" in done.stdout
    if not named:
        sys.stderr.write(f"[{extra}] {command}: [{needed}] is not named:\n{done.stdout}\n")
    sentence = next((line for line in said if "pip install" in line), said[-1] if said else "")
    shown = {"environment": extra, "command": command.replace("$WORK/", ""), "needs": needed}
    return {**shown, "says": sentence.replace(environment["WORK"] + "/", ""), "named": named}


def _install(python: str, place: Path, *packages: str) -> None:
    """Make an environment without an installer, and let this Python's pip install packages.

    Versions are those of constraints.txt. pip and no other installer: its settings say where a
    machine gets PyTorch without CUDA from, and other installers do not read them.
    """
    shutil.rmtree(place, ignore_errors=True)
    _call(f"{python} -m venv --without-pip {place}", ROOT)
    pip = [sys.executable, "-m", "pip", "--python", f"{place}/bin/python", "install", "--quiet"]
    subprocess.run(
        [*pip, "-c", str(ROOT / "constraints.txt"), *packages],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _call(script: str, folder: Path, environment: dict[str, str] | None = None) -> None:
    subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _torch_version(environment: Path) -> str | None:
    """Return the version of PyTorch with its build, e.g. ``2.13.0+cpu``; None without it."""
    paths = environment.glob("lib/python*/site-packages/torch/version.py")
    for line in (line for path in paths for line in path.read_text().splitlines()):
        if line.startswith("__version__ = "):
            return line.partition("=")[2].strip().strip("'")
    return None


def _size(folder: Path) -> int:
    """Return the bytes of an environment, without the interpreter that it links to."""
    paths = (path for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
    return sum(path.stat().st_size for path in paths)


def commit() -> str:
    """Return the short name of the commit that was built."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def page(content: dict[str, Any]) -> str:
    """Return the tables as a page."""
    lines = [
        "# Packages",
        "",
        "The wheel, installed by pip with one extra in a fresh environment, and one command that "
        "needs the extra (`make packages`; the commands are in `tools/package_trials.py`). MB: the "
        "whole environment on disk, dependencies and their compiled Python files included, the "
        "interpreter and the installer not counted. PyTorch: the version that was installed; one "
        "without `+cpu` brings CUDA's libraries, which take gigabytes.",
        "",
        "| File | MB |",
        "| --- | --- |",
        *(f"| `{name}` | {size / 1e6:.1f} |" for name, size in content["files"].items()),
        "",
        "| Extra | Python | PyTorch | MB | result |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in sorted(content["rows"], key=lambda r: (r["extra"], r["python"])):
        name = "none" if row["extra"] == "base" else f"`[{row['extra']}]`"
        name += "".join(f", `[{other}]`" for other in BESIDE.get(row["extra"], ()))
        cells = (name, row["python"], row.get("torch") or "–", row["mb"] or "–", row["result"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    tried = {row["extra"] for row in content["rows"]}
    if missing := [f"`[{extra}]`" for extra in TRIALS if extra not in tried]:
        lines += ["", f"Not tried yet: {', '.join(missing)}."]
    if content["absent"]:
        lines += [
            "",
            "## What a command says whose extra is absent",
            "",
            "Each ends with status 2.",
            "",
            "| Installed | Command | It says |",
            "| --- | --- | --- |",
        ]
    for line in content["absent"]:
        installed = "no extra" if line["environment"] == "base" else f"`[{line['environment']}]`"
        says = line["says"].removeprefix("chiasm: ").replace("|", "\\|")
        lines.append(f"| {installed} | `{line['command']}` | {says} |")
    commits = ", ".join(dict.fromkeys(row["commit"] for row in content["rows"]))
    return "\n".join([*lines, "", f"Commit {commits}; {content['machine']}.", ""])


if __name__ == "__main__":
    sys.exit(main())
