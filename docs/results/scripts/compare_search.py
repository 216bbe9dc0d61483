"""Compare what a search finds with the hand-made concatenation, paired over the same test parts.

python docs/results/scripts/compare_search.py --data FOLDER --out RUN --seeds 0,1,2 \
    image_size=128 rounds=4 train_epochs=8 search.epochs=4 search.finalists=4
python docs/results/scripts/compare_search.py --table RUN RUN --name searched

For each seed the features are stored once. A search by evolution then finds an architecture, and
these detectors are trained for equally many steps and scored on the test split, which chooses
nothing:

- hand-made: the concatenation of all maps
- hand-made, nothing hidden: the same without ``map_dropout``
- searched: what won on held-out parts with anomalies of generators that training does not use
- taken: of the hand-made and the searched the one with the better validation AP, as a training that
  searches takes it
- searched at 0.6: what wins where 0.6 of the milliseconds of the hand-made one are the budget
- hand-made at 0.6: what a person would leave out for as little time: all maps of one sensor, or of
  both those that need no memory of normals. All three are trained, and the one with the best
  validation AP is the row, where one of the search's is trained in full

Differences are paired: the same draws of test parts for both, the mean over the seeds in each draw.
A run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from compare_fusions import StoredFeatures, TestParts
from numpy.typing import NDArray
from record import RESULTS, machine

from chiasm.deploy.fusion_costs import measure_costs
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.evolution import evolve_fusion
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.opening import open_data
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.report.scored import ScoredSample, framed
from chiasm.detection.train import train
from chiasm.fusion.costs import Cost, PieceCosts
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.metrics.bootstrap import bootstrap_weights, percentile_interval
from chiasm.metrics.pixel_histograms import PixelHistograms
from chiasm.metrics.ranking import auroc, average_precision
from chiasm.metrics.region_overlap import aupro
from chiasm.runs.evolution_round import MILLISECONDS

HAND_MADE, NOTHING_HIDDEN = "hand-made", "hand-made, nothing hidden"
SEARCHED, CHEAPER = "searched", "searched at 0.6"
LEAN = tuple(f"hand-made at 0.6, {kept}" for kept in ("colour", "3D", "no memory"))
WAYS = (HAND_MADE, NOTHING_HIDDEN, SEARCHED, CHEAPER, *LEAN)
BEST_LEAN = "hand-made at 0.6"
TAKEN = "taken"
SHARE, LIMIT, DRAWS = 0.6, 0.05, 1000
FIGURES = ("image_auroc", "pixel_ap", "aupro_0.05")


def measure(data: Path, out: Path, seeds: Sequence[int], overrides: Sequence[str]) -> None:
    """Search, train every way and score the test split, with every seed."""
    common = [*overrides, "search.method=evolution"]
    for seed in seeds:
        base = DetectionConfig.make(overrides=common, data=data, out=out / f"seed{seed}", seed=seed)
        base.out.mkdir(parents=True, exist_ok=True)
        ways = [way for way in WAYS if way != NOTHING_HIDDEN or base.map_dropout > 0]
        if all((base.out / _file(way) / "figures.json").exists() for way in ways):
            continue
        module = open_data(base)
        path = base.out / "genotype.json"
        if path.exists():
            genotype = Genotype.load(path)
        else:
            genotype = evolve_fusion(
                base, module, measure=partial(_costs, out / "costs.json"), at_knee=False
            )
        pareto = json.loads((base.out / "pareto.json").read_text())
        test = TestParts(module)
        for way in ways:
            folder = base.out / _file(way)
            if (folder / "figures.json").exists():
                continue
            folder.mkdir(exist_ok=True)
            cells: Genotype | None
            if way in LEAN:
                cells, cost = _lean(way, module, out / "costs.json")
            elif way == CHEAPER:
                budget = SHARE * _fusion(HAND_MADE, genotype, pareto, module)[1]
                cells, cost = _within(base, budget, module, out / "costs.json")
            else:
                cells, cost = _fusion(way, genotype, pareto, module)
            if cells is not None:
                cells.save(folder / "given.json")
            own = {NOTHING_HIDDEN: ["map_dropout=0"]}
            own |= {key: [f"search.budget_ms={cost}"] for key in (CHEAPER, *LEAN)}
            config = DetectionConfig.make(
                overrides=[*common, *own.get(way, [])],
                data=data,
                out=folder,
                seed=seed,
                fusion="concatenation" if cells is None else str(folder / "given.json"),
            )
            started = time.monotonic()
            result = train(config, data=replace(module, config=config, started=started))
            row = {
                "seed": seed,
                "way": way,
                "milliseconds": cost,
                "validation_ap": result.validation_ap,
                "steps": json.loads((folder / "learning.json").read_text())["steps"],
                "rule": json.loads((folder / "score_rule.json").read_text())["chosen"],
                "maps": len(cells.required) if cells is not None else len(module.pools.maps()),
                **score(test, folder),
            }
            (folder / "figures.json").write_text(json.dumps(row, indent=1) + "\n")
            print(f"## {row}", flush=True)
        module.remove_stored()
        facts = {
            "data": data.name,
            "seeds": list(seeds),
            "command": "python docs/results/scripts/compare_search.py --data FOLDER --out RUN "
            + " ".join(["--seeds", ",".join(map(str, seeds)), *overrides]),
            "commit": _commit(),
            "machine": machine(),
        }
        (out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def _costs(path: Path, detector: AdnasDetector, data: DetectionDataModule) -> PieceCosts:
    """Measure the pieces once for all seeds: their costs do not depend on the seed."""
    if path.exists():
        pieces = json.loads(path.read_text())
        costs = {name: Cost(**cost) for name, cost in pieces.items()}
        return PieceCosts(costs, detector.source.units)
    measured = measure_costs(detector, data)
    path.write_text(json.dumps(measured.to_json()["pieces"], indent=1) + "\n")
    return measured


def _file(way: str) -> str:
    return way.replace(",", "").replace(" ", "_")


def _fusion(
    way: str, genotype: Genotype, pareto: dict[str, Any], module: DetectionDataModule
) -> tuple[Genotype | None, float]:
    """Return the architecture of a way, None for the concatenation, and its milliseconds."""
    cost = {json.dumps(row["cells"]): row[MILLISECONDS] for row in pareto["judged"]}
    hand_made = json.loads(concatenation(module.pools).to_json())["cells"]
    whole = cost[json.dumps(hand_made)]
    if way in (HAND_MADE, NOTHING_HIDDEN):
        return None, whole
    return genotype, cost[json.dumps(json.loads(genotype.to_json())["cells"])]


def _within(
    base: DetectionConfig, budget: float, module: DetectionDataModule, costs: Path
) -> tuple[Genotype, float]:
    """Search again with a budget of milliseconds; return what won and its milliseconds."""
    config = base.model_copy(
        update={
            "out": base.out / "within_budget",
            "search": base.search.model_copy(update={"budget_ms": budget}),
        }
    )
    config.out.mkdir(exist_ok=True)
    data = replace(module, config=config)
    genotype = evolve_fusion(config, data, measure=partial(_costs, costs), at_knee=False)
    price = _costs(costs, data.detector("one_shot"), data)
    maps = module.pools.maps(genotype.required)
    return genotype, price.of(genotype, maps=maps).milliseconds


def _lean(way: str, module: DetectionDataModule, costs: Path) -> tuple[Genotype, float]:
    """Return a concatenation of fewer maps and its milliseconds."""
    detector, pools = module.detector("one_shot"), module.pools
    units = {name: detector.source.units(frozenset({name})) for name in pools.maps()}
    kept = tuple(
        name
        for name in pools.maps()
        if {
            LEAN[0]: name.startswith("rgb/"),
            LEAN[1]: name.startswith("geometry/"),
            LEAN[2]: not any("memory" in unit for unit in units[name]),
        }[way]
    )
    whole = concatenation(pools)
    cells = {whole.output: replace(whole.cells[whole.output], inputs=kept)}
    lean = replace(whole, cells=cells)
    price = _costs(costs, detector, module)
    return lean, price.of(lean, maps=pools.maps(lean.required)).milliseconds


def score(test: TestParts, folder: Path) -> dict[str, float]:
    """Score the test parts; maps and masks are kept for paired draws."""
    predictor = DetectionPredictor.load(folder)
    stored = StoredFeatures()
    predictor.detector.source = stored
    frames, scores, labels = [], [], []
    for sample, part, features in zip(test.samples, test.parts, test.features):
        maps = {name: value.float() for name, value in features.maps.items()}
        stored.current = replace(features, maps=maps)
        verdict = predictor.predict_prepared([part])[0]
        frames.append(framed(ScoredSample(verdict, sample)))
        scores.append(verdict.score)
        labels.append(int(sample.label or 0))
    maps_, masks = [f[0] for f in frames], [f[1] for f in frames]
    np.savez_compressed(
        folder / "maps.npz",
        **{f"map{i}": m for i, m in enumerate(maps_)},
        **{f"mask{i}": m for i, m in enumerate(masks)},
        scores=np.array(scores),
        labels=np.array(labels),
    )
    flat = np.concatenate([m.ravel() for m in maps_]), np.concatenate([m.ravel() for m in masks])
    return {
        "image_auroc": auroc(np.array(scores), np.array(labels)),
        "pixel_ap": average_precision(*flat),
        "aupro_0.05": aupro(maps_, masks, limits=(LIMIT,))[LIMIT],
    }


def _drawn(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return each figure of every draw of test parts."""
    with np.load(folder / "maps.npz") as file:
        labels, scores = file["labels"], file["scores"]
        histograms = PixelHistograms()
        for number in range(len(labels)):
            histograms.update(file[f"map{number}"], file[f"mask{number}"])
    weights = bootstrap_weights(len(labels), stratify=labels, draws=DRAWS, seed=0)
    images = [np.repeat(np.arange(len(labels)), row.astype(int)) for row in np.asarray(weights)]
    return {
        "image_auroc": np.array([auroc(scores[i], labels[i]) for i in images]),
        "pixel_ap": np.asarray(histograms.average_precision(weights)),
        "aupro_0.05": np.asarray(histograms.aupro((LIMIT,), weights)[LIMIT]),
    }


