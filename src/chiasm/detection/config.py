"""One validated description of a run, from YAML, keyword arguments or the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from chiasm.settings import Settings


class DetectionConfig(Settings):
    """Everything that decides a run's result; written to ``config.yaml`` in its folder.

    Attributes:
        data: folder or manifest to learn from.
        out: the run's folder.
        model: registered builder.
        modalities: ``rgb``, ``geometry`` or both.
        fusion: ``search``, ``concatenation`` (hand-made), ``best`` (whichever of these two does
            better on held-out normals), ``random`` or a genotype file.
        cells: present cells (fewer for the paper's Table 4).
        image_size: side of the crop in pixels, a multiple of 32.
        geometry: how 3D becomes a picture.
        lamp: number of the lamp, where data have several.
        shots: train on so many normals only.
        rotate: parts may lie at any angle in the picture: where there are thirty or fewer to
            learn from, each is also shown turned about the camera's axis. None finds out by
            synthetic anomalies on the normals (of a light model; others are not turned).
        calibration_share: of the training normals, where data have no validation split.
        remove_background: leave out the support plane and what does not hang together with the
            part.
        plane_margin: metres over the support plane that are taken for it; None finds them.
        textures: folder of textures (DTD) for anomalies; None uses built-in ones.
        candidates: patterns of the names of features that may be fused, e.g. ``*/f8``.
        operations: with which cells may fuse.
        nodes: intermediate nodes per cell.
        rounds: epochs of synthetic anomalies whose frozen features are stored.
        search_epochs, train_epochs: passes over training data; the budget may end them earlier.
        order: 1 alternates (default), 2 unrolls one weight step (DARTS).
        architecture_rate: learning rate of the architecture.
        finalists: architectures that the search proposes; each is trained for ``final_epochs``,
            or more until it has made ``final_steps``, and the best is kept. 1 takes the strongest
            as it is, as the paper does.
        final_epochs, final_steps: of each finalist, at least.
        learning_rate: of the weights.
        batch: parts per step.
        minutes: budget of search and training together; None is none.
        false_alarm_rate: at which decisions are made.
        memory_entries: descriptors in a memory of normals.
        seed: of everything.
        options: of a rival's builder, by name.
    """

    data: Path
    out: Path
    model: str = "adnas_light"
    modalities: tuple[Literal["rgb", "geometry"], ...] = ("rgb", "geometry")
    fusion: str = "search"
    cells: tuple[Literal["early", "middle", "late"], ...] = ("early", "middle", "late")
    image_size: int = Field(256, ge=64, le=1024, multiple_of=32)
    geometry: Literal["height_slopes", "depth"] = "height_slopes"
    lamp: int | None = None
    shots: int | None = Field(None, ge=2)
    rotate: bool | None = None
    calibration_share: float = Field(0.2, gt=0, lt=0.9)
    remove_background: bool = True
    plane_margin: float | None = Field(None, gt=0)
    textures: Path | None = None
    candidates: tuple[str, ...] = ("*",)
    operations: tuple[Literal["addition", "concatenation", "glu", "guided_attention"], ...] = Field(
        ("addition", "concatenation", "glu", "guided_attention"), min_length=1
    )
    nodes: int = Field(2, ge=1, le=6)
    rounds: int = Field(6, ge=1)
    search_epochs: int = Field(12, ge=1)
    train_epochs: int = Field(30, ge=1)
    order: Literal[1, 2] = 1
    architecture_rate: float = Field(0.05, gt=0)
    finalists: int = Field(8, ge=1)
    final_epochs: int = Field(4, ge=1)
    final_steps: int = Field(80, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    batch: int = Field(16, ge=2)
    minutes: float | None = Field(None, gt=0)
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    memory_entries: int = Field(4_000, ge=500)
    seed: int = Field(0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("modalities", "cells", "candidates", "operations", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value
