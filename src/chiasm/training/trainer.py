"""The only place that builds a Lightning ``Trainer``; with its budget, checkpoint and progress."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from chiasm.settings import Precision
from chiasm.training.device import device_errors, device_of, precision_on
from chiasm.training.distributed import trainer_place
from chiasm.training.progress import Progress
from chiasm.training.ranks import from_first_rank, this_rank
from chiasm.training.shared_batches import has_empty_shares, rank_loader
from chiasm.training.synchronised_norm import synchronise_norms

LAST = "last.ckpt"
LOWER = (
    "Give a smaller batch or image_size, checkpointing=true where a detector trains its features, "
    "or another device."
)


class Budget(Callback):
    """Ends training after a number of minutes, counted over all resumed runs.

    Schedules read ``fraction``, so that the learning rate has fallen when the budget ends the run.
    Of a training in several processes it is that of the first one's clock, so that all of them
    take the same steps.

    Args:
        minutes: budget; None is unlimited. Without any left, 0 or less, one step is made.
        clock: returns seconds.
    """

    def __init__(
        self, minutes: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = math.inf if minutes is None else max(0.0, 60.0 * minutes)
        self._clock = clock
        self._before = 0.0
        self._start = clock()
        self._first_spent: float | None = None  # seconds spent, of the first of several processes
        self.ended_in: int | None = None  # epoch, from 1, in which the budget ended the training

    @property
    def fraction(self) -> float:
        """Share of the budget that is spent, in [0, 1]; 0 if it is unlimited."""
        spent = self._spent() if self._first_spent is None else self._first_spent
        return min(1.0, spent / self.seconds) if self.seconds > 0 else 1.0

    def _spent(self) -> float:
        return self._before + self._clock() - self._start

    def _agree(self) -> None:
        if this_rank().count > 1 and 0 < self.seconds < math.inf:
            (self._first_spent,) = from_first_rank(self._spent())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a resumed training that had spent the budget makes no further step."""
        self._start = self._clock()
        if 0 < self._before >= self.seconds:
            trainer.should_stop = True

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Read the clock of the first of several processes."""
        self._agree()

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop the trainer when the budget is spent; it validates and saves first."""
        self._agree()
        if self.fraction >= 1.0:
            trainer.should_stop = True
            self.ended_in = trainer.current_epoch + 1

    def state_dict(self) -> dict[str, float]:
        """Return the seconds spent so far."""
        return {"seconds": self._spent()}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Start from the seconds that the resumed run had spent."""
        self._before = state_dict["seconds"]


class KeepLast(Callback):
    """Writes a checkpoint after every epoch, atomically; of several processes the first writes it.

    Lightning's ``ModelCheckpoint`` with ``save_last`` alone writes only at the very end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a temporary file, then replace the last checkpoint by it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        trainer.save_checkpoint(temporary)  # all of several processes meet in it
        if this_rank().leads:
            temporary.replace(self.path)


@runtime_checkable
class _InEpochs(Protocol):
    """An order of batches that depends on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch."""


_LIGHTNING = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def _start_where_it_stopped(train: DataLoader[Any], last: Path) -> None:
    """Set the epoch of the batches of a resumed training.

    Processes make the first of them before the trainer sets it.
    """
    order = getattr(train.batch_sampler, "sampler", train.sampler)
    if isinstance(order, _InEpochs) and train.num_workers and last.exists():
        saved = torch.load(last, map_location="cpu", mmap=True, weights_only=True)
        order.set_epoch(saved["epoch"] + 1)


