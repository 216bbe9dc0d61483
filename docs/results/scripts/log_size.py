"""Size of the log on PostgreSQL, and how long the page's questions take, by number of verdicts.

python docs/results/scripts/log_size.py --verdicts 1000000
"""

from __future__ import annotations

import argparse
import atexit
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import machine

from chiasm.service.log.verdict_log import VerdictLog

sys.path.insert(0, str(Path(__file__).parents[3] / "tests/service"))
from postgres_server import PostgresServer

MADE = """
INSERT INTO verdicts SELECT md5(i::text), 1.7e9 + 2.5 * i, 'gland', repeat('f', 64), 'detector',
'part_' || i || '.png', md5(i::text) || md5('x' || i), random(), random(), 0.9,
CASE WHEN i %% 50 = 0 THEN 'defective' ELSE 'good' END, 40, '', 'hall-' || i %% 10
FROM generate_series(1, %s) AS i
"""
CORRECTED = """
INSERT INTO corrections (verdict, time, says, by) SELECT id, time, 'right', 'page' FROM verdicts
WHERE decision = 'defective'
"""


def milliseconds(ask: Callable[[], Any]) -> int:
    """Return the shortest of five times."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    return round(1000 * min(times))


def main() -> None:
    """Make verdicts, a fiftieth of them corrected alarms, and print the figures."""
    import psycopg

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    count = parser.parse_args().verdicts
    server = PostgresServer()
    atexit.register(server.remove)
    address = server.new_log()
    log = VerdictLog(address)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(MADE, [count])
        connection.execute(CORRECTED)
        connection.execute("VACUUM ANALYZE")
        size = "SELECT pg_database_size(current_database())"
        (size_bytes,) = connection.execute(size).fetchone() or (0,)
    version = "f" * 64
    since = 1.7e9 + 2.5 * count - 86400
    figures = {
        "machine": machine(),
        "verdicts": count,
        "bytes a verdict": round(size_bytes / count),
        "newest page, ms": milliseconds(lambda: log.find(limit=50)),
        "newest page of a station, ms": milliseconds(lambda: log.find(limit=50, station="hall-3")),
        "newest page of a day, ms": milliseconds(lambda: log.find(limit=50, since=since)),
        "drift of 200, ms": milliseconds(lambda: log.recent_scores("gland", version, 200)),
        "counts of 14 days for a calibration, ms": milliseconds(
            lambda: log.counts("gland", version, since - 13 * 86400)
        ),
    }
    print(json.dumps(figures, indent=1))
    log.close()


if __name__ == "__main__":
    main()
