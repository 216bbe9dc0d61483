"""How a fusion of recordings' features is searched."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SearchSettings(BaseModel):
    """Settings of the search alone; ``search={finalists: 6, epochs: 10}`` on the command line.

    Attributes:
        epochs: passes of the weights over their share of the training recordings; the budget may
            end them earlier.
        held_out: share of the training sessions that the architecture's steps see, and the
            weights do not.
        order: 1 alternates (default), 2 unrolls one weight step (DARTS).
        rate: learning rate of the architecture.
        finalists: architectures that are proposed; each is trained for ``final_epochs``, and the
            best on validation recordings is kept. 1 takes the strongest as it is.
        share: of the run's minutes; the rest trains what was found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(10, ge=1)
    held_out: float = Field(0.3, gt=0, lt=1)
    order: Literal[1, 2] = 1
    rate: float = Field(0.05, gt=0)
    finalists: int = Field(4, ge=1)
    final_epochs: int = Field(4, ge=1)
    share: float = Field(0.5, gt=0, lt=1)
