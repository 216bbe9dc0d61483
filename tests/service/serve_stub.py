"""A service as a process: FOLDER LOG HOST PORT [SPOOL]; its detector takes 20 ms for a part."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from stub_service import MeanBrightness

from chiasm.samples import Verdict
from chiasm.service.app import build
from chiasm.service.server import run
from chiasm.service.settings import ServiceSettings


class Slow(MeanBrightness):
    def __call__(self, rgb: Any, xyz: Any, *, source: str = "") -> Verdict:
        time.sleep(0.02)
        return super().__call__(rgb, xyz, source=source)


if __name__ == "__main__":
    folder, log, host, port, *spool = sys.argv[1:]
    settings = ServiceSettings(
        log=log, threads=2, station=port, spool=Path(spool[0]) if spool else None
    )
    app = build({"gland": Path(folder)}, settings, Slow)
    run(app, host=host, port=int(port), seconds=settings.timeout)
