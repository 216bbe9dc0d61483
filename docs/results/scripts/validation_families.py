"""Which synthetic anomalies predict the order of architectures on real defects.

python docs/results/scripts/validation_families.py --data shared/data/mvtec_3d/cable_gland \
    --out runs/families --architectures 48 image_size=192
python docs/results/scripts/validation_families.py --table docs/results/validation_families.json

Architectures are drawn from the space and run with shared weights, which were trained on the
training's generators. Each is judged by its pixel AP on held-out normals with the anomalies of one
generator, and, for the report alone, on the test parts. Spearman's rank correlation of both says
how well a family predicts; its interval is that of a bootstrap over architectures.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import machine
from scipy.stats import spearmanr

from chiasm.detection.anomalies.generators import (
    MixedGenerator,
    training_generator,
    validation_generator,
)
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.evolution import evidence_groups, train_shared
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.opening import open_run
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.training.feature_store import StoredBatch
from chiasm.detection.training.segment import mask_at
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.fusion.one_shot import batch_statistics, taking
from chiasm.metrics.ranking import average_precision
from chiasm.samples import RGBDBatch

RESULTS = Path(__file__).resolve().parents[1]
ROUNDS = 3  # of the held-out normals, for each generator


@torch.no_grad()
def stored(detector: AdnasDetector, batches: Sequence[RGBDBatch]) -> list[StoredBatch]:
    """Compute the features of batches once."""
    found = []
    for batch in batches:
        assert batch.mask is not None
        found.append(StoredBatch(detector.source(batch), batch.foreground, batch.mask))
    return found


@torch.inference_mode()
def pixel_ap(detector: AdnasDetector, genotype: Genotype, batches: Sequence[StoredBatch]) -> float:
    """Compute the pixel AP of an architecture with shared weights, on the object."""
    scores, masks = [], []
    with taking(detector.fusion, genotype), batch_statistics(detector):
        for batch in batches:
            logits = detector.fuse(batch.features).logits.float()
            inside = cells_inside(batch.foreground, logits.shape[-2:])
            scores.append((logits[:, 1] - logits[:, 0])[inside])
            masks.append(mask_at(batch, logits.shape[-2:])[:, 0][inside] > 0)
    return average_precision(torch.cat(scores).numpy(), torch.cat(masks).numpy())


def families(data: DetectionDataModule) -> dict[str, Callable[[], list[RGBDBatch]]]:
    """Return by generator what makes its batches of held-out normals."""
    indices = data.held_out

    def maker(component: Any) -> Callable[[], list[RGBDBatch]]:
        def make() -> list[RGBDBatch]:
            parts = SyntheticParts(
                [data.parts[i] for i in indices],
                numbers=indices,
                generator=MixedGenerator(((component, 1.0),), name=component.name),
                seed=data.config.seed * 10 + 7,
                owners=[data.owners[i] for i in indices],
                rounds=ROUNDS,
            )
            scale, modalities = data.geometry, data.config.modalities
            return list(
                fresh_loader(parts, batch=8, scale=scale, modalities=modalities, shuffle=False)
            )

        return make

    mixtures = {"training": training_generator(), "validation": validation_generator()}
    return {
        f"{part}: {component.name}": maker(component)
        for part, mixture in mixtures.items()
        for component, _ in mixture.components
    }


def real_batches(data: DetectionDataModule) -> list[RGBDBatch]:
    """Return the test parts, eight at a time; for the report alone."""
    cache = PreparationCache()
    parts = [
        cache.get(data.source, ref, data.preparation)
        for ref in data.source.refs
        if ref.split == "test"
    ]
    parts = [part for part in parts if part.mask is not None]
    return [
        to_batch(parts[i : i + 8], data.geometry, modalities=data.config.modalities)
        for i in range(0, len(parts), 8)
    ]


def correlation(a: np.ndarray, b: np.ndarray, *, draws: int = 2000) -> list[float]:
    """Return Spearman's correlation, and the 5 % and 95 % quantiles of its bootstrap."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        rows = rng.integers(0, len(a), len(a))
        values.append(spearmanr(a[rows], b[rows]).statistic)
    low, high = np.nanquantile(values, (0.05, 0.95))
    return [round(float(v), 3) for v in (spearmanr(a, b).statistic, low, high)]


