"""Record the figures of runs as JSON below docs/results/runs, and write the table of README.md.

python docs/results/scripts/record.py RUN --name cable_gland --command "chiasm train ..."
python docs/results/scripts/record.py            # only writes the table
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import yaml

RESULTS = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- runs: begin -->", "<!-- runs: end -->"


def machine() -> str:
    """Return the processor's name and number of cores."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {len(names) or '?'} cores, no GPU"


def record(run: Path, name: str, command: str, commit: str) -> None:
    """Write ``runs/NAME.json`` from a run's folder and its report."""
    metrics = json.loads((run / "report" / "metrics.json").read_text())
    config = yaml.safe_load((run / "config.yaml").read_text())
    config = {k: v for k, v in config.items() if k not in ("data", "out", "cache")}
    if config.get("textures"):
        config["textures"] = Path(config["textures"]).name  # its folder is this machine's
    if not commit:
        answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
        commit = answer.stdout.decode().strip()
    genotype = run / "genotype.json"
    entry = {
        "name": name,
        "command": command,
        "seed": config["seed"],
        "commit": commit,
        "machine": machine(),
        "settings": config,
        "genotype": json.loads(genotype.read_text()) if genotype.exists() else None,
        "metrics": metrics,
    }
    # The table of README.md lists detectors.
    folder = RESULTS if metrics.get("wing") == "classifier" else RESULTS / "runs"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")


def cell(figure: dict[str, Any] | None) -> str:
    """Return a figure with its interval as text."""
    if not figure or figure["value"] is None:
        return "–"
    text = f"{figure['value']:.3f}"
    if figure.get("low") is not None:
        text += f" ({figure['low']:.2f}–{figure['high']:.2f})"
    return text


def tables() -> None:
    """Write the table of all runs into README.md, between its markers."""
    rows = [
        "| run | image AUROC | pixel AP | AUPRO 0.3 | AUPRO 0.05 | outline's AUPRO 0.3 "
        "| best trivial image AUROC | minutes | s per part | command |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for path in sorted((RESULTS / "runs").glob("*.json")):
        entry = json.loads(path.read_text())
        m = entry["metrics"]
        outline = (m["trivial"].get("pixel") or {}).get("aupro", {}).get("0.3")
        trivial = m["trivial"].get("image") or {}
        best = max(trivial.values(), key=lambda f: f["value"] or 0) if trivial else None
        cost = m["cost"]
        rows.append(
            f"| [{entry['name']}](runs/{path.name}) | {cell(m['image']['auroc'])} "
            f"| {cell(m['pixel']['ap'])} | {cell(m['region']['aupro']['0.3'])} "
            f"| {cell(m['region']['aupro']['0.05'])} | {cell(outline)} | {cell(best)} "
            f"| {cost.get('fit_minutes') or 0:.1f} | {cost.get('seconds_per_part_p50') or 0:.2f} "
            f"| `{entry['command']}` |"
        )
    page = RESULTS / "README.md"
    text = page.read_text() if page.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--name")
    parser.add_argument("--command", default="")
    parser.add_argument("--commit", default="", help="commit of the run; HEAD by default")
    arguments = parser.parse_args()
    if arguments.run is not None:
        record(
            arguments.run, arguments.name or arguments.run.name, arguments.command, arguments.commit
        )
    tables()
