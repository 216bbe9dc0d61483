"""Measure how much of the frame is looked at by colours alone, with and without a background.

python docs/results/scripts/looked_at.py --data shared/data --work runs/looked_at \
    --output docs/results/looked_at.json            # and looked_at.md beside it

Masks: of normals' colours alone, under the rule of all normals (``remove_background=auto``) and
that of each frame's border (``true``, as before). Agreement is the intersection over union with
the mask by 3D points, or with the drawn part. Figures: ``btf modalities=rgb`` on some of the
sets, under each rule; nothing is chosen on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from record import machine

from chiasm.detection.config import DetectionConfig
from chiasm.detection.evaluate import evaluate
from chiasm.detection.preparation.background import BackgroundSurvey
from chiasm.detection.preparation.prepare import PreparationSettings, part_mask
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.survey import survey
from chiasm.detection.scenes.maker import render_scene, render_view
from chiasm.detection.train import train
from chiasm.files.images import write_mask, write_rgb

NORMALS, CALIBRATION, TEST = 40, 20, 15  # parts, at most, of a set
TRAY = (0.35, 0.38, 0.40)
Part = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]  # colours, defect, the true mask


@dataclass(frozen=True)
class PartSet:
    """Parts of colours alone: what lies behind them, and how to get them by split."""

    behind: str
    parts: Callable[[str], Iterator[Part]]


def read(path: Path, lamp: int | None = None, *, zoom: bool = False) -> Callable[..., Any]:
    """Parts of a data set, without their 3D points; ``zoom`` cuts out of the middle of the part."""

    def parts(split: str) -> Iterator[Part]:
        source = open_source(path, lamp=lamp)
        most = {"train": NORMALS, "validation": CALIBRATION}.get(split, 10**9)
        refs = [r for r in source.refs if r.split == split][:most]
        for ref in refs:
            sample = source.load(ref)
            truth = part_mask(sample, PreparationSettings())
            if zoom:
                row, column = (int(np.median(axis)) for axis in np.nonzero(truth))
                window = slice(row - 32, row + 32), slice(column - 32, column + 32)
                yield sample.rgb[window], None, None
            else:
                yield sample.rgb, sample.mask if ref.label else None, truth

    return parts


def made(product: str, *, tray: bool) -> Callable[..., Any]:
    """Rendered parts, on supports that differ, or all on one plain tray."""

    def parts(split: str) -> Iterator[Part]:
        start = {"train": 0, "validation": 100, "test": 200}[split]
        count = {"train": NORMALS, "validation": CALIBRATION}.get(split, 2 * TEST)
        for seed in range(start, start + count):
            defect = "scratch" if split == "test" and seed % 2 else "good"
            sample, view = (f(product, defect, seed, 256) for f in (render_scene, render_view))
            rgb = sample.rgb.copy()
            if tray:
                rng = np.random.default_rng(seed)
                around = cv2.dilate(view.part.view(np.uint8), np.ones((3, 3), np.uint8)) == 0
                noise = rng.normal(0, 0.008, (int(around.sum()), 3))
                rgb[around] = np.array(TRAY) * (1 + rng.normal(0, 0.02)) + noise
            yield np.clip(rgb, 0, 1), view.mask if defect != "good" else None, view.part

    return parts


def tyres(contrast: float, *, turned: bool) -> Callable[..., Any]:
    """Tyres that fill the frame: rubber with a tread, a bright hub; defects are dull spots."""

    def parts(split: str) -> Iterator[Part]:
        start = {"train": 0, "validation": 100, "test": 200}[split]
        count = {"train": NORMALS, "validation": CALIBRATION}.get(split, 2 * TEST)
        for seed in range(start, start + count):
            rng = np.random.default_rng(seed)
            shift = rng.normal(0, 2, 2) if turned else np.zeros(2)
            rows, columns = np.mgrid[:256, :256] - 128 + shift[:, None, None]
            radius, angle = np.hypot(rows, columns) / 256, np.arctan2(rows, columns)
            angle = angle + (rng.uniform(0, 2 * np.pi) if turned else 0)
            grey = 0.1 + contrast * np.sign(np.sin(40 * angle)) * np.sin(28 * np.pi * radius)
            hub = radius < 0.16
            grey[hub] = 0.45 + 0.05 * np.sin(6 * angle[hub])
            defect = None
            if split == "test" and seed % 2:
                centre = 128 + 85 * np.array([np.cos(seed), np.sin(seed)])
                rows, columns = np.mgrid[:256, :256]
                defect = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 10**2
                grey[defect] = 0.1
            rgb = grey[..., None] * (1 + rng.normal(0, 0.03)) + rng.normal(0, 0.006, (256, 256, 3))
            yield np.clip(rgb, 0, 1), defect, np.ones((256, 256), bool)

    return parts


def textures(file: Path) -> Callable[..., Any]:
    """Pieces of one picture of a texture, which fill the frame."""

    def parts(split: str) -> Iterator[Part]:
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) / np.float32(255)
        rng = np.random.default_rng(0)
        for _ in range(NORMALS):
            row, column = (int(rng.integers(0, side - 200)) for side in picture.shape[:2])
            piece = picture[row : row + 200, column : column + 200] * (1 + rng.normal(0, 0.03))
            yield np.clip(piece, 0, 1), None, np.ones((200, 200), bool)

    return parts


def sets(data: Path) -> dict[str, PartSet]:
    """All sets by name."""
    gland, candy = data / "mvtec_3d/cable_gland", data / "eyecandies/CandyCane"
    plain, none = "one plain tray", "nothing: the part fills the frame"
    found = {
        "cable_gland": PartSet("black, plain", read(gland)),
        "cable_gland, 64 x 64 of its middle": PartSet(none, read(gland, zoom=True)),
        "CandyCane": PartSet("a static table with joints", read(candy, 4)),
    }
    for product in ("flange", "bracket", "biscuit"):
        found[f"{product}, tray"] = PartSet(plain, made(product, tray=True))
        found[product] = PartSet("supports of several colours", made(product, tray=False))
    for contrast in (0.01, 0.03):
        for turned in (True, False):
            name = f"tyre, tread {contrast:g}, {'turned' if turned else 'in one pose'}"
            found[name] = PartSet(none, tyres(contrast, turned=turned))
    for folder in sorted((data / "textures/dtd").iterdir()):
        if folder.is_dir():
            found[f"texture {folder.name}"] = PartSet(none, textures(sorted(folder.iterdir())[0]))
    return found


def write_table(folder: Path, parts: PartSet, splits: tuple[str, ...]) -> list[np.ndarray | None]:
    """Write pictures and a table without 3D; return the true masks of the training."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, truths = ["rgb,mask,split,label"], []
    for split in splits:
        for number, (rgb, defect, truth) in enumerate(parts.parts(split)):
            write_rgb(folder / f"{split}_{number}.png", np.asarray(rgb, np.float32))
            mask = ""
            if defect is not None:
                mask = f"{split}_{number}_mask.png"
                write_mask(folder / mask, defect)
            rows.append(f"{split}_{number}.png,{mask},{split},{int(defect is not None)}")
            truths += [truth] if split == "train" else []
    (folder / "parts.csv").write_text("\n".join(rows) + "\n")
    return truths