def table(runs: Sequence[Path], name: str) -> None:
    """Write figures and paired differences of some runs as JSON and Markdown."""
    lines = ["# Searched fusions against the hand-made one", ""]
    lines += [(__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    content = []
    for run in runs:
        facts = json.loads((run / "facts.json").read_text())
        folders = [run / f"seed{seed}" for seed in facts["seeds"]]
        ways = [w for w in WAYS if (folders[0] / _file(w) / "figures.json").exists()]
        done = [f for f in folders if all((f / _file(w) / "figures.json").exists() for w in ways)]
        rows = {
            way: [json.loads((f / _file(way) / "figures.json").read_text()) for f in done]
            for way in ways
        }
        drawn = {way: [_drawn(f / _file(way)) for f in done] for way in ways}
        better = [
            max((HAND_MADE, SEARCHED), key=lambda way, n=n: rows[way][n]["validation_ap"])
            for n in range(len(done))
        ]
        rows[TAKEN] = [rows[way][n] for n, way in enumerate(better)]
        drawn[TAKEN] = [drawn[way][n] for n, way in enumerate(better)]
        if set(LEAN) <= rows.keys():
            chosen = [
                max(LEAN, key=lambda way, n=n: rows[way][n]["validation_ap"])
                for n in range(len(done))
            ]
            rows[BEST_LEAN] = [rows[way][n] for n, way in enumerate(chosen)]
            drawn[BEST_LEAN] = [drawn[way][n] for n, way in enumerate(chosen)]
        lines += [f"## {facts['data']}, {len(done)} seeds", ""]
        lines += [f"`{facts['command']}`, commit {facts['commit']}, {facts['machine']}.", ""]
        lines += ["| | maps | ms | validation AP | image AUROC | pixel AP | AUPRO(0.05) |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
        for way, of in rows.items():
            cells = [
                _spread([r["maps"] for r in of], 0),
                _spread([r["milliseconds"] for r in of], 1),
            ]
            cells += [_spread([r[key] for r in of]) for key in ("validation_ap", *FIGURES)]
            lines.append(f"| {way} | {' | '.join(cells)} |")
        lines += ["", "| difference | image AUROC | pixel AP | AUPRO(0.05) |"]
        lines += ["| --- | --- | --- | --- |"]
        differences: dict[str, Any] = {}
        pairs = [(way, HAND_MADE) for way in (SEARCHED, TAKEN, CHEAPER)]
        pairs += [(CHEAPER, BEST_LEAN), (HAND_MADE, NOTHING_HIDDEN)]
        for way, other in (pair for pair in pairs if set(pair) <= rows.keys()):
            cells = []
            for key in FIGURES:
                mean = float(np.mean([a[key] - b[key] for a, b in zip(rows[way], rows[other])]))
                pair = zip(drawn[way], drawn[other])
                draws = np.mean([a[key] - b[key] for a, b in pair], axis=0)
                low, high = percentile_interval(draws)
                differences.setdefault(f"{way} - {other}", {})[key] = [mean, low, high]
                cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
            lines.append(f"| {way} − {other} | {' | '.join(cells)} |")
        lines.append("")
        content.append({**facts, "rows": rows, "differences": differences})
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text("\n".join(lines))


def _spread(values: Sequence[float], digits: int = 3) -> str:
    values = [v for v in values if math.isfinite(v)]
    text = f"{np.mean(values):.{digits}f}"
    if len(values) > 1 and min(values) != max(values):
        text += f" ({min(values):.{digits}f}–{max(values):.{digits}f})"
    return text


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
    return answer.stdout.decode().strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--table", type=Path, nargs="+")
    parser.add_argument("--name", help="of the table in docs/results")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    if given.table:
        table(given.table, given.name)
        sys.exit()
    measure(given.data, given.out, [int(s) for s in given.seeds.split(",")], given.overrides)
