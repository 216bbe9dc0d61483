"""Evidence of what is not normal: maps that a frozen source gives beside its memories' own.

Each kind learns from normal parts, or from synthetic anomalies beside normal cells, before any
fusion is trained; then it is frozen, stored with the other features and may be fused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.detection.layers.normality import Normality, NormalMemory
from chiasm.detection.layers.patches import gather
from chiasm.samples import RGBDBatch

_LEAST = 1e-3  # relative distance, so that its logarithm is finite


@dataclass(frozen=True, slots=True, eq=False)
class SensorCells:
    """One sensor's cells of a batch.

    Attributes:
        features: stride to the backbone's map.
        descriptors: ``(N, D, h, w)`` maps of all strides, joined on the grid of a memory, before
            standardisation.
        normality: of the sensor's memory; None where no evidence reads it.
    """

    features: Mapping[int, Tensor]
    descriptors: Tensor
    normality: Normality | None = None

    @property
    def compared(self) -> Normality:
        """The comparison with the memory; ``ValueError`` where there was none."""
        if self.normality is None:
            raise ValueError("These cells were compared with no memory of normals.")
        return self.normality


Cells = Mapping[str, SensorCells]  # by modality


class Evidence(nn.Module):
    """Maps of one kind of evidence, computed from the cells of the sensors.

    Fitting runs over batches: ``start_fit``, ``partial_fit`` for each batch, ``finish_fit``.

    Attributes:
        learns_from: ``"normals"``: parts as they are; or ``"anomalies"``: parts with synthetic
            anomalies.
        reads_memory: whether ``SensorCells.normality`` is read.
        exportable: whether it is a graph of tensor operations.
        sensors: that it reads.
    """

    learns_from: ClassVar[Literal["normals", "anomalies"]] = "normals"
    reads_memory: ClassVar[bool] = False
    exportable: ClassVar[bool] = True
    sensors: tuple[str, ...]

    def forward(self, cells: Cells, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute maps by name, ``(N, C, h, w)`` at the cells' resolution, 0 off the object.

        Args:
            cells: of every sensor that it reads.
            batch: the pictures; ``index`` names the owners whose own share is to be left out.
        """
        raise NotImplementedError

    def start_fit(self, memories: Mapping[str, NormalMemory]) -> None:
        """Begin a fit; the memories are fitted."""

    def partial_fit(self, cells: Cells, batch: RGBDBatch, chosen: Tensor) -> None:
        """Take the chosen cells ``(N, h, w)`` bool of a batch."""
        raise NotImplementedError

    def finish_fit(self, *, seed: int) -> None:
        """End the fit; raises ``DataError`` where there was nothing to learn from."""
        raise NotImplementedError

    def for_prediction(self, required: Collection[str]) -> Self:
        """Return it without what only training needs, and no required map; it is not changed."""
        return self


def on_object(foreground: Tensor, like: Tensor) -> Tensor:
    """Mark ``(N, 1, h, w)``, 1 or 0, the cells of a map that hold any pixel of the object.

    Args:
        foreground: ``(N, 1, S, S)``, S a multiple of h.
        like: a map ``(N, C, h, w)``.
    """
    step = foreground.shape[-1] // like.shape[-1]
    return (F.max_pool2d(foreground, step, step) > 0.5).to(like.dtype)


def descend(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    rows: int,
    *,
    seed: int,
    steps: int,
    batch: int = 512,
    rate: float = 2e-3,
    decay: float = 1e-4,
) -> None:
    """Train by steps of AdamW whose rate falls along half a cosine; gradients are switched on.

    Args:
        parameters: of a small network on rows.
        loss: of the numbers ``(batch,)`` of some rows.
        rows: from which they are drawn, with replacement.
        seed: of the draws.
        steps, batch, rate, decay: of the training.
    """
    trained = list(parameters)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad():
        for parameter in trained:
            parameter.requires_grad_(True)
        for _ in range(steps):
            numbers = torch.randint(rows, (batch,), generator=generator)
            optimiser.zero_grad()
            loss(numbers.to(trained[0].device)).backward()
            optimiser.step()
            schedule.step()
    for parameter in trained:
        parameter.requires_grad_(False)


def fold_of(index: Tensor, owners: Tensor, folds: int) -> Tensor:
    """Return the fold of each owner ``(N,)``; -1 for one that is not among those fitted on.

    Args:
        index: ``(N,)`` owners of parts.
        owners: sorted, those that a kind of evidence was fitted on.
        folds: into which they are divided.
    """
    place = torch.searchsorted(owners, index).clamp(max=len(owners) - 1)
    return torch.where(owners[place] == index, place % folds, -1)


def by_fold(fold: Tensor, whole: nn.Module, folds: nn.ModuleList, *inputs: Tensor) -> Tensor:
    """Apply to each part ``(N, ...)`` the network of its fold, and ``whole`` where that is -1."""
    out: Tensor | None = None
    for number in fold.unique().tolist():
        chosen = fold == number
        network = whole if number < 0 else folds[number]
        values = network(*(value[chosen] for value in inputs))
        if out is None:
            out = values.new_zeros(len(fold), *values.shape[1:])
        out[chosen] = values
    assert out is not None
    return out


class Agreement(Evidence):
    """Whether the sensors agree that a cell is not normal.

    Each sensor's relative distance is standardised: its logarithm has mean 0 and deviation 1 over
    normal cells, each compared with other parts. The map ``cross/agreement`` holds the smaller one,
    which is large where both sensors say so, and their mean: the logarithm of the product.

    Args:
        sensors: of memories.
    """

    reads_memory = True
    mean: Tensor
    deviation: Tensor

    def __init__(self, *, sensors: tuple[str, ...]) -> None:
        super().__init__()
        self.sensors = sensors
        self.register_buffer("mean", torch.zeros(len(sensors)))
        self.register_buffer("deviation", torch.ones(len(sensors)))
        self._rows: list[Tensor] = []

    def forward(self, cells: Cells, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute minimum and mean of the standardised distances."""
        relative = torch.cat([cells[s].compared.relative for s in self.sensors], dim=1)
        shape = (1, -1, 1, 1)
        standard = (torch.log(relative + _LEAST) - self.mean.view(shape)) / self.deviation.view(
            shape
        )
        both = torch.cat([standard.amin(1, keepdim=True), standard.mean(1, keepdim=True)], dim=1)
        return {"cross/agreement": both * on_object(batch.foreground, both)}

    def partial_fit(self, cells: Cells, batch: RGBDBatch, chosen: Tensor) -> None:
        """Keep the logarithms of the chosen cells' relative distances."""
        relative = torch.cat([cells[s].compared.relative for s in self.sensors], dim=1)
        self._rows.append(torch.log(gather(relative, chosen) + _LEAST))

    def finish_fit(self, *, seed: int) -> None:
        """Compute mean and deviation of each sensor's logarithms."""
        rows = torch.cat(self._rows)
        self._rows = []
        self.mean.copy_(rows.mean(dim=0))
        # Normals that are copies of one another have no deviation.
        self.deviation.copy_(rows.std(dim=0).clamp(min=_LEAST))