def masks(folder: Path, truths: list[np.ndarray | None]) -> dict[str, Any]:
    """Measure the masks of the training's normals under both rules."""
    source = open_source(folder / "parts.csv")
    refs = [ref for ref in source.refs if ref.split == "train"]
    frames = BackgroundSurvey()
    for ref in refs:
        frames.add(source.load(ref))
    figures = frames.measure()
    entry: dict[str, Any] = {
        "normals": len(refs),
        "variation": round(255 * figures.variation, 2),
        "structure": round(255 * figures.structure, 2),
        "limit": round(255 * figures.limit, 2),
    }
    for name, rule in (("auto", "auto"), ("border", True)):
        settings, sentence = survey(source, refs, PreparationSettings(), remove_background=rule)
        found = [part_mask(source.load(ref), settings) for ref in refs]
        shares = [float(mask.mean()) for mask in found]
        entry[name] = {
            "told by": settings.told_by if settings.remove_background else "whole frames",
            "reason": sentence,
            "share": [round(float(f(shares)), 3) for f in (np.median, np.min, np.max)],
        }
        pairs = [(m, t) for m, t in zip(found, truths, strict=True) if t is not None]
        if pairs:
            agreement = [float((m & t).sum() / (m | t).sum()) for m, t in pairs]
            lost = [float((t & ~m).sum() / t.sum()) for m, t in pairs]
            entry[name]["agreement"] = round(float(np.median(agreement)), 3)
            entry[name]["part left out"] = [round(float(f(lost)), 3) for f in (np.median, np.max)]
    return entry


