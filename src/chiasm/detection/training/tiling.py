"""Tiles that the crops of a run are looked at in: planned from the frames, drawn to train."""

from __future__ import annotations

from collections.abc import Sequence

from chiasm.detection.config import DetectionConfig
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.preparation.tiles import TiledParts, TilePlan, tile_plan
from chiasm.errors import ConfigurationError, DataError
from chiasm.runs.console import say
from chiasm.samples import PreparedSample

SHOWN = 2  # tiles of a part, at most, that train and choose; a memory has all


def planned_tiles(
    config: DetectionConfig, preparation: PreparationSettings, *, frame: tuple[int, int]
) -> TilePlan | None:
    """Plan the tiles of a run and say what they cost; None where whole crops are looked at.

    Args:
        config: of the run.
        preparation: with the crop that was surveyed.
        frame: height and width of the frames.

    Raises:
        ConfigurationError: another setting needs whole crops.
    """
    if config.tiles is None:
        return None
    wide = (preparation.crop_fraction or 1.0) * max(frame)
    plan = tile_plan(config.tiles, size=config.image_size, frame_pixels=wide)
    if plan is None:
        say(
            f"tiles={config.tiles}: the crop of {wide:.0f} pixels of the frame is seen whole at "
            f"{config.image_size} pixels; tiles would show nothing more."
        )
        return None
    for name, given in (
        ("image_score=chosen", config.image_score == "chosen"),
        ("defects_trained", config.defects_trained > 0),
        ("search.selection=validation", config.search.selection == "validation"),
    ):
        if given:
            raise ConfigurationError(
                f"Tiles do not go together with {name}; leave out one of both."
            )
    say(plan.in_words(wide))
    return plan


def tiles_of_run(
    parts: Sequence[PreparedSample], plan: TilePlan, *, seed: int
) -> tuple[TiledParts, set[int]]:
    """Return the tiles of a run's parts, and the numbers of those that train and choose.

    Raises:
        DataError: no tile shows enough of a part.
    """
    tiles = TiledParts(parts, plan)
    if not len(tiles):
        raise DataError("No tile shows enough of a part to learn from; leave out tiles.")
    return tiles, tiles.drawn(SHOWN, seed=seed)
