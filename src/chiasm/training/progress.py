"""How a training run tells what it does: one line that moves on a terminal, else one per epoch."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class ProgressBar(TQDMProgressBar):
    """A bar named after the stage; nothing for validation, which is short."""

    def __init__(self, stage: str) -> None:
        super().__init__(leave=False)
        self.stage = stage

    def init_train_tqdm(self) -> Tqdm:
        """Name the bar."""
        bar = super().init_train_tqdm()
        bar.set_description(self.stage)
        return bar

    def init_validation_tqdm(self) -> Tqdm:
        """Hide the validation's bar."""
        return Tqdm(disable=True)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Leave out the logger's version, which tells a reader nothing."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return dict(shown)


class EpochLines(Callback):
    """A line per epoch, for logs and pipes, where a bar would write thousands."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's number and what was logged in it."""
        shown = ", ".join(
            f"{name.replace('_', ' ')} {float(value):.3f}"
            for name, value in trainer.callback_metrics.items()
        )
        print(f"{self.stage}, epoch {trainer.current_epoch + 1}: {shown}", flush=True)


def progress_for(stage: str) -> Callback:
    """The one that suits where the output goes."""
    return ProgressBar(stage) if sys.stderr.isatty() else EpochLines(stage)
