"""Learning of a rival: its own steps, in its own order, on normal parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chiasm.detection.detector import Baseline, Learn, Observe
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.segment import cosine, to_device
from chiasm.detection.training.synthetic import EpochOrder
from chiasm.samples import PreparedSample, RGBDBatch
from chiasm.training.trainer import Budget, fit, processor_precision

DESCRIBED_AT_ONCE = 8


class DescribedParts(Dataset[int]):
    """What a rival's frozen features say about every normal part, computed once.

    Args:
        described: name to a tensor with the parts along its first axis.
    """

    def __init__(self, described: dict[str, Tensor]) -> None:
        self.described = described
        self.count = len(next(iter(described.values())))

    @classmethod
    @torch.no_grad()
    def of(
        cls, rival: Baseline, parts: Sequence[PreparedSample], *, scale: GeometryScale
    ) -> DescribedParts:
        """Describe parts, a few at a time."""
        pieces: list[dict[str, Tensor]] = []
        for start in range(0, len(parts), DESCRIBED_AT_ONCE):
            some = parts[start : start + DESCRIBED_AT_ONCE]
            numbers = range(start, start + len(some))
            batch = to_batch(some, scale, modalities=rival.modalities, indices=numbers)
            pieces.append(rival.describe(batch))
        return cls({name: torch.cat([p[name] for p in pieces]) for name in pieces[0]})

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Gather a batch."""
        chosen = torch.as_tensor(positions)
        return {name: value[chosen] for name, value in self.described.items()}


class RivalLearning(LightningModule):
    """One ``Learn`` step as a Lightning module: AdamW on the step's modules, cosine rate.

    Args:
        rival: learns in place.
        step: what it learns.
        budget: whose spent fraction brings the learning rate down.
    """

    def __init__(self, rival: Baseline, step: Learn, *, budget: Budget) -> None:
        super().__init__()
        self.rival = rival
        self.step = step
        self.budget = budget

    def training_step(self, batch: Any, number: int) -> Tensor:
        """One step."""
        steps = max(int(self.trainer.num_training_batches), 1)
        done = (self.current_epoch + number / steps) / max(self.step.epochs, 1)
        factor = cosine(max(done, self.budget.fraction))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.step.learning_rate * factor
        loss = self.rival.loss(self.step.name, batch)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a record's tensors."""
        if isinstance(batch, RGBDBatch):
            return to_device(batch, device)
        return {name: value.to(device) for name, value in batch.items()}

    def configure_optimizers(self) -> Any:
        """AdamW over the step's modules alone."""
        parameters = [
            p for name in self.step.modules for p in self.rival.get_submodule(name).parameters()
        ]
        return torch.optim.AdamW(
            parameters, lr=self.step.learning_rate, weight_decay=self.step.weight_decay
        )


def learn_in_steps(
    rival: Baseline,
    parts: Sequence[PreparedSample],
    *,
    scale: GeometryScale,
    folder: Path,
    minutes: float | None = None,
    seed: int = 0,
    synthetic: Callable[[int], DataLoader[Any]] | None = None,
    said: Callable[[str], None] = lambda words: None,
) -> None:
    """Take a rival through its steps.

    Args:
        rival: learns in place, and is left in evaluation mode.
        parts: prepared normal parts; a part's place in the list is its number.
        scale: how 3D becomes a picture.
        folder: of the run, for logs and for checkpoints, from which it resumes.
        minutes: budget of the ``Learn`` steps together, shared equally.
        seed: of the order of parts.
        synthetic: batch size to batches with anomalies, for steps that learn from these.
        said: is told what happens.
    """
    learning = [step for step in rival.steps if isinstance(step, Learn)]
    share = None if minutes is None else minutes / max(len(learning), 1)
    rival.eval()
    described: DescribedParts | None = None
    if any(isinstance(step, Observe) or not step.synthetic for step in rival.steps):
        said("Describing the normal parts ...")
        described = DescribedParts.of(rival, parts, scale=scale)
    for step in rival.steps:
        if isinstance(step, Observe):
            assert described is not None
            said(f"Looking at normal parts: {step.name} ...")
            _observe(rival, step, described)
            continue
        said(f"Learning: {step.name} ...")
        if step.synthetic:
            assert synthetic is not None
            loader = synthetic(step.batch)
        else:
            assert described is not None
            loader = _loader(described, step, seed=seed)
        budget = Budget(share)
        fit(
            RivalLearning(rival, step, budget=budget),
            loader,
            None,
            folder=folder,
            name=step.name,
            epochs=step.epochs,
            budget=budget,
            precision="32-true" if step.exact else processor_precision(),
            gradient_clip=step.clip,
        )
        rival.eval()


@torch.no_grad()
def _observe(rival: Baseline, step: Observe, described: DescribedParts) -> None:
    for start in range(0, len(described), DESCRIBED_AT_ONCE):
        numbers = range(start, min(start + DESCRIBED_AT_ONCE, len(described)))
        rival.observe(step.name, described.collate(numbers), torch.tensor(list(numbers)))
    rival.finish(step.name)


def _loader(described: DescribedParts, step: Learn, *, seed: int) -> DataLoader[Any]:
    return DataLoader(
        described,
        batch_size=step.batch,
        sampler=EpochOrder(len(described), seed=seed),
        collate_fn=described.collate,
        drop_last=len(described) >= step.batch,
    )
