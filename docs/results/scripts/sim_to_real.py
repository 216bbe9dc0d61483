"""From simulated to real recordings: without a real example, with a few, and with all.

Run in two parts (minutes each; the network's runs are made by ``chiasm train``, see the page):
  python docs/results/scripts/sim_to_real.py patterns --run RUN \\
    --real shared/data/discharge_real/megger_xml --output docs/results/sim_to_real_patterns.json
  python docs/results/scripts/sim_to_real.py waveforms \\
    --real shared/data/discharge_real/gis_series --output docs/results/sim_to_real_waveforms.json
RUN is a mad_small of pictures, trained on simulated recordings of the tier field; its recordings
are those of the trees, too.

patterns   XML of a UHF detector, four classes, by session: what is judged is of a session of which
           nothing was trained on. Corona has one session: only simulated ones teach it.
waveforms  GIS series, four classes, by file (an upper bound: files of one test are on both sides);
           protrusion is taken for the simulator's corona.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.diagnosis.layers.extra_trees import ExtraTrees
from chiasm.diagnosis.models.minirocket import MiniRocketClassifier, minirocket
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.preparation.network_inputs import recording_arrays
from chiasm.diagnosis.preparation.recorders import magnitudes
from chiasm.diagnosis.readers.opening import open_source, open_store
from chiasm.diagnosis.simulator.field import plan_field_session, simulate_waveform
from chiasm.metrics.bootstrap import bootstrap_interval
from chiasm.metrics.classification import class_scores, confusion_matrix, macro_f1
from chiasm.samples import RecordingBatch, RecordingSample

KINDS = ("corona", "floating", "surface", "void")
WAVE_KINDS = ("corona", "void", "particle", "surface")
FOLDER_OF = {"protrusion": "corona"}
SHOTS, DRAWS, TEST = (5, 10, 20), 3, 5
VALUES, RATE = 9_984, 500_000.0  # of a waveform; whole runs of 128
TREES, SEED = 500, 61

Array = NDArray[Any]


def forest(features: Array, labels: Array, classes: int, seed: int) -> ExtraTrees:
    """Return fitted trees."""
    trees = ExtraTrees(classes=classes, trees=TREES)
    inputs = torch.from_numpy(np.asarray(features, np.float32))
    numbers = torch.from_numpy(np.asarray(labels))
    trees.fit(inputs, numbers, (inputs, numbers), seed=seed)
    return trees


def judged(trees: ExtraTrees, features: Array) -> Array:
    """Return the classes ``(N,)``."""
    return trees(torch.from_numpy(np.asarray(features, np.float32))).argmax(dim=1).numpy()


def nearest(means_of: Array, labels: Array, features: Array, classes: int) -> Array:
    """Return the class with the nearest mean ``(N,)``; one without a recording never is."""
    distance = np.full((len(features), classes), np.inf)
    for k in np.unique(labels):
        distance[:, k] = np.linalg.norm(features - means_of[labels == k].mean(axis=0), axis=1)
    return distance.argmin(axis=1)


def both(simulated: tuple[Array, Array], real: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return both sets, the real ones repeated to the same weight."""
    repeats = max(1, round(len(simulated[1]) / max(len(real[1]), 1)))
    return (
        np.concatenate([simulated[0], np.repeat(real[0], repeats, axis=0)]),
        np.concatenate([simulated[1], np.repeat(real[1], repeats)]),
    )


def figures(truth: Array, guesses: Array, groups: Sequence[str], kinds: Sequence[str]) -> Any:
    """Return macro-F1 with its interval over groups, the share right, and recall by class."""
    low, high = bootstrap_interval(
        lambda t, g: macro_f1(t, g, len(kinds)), truth, guesses, groups=list(groups), seed=SEED
    )
    scores = class_scores(confusion_matrix(truth, guesses, len(kinds)))
    return {
        "macro_f1": macro_f1(truth, guesses, len(kinds)),
        "low": low,
        "high": high,
        "right": float((truth == guesses).mean()),
        "recall": {k: float(r) for k, r in zip(kinds, scores.recall) if r == r},
    }


# ------------------------------------------------------------------ patterns


