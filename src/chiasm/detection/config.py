"""Settings of a detector's run, from YAML, keyword arguments or the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from chiasm.detection.readers.calibration_plan import FALSE_ALARM_RATE, CalibrationMode
from chiasm.registry import RegisteredModel
from chiasm.settings import DeviceName, Precision, SearchSettings, Settings

Preset = Literal["paper", "recommended"]
MOST_TILES = 8  # a side


@cache
def preset_text(name: Preset) -> str:
    """Return the YAML of a preset, with its comments."""
    return (resources.files("chiasm.detection") / "presets" / f"{name}.yaml").read_text()


def preset_values(name: Preset, model: str | None = None) -> dict[str, Any]:
    """Return the settings of a preset; those of the search are nested.

    Args:
        name: of the preset.
        model: whose own section holds where it differs; None takes the preset's model, or the
            default one.
    """
    values: dict[str, Any] = yaml.safe_load(preset_text(name))
    sections = values.pop("models", {})
    default = DetectionConfig.model_fields["model"].default
    return values | sections.get(model or values.get("model", default), {})


class DetectionConfig(Settings):
    """Everything that decides a run's result; written to ``config.yaml`` in its folder.

    Attributes:
        data: folder or manifest with the training data. Where it holds several products (folders
            of data beside each other, or a column ``product``, ``category`` or ``object`` of a
            table), each gets memory, score rule and calibration of its own, and all share one
            network; of several paths, each is of a product.
        more_data: the other paths.
        products: ``separate``, or ``together``: parts of all products of a table are taken for one.
        product: of a table, the one whose rows are taken; None takes all.
        out: the run's folder.
        preset: ``paper``: as published, for a GPU and days; or ``recommended``. ``make`` takes what
            is not given from ``detection/presets``.
        model: registered builder.
        modalities: ``rgb``, ``geometry`` or both. Where it is not given, a training takes what its
            good parts have.
        fusion: ``search``, ``concatenation`` (hand-made), ``best`` (whichever of these two does
            better on held-out normals), ``random`` or a genotype file.
        cells: present cells (fewer for the paper's Table 4).
        middle_scales: scales of the features that the middle cell fuses, of a model that trains its
            features: 2,3 or, for the paper's Figure 4b, 2,3,4. Finer ones are early, coarser late.
        image_size: side of the crop in pixels, a multiple of 32.
        tiles: look at the crop in overlapping tiles of ``image_size``, this many a side; ``auto``
            takes as many as bring a pixel of the crop to one of the frame, four at most. For
            defects of less than three pixels of the crop; the time of a part grows with the square.
        geometry: how 3D becomes a picture.
        lamp: number of the lamp, for data with several; ``all`` takes each training part under one
            of its lamps, and each test part under all.
        shots: number of training normals; None takes all.
        rotate: whether parts may lie at any angle; then, with thirty training normals or fewer,
            each is also shown rotated about the camera's axis. None tests it by synthetic anomalies
            on the normals, for models with frozen features and for baselines, which get the same
            copies; a searched model that trains its features is not rotated.
        calibration_share: of the training normals, for data without a validation split.
        contamination: share of the normals that may hide a defect, as far as it is to be survived:
            training normals that most of many small memories of other parts find far from normal
            are left out, and all such parts are named. 0 trusts every normal.
        remove_background: ``true`` removes the support plane and everything not connected with the
            part; without 3D points, what has the colours of the frame's border. ``auto`` does so by
            points as well; without them, it decides once from all normals whether there is a
            background at all. ``false`` looks at whole frames.
        plane_margin: metres above the support plane that are removed with it; None estimates them.
        objects: of several above the support plane in a frame, look at the ``largest``, with a note
            of others; at ``all`` together; or ``split`` the frame and judge each as a part. Where
            3D points are not read, colours tell them from a background.
        region: file of the pixels that are looked at: an image, nonzero inside, or polygons as
            JSON, LabelMe or lines of x, y. The model keeps it.
        ignore: likewise of pixels that are not looked at, such as a clamp.
        augment: show each normal part under other light and at other angles in every epoch, to
            networks that are trained from scratch; a model with frozen features has a memory of
            normals instead, and cannot. Off: it is behind up to 10,000 images (decision 16).
        anomalies: that weights are trained with: the ``paper``'s generator alone, or a ``mixture``
            of it with defects of shape and appearance.
        smallest_anomaly: area of the smallest anomaly of shape or appearance, as a share of the
            object's; too small a one is not visible at the size of the crop.
        textures: folder of textures (DTD) for anomalies; None uses built-in ones.
        evidence: of what is not normal, that may be fused beside frozen features, as names or
            patterns: ``memory``: residual and distance from the nearest normals; ``crossmodal``:
            the error of one sensor's features as predicted by the other's; ``scaled_distance``:
            distances whose scale depends on the direction, trained with synthetic anomalies;
            ``agreement`` of both sensors' distances; ``fpfh``: distance of point histograms, which
            cannot be exported.
        score_evidence: of the same kinds, that the score may weigh beside the fusion's answer
            without being fused: on held-out normals, one distance from normal is chosen, or none.
        backbone: network of the frozen features of ``adnas_light``. ``dinov2_vits14`` needs
            ``chiasm[quality]``, each other one the package of its weights.
        candidates: patterns of the names of features that may be fused, e.g. ``*/f8``.
        operations: fusion operations that cells may use.
        nodes: intermediate nodes per cell.
        rounds: epochs of synthetic anomalies whose frozen features are stored.
        search: of the fusion. Its held-out normals also choose the score rule, and its share of the
            minutes includes the final round.
        final_data: what trains the final weights: the ``training`` parts without the held-out ones,
            or ``all``, as the paper does; the validation AP is then that of parts that were seen.
        train_epochs: passes over the training data; the budget may end them earlier.
        loss: ``focal``, as published; ``focal_dice``: with cross-entropy and Dice added, which
            learns in fewer steps; or ``object``: the same of the object's pixels alone, which weigh
            more in what is restored, too. None takes the model's own.
        bottleneck_stride: input pixels per pixel of the narrowest map of a reconstruction network
            with a stem: 16, as without a stem, or 32.
        residual: whether a small network that trains its features may also fuse input, restoration
            and their difference, which the paper does not.
        map_dropout: probability that a candidate map of a part is hidden from the fusion in
            training, so that none is relied on alone.
        optimiser: of the weights, ``adamw`` or ``adam``.
        learning_rate: of the weights.
        weight_decay: of the weights.
        schedule: of the learning rate, ``cosine`` or ``steps``: to a fifth after 0.8 of the epochs
            and again after 0.9.
        batch: parts per step.
        accumulate: micro-batches that a step is computed in, for networks that do not fit the
            memory; batch norms and Dice then see a micro-batch.
        checkpointing: compute activations again for the gradients instead of keeping them: less
            memory, about a third more time, the same result to the bit.
        precision: of training; ``auto`` is ``bf16`` where the device multiplies bfloat16, else
            ``fp16`` on a CUDA GPU and ``32`` elsewhere. A search by gradient has ``32`` instead of
            ``fp16``.
        device: that computes everything: ``auto`` (the first CUDA GPU, or the processor), ``cpu``,
            ``cuda``, ``cuda:N`` or ``mps``. A run may be continued on another one.
        image_score: how a map becomes the score of its part: by the largest ``local_mean``, the
            common rule of tables, or ``chosen`` among rules on good parts with synthetic anomalies;
            a searched model's were held out from its training, a baseline's are those of the
            calibration.
        strict: stop where a file is damaged, instead of leaving out the few parts that cannot be
            used.
        minutes: budget of search and training together; None sets no limit.
        false_alarm_rate: share of good parts that may alarm.
        confidence: share of calibrations that keep this rate, e.g. 0.9; none promises it on average
            over calibrations, so that some of them have a higher one.
        calibration: ``split``: normals that are held out of the training calibrate; ``cross``: all
            normals train and calibrate, each scored by a model that was fitted without it, for
            baselines of statistics and memories alone; or ``auto``: ``split`` where that calibrates
            with enough parts for the false-alarm rate, else ``cross`` for these baselines, and for
            others as many parts are held out as the rate needs.
        defects: folder or table of labelled defective parts, none of the test, that choose the
            threshold instead of the false-alarm rate; ``validation`` takes those of the data's own
            validation split.
        miss_rate: share of such defects that may be missed, on average; None takes the threshold of
            the best F1 on them and the calibration normals.
        defects_trained: share of the known defects with masks that train the head, of a searched
            model with frozen features; the others choose the threshold.
        calibration_folds: of a cross calibration, each a training of its own.
        memory_entries: descriptors in a memory of normals. Of 3D alone the default is 20,000: with
            4,000, validation loses 0.06 of pixel AP there, and 0.02 where colours help.
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
    more_data: tuple[Path, ...] = ()
    products: Literal["separate", "together"] = "separate"
    product: str | None = None
    out: Path
    preset: Preset = "recommended"
    model: str = "adnas_light"
    modalities: tuple[Literal["rgb", "geometry"], ...] = ("rgb", "geometry")
    fusion: str = "search"
    cells: tuple[Literal["early", "middle", "late"], ...] = ("early", "middle", "late")
    middle_scales: tuple[int, ...] = (2, 3)
    image_size: int = Field(256, ge=64, le=1024, multiple_of=32)
    tiles: int | Literal["auto"] | None = None
    geometry: Literal["height_slopes", "depth"] = "height_slopes"
    lamp: int | Literal["all"] | None = None
    shots: int | None = Field(None, ge=2)
    rotate: bool | None = None
    calibration_share: float = Field(0.2, gt=0, lt=0.9)
    contamination: float = Field(0.0, ge=0, le=0.3)
    remove_background: bool | Literal["auto"] = "auto"
    plane_margin: float | None = Field(None, gt=0)
    objects: Literal["largest", "all", "split"] = "largest"
    region: Path | None = None
    ignore: Path | None = None
    augment: bool = False
    anomalies: Literal["paper", "mixture"] = "mixture"
    smallest_anomaly: float = Field(0.001, gt=0, lt=0.05)
    textures: Path | None = None
    evidence: tuple[str, ...] = ("memory",)
    score_evidence: tuple[str, ...] = ()
    backbone: Literal[
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
        "dinov2_vits14",
        "dinov2_vits14_stride16",
    ] = "efficientnet_lite0"
    candidates: tuple[str, ...] = ("*",)
    operations: tuple[Literal["addition", "concatenation", "glu", "guided_attention"], ...] = Field(
        ("addition", "concatenation", "glu", "guided_attention"), min_length=1
    )
    nodes: int = Field(2, ge=1, le=6)
    rounds: int = Field(6, ge=1)
    search: SearchSettings = SearchSettings()
    final_data: Literal["training", "all"] = "training"
    train_epochs: int = Field(30, ge=1)
    loss: Literal["focal", "focal_dice", "object"] | None = None
    bottleneck_stride: Literal[16, 32] = 16
    residual: bool = True
    map_dropout: float = Field(0.0, ge=0, lt=1)
    optimiser: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["cosine", "steps"] = "cosine"
    batch: int = Field(16, ge=2)
    accumulate: int = Field(1, ge=1)
    checkpointing: bool = False
    precision: Precision = "auto"
    device: DeviceName = "auto"
    image_score: Literal["local_mean", "chosen"] = "local_mean"
    strict: bool = False
    minutes: float | None = Field(None, gt=0)
    false_alarm_rate: float = Field(FALSE_ALARM_RATE, gt=0, lt=1)
    confidence: float | None = Field(None, gt=0, lt=1)
    calibration: CalibrationMode = "auto"
    calibration_folds: int = Field(5, ge=2)
    defects: Path | None = None
    miss_rate: float | None = Field(None, gt=0, lt=1)
    defects_trained: float = Field(0.0, ge=0, lt=1)
    memory_entries: int = Field(4_000, ge=500)
    seed: int = Field(0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def bounds_cost(self) -> bool:
        """Whether the architecture is to keep what it was found to cost: a budget, or the knee."""
        budgets = (self.search.budget_ms, self.search.budget_mb)
        at_knee = self.fusion == "best" and self.search.evolves
        return at_knee or any(budget is not None for budget in budgets)

    @property
    def optimisation(self) -> dict[str, Any]:
        """The settings of a training's steps, by the names of its arguments."""
        names = ("optimiser", "learning_rate", "weight_decay", "schedule", "accumulate")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def presets(cls, model: RegisteredModel) -> dict[str, str]:
        """Return by name what each preset sets, as YAML, with a section of models that differ."""
        return {name: preset_text(name) for name in get_args(Preset)}

    @classmethod
    def _preset(cls, given: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        names = [settings["preset"] for settings in given if settings.get("preset")]
        models = [settings["model"] for settings in given if settings.get("model")]
        name = names[-1] if names else cls.model_fields["preset"].default
        # A name that does not exist is left to the field's own check.
        known = name in get_args(Preset)
        return preset_values(name, models[-1] if models else None) if known else {}

    @model_validator(mode="before")
    @classmethod
    def _several_paths(cls, values: Any) -> Any:
        data = values.get("data") if isinstance(values, Mapping) else None
        if isinstance(data, list | tuple) and data:
            return {
                **values,
                "data": data[0],
                "more_data": (*values.get("more_data", ()), *data[1:]),
            }
        return values

    @field_validator("calibration")
    @classmethod
    def _sound(cls, value: str, info: ValidationInfo) -> str:
        if value == "cross" and info.data.get("image_score") == "chosen":
            raise ValueError(
                "each fold of a cross calibration would choose a rule of the image's score of its "
                "own, so that their scores could not be compared; leave out image_score=chosen."
            )
        if value == "cross" and info.data.get("confidence") is not None:
            raise ValueError(
                "a cross calibration promises no rate with a confidence; leave the confidence out, "
                "or hold out parts (calibration=split)."
            )
        return value

    @field_validator("tiles")
    @classmethod
    def _tiles_a_side(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and not 1 <= value <= MOST_TILES:
            raise ValueError(f"it is the number of tiles a side, from 1 to {MOST_TILES}, or auto.")
        return value

    @field_validator("miss_rate", "defects_trained")
    @classmethod
    def _of_defects(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value and info.data.get("defects") is None:
            raise ValueError("it needs known defects; name their folder or table (defects=FOLDER).")
        return value

    @field_validator(
        *("modalities", "cells", "middle_scales", "evidence", "score_evidence"),
        *("candidates", "operations"),
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        value = str(value) if isinstance(value, int) else value  # one scale
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value
