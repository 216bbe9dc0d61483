"""Build the packages and try each extra in a fresh environment: ``make packages``.

The wheel is installed with one extra at a time, without this checkout in reach, and one command
that needs the extra is run. What the environment of ``[export]`` trains and exports is judged with
in the environments of a station. Sizes go to ``docs/results/packages.json`` and its page.

``python tools/packages.py --python 3.11 --extras base runtime`` tries some; other rows stay.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results/packages.json"
PAGE = ROOT / "src/chiasm/service/page/index.html"
TORCH = "torch==2.13.0"  # as constraints.txt: wheels of other versions bring CUDA's libraries

# Extra to a script that needs it; $WORK holds what earlier extras made.
TRIALS = {
    "base": """
chiasm --version
chiasm doctor --json > doctor.json
status=0; chiasm models 2> missing.txt || status=$?
test $status = 2
grep -q "pip install 'chiasm\\[train\\]'" missing.txt
""",
    "export": """
chiasm data make $WORK/parts --products flange --train 12 --validation 20 --test-good 2 \\
  --test-per-defect 1 --size 96
chiasm train --data $WORK/parts/flange --out $WORK/run --fusion concatenation image_size=96 \\
  train_epochs=1 rounds=1 rotate=false
rm -rf $WORK/openvino $WORK/onnx
chiasm export $WORK/run --out $WORK/openvino --to openvino
chiasm export $WORK/run --out $WORK/onnx --to onnx
""",
    "train": """
chiasm data make $WORK/few --products flange --train 6 --validation 4 --test-good 2 \\
  --test-per-defect 1 --size 96
chiasm train --data $WORK/few/flange --out $WORK/small --model pixel_gaussian image_size=64 \\
  false_alarm_rate=0.25 rotate=false
chiasm evaluate $WORK/small --data $WORK/few/flange
""",
    "runtime": "chiasm predict $WORK/openvino $WORK/parts/flange/test/good --json > verdicts.json",
    "runtime-onnx": "chiasm predict $WORK/onnx $WORK/parts/flange/test/good --json > verdicts.json",
    "serve": """
chiasm serve $WORK/openvino --port 8917 --log log.sqlite 2> serve.log &
server=$!
trap "kill $server" EXIT
python - <<'CODE'
import json, os, time, urllib.request
from pathlib import Path
for attempt in range(240):
    try:
        urllib.request.urlopen("http://127.0.0.1:8917/readyz", timeout=2)
        break
    except OSError:
        time.sleep(0.5)
page = urllib.request.urlopen("http://127.0.0.1:8917/").read().decode()
assert "<script" in page, "the operators' page is not inside"
folder = Path(os.environ["WORK"]) / "parts/flange/test/good"
body = b""
for name, path in (("rgb", folder / "rgb/000.png"), ("xyz", folder / "xyz/000.tiff")):
    form = f'form-data; name="{name}"; filename="{path.name}"'
    body += f"--b\\r\\nContent-Disposition: {form}\\r\\n\\r\\n".encode()
    body += path.read_bytes() + b"\\r\\n"
request = urllib.request.Request(
    "http://127.0.0.1:8917/v1/models/openvino/predict",
    body + b"--b--\\r\\n",
    {"Content-Type": "multipart/form-data; boundary=b"},
)
verdict = json.load(urllib.request.urlopen(request, timeout=60))
assert verdict["score"] >= 0 and verdict["p_value"] > 0, verdict
CODE
""",
    "line": "python -c 'import paho.mqtt.client, pymodbus, asyncua, yaml, openvino'",
    "rivals": """
chiasm data make $WORK/recordings --recordings 40 --sessions 20
chiasm train --model hog_lightgbm --data $WORK/recordings --out $WORK/trees
""",
    "cluster": "python -c 'import ray, pyarrow.parquet'",
    "quality": """
chiasm train --data $WORK/few/flange --out $WORK/dino --model btf image_size=70 \\
  options='{backbone: dinov2_vits14}' false_alarm_rate=0.25 rotate=false
""",
    "mlflow": """
MLFLOW_ALLOW_FILE_STORE=true MLFLOW_TRACKING_URI=file://$WORK/mlflow \
  chiasm evaluate $WORK/small --data $WORK/few/flange --mlflow parts