def patterns(real: Path, run: Path) -> dict[str, Any]:
    """Judge the XML patterns by session."""
    model = DiagnosisPredictor.load(run, device="cpu")
    form = model.contract.recording
    source = open_source(real)
    samples = [source.load(ref) for ref in source.refs]
    kinds = model.kinds
    names = [ref.kind for ref in source.refs]
    truth = np.array([KINDS.index(name) for name in names])
    sessions = np.array([ref.group["session"] for ref in source.refs])

    def pictures(some: Sequence[RecordingSample]) -> Array:
        # The three channels of dots are equal.
        return np.stack(
            [recording_arrays(s, form, ("image",))["image"][0, 0].ravel() for s in some]
        )

    settings = json.loads((run / "split.json").read_text())
    data = next(
        line.split(":", 1)[1].strip()
        for line in (run / "config.yaml").read_text().splitlines()
        if line.startswith("data:")
    )
    cache = re.search(r"^cache: (.*)$", (run / "config.yaml").read_text(), re.MULTILINE)
    store = open_store(data, cache=Path(cache[1]) if cache and cache[1] != "null" else None)
    trained = set(settings["training"])
    refs = [ref for ref in store.refs if ref.source in trained]
    simulated = [store.load(ref) for ref in refs]
    made = (pictures(simulated), np.array([KINDS.index(ref.kind) for ref in refs]))
    own = pictures(samples)
    outputs = model.outputs(samples, single=False)
    embedding = outputs.pooled["image"]
    number = np.array([KINDS.index(k) if k in KINDS else -1 for k in kinds])
    logits = np.where(number >= 0, outputs.logits["image"], -np.inf)
    guesses: dict[str, Array] = {
        "trees of pixels, simulated": judged(forest(*made, len(KINDS), SEED), own),
        "mad_small, simulated": number[logits.argmax(axis=1)],
    }
    largest = np.array([_largest(Path(ref.source)) for ref in source.refs])[:, None]
    bright = np.array([float(s.image.mean()) for s in samples if s.image is not None])[:, None]
    held: dict[str, Array] = {}
    for session in np.unique(sessions):
        out = sessions == session
        known = (own[~out], truth[~out])
        found = {
            "majority": np.full(out.sum(), np.bincount(truth[~out]).argmax()),
            "largest amplitude": nearest(largest[~out], truth[~out], largest[out], len(KINDS)),
            "brightness": nearest(bright[~out], truth[~out], bright[out], len(KINDS)),
            "trees of pixels, real": judged(forest(*known, len(KINDS), SEED), own[out]),
            "trees of pixels, simulated and real": judged(
                forest(*both(made, known), len(KINDS), SEED), own[out]
            ),
            "mad_small, nearest mean of real": nearest(
                embedding[~out], truth[~out], embedding[out], len(KINDS)
            ),
        }
        for name, values in found.items():
            held.setdefault(name, np.zeros(len(truth), np.int64))[out] = values
    guesses |= held
    return {
        "files": {k: int((truth == i).sum()) for i, k in enumerate(KINDS)},
        "sessions": {k: len(set(sessions[truth == i].tolist())) for i, k in enumerate(KINDS)},
        "simulated": len(refs),
        "rows": {name: figures(truth, g, sessions.tolist(), KINDS) for name, g in guesses.items()},
        "without_corona": {
            name: figures(
                truth[truth > 0] - 1,
                np.where(g[truth > 0] == 0, 3, g[truth > 0] - 1),
                sessions[truth > 0].tolist(),
                (*KINDS[1:], "(corona)"),
            )
            for name, g in guesses.items()
        },
    }


def _largest(path: Path) -> float:
    text = path.read_text()
    return max(map(float, re.search("<sample>(.*?)</sample>", text, re.DOTALL)[1].split()))  # type: ignore[index]


# ------------------------------------------------------------------ waveforms