def figures(folder: Path) -> dict[str, Any]:
    """Train and test a memory of colours under both rules."""
    found: dict[str, Any] = {}
    for name, rule in (("auto", "auto"), ("border", True)):
        out = folder / name
        settings = {"model": "btf", "modalities": "rgb", "rotate": False, "image_size": 256}
        config = DetectionConfig.make(
            data=folder / "parts.csv", out=out, remove_background=rule, **settings
        )
        if not (out / "model/contract.json").exists():
            train(config)
        metrics = evaluate(out, data=folder / "parts.csv")
        found[name] = {
            "image AUROC": metrics["image"]["auroc"]["value"],
            "pixel AP": metrics["pixel"]["ap"]["value"],
            "AUPRO(0.3)": metrics["region"]["aupro"]["0.3"]["value"],
            "AUPRO(0.05)": metrics["region"]["aupro"]["0.05"]["value"],
        }
    return found


def page(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = [
        "# How much of the frame is looked at, by colours alone",
        "",
        "Masks of normals' colours without 3D points. *auto* decides from all normals whether "
        "there is a background ([decision 19](../decisions/0019-how-a-run-saw.md)); *border* is"
        " the rule of each frame's border (`remove_background=true`, until now the only one). "
        "Shares are median (least to most). *Left out* is the share of the part that the mask "
        "misses, median (most); the part is that of 3D points, or as drawn. Variation and "
        "structure are residues of what would be left out, in grey levels of 255.",
        "",
        "| Set | Behind the part | Variation, structure | auto: told by | Looked at | Left out | "
        "border: looked at | Left out |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]

    def share(entry: dict[str, Any]) -> str:
        median, least, most = entry["share"]
        return f"{median:.3f} ({least:.3f} to {most:.3f})"

    def lost(entry: dict[str, Any]) -> str:
        if "part left out" not in entry:
            return "not known"
        return "{:.3f} ({:.3f})".format(*entry["part left out"])

    for name, entry in record["masks"].items():
        auto, border = entry["auto"], entry["border"]
        lines.append(
            f"| {name} | {entry['behind']} | {entry['variation']:.2f}, {entry['structure']:.2f} | "
            f"{auto['told by']} | {share(auto)} | {lost(auto)} | {share(border)} | {lost(border)} |"
        )
    if record["figures"]:
        names = ("image AUROC", "pixel AP", "AUPRO(0.3)", "AUPRO(0.05)")
        lines += [
            "",
            "`btf modalities=rgb`, 256 pixels, 40 normals, one seed; nothing was chosen on these:",
            "",
            f"| Set | Rule | {' | '.join(names)} |",
            "| --- | --- |" + " --- |" * len(names),
        ]
        for name, rules in record["figures"].items():
            for rule, values in rules.items():
                cells = " | ".join(f"{values[n]:.3f}" for n in names)
                lines.append(f"| {name} | {rule} | {cells} |")
    lines += [
        "",
        f"`{record['command']}`, commit {record['commit']}, {record['machine']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train", default="", help="names of sets, separated by semicolons")
    given = parser.parse_args()
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    record: dict[str, Any] = {
        "command": "python docs/results/scripts/looked_at.py --data shared/data --work WORK "
        f"--output docs/results/looked_at.json --train '{given.train}'",
        "commit": answer.stdout.strip(),
        "machine": machine(),
        "masks": {},
        "figures": {},
    }
    trained = [name.strip() for name in given.train.split(";") if name.strip()]
    for name, parts in sets(given.data).items():
        splits = ("train", "validation", "test") if name in trained else ("train",)
        folder = given.work / name.replace(" ", "_").replace(",", "")
        truths = write_table(folder, parts, splits)
        record["masks"][name] = {"behind": parts.behind, **masks(folder, truths)}
        print(name, record["masks"][name]["auto"], flush=True)
    for name in trained:
        record["figures"][name] = figures(given.work / name.replace(" ", "_").replace(",", ""))
        print(name, record["figures"][name], flush=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")
    given.output.write_text(json.dumps(record, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
