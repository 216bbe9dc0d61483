"""A watch from its settings to its end: locks, signals, outlets and the summary."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiasm.errors import DataError
from chiasm.line.configuration import read_outlets
from chiasm.line.console import tell
from chiasm.line.delivery import Delivery
from chiasm.line.judging import Judge
from chiasm.line.watch import TABLE, After, Watch, locked


@dataclass(frozen=True)
class WatchSettings:
    """What is watched and how.

    Attributes:
        folder, out, model: folders.
        after: what becomes of judged files; see ``Watch``.
        skips_existing: whether files that are there at the start are not judged.
        outlets: YAML file of the systems that get the verdicts.
        station: name of the place.
        settle_s, patience_s, every_s: see ``Watch``.
        once: whether to end when nothing waits.
        heat_maps: whether to draw defective parts.
        ignore: see ``Arrivals``.
        options: of the model's calls; None leaves one out.
    """

    folder: Path
    out: Path
    model: Path
    after: After = "move"
    skips_existing: bool = False
    outlets: Path | None = None
    station: str = ""
    settle_s: float = 1.0
    patience_s: float = 30.0
    every_s: float = 0.5
    once: bool = False
    heat_maps: bool = False
    ignore: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def watch_until_stopped(settings: WatchSettings, load: Callable[[Path], Any]) -> Watch:
    """Watch a folder until SIGTERM or SIGINT, or with ``once`` until nothing waits.

    Args:
        settings: of the watch.
        load: opens a model's folder.

    Raises:
        DataError: there is no such folder.
        ConfigurationError: another watch uses it, or the outlets cannot be used.
        ChiasmError: the model cannot be loaded.
    """
    folder, out = settings.folder, settings.out
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; make it, or check the path.")
    out.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    outlets = {} if settings.outlets is None else read_outlets(settings.outlets)
    with (
        locked(folder, out),
        _stopped_by_signals(stop),
        closing(Delivery(outlets, out / "spool", tell=tell)) as delivery,
    ):
        judge = Judge(
            settings.model,
            load,
            station=settings.station,
            options=settings.options,
            heat_maps=out / "heat_maps" if settings.heat_maps else None,
        )
        watch = Watch(
            folder,
            out,
            judge,
            send=delivery.put,
            after=settings.after,
            settle_s=settings.settle_s,
            patience_s=settings.patience_s,
            every_s=settings.every_s,
            ignore=settings.ignore,
        )
        if settings.skips_existing:
            tell(f"{watch.skip_present()} parts that are there already are not judged.")
        tell(f"Watching {folder}. Verdicts go to {out / TABLE}. Ctrl-C ends.")
        watch.run(stop, once=settings.once)
    total = watch.counts.total()
    kinds = ", ".join(f"{count} {decision}" for decision, count in watch.counts.most_common())
    tell(f"{total} judged{': ' if kinds else ''}{kinds}. See {out / TABLE}.")
    return watch


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` at SIGTERM and SIGINT; a second one ends at once."""

    def end(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
