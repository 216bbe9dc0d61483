"""Fitting of the evidence that a frozen source gives beside its memories of normals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from chiasm.detection.evidence.evidence import Evidence
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.segment import rows_of
from chiasm.detection.training.synthetic import SyntheticParts
from chiasm.samples import PreparedSample, RGBDBatch
from chiasm.training.device import device_of, in_chunks
from chiasm.training.progress import Progress

MOST_CELLS = 16_000  # of normal parts, from which a kind of evidence learns
SYNTHETIC_PARTS = 160  # about, with synthetic anomalies or without
CELLS_OF_A_PART = 48  # at most, with an anomaly, and as many without
FIRST_EPOCH = 1_000  # of these anomalies; those of the stored rounds are others
BATCH = 8


@torch.no_grad()
def fit_evidence(
    source: NormalityFeatures,
    parts: Sequence[PreparedSample],
    *,
    owners: Sequence[int],
    synthetic: SyntheticParts,
    scale: GeometryScale,
    seed: int,
) -> None:
    """Fit all evidence of a source whose memories are fitted.

    From each part a share of its cells is drawn, so that memory does not grow with their number.

    Args:
        source: with its evidence; one without any is left as it is.
        parts: normal ones.
        owners: owner of each part.
        synthetic: parts with anomalies of the training's generators, for evidence that learns from
            them. Their anomalies are other draws than those that networks are trained with later.
        scale: of the geometry pictures.
        seed: of the draws and of the training.
    """
    kinds = list(source.evidence.values())
    if not kinds:
        return
    for evidence in kinds:
        evidence.start_fit(source.memories)
    generator = torch.Generator().manual_seed(seed)
    normals = [evidence for evidence in kinds if evidence.learns_from == "normals"]
    if normals:
        each = max(1, MOST_CELLS // len(parts))
        shown = ((parts[i], owners[i]) for i in range(len(parts)))
        for batch in _batches(source, shown, len(parts), scale, "Measuring normal cells"):
            inside = _inside(source, batch)
            _observe(source, normals, batch, _drawn(inside, each, generator))
    learners = [evidence for evidence in kinds if evidence.learns_from == "anomalies"]
    if learners:
        rounds = math.ceil(SYNTHETIC_PARTS / len(synthetic.parts))
        drawn = (
            synthetic.at(FIRST_EPOCH + epoch, position)
            for epoch in range(rounds)
            for position in range(len(synthetic.parts))
        )
        count = rounds * len(synthetic.parts)
        for batch in _batches(source, drawn, count, scale, "Measuring anomalous cells"):
            assert batch.mask is not None
            inside = _inside(source, batch)
            damaged = F.adaptive_max_pool2d(batch.mask, inside.shape[-2:])[:, 0] > 0
            chosen = _drawn(inside & damaged, CELLS_OF_A_PART, generator)
            chosen |= _drawn(inside & ~damaged, CELLS_OF_A_PART, generator)
            _observe(source, learners, batch, chosen)
    with Progress("Fitting evidence", len(kinds), unit="kinds") as progress:
        for evidence in progress.over(kinds):
            evidence.finish_fit(seed=seed)


def _batches(
    source: NormalityFeatures,
    shown: Iterator[tuple[PreparedSample, int]],
    count: int,
    scale: GeometryScale,
    title: str,
) -> Iterator[RGBDBatch]:
    with Progress(title, count) as progress:
        for start in range(0, count, BATCH):
            some = [next(shown) for _ in range(start, min(start + BATCH, count))]
            yield to_batch(
                [part for part, _ in some],
                scale,
                modalities=source.modalities,
                indices=[owner for _, owner in some],
                device=device_of(source),
            )
            progress.update(len(some))


def _inside(source: NormalityFeatures, batch: RGBDBatch) -> Tensor:
    side = batch.foreground.shape[-1] // source.cell_stride
    return cells_inside(batch.foreground, (side, side))


def _observe(
    source: NormalityFeatures, kinds: Sequence[Evidence], batch: RGBDBatch, chosen: Tensor
) -> None:
    def observe(rows: slice) -> None:
        some = rows_of(batch, rows)
        cells = source.cells(some)
        for evidence in kinds:
            evidence.partial_fit(cells, some, chosen[rows])

    in_chunks(observe, len(chosen), len(chosen))


def _drawn(inside: Tensor, each: int, generator: torch.Generator) -> Tensor:
    """Draw at most ``each`` of the marked cells of every part; both ``(N, h, w)`` bool."""
    order = torch.rand(inside.shape, generator=generator).to(inside.device)
    order = order.masked_fill(~inside, 2.0).flatten(1)
    limit = order.kthvalue(min(each, order.shape[1]), dim=1, keepdim=True).values
    return ((order <= limit) & (order < 2.0)).view_as(inside)