def fit(
    module: LightningModule,
    train: DataLoader[Any],
    validation: DataLoader[Any] | None,
    *,
    folder: Path,
    name: str,
    epochs: int,
    budget: Budget,
    precision: Precision = "auto",
    gradient_clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> None:
    """Train a module on its device; resume from ``folder/checkpoints/name/last.ckpt`` if it exists.

    Logs go to ``folder/logs/name`` as CSV and TensorBoard events. Ctrl-C keeps the last epoch's
    checkpoint and raises ``KeyboardInterrupt``.

    As a rank of several (``training_together``), the process takes its rows of every batch. Each
    rank validates on all of the validation data, and the first one writes.

    Args:
        module: trained in place; its loss is of the whole batch, see ``chiasm.training.ranks``.
        train, validation: batches; None skips validation.
        folder: of the run.
        name: of the training stage.
        epochs: at most.
        budget: ends the training.
        precision: of products, see ``precision_on``.
        gradient_clip: norm to which gradients are clipped; None clips nothing.
        callbacks: further ones, whose state is saved in the checkpoint.
        quiet: print no progress.
    """
    device, rank = device_of(module), this_rank()
    if rank.count > 1:
        train = rank_loader(train, rank=rank, micro=getattr(module, "accumulate", 1))
        synchronise_norms(module, device=device, empty_shares=has_empty_shares(train))
    multiplied = precision_on(device, precision, scaled=getattr(module, "scales_losses", True))
    last = folder / "checkpoints" / name / LAST
    _start_where_it_stopped(train, last)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning's advice is for authors of training loops, not for users of this library.
        warnings.filterwarnings("ignore", module="lightning|torch")
        trainer = Trainer(
            **trainer_place(device),
            max_epochs=epochs,
            precision=_LIGHTNING[multiplied],  # type: ignore[arg-type]
            callbacks=[budget, *callbacks, KeepLast(last)]
            + ([] if quiet or not rank.leads else [StageProgress(name, budget)]),
            logger=_loggers(folder / "logs", name) if rank.leads else False,
            log_every_n_steps=5,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            gradient_clip_val=gradient_clip,
        )
        previous_handler = signal.getsignal(signal.SIGINT)
        try:
            with device_errors(device, remedy=LOWER):
                resumed = str(last) if last.exists() else None
                trainer.fit(module, train, validation, ckpt_path=resumed)
        except SystemExit as error:
            # Lightning answers Ctrl-C with a bare exit status 1; the CLI says how to resume.
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, previous_handler)
            raise KeyboardInterrupt from error
    module.to(device)  # Lightning leaves it on the processor


def _loggers(folder: Path, name: str) -> list[Any]:
    return [
        CSVLogger(folder, name=name, version="", flush_logs_every_n_steps=20),
        TensorBoardLogger(folder, name=name, version="tensorboard"),
    ]


def restore(
    module: LightningModule, callbacks: Sequence[Callback], *, folder: Path, name: str
) -> None:
    """Load what other processes have trained: the last checkpoint of a stage, as ``fit`` does.

    Args:
        module: gets weights and figures.
        callbacks: get their states.
        folder, name: of ``fit``.
    """
    saved = torch.load(folder / "checkpoints" / name / LAST, map_location="cpu", weights_only=True)
    module.load_state_dict(saved["state_dict"])
    module.on_load_checkpoint(saved)
    for callback in callbacks:
        if (state := saved["callbacks"].get(callback.state_key)) is not None:
            callback.load_state_dict(state)


class StageProgress(Callback):
    """Shows the steps of a training, the time that is left, and the last figures.

    A log has a line at most every ten seconds, and one with the figures at the end.

    Args:
        stage: name of the training.
        budget: may end the training before its last step.
        clock: returns seconds.
    """

    def __init__(
        self, stage: str, budget: Budget, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stage = stage.replace("_", " ").capitalize()
        self.budget = budget
        self._clock = clock
        self._progress: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps of all epochs; those of earlier runs are done."""
        steps = int(trainer.num_training_batches)
        self._progress = Progress(
            self.stage,
            (trainer.max_epochs or 0) * steps,
            unit="steps",
            done=trainer.current_epoch * steps,
            seconds_left=lambda: (1.0 - self.budget.fraction) * self.budget.seconds,
            clock=self._clock,
        )

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Count a step."""
        if self._progress is not None:
            self._progress.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the figures of the epoch, those of its validation among them."""
        if self._progress is not None:
            figures = ", ".join(
                f"{name.replace('_', ' ')} {float(value):.3f}"
                for name, value in trainer.callback_metrics.items()
            )
            self._progress.update(0, note=f"epoch {trainer.current_epoch + 1}: {figures}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the line, also where the training was interrupted."""
        if self._progress is not None:
            self._progress.close(summary=True)
            self._progress = None