def waveforms(real: Path, simulated: int) -> dict[str, Any]:
    """Judge the GIS series by file: without, with some, and with all real ones."""
    source = open_source(real)
    names = [FOLDER_OF.get(ref.kind, ref.kind) for ref in source.refs]
    truth = np.array([WAVE_KINDS.index(name) for name in names])
    samples = []
    for ref in source.refs:
        series = source.load(ref).series
        assert series is not None
        samples.append(series[0, :VALUES])
    made, made_labels = [], np.arange(simulated) % len(WAVE_KINDS)
    for n in range(simulated):
        session = plan_field_session(
            n, simulated, seed=SEED, classes=WAVE_KINDS, frequency=50, cycles=2
        )
        wave = simulate_waveform(session, rate=RATE, rng=np.random.default_rng([SEED, n]))
        begin = int(np.random.default_rng([SEED, n, 1]).integers(len(wave) - VALUES))
        made.append(wave[begin : begin + VALUES].astype(np.float32))
    network = minirocket(classes=len(WAVE_KINDS), channels=2, rows=1, cycles=VALUES // 128)
    described = {
        name: _described(network, some) for name, some in (("made", made), ("own", samples))
    }
    rng = np.random.default_rng(SEED)
    rows: dict[str, list[tuple[Array, Array, list[str]]]] = {}
    for draw in range(DRAWS):
        order = [rng.permutation(np.flatnonzero(truth == k)) for k in range(len(WAVE_KINDS))]
        test = np.concatenate([some[:TEST] for some in order])
        shots: dict[str, Array] = {
            f"{k} a class": np.concatenate([some[TEST : TEST + k] for some in order]) for k in SHOTS
        }
        shots["all"] = np.concatenate([some[TEST:] for some in order])
        trials: dict[str, tuple[list[tuple[str, Array]], ...]] = {}
        everything = np.arange(simulated)
        for name, chosen in shots.items():
            trials[f"real, {name}"] = ([("own", chosen)],)
            trials[f"simulated and real, {name}"] = ([("made", everything), ("own", chosen)],)
        trials["simulated"] = ([("made", everything)],)
        for name, (parts,) in trials.items():
            guesses = _ridge(network, described, parts, truth, made_labels, test, draw)
            rows.setdefault(name, []).append(
                (truth[test], guesses, [source.refs[i].source for i in test])
            )
        for name, chosen in shots.items():
            features = _features(network, described, [("made", everything)], test=chosen)
            tested = _features(network, described, [("made", everything)], test=test)
            rows.setdefault(f"nearest mean of real, {name}", []).append(
                (
                    truth[test],
                    nearest(features, truth[chosen], tested, len(WAVE_KINDS)),
                    [source.refs[i].source for i in test],
                )
            )
    return {
        "files": {k: int((truth == i).sum()) for i, k in enumerate(WAVE_KINDS)},
        "simulated": simulated,
        "test_files_a_class": TEST,
        "rows": {
            name: figures(
                np.concatenate([t for t, _, _ in parts]),
                np.concatenate([g for _, g, _ in parts]),
                [s for _, _, some in parts for s in some],
                WAVE_KINDS,
            )
            | {"draws": [float((t == g).mean()) for t, g, _ in parts]}
            for name, parts in rows.items()
        },
    }


def _described(network: MiniRocketClassifier, series: Sequence[Array]) -> torch.Tensor:
    """Return the reduced series ``(N, 2, values)`` of signed waveforms."""
    rows = []
    for values in series:
        both_signs = magnitudes(np.asarray(values, np.float32)[None], "bipolar")
        batch = RecordingBatch(None, torch.from_numpy(np.asarray(both_signs, np.float32))[None])
        rows.append(network.describe(batch)["series"])
    return torch.cat(rows)


_CACHE: dict[Any, Any] = {}


def _features(
    network: MiniRocketClassifier,
    described: dict[str, torch.Tensor],
    parts: list[tuple[str, Array]],
    *,
    test: Array,
) -> Array:
    """Return standardised features of real files, by kernels that were set on the parts."""
    key = ("features", tuple(name for name, _ in parts))
    if key not in _CACHE:
        network.features.fit(torch.cat([described[n][i] for n, i in parts]), seed=SEED)
        made, own = (network.features(described[n]).numpy() for n in ("made", "own"))
        deviation = made.std(axis=0)
        _CACHE[key] = (own - made.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1)
    return _CACHE[key][test]


def _ridge(
    network: MiniRocketClassifier,
    described: dict[str, torch.Tensor],
    parts: list[tuple[str, Array]],
    truth: Array,
    made_labels: Array,
    test: Array,
    draw: int,
) -> Array:
    """Return the classes of the test files by kernels and a ridge on the parts.

    The kernels' biases are set once for each kind of parts: they are quantiles of many series.
    """
    key = ("kernels", "made" if parts[0][0] == "made" else f"own {draw}")
    if key not in _CACHE:
        chosen = [parts[0]] if parts[0][0] == "made" else parts
        network.features.fit(torch.cat([described[n][i] for n, i in chosen]), seed=SEED)
        _CACHE[key] = {n: network.features(described[n]) for n in ("made", "own")}
    features = _CACHE[key]
    labels = {"made": made_labels, "own": truth}
    sets = [(features[n][i].numpy(), labels[n][i]) for n, i in parts]
    inputs, numbers = sets[0] if len(sets) == 1 else both(sets[0], sets[1])
    rows, classes = torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(numbers)
    network.machine.fit(rows, classes, (rows, classes))
    return network.machine(features["own"][test]).argmax(dim=1).numpy()


def table(rows: dict[str, Any]) -> str:
    """Return rows as Markdown."""
    lines = ["| method | macro-F1 (95 %) | right | recall by class |", "| --- | --- | --- | --- |"]
    for name, row in rows.items():
        recall = ", ".join(f"{k} {v:.2f}" for k, v in row["recall"].items())
        lines.append(
            f"| {name} | {row['macro_f1']:.3f} ({row['low']:.3f} to {row['high']:.3f}) | "
            f"{row['right']:.3f} | {recall} |"
        )
    return "\n".join(lines)


@torch.no_grad()
def main() -> None:
    """Measure one part, and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("patterns", "waveforms"))
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--simulated", type=int, default=240)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    if arguments.part == "patterns":
        content = patterns(arguments.real, arguments.run)
    else:
        content = waveforms(arguments.real, arguments.simulated)
    content |= {
        "seed": SEED,
        "commit": arguments.commit,
        "machine": f"{platform.machine()}, no GPU",
    }
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    for name in ("rows", "without_corona"):
        if name in content:
            print(f"\n{name}\n{table(content[name])}")


if __name__ == "__main__":
    main()