def measure(given: argparse.Namespace) -> None:
    """Judge architectures, and add the source's correlations to the results."""
    config = DetectionConfig.make(
        data=given.data, out=given.out, overrides=["search.method=evolution", *given.settings]
    )
    data = open_run(config)
    detector = data.detector("one_shot")
    groups = evidence_groups(detector, data)
    space = FusionSpace(data.pools, config.nodes, config.operations, groups)
    train_shared(detector, data, space, seconds=float("inf"))
    detector.eval()
    rng = random.Random(config.seed)
    drawn = [concatenation(data.pools), *(space.draw(rng) for _ in range(given.architectures - 1))]
    rows: dict[str, list[float]] = {}
    for name, make in families(data).items():
        batches = stored(detector, make())
        rows[name] = [pixel_ap(detector, genotype, batches) for genotype in drawn]
        print(name, round(float(np.mean(rows[name])), 4), flush=True)
    test = stored(detector, real_batches(data))
    real = np.array([pixel_ap(detector, genotype, test) for genotype in drawn])
    for part in ("training", "validation"):
        of_part = [values for name, values in rows.items() if name.startswith(part)]
        rows[f"{part}: mean of all"] = np.mean(of_part, axis=0).tolist()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
    entry = {
        "data": data.source.name,
        "architectures": len(drawn),
        "settings": given.settings,
        "seed": config.seed,
        "commit": given.commit or commit.stdout.decode().strip(),
        "machine": machine(),
        "real_ap": [round(float(v), 5) for v in real],
        "families": {
            name: {
                "spearman": correlation(np.array(values), real),
                "mean_ap": round(float(np.mean(values)), 4),
                "ap": [round(v, 5) for v in values],
            }
            for name, values in rows.items()
        },
    }
    path = given.table or RESULTS / "validation_families.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    entries = [e for e in entries if (e["data"], e["seed"]) != (entry["data"], entry["seed"])]
    path.write_text(json.dumps([*entries, entry], indent=1) + "\n")
    write_table(path)


def write_table(path: Path) -> None:
    """Write the Markdown table beside the figures."""
    entries = json.loads(path.read_text())
    names = list(dict.fromkeys(name for entry in entries for name in entry["families"]))
    heads = [f"{e['data']}, {e['architectures']} architectures" for e in entries]
    lines = [
        "# Which synthetic anomalies predict the order on real defects",
        "",
        "Spearman's rank correlation of the pixel AP on held-out normals with the anomalies of one",
        "generator and of that on the half test set, over architectures with shared weights.",
        "In brackets: the 5 % and 95 % quantiles of a bootstrap over architectures.",
        "",
        "| Generator | " + " | ".join(heads) + " |",
        "| --- |" + " --- |" * len(entries),
    ]
    for name in names:
        cells = []
        for entry in entries:
            row = entry["families"].get(name)
            if row is None:
                cells.append("–")
            else:
                value, low, high = row["spearman"]
                cells.append(f"{value:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Settings, seeds, commits and machine stand in the JSON file beside this one."]
    lines += ["Script: `docs/results/scripts/validation_families.py`."]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("settings", nargs="*", help="name=value, e.g. seed=1")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--architectures", type=int, default=48)
    parser.add_argument("--commit", default="", help="of the code that is imported")
    parser.add_argument("--table", type=Path, help="JSON file; without --data only its table")
    arguments = parser.parse_intermixed_args()
    if arguments.data is None:
        write_table(arguments.table or RESULTS / "validation_families.json")
    else:
        measure(arguments)
