"""What the size of the memories of normals is worth to a head, on parts with synthetic anomalies.

python docs/results/scripts/memory_size.py --data FOLDER --out FILE.json image_size=256 seed=0 \
    --rounds 2 --sizes 1000 4000 20000

The cells of all parts go through the frozen backbone once. For each size memories are fitted to
all training parts; then a small head on what a concatenation reads (descriptor, residual, distances
of both sensors) is trained on the cells of four fifths of the parts, with anomalies of the
training, and judged by the AP of cells with anomalies of other generators on

- held out: the other fifth, each part compared without its own entries, in five divisions
- new: the calibration parts, which are in no memory

Gains over the first size are paired; their intervals draw parts again. With ``--folds`` a part of
the training is compared with memories that were fitted without the fifth of the parts that it
belongs to, instead of a memory without its own entries. No test part is read.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from record import machine
from torch import Tensor, nn
from torch.nn import functional as F

from chiasm.detection import opening
from chiasm.detection.anomalies.generators import AnomalyGenerator, validation_generator
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.layers.features import images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.layers.patches import gather, gather_owners
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.training.segment import mask_at
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.metrics.ranking import average_precision
from chiasm.samples import PreparedSample, RGBDBatch

BATCH, DIVISIONS, FOLDS, STEPS, DRAWS = 8, 5, 5, 300, 200
ANOMALOUS, NORMAL = 128, 896  # cells of a step
Rows = dict[str, Tensor]  # descriptors by modality, owner, part, mask: a row for each cell
Scores = list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]  # score, mask, part by division


def cells_of(data: DetectionDataModule, rounds: int) -> dict[str, Rows]:
    """Compute the cells of training and calibration parts, without and with anomalies."""
    seed = data.config.seed * 10
    everyone = (data.parts, data.owners)
    new = (data.calibration, [-1] * len(data.calibration))
    generator = validation_generator()
    return {
        "normal": _rows(data, _plain(data)),
        "training": _rows(data, _synthetic(data, *everyone, data.training_anomalies, seed, rounds)),
        "held out": _rows(data, _synthetic(data, *everyone, generator, seed + 2, 1)),
        "new": _rows(data, _synthetic(data, *new, generator, seed + 7, 1)),
    }


def _plain(data: DetectionDataModule) -> Iterator[RGBDBatch]:
    for start in range(0, len(data.parts), BATCH):
        numbers = range(start, min(start + BATCH, len(data.parts)))
        yield to_batch(
            [data.parts[i] for i in numbers],
            data.geometry,
            modalities=data.config.modalities,
            indices=[data.owners[i] for i in numbers],
        )


def _synthetic(
    data: DetectionDataModule,
    parts: Any,
    owners: list[int],
    generator: AnomalyGenerator,
    seed: int,
    rounds: int,
) -> Iterator[RGBDBatch]:
    shown: list[PreparedSample] = parts
    made = SyntheticParts(
        shown, numbers=range(len(shown)), generator=generator, seed=seed, owners=owners
    )
    for made.epoch in range(rounds):
        yield from fresh_loader(
            made,
            batch=BATCH,
            scale=data.geometry,
            modalities=data.config.modalities,
            shuffle=False,
        )


@torch.no_grad()
def _rows(data: DetectionDataModule, batches: Iterable[RGBDBatch]) -> Rows:
    source = data.frozen_source
    assert source is not None
    found: list[Rows] = []
    for number, batch in enumerate(batches):
        assert batch.index is not None
        rows: Rows = {}
        for modality in source.modalities:
            features = source.backbone(images_of(batch, modality))
            maps = source.memories[modality].describe(features)
            inside = cells_inside(batch.foreground, maps.shape[-2:])
            rows[modality] = gather(maps, inside)
        rows["owner"] = gather_owners(batch.index, inside)
        places = torch.arange(len(inside)) + 1_000 * number
        rows["part"] = gather_owners(places, inside)
        mask = torch.zeros_like(inside)
        if batch.mask is not None:
            mask = mask_at(batch, inside.shape[-2:])[:, 0] > 0
        rows["mask"] = mask[inside]
        found.append(rows)
    return {name: torch.cat([rows[name] for rows in found]) for name in found[0]}


def _memory(rows: Tensor, owners: Tensor, template: NormalMemory, size: int) -> NormalMemory:
    memory = NormalMemory(channels=template.channels, memory_entries=size, stride=template.stride)
    memory.fit(rows, owners)
    return memory


def _read(memory: NormalMemory, rows: Tensor, owners: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what a head reads of cells, and their relative distances."""
    query = (rows - memory.mean) * memory.weight
    distance, number = memory._nearest(query, owners, count=3)
    relative = distance[:, 0] / memory.usual[number].mean(dim=1)
    residual = (query - memory.bank[number[:, 0]]).abs()
    return torch.cat([query, residual, distance[:, :1], relative[:, None]], dim=1), relative


