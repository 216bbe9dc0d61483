"""The one place that makes a Lightning ``Trainer``, and the budget that ends a run cleanly."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

LAST = "last.ckpt"


class Budget(Callback):
    """Ends training after a number of minutes, counted over all resumed runs.

    ``fraction`` is how much of the budget is spent (0 where there is none); schedules read it, so
    that the learning rate has come down by the time the budget ends the run.
    """

    def __init__(self, minutes: float | None) -> None:
        self.seconds = math.inf if minutes is None else 60.0 * minutes
        self._before = 0.0
        self._start = time.monotonic()

    @property
    def fraction(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        return min(1.0, (self._before + time.monotonic() - self._start) / self.seconds)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Ask the trainer to stop when the budget is spent; it validates and saves first."""
        if self.fraction >= 1.0:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        """Seconds spent so far."""
        return {"seconds": self._before + time.monotonic() - self._start}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Count on from the seconds of the run that is resumed."""
        self._before = state_dict["seconds"]


class KeepLast(Callback):
    """Writes a checkpoint after every epoch, whole or not at all.

    Lightning's ``ModelCheckpoint`` with ``save_last`` alone writes only at the very end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write beside the last checkpoint, then take its place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".part")
        trainer.save_checkpoint(fresh)
        fresh.replace(self.path)


def processor_precision() -> str:
    """``"bf16-mixed"`` where the processor multiplies bfloat16 in hardware, else ``"32-true"``."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bf16-mixed" if supported() else "32-true"


def best_precision() -> str:
    """``"bf16-mixed"`` on a GPU or processor that multiplies bfloat16, else ``"32-true"``."""
    if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed"
    return processor_precision()


def fit(
    module: LightningModule,
    train: DataLoader[Any],
    validation: DataLoader[Any] | None,
    *,
    folder: Path,
    name: str,
    epochs: int,
    budget: Budget,
    precision: str | None = None,
    gradient_clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> None:
    """Train a module, resuming from ``folder/checkpoints/name/last.ckpt`` where it exists.

    Gradients are clipped to a norm of ``gradient_clip``. ``callbacks`` are saved with the rest.
    Logs go to ``folder/logs/name`` as CSV and TensorBoard events. Ctrl-C keeps the last epoch's
    checkpoint and is raised again.
    """
    checkpoints = folder / "checkpoints" / name
    last = checkpoints / LAST
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # These speak to someone who wrote a training loop, not to someone who runs one.
        warnings.filterwarnings("ignore", module="lightning|torch")
        trainer = Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=epochs,
            precision=precision or processor_precision(),
            callbacks=[budget, *callbacks, KeepLast(last)]
            + ([] if quiet else [progress_for(name)]),
            logger=[
                CSVLogger(folder / "logs", name=name, version="", flush_logs_every_n_steps=20),
                TensorBoardLogger(folder / "logs", name=name, version="tensorboard"),
            ],
            log_every_n_steps=5,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=not quiet and sys.stderr.isatty(),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            gradient_clip_val=gradient_clip,
        )
        before = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, train, validation, ckpt_path=str(last) if last.exists() else None)
        except SystemExit as ended:
            # Lightning answers Ctrl-C with exit status 1 and no word; ours says how to go on.
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from ended


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