test -n "$(find $WORK/mlflow -name contract.json)"
""",
    "formats": "python -c 'import OpenEXR, imagecodecs'",
}
WITH_TORCH = ("train", "export", "rivals", "quality", "mlflow")


def main() -> int:
    """Build, try what was asked for, and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", default=["3.11", "3.12", "3.13"])
    parser.add_argument("--extras", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--work", type=Path, default=None, help="folder to keep models in")
    given = parser.parse_args()
    pythons = {version: found for version in given.python if (found := find_python(version))}
    for version in sorted(set(given.python) - set(pythons)):
        sys.stdout.write(f"Python {version} is not here; it is left out.\n")
    work = given.work or Path(tempfile.mkdtemp(prefix="packages-"))
    work.mkdir(parents=True, exist_ok=True)
    files = build(work / "dist")
    content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": []}
    content |= {"files": {path.name: path.stat().st_size for path in files}}
    content |= {"machine": f"{platform.machine()}, {platform.system()}", "commit": commit()}
    wheel = next(path for path in files if path.suffix == ".whl")
    failed = 0
    for version, python in pythons.items():
        for extra in given.extras:
            row = trial(wheel, extra, version, python, work)
            failed += row["result"] != "works"
            rows = [r for r in content["rows"] if (r["python"], r["extra"]) != (version, extra)]
            content["rows"] = sorted([*rows, row], key=lambda r: (r["python"], r["extra"]))
            RESULTS.write_text(json.dumps(content, indent=2) + "\n")
            RESULTS.with_suffix(".md").write_text(page(content))
            sys.stdout.write(f"{version} [{extra}]: {row['result']}, {row['mb']} MB\n")
            sys.stdout.flush()
    if given.work is None:
        shutil.rmtree(work)
    return min(failed, 1)


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
    _install(sys.executable, tools, "build")
    _call(f"{tools}/bin/python -m build --outdir {folder} {ROOT}", folder.parent)
    files = sorted(folder.iterdir())
    names = subprocess.run(
        [f"{tools}/bin/python", "-m", "zipfile", "-l", next(folder.glob("*.whl"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for needed in ("chiasm/service/page/index.html", "chiasm/py.typed", "presets/recommended.yaml"):
        if needed not in names:
            raise SystemExit(f"The wheel lacks {needed}; see package-data in pyproject.toml.")
    return files


def trial(wheel: Path, extra: str, version: str, python: str, work: Path) -> dict[str, Any]:
    """Install the wheel with an extra, run its script, measure and remove the environment."""
    place = Path(tempfile.mkdtemp(prefix="extra-"))
    wanted = str(wheel) if extra == "base" else f"{wheel}[{extra}]"
    row: dict[str, Any] = {"python": version, "extra": extra, "mb": None, "seconds": None}
    try:
        packages = [wanted, *([TORCH] if extra in WITH_TORCH else [])]
        start = time.monotonic()
        _install(python, place / "env", *packages)
        row["mb"] = round(_size(place / "env") / 1e6)
        row["torch"] = _torch_version(place / "env")
        row["seconds"] = round(time.monotonic() - start)
        environment = {
            **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")},
            "PATH": f"{place}/env/bin{os.pathsep}{os.environ['PATH']}",
            "WORK": str(work),
            "CHIASM_CACHE": str(work / "cache"),
        }
        _call(f"set -euo pipefail\n{TRIALS[extra]}", place, environment)
        row["result"] = "works"
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{version} [{extra}]:\n{error.stdout}\n")
        row["result"] = "does not install" if row["mb"] is None else "the command failed"
    finally:
        shutil.rmtree(place)
    return row


def _install(python: str, place: Path, *packages: str) -> None:
    """Make an environment and install packages, with the versions of constraints.txt."""
    shutil.rmtree(place, ignore_errors=True)
    constraints = str(ROOT / "constraints.txt")
    # pip's settings of this machine say where PyTorch without CUDA lies, and uv reads none of them.
    if (uv := shutil.which("uv")) and TORCH not in packages:
        _call(f"{uv} venv --quiet --python {python} {place}", ROOT)
        command = [uv, "pip", "install", "--quiet", "--python", f"{place}/bin/python"]
    else:
        _call(f"{python} -m venv {place}", ROOT)
        command = [f"{place}/bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run(
        [*command, "-c", constraints, *packages],
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
    """Return the table as a page."""
    lines = [
        "# Packages",
        "",
        "The wheel, installed with one extra in a fresh environment, and one command that needs "
        "the extra (`make packages`). MB: the whole environment on disk, dependencies included, "
        "the interpreter not counted. PyTorch: the version that was installed; one with CUDA "
        "(`+cu`) takes gigabytes more than `+cpu`.",
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
        cells = (name, row["python"], row.get("torch") or "–", row["mb"] or "–", row["result"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    tried = {row["extra"] for row in content["rows"]}
    if missing := [f"`[{extra}]`" for extra in TRIALS if extra not in tried]:
        lines += ["", f"Not tried yet: {', '.join(missing)}."]
    return "\n".join([*lines, "", f"Commit {content['commit']}; {content['machine']}.", ""])


if __name__ == "__main__":
    sys.exit(main())
