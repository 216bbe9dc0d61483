"""Count how often both sources of two added recordings are named, and one is falsely split.

Usage: python docs/results/scripts/several_sources.py MODEL SEED COUNT OUT.json
MODEL is trained on recordings of other sessions. For each number up to COUNT one recording of each
class is simulated (easy tier), and each two of corona, void and surface are added: of the second
one what is above its quiet level, up to the recorder's 255.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
from record import machine

import chiasm
from chiasm.diagnosis.simulator.sessions import CLASSES, plan_session
from chiasm.diagnosis.simulator.simulator import simulate_recording
from chiasm.samples import RecordingSample

FAULTS = ("corona", "void", "surface")


def main() -> None:
    """Write the counts of each class and of each pair."""
    folder, seed, count, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    model = chiasm.load(folder)
    tally: dict[str, Counter[str]] = {}
    for number in range(count):
        single = {kind: simulated(kind, seed, number) for kind in CLASSES}
        for kind, series in single.items():
            add(tally, kind, (kind,), model.predict(RecordingSample(None, series)))
        for first, second in combinations(FAULTS, 2):
            one, other = single[first], single[second]
            series = np.clip(one + other - np.median(other), 0, 255)
            kinds = (first, second)
            add(tally, " + ".join(kinds), kinds, model.predict(RecordingSample(None, series)))
        print(number + 1, {name: dict(counts) for name, counts in tally.items()}, flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "seed": seed,
        "commit": commit.stdout.strip(),
        "machine": machine(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "recordings": {name: dict(counts) for name, counts in tally.items()},
    }
    out.write_text(json.dumps(record, indent=2) + "\n")


def simulated(kind: str, seed: int, number: int) -> np.ndarray:
    """Return a recording ``(1, T)`` in counts, of a session of its own."""
    session = plan_session(
        5 * number + CLASSES.index(kind), 500, tier="easy", seed=seed, classes=CLASSES
    )
    rng = np.random.default_rng([seed, 2, number, CLASSES.index(kind)])
    counts, _ = simulate_recording(kind, latents=session.latents, rng=rng)
    return counts.reshape(1, -1).astype(np.float32)


def add(tally: dict[str, Counter[str]], name: str, kinds: tuple[str, ...], diagnosis) -> None:
    """Count one recording: which sources were named, and whether its class is one of its own."""
    named = {source.kind for source in diagnosis.sources}
    counts = tally.setdefault(name, Counter())
    counts["recordings"] += 1
    counts["split"] += bool(named)
    counts["all sources named"] += named == set(kinds)
    counts["split, one of them wrong"] += bool(named - set(kinds))
    counts["class is that of a source"] += diagnosis.kind in kinds


if __name__ == "__main__":
    main()
