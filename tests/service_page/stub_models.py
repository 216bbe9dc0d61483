"""Stub models with predictable answers, and files for the page to upload."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from stub_service import stub_deployment, stub_form

from chiasm.diagnosis.quantities.assessment import assessed
from chiasm.errors import DataError
from chiasm.samples import AnomalyMap, Diagnosis, RecordingSample, Verdict

SIDE = 96
NORMALS = tuple(0.2 + 0.002 * step for step in range(99))


class BrightSpot:
    """A detector whose score is the brightness of the brightest pixel of the object."""

    wing = "detector"
    model_hash = "d" * 64
    deployment = stub_deployment(
        wing=wing,
        method="bright_spot",
        modalities=("rgb", "geometry"),
        calibration_scores=NORMALS,
        false_alarm_rate=0.05,
    )

    def __call__(self, rgb: Any, xyz: Any, *, source: str = "", **settings: Any) -> Verdict:
        if rgb.shape[:2] != xyz.shape[:2]:
            raise DataError("The colour image and the 3D file are not of one size.")
        foreground = xyz[..., 2] < 0.5
        scores = np.where(foreground, rgb.mean(axis=2), 0).astype(np.float32)
        score = float(scores.max())
        p = (1 + sum(normal >= score for normal in NORMALS)) / (1 + len(NORMALS))
        return Verdict(source, score, p, p <= 0.05, AnomalyMap(scores, foreground, score, source))

    def prepared(self, *arrays: Any, **settings: Any) -> Callable[[], Any]:
        return partial(self, *arrays, **settings)

    def warm_up(self, *, streaming: bool = False) -> None:
        pass

    def close(self) -> None:
        pass


class Amplitude(BrightSpot):
    """A classifier by the largest pulse of a series and the mean of an image."""

    wing = "classifier"
    model_hash = "c" * 64
    deployment = stub_deployment(
        wing=wing,
        method="amplitude",
        modalities=("image", "series"),
        kinds=("corona", "void"),
        recording=stub_form(),
    )

    polarity = "unipolar"
    modalities = ("image", "series")
    has_phase = True

    def __call__(self, image: Any = None, series: Any = None, **facts: Any) -> Diagnosis:
        return assessed(self, RecordingSample(image, series, **facts))

    def classify(self, sample: RecordingSample) -> Diagnosis:
        image, series, source = sample.image, sample.series, sample.source
        opinions = {}
        if image is not None:
            opinions["image"] = {"corona": 1 - float(image.mean()), "void": float(image.mean())}
        if series is not None:
            loud = min(1.0, float(series.max()) / 100)
            opinions["series"] = {"corona": 1 - loud, "void": loud}
        void = sum(opinion["void"] for opinion in opinions.values()) / len(opinions)
        conflict = 0.0
        if len(opinions) == 2:
            conflict = abs(opinions["image"]["void"] - opinions["series"]["void"])
        sure = max(void, 1 - void) > 0.6
        kind = ("void" if void > 0.5 else "corona") if sure else "unknown"
        probabilities = {"corona": 1 - void, "void": void}
        lone = conflict if len(opinions) == 2 else float("nan")
        return Diagnosis(source, kind, probabilities, opinions, 0.25, lone)


def write_part(folder: Path, name: str, *, spot: bool, split: bool = False) -> list[Path]:
    """A grey disc before a plane, with a bright spot on it or without.

    ``split`` puts the files of one name into folders rgb/ and xyz/.
    """
    rows, columns = np.mgrid[:SIDE, :SIDE]
    away = np.hypot(rows - SIDE / 2, columns - SIDE / 2)
    disc = away < SIDE / 3
    picture = np.full((SIDE, SIDE, 3), 20, np.uint8)
    picture[disc] = 70
    if spot:
        picture[SIDE // 2 : SIDE // 2 + 8, SIDE // 2 - 12 : SIDE // 2 - 4] = 240
    z = np.where(disc, 0.4 - 0.0004 * (SIDE / 3 - away), 0.6)
    xyz = np.stack([(columns - SIDE / 2) * z / 300, (rows - SIDE / 2) * z / 300, z], axis=2)
    colour = folder / (f"rgb/{name}.png" if split else f"{name}_rgb.png")
    shape = folder / (f"xyz/{name}.tiff" if split else f"{name}_xyz.tiff")
    for path in (colour, shape):
        path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(colour), picture)
    tifffile.imwrite(shape, xyz.astype(np.float32), photometric="rgb")
    return [colour, shape]


def write_recording(folder: Path, name: str, *, brightness: int, loudest: int) -> list[Path]:
    """A flat image and a series with one pulse."""
    image, series = folder / f"{name}.png", folder / f"{name}.csv"
    assert cv2.imwrite(str(image), np.full((32, 32, 3), brightness, np.uint8))
    values = np.zeros(1280, int)
    values[100] = loudest
    series.write_text("\n".join(map(str, values)) + "\n")
    return [image, series]
