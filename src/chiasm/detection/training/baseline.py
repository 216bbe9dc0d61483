"""Training of a baseline: its steps, in their order, on normal parts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chiasm.detection.detector import Baseline, FitStep, TrainStep
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.feature_store import FEATURES
from chiasm.detection.training.segment import to_device
from chiasm.detection.training.synthetic import EpochOrder
from chiasm.files.rows import RowFile
from chiasm.samples import PreparedSample, RGBDBatch
from chiasm.settings import Precision
from chiasm.training.device import device_of, in_chunks, loading, placed
from chiasm.training.progress import Progress
from chiasm.training.schedule import cosine, set_learning_rate, training_progress
from chiasm.training.trainer import Budget, fit

PARTS_AT_ONCE = 8


class BaselineFeatures(Dataset[int]):
    """The frozen features of every normal part: computed once, kept on disk, read by rows.

    Only the rows of a batch are in memory, however many parts there are.

    Args:
        rows: a row for each part, in their order.
    """

    def __init__(self, rows: RowFile) -> None:
        self.rows = rows

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        baseline: Baseline,
        parts: Sequence[PreparedSample],
        *,
        scale: GeometryScale,
        path: Path,
        owners: Sequence[int],
        progress: Progress | None = None,
    ) -> BaselineFeatures:
        """Extract the features of parts, a few at a time.

        Args:
            baseline: whose features are extracted.
            parts: prepared normal parts, with their rotated copies.
            scale: of their geometry pictures.
            path: of the file, which does not exist yet.
            owners: of the parts, see ``train_in_steps``.
            progress: counts the parts.
        """
        rows = RowFile(path)
        device = device_of(baseline)

        def extract(chosen: slice) -> None:
            numbers = owners[chosen]
            batch = to_batch(
                parts[chosen],
                scale,
                modalities=baseline.modalities,
                indices=numbers,
                device=device,
            )
            features = baseline.extract_features(batch)
            rows.append({name: value.cpu().numpy() for name, value in features.items()})
            if progress is not None:
                progress.update(len(numbers))

        in_chunks(extract, len(parts), PARTS_AT_ONCE)
        return cls(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Read the rows of a batch."""
        return {name: torch.from_numpy(v) for name, v in self.rows.read(positions).items()}


class BaselineTraining(LightningModule):
    """One ``TrainStep`` as a Lightning module: AdamW on the step's modules, cosine rate.

    Args:
        baseline: trained in place.
        step: to run.
        budget: whose spent fraction lowers the learning rate.
    """

    def __init__(self, baseline: Baseline, step: TrainStep, *, budget: Budget) -> None:
        super().__init__()
        self.baseline = baseline
        self.step = step
        self.budget = budget

    def training_step(self, batch: Any, number: int) -> Tensor:
        """Run one step at the current learning rate."""
        done = training_progress(self.trainer, number, epochs=self.step.epochs, budget=self.budget)
        set_learning_rate(self.trainer.optimizers[0], self.step.learning_rate * cosine(done))
        loss = self.baseline.loss(self.step.name, batch)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch to a device."""
        if isinstance(batch, RGBDBatch):
            return to_device(batch, device)
        return {name: placed(value, device) for name, value in batch.items()}

    def configure_optimizers(self) -> Any:
        """Optimise the step's modules alone."""
        parameters = [
            p for name in self.step.modules for p in self.baseline.get_submodule(name).parameters()
        ]
        return torch.optim.AdamW(
            parameters, lr=self.step.learning_rate, weight_decay=self.step.weight_decay
        )


def train_in_steps(
    baseline: Baseline,
    parts: Sequence[PreparedSample],
    *,
    scale: GeometryScale,
    folder: Path,
    owners: Sequence[int] | None = None,
    minutes: float | None = None,
    seed: int = 0,
    synthetic: Callable[[int], DataLoader[Any]] | None = None,
    precision: Precision = "auto",
    log: Callable[[str], None] = lambda message: None,
) -> int:
    """Run the steps of a baseline; return how many gradient steps were made.

    Args:
        baseline: trained in place, and left in evaluation mode.
        parts: prepared normal parts, with their rotated copies.
        scale: of their geometry pictures.
        folder: of the run, for logs, for the checkpoints from which training resumes, and for the
            features, which are removed at the end.
        owners: for each part the number by which a baseline leaves out what it remembers of it:
            copies of one part have one. None numbers the parts by their positions.
        minutes: budget of all ``TrainStep`` steps, shared equally.
        seed: of the order of parts.
        synthetic: batch size to batches with anomalies, for steps that train on these.
        precision: of steps that are not exact.
        log: receives one line per step.
    """
    train_steps = [step for step in baseline.steps if isinstance(step, TrainStep)]
    share = None if minutes is None else minutes / max(len(train_steps), 1)
    owners = range(len(parts)) if owners is None else owners
    steps = 0
    baseline.eval()
    stored = folder / FEATURES
    stored.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="baseline-", dir=stored) as temporary:
        features: BaselineFeatures | None = None
        if any(isinstance(step, FitStep) or not step.synthetic for step in baseline.steps):
            log("Extracting features of the normal parts ...")
            with Progress("Extracting features", len(parts)) as progress:
                features = BaselineFeatures.build(
                    baseline,
                    parts,
                    scale=scale,
                    path=Path(temporary) / "rows.bin",
                    owners=owners,
                    progress=progress,
                )
        for step in baseline.steps:
            if isinstance(step, FitStep):
                assert features is not None
                log(f"Fitting to the normal parts: {step.name} ...")
                _fit(baseline, step, features, owners)
                continue
            log(f"Training: {step.name} ...")
            if step.synthetic:
                assert synthetic is not None
                loader = synthetic(step.batch)
            else:
                assert features is not None
                loader = _loader(features, step, seed=seed, device=device_of(baseline))
            budget = Budget(share)
            training = BaselineTraining(baseline, step, budget=budget)
            fit(
                training,
                loader,
                None,
                folder=folder,
                name=step.name,
                epochs=step.epochs,
                budget=budget,
                precision="32" if step.exact else precision,
                gradient_clip=step.clip,
            )
            steps += training.global_step
            baseline.eval()
    return steps


@torch.no_grad()
def _fit(
    baseline: Baseline, step: FitStep, features: BaselineFeatures, owners: Sequence[int]
) -> None:
    device = device_of(baseline)
    with Progress(f"Fitting ({step.name})", len(features)) as progress:
        for start in range(0, len(features), PARTS_AT_ONCE):
            numbers = range(start, min(start + PARTS_AT_ONCE, len(features)))
            index = torch.tensor([owners[number] for number in numbers], device=device)
            batch = {name: value.to(device) for name, value in features.collate(numbers).items()}
            baseline.partial_fit(step.name, batch, index)
            progress.update(len(numbers))
    baseline.finish_fit(step.name)


def _loader(
    features: BaselineFeatures, step: TrainStep, *, seed: int, device: torch.device
) -> DataLoader[Any]:
    return DataLoader(
        features,
        batch_size=step.batch,
        sampler=EpochOrder(len(features), seed=seed),
        collate_fn=features.collate,
        drop_last=len(features) >= step.batch,
        **loading(device),
    )
