"""Learning curve of a network trained from scratch: average precision by training images seen.

python docs/results/scripts/learning_curve.py --data FOLDER --out RUN --target clean \
    --images 40000 --seed 0 model=adnas_slim image_size=128 textures=FOLDER
python docs/results/scripts/learning_curve.py --table RUN RUN --output docs/results/NAME

The network is trained by images seen, not by minutes, so that two runs are comparable on a busy
machine. At each of the milestones it is measured on held-out normal parts with anomalies of its
own generators and of generators it never saw, and, for the report alone, on the test split: no
choice is made on these figures. In the end the model is saved, for ``chiasm evaluate``.
``--target input`` compares reconstructions with the defective input, as this library did before.
An interrupted run continues from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import machine
from torch import Tensor

import chiasm.detection.models.named  # noqa: F401  (registers the models)
from chiasm.detection.anomalies.generators import AnomalyGenerator, validation_generator
from chiasm.detection.building import builder_arguments
from chiasm.detection.calibrate import calibrate_and_save
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.opening import open_data
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.score_rule import choose_score_rule, score_rule_in_words
from chiasm.detection.training.segment import mask_at, total_loss
from chiasm.detection.training.synthetic import EpochOrder, SyntheticParts, fresh_loader
from chiasm.metrics.ranking import auroc, average_precision
from chiasm.metrics.region_overlap import aupro
from chiasm.samples import RGBDBatch
from chiasm.training.device import CPU, precision_on
from chiasm.training.schedule import cosine, set_learning_rate

SAVED_ELSEWHERE = ("modalities", "operations")  # in the contract, not as a builder's argument
MILESTONES = (1_000, 2_500, 5_000, 10_000, 20_000, 40_000, 80_000, 134_000)
SAVE_EVERY = 120  # seconds
VALIDATION_ROUNDS = 6  # of held-out parts; two leave a single run uncertain by 0.05


def input_as_target(batch: RGBDBatch) -> RGBDBatch:
    """Return the batch with the defective input in place of the clean part."""
    return replace(batch, clean_rgb=batch.rgb, clean_geometry=batch.geometry)


def odds_of(detector: AdnasDetector, batch: RGBDBatch) -> Tensor:
    """Compute the log-odds ``(N, 1, s, s)`` of a defect."""
    logits = detector(batch).logits
    return logits[:, 1:] - logits[:, :1]


@torch.no_grad()
def held_out_ap(
    detector: AdnasDetector, data: DetectionDataModule, generator: AnomalyGenerator
) -> float:
    """Compute the pixel AP on held-out normals with anomalies of a generator, on the object."""
    indices = data.held_out
    parts = SyntheticParts(
        [data.parts[i] for i in indices],
        numbers=indices,
        generator=generator,
        seed=data.config.seed * 10 + 2,
    )
    odds, masks = [], []
    for epoch in range(VALIDATION_ROUNDS):
        parts.epoch = epoch
        for batch in fresh_loader(
            parts, batch=8, scale=data.geometry, modalities=data.config.modalities, shuffle=False
        ):
            scores = odds_of(detector, batch)
            inside = mask_at(replace(batch, mask=batch.foreground), scores.shape[-2:]) > 0
            odds.append(scores[inside])
            masks.append(mask_at(batch, scores.shape[-2:])[inside] > 0)
    return average_precision(torch.cat(odds).numpy(), torch.cat(masks).numpy())


@torch.no_grad()
def test_figures(detector: AdnasDetector, data: DetectionDataModule) -> dict[str, float]:
    """Measure the network alone on the prepared test parts, at the crop's size; for the report."""
    cache = PreparationCache()
    labels, image_scores, maps, masks, scores_inside, masks_inside = [], [], [], [], [], []
    for ref in data.source.refs:
        if ref.split != "test":
            continue
        part = cache.get(data.source, ref, data.preparation)
        if part.mask is None:
            continue
        batch = to_batch([part], data.geometry, modalities=data.config.modalities)
        output = detector(batch)
        scores = detector.scores(output, batch.foreground)
        labels.append(part.label)
        image_scores.append(float(detector.image_scores(output, scores, batch.foreground)[0]))
        maps.append(scores[0, 0].numpy())
        masks.append(part.mask)
        odds = output.logits[:, 1:] - output.logits[:, :1]
        inside = mask_at(replace(batch, mask=batch.foreground), odds.shape[-2:]) > 0
        scores_inside.append(odds[inside])
        masks_inside.append(mask_at(batch, odds.shape[-2:])[inside] > 0)
    every_map, every_mask = np.stack(maps), np.stack(masks)
    return {
        "cells_ap": average_precision(
            torch.cat(scores_inside).numpy(), torch.cat(masks_inside).numpy()
        ),
        "pixel_ap": average_precision(every_map.ravel(), every_mask.ravel()),
        "aupro_0.3": aupro(every_map, every_mask, limits=(0.3,))[0.3],
        "image_auroc": float(auroc(np.array(image_scores), np.array(labels))),
    }


