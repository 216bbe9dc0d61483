"""Settings of a detector's run, from YAML, keyword arguments or the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from chiasm.settings import SearchSettings, Settings


class DetectionConfig(Settings):
    """Everything that decides a run's result; written to ``config.yaml`` in its folder.

    Attributes:
        data: folder or manifest with the training data.
        out: the run's folder.
        model: registered builder.
        modalities: ``rgb``, ``geometry`` or both.
        fusion: ``search``, ``concatenation`` (hand-made), ``best`` (whichever of these two does
            better on held-out normals), ``random`` or a genotype file.
        cells: present cells (fewer for the paper's Table 4).
        image_size: side of the crop in pixels, a multiple of 32.
        geometry: how 3D becomes a picture.
        lamp: number of the lamp, for data with several.
        shots: number of training normals; None takes all.
        rotate: whether parts may lie at any angle; then, with thirty training normals or fewer,
            each is also shown rotated about the camera's axis. None tests it by synthetic anomalies
            on the normals, for models with frozen features; others are not rotated.
        calibration_share: of the training normals, for data without a validation split.
        remove_background: remove the support plane and everything not connected with the part.
        plane_margin: metres above the support plane that are removed with it; None estimates them.
        augment: show each normal part under other light and at other angles in every epoch, to
            networks that are trained from scratch. None does so for these; a model with frozen
            features has a memory of normals instead, and cannot.
        textures: folder of textures (DTD) for anomalies; None uses built-in ones.
        candidates: patterns of the names of features that may be fused, e.g. ``*/f8``.
        operations: fusion operations that cells may use.
        nodes: intermediate nodes per cell.
        rounds: epochs of synthetic anomalies whose frozen features are stored.
        search: of the fusion. Its held-out normals also choose the score rule, and its share of the
            minutes includes the final round.
        train_epochs: passes over the training data; the budget may end them earlier.
        learning_rate: of the weights.
        batch: parts per step.
        minutes: budget of search and training together; None sets no limit.
        false_alarm_rate: at which decisions are made.
        memory_entries: descriptors in a memory of normals.
        seed: of all random choices.
        options: of a baseline's builder, by name.
    """

    RENAMED: ClassVar[dict[str, str]] = {
        "light": "lamp",
        "any_angle": "rotate",
        "capacity": "memory_entries",
        "search_epochs": "search.epochs",
        "order": "search.order",
        "architecture_rate": "search.rate",
        "finalists": "search.finalists",
        "final_epochs": "search.final_epochs",
        "final_steps": "search.final_steps",
    }

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
    augment: bool | None = None
    textures: Path | None = None
    candidates: tuple[str, ...] = ("*",)
    operations: tuple[Literal["addition", "concatenation", "glu", "guided_attention"], ...] = Field(
        ("addition", "concatenation", "glu", "guided_attention"), min_length=1
    )
    nodes: int = Field(2, ge=1, le=6)
    rounds: int = Field(6, ge=1)
    search: SearchSettings = SearchSettings()
    train_epochs: int = Field(30, ge=1)
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
