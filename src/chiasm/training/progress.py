"""The progress bar of a training run: one line, what is being done and how well."""

from __future__ import annotations

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
