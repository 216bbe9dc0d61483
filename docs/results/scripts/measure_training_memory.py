"""Count the memory of a training step of the published network, on tensors without data.

python docs/results/scripts/measure_training_memory.py --commit abc1234

Needs no GPU: it writes ``training_memory.json`` and ``training_memory.md``. Rows that are in the
file are not counted again; remove it to count all.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chiasm.detection.layers.candidates import reconstruction_pools
from chiasm.detection.models.adnas import PAPER_BRANCH, AdnasDetector, adnas_paper
from chiasm.detection.training.step_memory import GIB, StepMemory, step_memory
from chiasm.fusion.finalists import random_architecture

RESULTS = Path(__file__).resolve().parents[1]
SIZE, BATCH, SEED = 256, 4, 0
# Fusion, precision, whether activations are computed again, micro-batches.
ROWS = (
    ("supernet", "32", False, 1),
    ("supernet", "bf16", False, 1),
    ("supernet", "bf16", True, 1),
    ("supernet", "32", True, 1),
    ("supernet", "bf16", False, 2),
    ("supernet", "bf16", True, 2),
    ("concatenation", "32", False, 1),
    ("concatenation", "bf16", True, 1),
    ("genotype", "32", False, 1),
    ("genotype", "bf16", True, 1),
)


def builder(fusion: str, recompute: bool) -> Callable[[], AdnasDetector]:
    """Return what makes the published detector with a fusion; the genotype is a random one."""
    pools = reconstruction_pools(**PAPER_BRANCH)
    chosen: Any = random_architecture(pools, nodes=2, seed=SEED) if fusion == "genotype" else fusion

    def build() -> AdnasDetector:
        detector = adnas_paper(chosen, image_size=SIZE)
        detector.recompute_activations(recompute)
        return detector

    return build


def by_layer(memory: StepMemory) -> dict[str, float]:
    """Return the GiB that are kept for the gradients, by branch, projections, cell and head."""
    layers: Counter[str] = Counter()
    for name, size in memory.activations.items():
        parts = name.split(".")
        layers[name if parts[0] == "source" else ".".join(parts[:2])] += size
    return {name: round(size / GIB, 3) for name, size in layers.most_common()}


def measure(commit: str) -> list[dict[str, Any]]:
    """Count each row, and add it to the file."""
    path = RESULTS / "training_memory.json"
    figures: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for fusion, precision, recompute, accumulate in ROWS:
        row = {
            "fusion": fusion,
            "precision": precision,
            "checkpointing": recompute,
            "accumulate": accumulate,
        }
        if any(row.items() <= figure.items() for figure in figures):
            continue
        memory = step_memory(
            builder(fusion, recompute),
            image_size=SIZE,
            batch=BATCH,
            accumulate=accumulate,
            precision=precision,  # type: ignore[arg-type]
            gpu=True,
        )
        gib = {
            name: round(getattr(memory, name) / GIB, 3)
            for name in ("parameters", "gradients", "optimiser", "temporary", "peak", "on_gpu")
        }
        kept = round(sum(memory.activations.values()) / GIB, 3)
        figures.append(row | gib | {"kept": kept, "layers": by_layer(memory), "commit": commit})
        path.write_text(json.dumps(figures, indent=1) + "\n")
        print(figures[-1], flush=True)
    return figures


def render(figures: list[dict[str, Any]]) -> None:
    """Write ``training_memory.md``."""
    lines = [
        "# Memory of a training step",
        "",
        f"A step of the weights of `adnas_paper`, {BATCH} parts of {SIZE} pixels, Adam, in GiB",
        "(2^30 bytes), counted by allocations on tensors without data; no GPU was used. Kept: what",
        "autograd holds after the forward pass of a micro-batch. Peak: the largest sum of all. On",
        "a GPU: the peak and a tenth, and 1 GiB for context and workspaces; this allowance is",
        "assumed, not measured.",
        "",
        "| Fusion | Precision | Checkpointing | Micro-batches | Weights, gradients, Adam | Kept "
        "| Peak | On a GPU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for f in figures:
        fixed = f["parameters"] + f["gradients"] + f["optimiser"]
        lines.append(
            f"| {f['fusion']} | {f['precision']} | {'yes' if f['checkpointing'] else 'no'} "
            f"| {f['accumulate']} | {fixed:.1f} | {f['kept']:.1f} | {f['peak']:.1f} "
            f"| {f['on_gpu']:.1f} |"
        )
    lines += ["", "Kept by layer, in GiB (supernet, one micro-batch):", ""]
    shown = [f for f in figures if f["fusion"] == "supernet" and f["accumulate"] == 1]
    names = list(dict.fromkeys(name for f in shown for name in f["layers"]))
    titles = [f"{f['precision']}{', checkpointing' if f['checkpointing'] else ''}" for f in shown]
    lines += ["| Layer | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(shown)]
    for name in names:
        values = " | ".join(f"{f['layers'].get(name, 0):.2f}" for f in shown)
        lines.append(f"| `{name}` | {values} |")
    commits = ", ".join(dict.fromkeys(f["commit"] for f in figures))
    lines += [
        "",
        f"The genotype is a random one (seed {SEED}). Commits {commits}. Figures:",
        "[training_memory.json](training_memory.json). Command:",
        "`python docs/results/scripts/measure_training_memory.py`.",
    ]
    (RESULTS / "training_memory.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--commit", default="", help="of the code that is imported")
    render(measure(parser.parse_args().commit))
