"""Few real recordings on top of a simulated MAD: fine-tuning, nearest class, trees on real alone.

  python docs/results/scripts/few_real_recordings.py --real shared/data/discharge_real/gis_series \\
    --work FOLDER --output docs/results/few_real_recordings.json --commit COMMIT

``mad_small`` is trained on simulated waveforms (``phase=none``: these files name no phase). Then 5,
10 and 20 real files a class are added by ``start_from``. Trees of the same inputs see the real
files alone. A fifth of the given files validates. Files of one test are on both sides: an upper
bound. Protrusion is taken for the simulator's corona.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import chiasm
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.simulator.field import plan_field_session, simulate_waveform
from chiasm.metrics.bootstrap import bootstrap_interval
from chiasm.metrics.classification import class_scores, confusion_matrix, macro_f1

KINDS = ("corona", "particle", "surface", "void")
FOLDER_OF = {"protrusion": "corona"}
SHOTS, DRAWS, TEST = (5, 10, 20), 3, 5
SIMULATED, VALUES, RATE, SEED = 240, 9_984, 500_000.0, 61
EPOCHS, FINE_EPOCHS = 30, 60
COMMON = {"modalities": ("series",), "phase": "none", "split_by": "random", "seed": SEED}

Array = NDArray[Any]


def simulated(folder: Path) -> Path:
    """Write simulated waveforms with their table, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for n in range(SIMULATED):
        session = plan_field_session(n, SIMULATED, seed=SEED, classes=KINDS, frequency=50, cycles=2)
        wave = simulate_waveform(session, rate=RATE, rng=np.random.default_rng([SEED, n]))
        begin = int(np.random.default_rng([SEED, n, 1]).integers(len(wave) - VALUES))
        np.save(folder / f"{n:03d}.npy", wave[begin : begin + VALUES].astype(np.float32))
        rows.append((f"{n:03d}.npy", KINDS[n % len(KINDS)]))
    return table(folder / "recordings.csv", rows)


def table(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """Write a table of series and their classes, each a session of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("series", "kind", "session"))
        writer.writerows((name, kind, Path(name).stem) for name, kind in rows)
    return path


def figures(truth: Array, guesses: Array, groups: Sequence[str]) -> dict[str, Any]:
    """Return macro-F1 with its interval over files, and recall by class."""
    low, high = bootstrap_interval(
        lambda t, g: macro_f1(t, g, len(KINDS)), truth, guesses, groups=list(groups), seed=SEED
    )
    scores = class_scores(confusion_matrix(truth, guesses, len(KINDS)))
    return {
        "macro_f1": macro_f1(truth, guesses, len(KINDS)),
        "low": low,
        "high": high,
        "recall": {k: float(r) for k, r in zip(KINDS, scores.recall)},
    }


def main() -> None:
    """Measure the curve, and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    work, started = arguments.work, time.process_time()
    first = work / "simulated"
    shares = (0.8, 0.2, 0.0)
    chiasm.train(
        data=simulated(work / "made"),
        out=first,
        model="mad_small",
        preset="quick",
        pretrain_epochs=0,
        epochs=EPOCHS,
        shares=shares,
        polarity="bipolar",
        **COMMON,
    )
    source = open_source(arguments.real)
    samples = [source.load(ref) for ref in source.refs]
    files = [str(Path(ref.source).resolve()) for ref in source.refs]
    names = [FOLDER_OF.get(str(ref.kind), str(ref.kind)) for ref in source.refs]
    truth = np.array([KINDS.index(name) for name in names])
    # Equal inputs: the first VALUES of each, as the network was trained on.
    held: dict[str, list[tuple[Array, Array, list[str]]]] = {}

    def judge(label: str, run: Path, test: Array) -> None:
        model = DiagnosisPredictor.load(run, device="cpu")
        logits = model.outputs([samples[i] for i in test], single=False).logits["series"]
        order = [KINDS.index(kind) for kind in model.kinds]
        guesses = np.array(order)[np.asarray(logits).argmax(axis=1)]
        held.setdefault(label, []).append((truth[test], guesses, [files[i] for i in test]))

    rng = np.random.default_rng(SEED)
    for draw in range(DRAWS):
        order = [rng.permutation(np.flatnonzero(truth == k)) for k in range(len(KINDS))]
        test = np.concatenate([some[:TEST] for some in order])
        judge("simulated alone", first, test)
        for shots in SHOTS:
            chosen = np.concatenate([some[TEST : TEST + shots] for some in order])
            place = work / f"draw{draw}_{shots}"
            data = table(place / "t.csv", [(files[i], names[i]) for i in chosen])
            more: dict[str, dict[str, Any]] = {
                "fine-tuning of simulated": {"start_from": first, "epochs": FINE_EPOCHS},
                "nearest mean, embedding of simulated": {
                    "start_from": first,
                    "adaptation": "nearest",
                },
                "trees, real alone": {
                    "model": "excess_trees",
                    "polarity": "bipolar",
                    **COMMON,
                },
            }
            for label, settings in more.items():
                run = place / label.split(",")[0].replace(" ", "_")
                chiasm.train(data=data, out=run, shares=shares, **settings)
                judge(f"{label}, {shots}", run, test)
            print(draw, shots, f"{time.process_time() - started:.0f} s", flush=True)
    rows = {
        label: figures(
            np.concatenate([t for t, _, _ in parts]),
            np.concatenate([g for _, g, _ in parts]),
            [s for _, _, some in parts for s in some],
        )
        | {"right_by_draw": [float((t == g).mean()) for t, g, _ in parts]}
        for label, parts in held.items()
    }
    content = {
        "rows": rows,
        "files": {k: int((truth == i).sum()) for i, k in enumerate(KINDS)},
        "simulated": SIMULATED,
        "test_files_a_class": TEST,
        "epochs": [EPOCHS, FINE_EPOCHS],
        "seed": SEED,
        "commit": arguments.commit,
        "machine": f"{platform.machine()}, no GPU",
        "cpu_minutes": round((time.process_time() - started) / 60, 1),
    }
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    for label, row in rows.items():
        print(f"| {label} | {row['macro_f1']:.3f} ({row['low']:.3f} to {row['high']:.3f}) |")


if __name__ == "__main__":
    main()