class Curve:
    """A training by images seen, with its measurements, that can be interrupted.

    Args:
        data: of the run.
        fusion: name of a hand-made fusion, or a genotype.
        target: ``"clean"`` or ``"input"``: what reconstructions are compared with.
        images: to be seen in all.
    """

    def __init__(self, data: DetectionDataModule, *, fusion: Any, target: str, images: int) -> None:
        self.data, self.target, self.images, self.fusion = data, target, images, fusion
        answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
        self.commit = answer.stdout.decode().strip()
        self.detector = data.detector(fusion)
        config = data.config
        self.optimizer = torch.optim.AdamW(
            self.detector.parameters(), lr=config.learning_rate, weight_decay=1e-4
        )
        self.epoch = self.seen = 0
        self.seconds = 0.0
        self.points: list[dict[str, float]] = []
        self.checkpoint = config.out / "curve.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=False)
            self.detector.load_state_dict(state["detector"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.seen, self.seconds = state["epoch"], state["seen"], state["seconds"]
            self.points = state["points"]

    def save(self) -> None:
        """Write the checkpoint and the figures so far."""
        state = {
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in ("epoch", "seen", "seconds", "points")},
        }
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)
        self.write()

    def write(self) -> None:
        """Write the figures so far."""
        config = self.data.config
        settings = config.model_dump(mode="json", exclude={"data", "out", "textures"})
        entry = {
            "target": self.target,
            "seed": config.seed,
            "commit": self.commit,
            "machine": machine(),
            "data": self.data.source.name,
            "training_parts": len(self.data.training),
            "held_out_parts": len(self.data.held_out),
            "images_planned": self.images,
            "command": f"learning_curve.py --target {self.target} --images {self.images} --seed "
            f"{config.seed}",
            "settings": settings,
            "textures": "folder" if config.textures else "built in",
            "points": self.points,
        }
        (config.out / "curve.json").write_text(json.dumps(entry, indent=1) + "\n")

    def run(self) -> None:
        """Train to the end, measuring at the milestones; a resumed run repeats half an epoch."""
        config = self.data.config
        parts = self.data.synthetic("train")
        saved = time.monotonic()
        while self.seen < self.images:
            loader = fresh_loader(
                parts,
                batch=min(config.batch, 8),
                scale=self.data.geometry,
                modalities=config.modalities,
                shuffle=True,
            )
            assert isinstance(loader.sampler, EpochOrder)
            loader.sampler.set_epoch(self.epoch)
            for batch in loader:
                started = time.monotonic()
                loss = self.step(batch)
                self.seconds += time.monotonic() - started
                before, self.seen = self.seen, self.seen + len(batch.foreground)
                if any(before < milestone <= self.seen for milestone in MILESTONES):
                    self.measure(loss)
                    self.save()
            self.epoch += 1
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        if self.points[-1]["images"] < self.seen:
            self.measure(loss)
            self.save()

    def step(self, batch: RGBDBatch) -> float:
        """Make one step of the weights; returns the loss."""
        rate = self.data.config.learning_rate * cosine(self.seen / self.images)
        set_learning_rate(self.optimizer, rate)
        if self.target == "input":
            batch = input_as_target(batch)
        self.optimizer.zero_grad()
        bfloat16 = precision_on(CPU, self.data.config.precision) == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            output = self.detector(batch)
        loss = total_loss(output, batch, loss=self.detector.loss)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def save_model(self) -> None:
        """Choose the score rule, calibrate, and save the model as ``chiasm train`` does."""
        detector = self.detector.eval()
        figures = {
            "validation_ap": choose_score_rule(detector, self.data),
            "rotations": self.data.rotations,
            "final_data": self.data.config.final_data,
            "images": self.seen,
        }
        detector.prune()
        arguments = builder_arguments(self.data.config)
        calibrate_and_save(
            detector,
            self.data,
            arguments={k: v for k, v in arguments.items() if k not in SAVED_ELSEWHERE},
            fusion=self.fusion,
            score_rule=score_rule_in_words(detector),
            genotype=None,
            figures=figures,
        )
        self.data.config.save(self.data.config.out / "config.yaml")

    def measure(self, loss: float) -> None:
        """Measure the network as it is now."""
        self.detector.eval()
        point = {
            "images": self.seen,
            "loss": loss,
            "step_seconds": round(self.seconds, 1),
            "own_ap": held_out_ap(self.detector, self.data, self.data.training_anomalies),
            "held_out_ap": held_out_ap(self.detector, self.data, validation_generator()),
            **{f"test_{k}": v for k, v in test_figures(self.detector, self.data).items()},
        }
        self.detector.train()
        self.points.append(point)
        print(json.dumps(point), flush=True)