@torch.no_grad()
def read_cells(
    cells: Mapping[str, Rows], templates: Mapping[str, NormalMemory], size: int, *, folds: bool
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return by set what a head reads, and the mean relative distance of the sensors."""
    normal = cells["normal"]
    names = normal["owner"].unique()
    count = FOLDS if folds else 1
    numbers = torch.searchsorted(names, normal["owner"]) % count
    read: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in cells}
    for modality, template in templates.items():
        whole = _memory(normal[modality], normal["owner"], template, size)
        without = [
            _memory(normal[modality][numbers != k], normal["owner"][numbers != k], template, size)
            for k in range(count if folds else 0)
        ]
        for name, rows in cells.items():
            if name == "new":
                read[name].append(_read(whole, rows[modality], None))
            elif not folds:
                read[name].append(_read(whole, rows[modality], rows["owner"]))
            else:
                own = torch.searchsorted(names, rows["owner"]) % count
                pieces = [_read(m, rows[modality][own == k], None) for k, m in enumerate(without)]
                order = torch.cat([torch.nonzero(own == k)[:, 0] for k in range(count)]).argsort()
                read[name].append(
                    (
                        torch.cat([p[0] for p in pieces])[order],
                        torch.cat([p[1] for p in pieces])[order],
                    )
                )
    return {
        name: (torch.cat([x for x, _ in of], dim=1), torch.stack([r for _, r in of]).mean(dim=0))
        for name, of in read.items()
    }


def train_head(inputs: Tensor, mask: Tensor, seed: int) -> Callable[[Tensor], NDArray[Any]]:
    """Train a small head on cells; return its scores of others."""
    torch.manual_seed(seed)
    middle, deviation = inputs.mean(dim=0), inputs.std(dim=0) + 1e-6
    head = nn.Sequential(
        *(nn.Linear(inputs.shape[1], 32), nn.BatchNorm1d(32), nn.ReLU()),
        *(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1)),
    )
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    classes = [torch.nonzero(mask)[:, 0], torch.nonzero(~mask)[:, 0]]
    for _ in range(STEPS):
        drawn = [
            of[torch.randint(len(of), (count,))] for of, count in zip(classes, (ANOMALOUS, NORMAL))
        ]
        rows = torch.cat(drawn)
        odds, target = head((inputs[rows] - middle) / deviation)[:, 0], mask[rows].float()
        entropy = F.binary_cross_entropy_with_logits(odds, target, reduction="none")
        missed = 1 - torch.where(target > 0, odds.sigmoid(), 1 - odds.sigmoid())
        loss = 4 * (entropy * missed.square()).mean() + entropy.mean()  # focal and plain
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    head.eval()

    @torch.no_grad()
    def score(cells: Tensor) -> NDArray[Any]:
        blocks = [head((block - middle) / deviation)[:, 0] for block in cells.split(8192)]
        return torch.cat(blocks).numpy()

    return score


def judged(cells: Mapping[str, Rows], read: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Scores]:
    """Train a head in every division; return its scores of held-out and of new parts."""
    names = cells["normal"]["owner"].unique()
    place = {n: torch.searchsorted(names, cells[n]["owner"]) for n in ("training", "held out")}
    scores: dict[str, Scores] = {"held out": [], "new": []}
    for division in range(DIVISIONS):
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(division))
        outside = order[: len(names) // 5]
        inside = ~torch.isin(place["training"], outside)
        head = train_head(read["training"][0][inside], cells["training"]["mask"][inside], division)
        for name, kept in (
            ("held out", torch.isin(place["held out"], outside)),
            ("new", torch.ones(len(cells["new"]["mask"]), dtype=torch.bool)),
        ):
            rows = (head(read[name][0][kept]), cells[name]["mask"][kept], cells[name]["part"][kept])
            scores[name].append(tuple(np.asarray(r) for r in rows))  # type: ignore[arg-type]
    return scores


def gain(one: Scores, other: Scores, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean gain of AP of the first over the other, and its 95 % interval over parts.

    A draw of parts is the same in every division.
    """
    rng = np.random.default_rng(seed)
    everyone = np.unique(np.concatenate([part for _, _, part in one]))
    rows = [{n: np.flatnonzero(part == n) for n in np.unique(part)} for _, _, part in one]

    def mean(parts: NDArray[Any]) -> float:
        gains = []
        for (score, mask, _), (before, _, _), of in zip(one, other, rows, strict=True):
            places = np.concatenate([of[n] for n in parts if n in of])
            if mask[places].any():
                precision = average_precision(score[places], mask[places])
                gains.append(precision - average_precision(before[places], mask[places]))
        return float(np.mean(gains))

    draws = [mean(rng.choice(everyone, len(everyone))) for _ in range(DRAWS)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return mean(everyone), float(low), float(high)


def main() -> None:
    """Measure the sizes and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4_000, 20_000])
    parser.add_argument("--folds", action="store_true")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    opening.stored_features = lambda *args, **options: {}  # none are read
    config = DetectionConfig.make(
        overrides=given.overrides, data=given.data, out=given.out.with_suffix(".run")
    )
    config.out.mkdir(parents=True, exist_ok=True)
    data = opening.open_data(config)
    assert data.frozen_source is not None
    cells = cells_of(data, given.rounds)
    figures: dict[str, Any] = {
        "data": given.data.name,
        "machine": machine(),
        "settings": given.overrides,
        "descriptors": len(cells["normal"]["owner"]),
        "anomalous cells": {name: int(rows["mask"].sum()) for name, rows in cells.items()},
        "sizes": {},
    }
    first: dict[str, Scores] | None = None
    ways = [(size, folds) for size in given.sizes for folds in (False, True)[: 1 + given.folds]]
    for size, folds in ways:
        started = time.process_time()
        read = read_cells(cells, data.frozen_source.memories, size, folds=folds)
        scores = judged(cells, read)
        first = first or scores
        row: dict[str, Any] = {"processor seconds": round(time.process_time() - started, 1)}
        for name, of in scores.items():
            alone = average_precision(read[name][1].numpy(), cells[name]["mask"].numpy())
            head = [average_precision(score, mask) for score, mask, _ in of]
            row[name] = {"distance": alone, "head": head, "gain": gain(of, first[name])}
        figures["sizes"][f"{size}, folds" if folds else str(size)] = row
        print(size, "folds" if folds else "own entries left out", row, flush=True)
        given.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
