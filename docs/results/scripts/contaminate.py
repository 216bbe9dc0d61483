"""What hidden defects among the normals cost, with and without contamination=0.1.

python docs/results/scripts/contaminate.py --product flange --out FOLDER --commit ID \
    image_size=192 rounds=2 train_epochs=8

Makes built-in scenes, hides defective parts among the training and calibration normals, trains on
the clean and on the contaminated normals, and evaluates all on the same test parts. All sets have
equally many normals. Writes contamination_PRODUCT.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from record import RESULTS, machine

from chiasm.detection.config import DetectionConfig
from chiasm.detection.evaluate import evaluate
from chiasm.detection.scenes.defects import DEFECTS
from chiasm.detection.scenes.maker import GOOD, make_scenes
from chiasm.detection.train import train

SHARE = 0.1
ROLES = ("rgb", "xyz", "gt")


def hide(
    clean: Path, defects: Path, out: Path, *, kinds: list[str], train: int, validation: int
) -> list[str]:
    """Copy a data set, with a tenth of its normals replaced by defective parts of some kinds."""
    shutil.copytree(clean, out)
    hidden = []
    for split, count in (("train", train), ("validation", validation)):
        for number in range(round(SHARE * count)):
            kind = kinds[len(hidden) % len(kinds)]
            taken = f"{len(hidden) // len(kinds):03d}"
            # Spread over the folder, because the calibration and held-out parts are drawn by order.
            place = f"{number * round(1 / SHARE):03d}"
            for role in ROLES:
                suffix = ".tiff" if role == "xyz" else ".png"
                target = out / split / GOOD / role / f"{place}{suffix}"
                if role == "gt":
                    continue  # a normal's mask stays empty: nobody knows of the defect
                shutil.copy(defects / "test" / kind / role / f"{taken}{suffix}", target)
            hidden.append(f"{split}/{GOOD}/rgb/{place}: {kind}")
    return hidden


def figures(data: Path, out: Path, test: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Train, evaluate, and name the normals that were suspicious."""
    config = DetectionConfig.make(
        overrides=overrides, data=data, out=out, fusion="concatenation", seed=seed
    )
    train(config)
    metrics = evaluate(out, data=test)
    record = out / "suspicious.json"
    return {
        "image_auroc": metrics["image"]["auroc"]["value"],
        "pixel_ap": metrics["pixel"]["ap"]["value"],
        "aupro_0.05": metrics["region"]["aupro"]["0.05"]["value"],
        "kinds": {
            kind: {name: found[name]["value"] for name in ("image_auroc", "pixel_ap")}
            for kind, found in metrics["kinds"].items()
        },
        "suspicious": json.loads(record.read_text()) if record.exists() else None,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--product", default="flange")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="", help="of the result; that of the product")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--kinds", default=",".join(DEFECTS), help="of the hidden defects")
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--good", type=int, default=40)
    parser.add_argument("--per-defect", type=int, default=10)
    parser.add_argument("--ways", type=int, default=4, help="how many of the rows are run")
    parser.add_argument("--commit", required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    counts = {"train": arguments.train, "validation": arguments.validation}
    made: dict[str, Any] = {"products": (arguments.product,), "size": arguments.size}
    kinds = arguments.kinds.split(",")
    out: Path = arguments.out
    [clean] = make_scenes(
        out / "clean",
        **made,
        **counts,
        test_good=arguments.good,
        test_per_defect=arguments.per_defect,
        seed=arguments.seed,
    )
    # Another seed: no hidden part is a test part.
    [defects] = make_scenes(
        out / "defects",
        **made,
        train=0,
        validation=0,
        test_good=0,
        test_per_defect=-(-round(SHARE * (arguments.train + arguments.validation)) // len(kinds)),
        seed=arguments.seed + 1000,
    )
    hidden_folder = out / "hidden" / arguments.product
    shutil.rmtree(hidden_folder, ignore_errors=True)
    hidden = hide(clean, defects, hidden_folder, kinds=kinds, **counts)
    ways = {
        "clean": (clean, []),
        "hidden": (hidden_folder, []),
        "hidden, contamination=0.1": (hidden_folder, ["contamination=0.1"]),
        "clean, contamination=0.1": (clean, ["contamination=0.1"]),
    }
    rows = {}
    ways = {way: ways[way] for way in list(ways)[: arguments.ways]}
    for number, (way, (data, more)) in enumerate(ways.items()):
        run = out / f"run{number}"
        rows[way] = figures(data, run, clean, arguments.seed, [*arguments.overrides, *more])
        print(way, {name: v for name, v in rows[way].items() if isinstance(v, float)})
        result = {
            "command": "python docs/results/scripts/contaminate.py --product "
            f"{arguments.product} --size {arguments.size} --train {arguments.train} --validation "
            f"{arguments.validation} --good {arguments.good} --per-defect {arguments.per_defect} "
            f"--seed {arguments.seed} " + " ".join(arguments.overrides),
            "commit": arguments.commit,
            "machine": machine(),
            "hidden": hidden,
            "ways": rows,
        }
        path = arguments.results / f"contamination_{arguments.name or arguments.product}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
