"""A thread that looks at the assets of a station, and raises the alarms of their trends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from chiasm.diagnosis.monitoring.alarms import AlarmRule
from chiasm.diagnosis.monitoring.asset import TrendAlarm
from chiasm.errors import ChiasmError
from chiasm.line.record import LineRecord, Payload
from chiasm.service.assets.history import history_of
from chiasm.service.log.asset_rows import alarms_of, assets_of, insert_alarm, verdicts_of
from chiasm.service.log.verdict_log import LONGEST_WAIT, VerdictLog

logger = logging.getLogger(__name__)

LOOKS_EVERY = 5.0
"""Seconds between two looks."""

DECISION = "trend"
"""Decision of an alarm's record at the plant's systems."""


class AlarmWatch:
    """Raises an alarm once: it is handed to the outlets, then written to the log.

    A kill between the two hands it over again with the same id, so that none is lost. Of the
    services that share a log the one whose station judged an asset last looks at it.

    Args:
        log: of the verdicts.
        send: hands a record to the plant's systems; raises ``OSError`` if it cannot be kept.
        rule: of the alarms.
        every: seconds between two looks; None is ``LOOKS_EVERY``.
    """

    def __init__(
        self,
        log: VerdictLog,
        send: Callable[[Payload], None],
        rule: AlarmRule,
        *,
        every: float | None = None,
    ) -> None:
        self._log, self._send, self._rule = log, send, rule
        self._every = LOOKS_EVERY if every is None else every
        self._seen: dict[str, tuple[int, str]] = {}
        self._ended = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="alarm-watch", daemon=True)
        self._thread.start()

    def look(self) -> int:
        """Look at the assets that have new verdicts, and return the number of new alarms."""
        with self._log.reading() as connection:
            assets = assets_of(connection, self._log.station)
        raised = 0
        for newest in assets:
            state = newest["recordings"], newest["id"]
            if self._seen.get(newest["asset"]) == state:
                continue
            raised += self._raise(newest)
            self._seen[newest["asset"]] = state
        return raised

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(2 * LONGEST_WAIT)

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self.look()
                self._trouble = ""
            except (ChiasmError, OSError, TimeoutError) as error:
                if str(error) != self._trouble:  # the log itself says when it is away
                    logger.warning("The trends of assets cannot be looked at: %s", error)
                self._trouble = str(error)
            except Exception:
                logger.exception("The trends of assets cannot be looked at.")

    def _raise(self, newest: Mapping[str, Any]) -> int:
        asset = newest["asset"]
        with self._log.reading() as connection:
            rows = verdicts_of(connection, asset)
            known = alarms_of(connection, [asset])[asset]
        trend = history_of(asset, rows, self._rule)
        new = [alarm for alarm in trend.alarms if not any(_same(alarm, row) for row in known)]
        for alarm in new:
            now = time.time()
            self._send(
                LineRecord(
                    id=alarm.id,
                    time=now,
                    source=asset,
                    decision=DECISION,
                    station=newest["station"],
                    model=newest["model"],
                    model_hash=newest["model_hash"],
                    wing=newest["wing"],
                    alarm=True,
                    notes=(alarm.sentence,),
                ).payload()
            )
            values = {
                "id": alarm.id,
                "asset": asset,
                "station": newest["station"],
                "model": newest["model"],
                "subject": alarm.subject,
                "sentence": alarm.sentence,
                "found": now,
                "raised": alarm.raised,
                "began": alarm.began,
            }

            def insert(connection: Connection, values: dict[str, Any] = values) -> None:
                insert_alarm(connection, values)

            self._log.submit(insert).result(LONGEST_WAIT)
        return len(new)


def _same(alarm: TrendAlarm, row: Mapping[str, Any]) -> bool:
    """Return whether an alarm is in the log: itself, or one on the same change.

    The history becomes shorter when old verdicts are deleted, so that the same change is then found
    with another recording.
    """
    if row["id"] == alarm.id:
        return True
    if row["subject"] != alarm.subject or alarm.raised is None or alarm.began is None:
        return False
    return bool(row["began"] <= alarm.raised and alarm.began <= row["raised"])
