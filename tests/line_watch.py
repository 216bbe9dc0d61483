"""A stub model, a folder that is watched, and a clock; as a process: FOLDER OUT [OUTLETS]."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from chiasm.detection.decision import AlarmRule
from chiasm.files.images import read_rgb
from chiasm.line.judging import Judge
from chiasm.line.record import Payload
from chiasm.line.session import WatchSettings, watch_until_stopped
from chiasm.line.watch import Watch
from chiasm.samples import Verdict


class Brightness:
    """A detector of colour and 3D whose score is the mean brightness; above 0.5 is defective."""

    wing = "detector"
    modalities: tuple[str, ...] = ("rgb", "geometry")
    alarm_rule = AlarmRule([0.1 * n for n in range(1, 10)], 0.5, None)

    def rule_for(self, verdict: Verdict) -> AlarmRule:
        return self.alarm_rule

    def __init__(self, folder: Path) -> None:
        self.model_hash = (folder / "deployment.json").read_text()
        self.calls: list[str] = []

    def __call__(self, *, source: str, **files: Any) -> Verdict:
        self.calls.append(source)
        if source.startswith("bug"):
            raise RuntimeError("a bug")
        rgb = files["rgb"]
        score = float((read_rgb(rgb) if isinstance(rgb, Path) else rgb).mean())
        return Verdict(source, score, 0.25, score > 0.5)


def write_part(folder: Path, name: str, share: float = 0.2, *, roles: str = "rgb xyz") -> None:
    """Write the files of a part; the point map is not looked into."""
    if "rgb" in roles:
        pixels = np.full((4, 4, 3), round(255 * share), np.uint8)
        content = cv2.imencode(".png", pixels)[1].tobytes()
        (folder / f"{name}.png").write_bytes(content)
    if "xyz" in roles:
        (folder / f"{name}.tiff").write_bytes(b"points of " + name.encode())


@dataclass
class Bench:
    """A watch of ``folder`` with a clock that ``look`` moves on."""

    folder: Path
    out: Path
    model: Path
    sent: list[Payload] = field(default_factory=list)
    now: float = 0.0

    @classmethod
    def at(cls, root: Path) -> Bench:
        bench = cls(root / "in", root / "out", root / "model")
        for folder in (bench.folder, bench.out, bench.model):
            folder.mkdir()
        (bench.model / "deployment.json").write_text("a" * 64)
        return bench

    def watch(self, send: Callable[[Payload], None] | None = None, **options: Any) -> Watch:
        judge = Judge(self.model, Brightness, station="press")
        send = send or self.sent.append
        return Watch(self.folder, self.out, judge, send=send, clock=self.clock, **options)

    def clock(self) -> float:
        """Return the seconds that ``look`` moves on."""
        return self.now

    def look(self, watch: Watch, seconds: float = 1.0) -> int:
        """Look, and once more after some seconds."""
        judged = watch.look()
        self.now += seconds
        return judged + watch.look()

    def lines(self) -> list[str]:
        """Sources and decisions in the table."""
        table = self.out / "verdicts.csv"
        if not table.exists():
            return []
        rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
        return [f"{row[1]} {row[2]}" for row in rows]

    def files(self, folder: str = "") -> list[str]:
        """Files below the watched folder, or below one of the results."""
        root = self.out / folder if folder else self.folder
        return sorted(str(p.relative_to(root)) for p in root.rglob("[!.]*") if p.is_file())


class Slow(Brightness):
    def __call__(self, *, source: str, **files: Any) -> Verdict:
        time.sleep(0.01)
        return super().__call__(source=source, **files)


if __name__ == "__main__":
    watched, results, model, *outlets = map(Path, sys.argv[1:])
    watch_until_stopped(
        WatchSettings(
            watched,
            results,
            model,
            outlets=outlets[0] if outlets else None,
            settle_s=0.05,
            every_s=0.02,
            after="leave",
        ),
        Slow,
    )