COLUMNS = {
    "images": "images seen",
    "own_ap": "AP, own generators",
    "held_out_ap": "AP, other generators",
    "test_cells_ap": "test: AP of cells",
    "test_pixel_ap": "test: pixel AP",
    "test_aupro_0.3": "test: AUPRO 0.3",
    "test_image_auroc": "test: image AUROC",
}


def tabulate(runs: Sequence[Path], output: Path) -> None:
    """Write the curves of some runs as ``OUTPUT.json`` and ``OUTPUT.md``.

    Settings that are not the same in all runs stand with each.
    """
    curves = {run.name: json.loads((run / "curve.json").read_text()) for run in runs}
    output.with_suffix(".json").write_text(json.dumps(curves, indent=1) + "\n")
    lines = ["# Learning curves", ""]
    every = [curve["settings"] for curve in curves.values()]
    names = set(every[0]).intersection(*every) - {"search"}
    different = sorted(n for n in names if any(s[n] != every[0][n] for s in every))
    for name, curve in curves.items():
        chosen = ", ".join(f"`{n}={curve['settings'][n]}`" for n in different)
        lines += [
            f"## {name}",
            "",
            f"Target: {curve['target']}; augmented: {curve['settings']['augment']}. "
            f"{curve['settings']['model']}, {curve['data']}, "
            f"{curve['settings']['image_size']} pixels, seed {curve['seed']}, commit "
            f"{curve['commit']}, {curve['training_parts']} parts train and "
            f"{curve['held_out_parts']} are held out; textures: {curve['textures']}; planned: "
            f"{curve['images_planned']} images. {curve['machine']}."
            + (f" Settings that differ between the curves: {chosen}." if chosen else ""),
            "",
            "| " + " | ".join(COLUMNS.values()) + " |",
            "| " + " | ".join("---" for _ in COLUMNS) + " |",
        ]
        for point in curve["points"]:
            cells = [f"{point['images']}"] + [f"{point[c]:.3f}" for c in list(COLUMNS)[1:]]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    output.with_suffix(".md").write_text("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--target", choices=("clean", "input"), default="clean")
    parser.add_argument("--fusion", default="concatenation")
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, nargs="+", help="runs to tabulate instead")
    parser.add_argument("--output", type=Path, help="of the table, without its suffix")
    parser.add_argument("settings", nargs="*", help="key=value, as of chiasm train")
    arguments = parser.parse_args()
    if arguments.table:
        tabulate(arguments.table, arguments.output)
    else:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        run_config = DetectionConfig.make(
            overrides=arguments.settings,
            data=arguments.data,
            out=arguments.out,
            seed=arguments.seed,
        )
        run_config.out.mkdir(parents=True, exist_ok=True)
        curve = Curve(
            open_data(run_config),
            fusion=arguments.fusion,
            target=arguments.target,
            images=arguments.images,
        )
        curve.run()
        curve.save_model()
