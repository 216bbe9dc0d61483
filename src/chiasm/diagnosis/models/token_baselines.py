"""Registration of the baselines that take the same tokens as MAD."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from chiasm.diagnosis.classifier import MODALITIES, Classifier
from chiasm.diagnosis.layers.tokens import TokenInputs, token_inputs
from chiasm.registry import Builder, register


def token_baseline(
    *, width: int, segment: int, **facts: Any
) -> Callable[[Callable[[TokenInputs, int], Classifier]], Builder]:
    """Register a function of MAD's token inputs and the number of classes as a baseline.

    The registered builder takes the shape of the recordings instead of the token inputs.

    Args:
        width: D of the tokens.
        segment: default number of values of the series per token.
        facts: of the model, as ``register`` takes them.
    """
    default_segment = segment

    def decorate(build: Callable[[TokenInputs, int], Classifier]) -> Builder:
        # Not ``__wrapped__``: the registry's users read the signature of ``builder``.
        @functools.wraps(build, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def builder(
            *,
            modalities: Sequence[str] = MODALITIES,
            segment: int = default_segment,
            classes: int = 5,
            channels: int = 1,
            image_size: int = 256,
            series_length: int = 153_600,
        ) -> Classifier:
            inputs = token_inputs(
                modalities,
                width=width,
                segment=segment,
                channels=channels,
                image_size=image_size,
                series_length=series_length,
            )
            return build(inputs, classes)

        del builder.__wrapped__
        return register("classifier", baseline=True, **facts)(builder)

    return decorate
