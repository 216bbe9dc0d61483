"""Three services behind nginx, one log on PostgreSQL; one is killed again and again under load.

Needs Debian's postgresql and nginx. On a quiet machine:
  python docs/results/scripts/stations_load.py --minutes 5 --out docs/results/stations

Services, database, proxy and clients share this machine. Clients send parts one after another, each
under an Idempotency-Key of its own, and send one again that got no answer of 200. A service is
killed (SIGKILL) every 20 s, in turn, and started again after 3 s, as a supervisor does. In the
middle the database is killed, too, and is away for some seconds.

At the end, once nothing waits on a disk, the log is compared with the answers: every part that was
answered has one row, with the score and the decision that were answered; no part has two; no row is
of a part that nobody sent.
"""

from __future__ import annotations

import argparse
import atexit
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from record import machine
from service_load import body

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests/service"))
from exported import brightest, disc  # noqa: E402
from nginx_proxy import NginxProxy, free_port  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

SERVICES = 3
EVERY = 20.0  # seconds between kills
AWAY = 3.0  # seconds until a killed service is started again


class Service:
    """One ``chiasm serve`` that can be killed."""

    def __init__(self, number: int, model: Path, log: str, folder: Path) -> None:
        self.port = free_port()
        self._command = [
            sys.executable, "-c", "from chiasm.cli.main import main; main()",
            "serve", f"part={model}", "--log", log, "--spool", str(folder / "spool"),
            "--station", f"hall-{number}", "--port", str(self.port), "--threads", "1",
        ]  # fmt: skip
        self._output = (folder / f"service-{number}.txt").open("ab")
        self.start()

    def start(self) -> None:
        """Start it; it answers after some seconds."""
        self.process = subprocess.Popen(self._command, stdout=self._output, stderr=self._output)

    def kill(self) -> None:
        """Kill it without a chance to write anything."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._output.close()

    def state(self) -> dict[str, Any] | None:
        """Return its state; None if it does not answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/v1/state", timeout=5
            ) as answer:
                found: dict[str, Any] = json.load(answer)
        except OSError:
            return None
        return found


@dataclass
class Sent:
    """What the clients sent and got.

    Attributes:
        answers: of 200, by the part's name.
        again: refusals and lost connections, each sent again, by kind.
        seconds: from the first attempt to the answer.
        unanswered: parts that got no answer before the end.
    """

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    again: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)


class Clients:
    """Threads that send parts through the proxy until they are told to end."""

    def __init__(self, port: int, files: list[dict[str, Path]], count: int) -> None:
        self.sent = Sent()
        self.ended = threading.Event()
        self._port = port
        self._files = files
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let each client finish its part."""
        self.ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: int) -> None:
        number = 0
        while not self.ended.is_set():
            self._send(f"part-{client}-{number}", self._files[number % len(self._files)])
            number += 1

    def _send(self, name: str, files: dict[str, Path]) -> None:
        content, kind = body(files)
        mark = kind.partition("boundary=")[2]
        field_of_name = (
            f'--{mark}\r\nContent-Disposition: form-data; name="source"\r\n\r\n{name}\r\n'
        )
        headers = {"Content-Type": kind, "Idempotency-Key": uuid.uuid4().hex}
        start = time.monotonic()
        with self._lock:
            self.sent.unanswered.add(name)
        while time.monotonic() - start < 120:
            outcome, answer = self._once(field_of_name.encode() + content, headers)
            with self._lock:
                if outcome == "200":
                    self.sent.answers[name] = answer
                    self.sent.seconds.append(time.monotonic() - start)
                    self.sent.unanswered.discard(name)
                    return
                self.sent.again[outcome] += 1
            time.sleep(0.2)

    def _once(self, content: bytes, headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("POST", "/v1/models/part/predict", content, headers)
            answer = connection.getresponse()
            text = answer.read()
            return str(answer.status), json.loads(text) if answer.status == 200 else {}
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__, {}
        finally:
            connection.close()


def write_parts(folder: Path, count: int) -> list[dict[str, Path]]:
    """Write made parts, each of another brightness."""
    files = []
    for number in range(count):
        rgb, xyz = disc(0.1 + 0.8 * number / count)
        paths = {"rgb": folder / f"{number}.png", "xyz": folder / f"{number}.npy"}
        cv2.imwrite(str(paths["rgb"]), rgb)
        np.save(paths["xyz"], xyz)
        files.append(paths)
    return files


def compare(log: str, sent: Sent) -> dict[str, Any]:
    """Compare the log with the answers."""
    import psycopg

    with psycopg.connect(log) as connection:
        rows = connection.execute(
            "SELECT source, id, score, decision, station, error FROM verdicts"
        ).fetchall()
    counts = Counter(row[0] for row in rows)
    by_name = {row[0]: row for row in rows}
    differing = 0
    for name, answer in sent.answers.items():
        if (row := by_name.get(name)) is not None:
            decision = {True: "defective", False: "good", None: "undecided"}[answer["defective"]]
            differing += (row[1], row[2], row[3]) != (answer["id"], answer["score"], decision)
    return {
        "rows": len(rows),
        "lost": len(sent.answers.keys() - counts.keys()),
        "doubles": sum(count > 1 for count in counts.values()),
        "other than answered": differing,
        "of nobody": len(counts.keys() - sent.answers.keys() - sent.unanswered),
        "errors": sum(bool(row[5]) for row in rows),
        "rows by station": dict(sorted(Counter(row[4] for row in rows).items())),
    }


def main() -> None:
    """Run the load, compare, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--outage", type=float, default=15.0, help="seconds without the database")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--model", type=Path, help="an exported detector; default: a tiny graph")
    parser.add_argument("--out", type=Path, help="FILE without suffix: writes .json and .md")
    chosen = parser.parse_args()
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
    commit = revision.stdout.decode().strip()
    folder = Path(tempfile.mkdtemp(prefix="chiasm-stations-"))
    database = PostgresServer()
    atexit.register(database.remove)
    log = database.new_log()
    model = chosen.model or brightest(folder / "model")
    files = write_parts(folder, 16)
    services = [Service(number, model, log, folder) for number in range(SERVICES)]
    proxy = NginxProxy(folder, [service.port for service in services])
    atexit.register(proxy.stop)
    for service in services:
        atexit.register(service.kill)
    while not (proxy.answers() and all(service.state() for service in services)):
        time.sleep(0.5)
    load_before = os.getloadavg()[0]
    clients = Clients(proxy.port, files, chosen.clients)
    start = time.monotonic()
    seconds = 60 * chosen.minutes
    kills, most_waiting, modes = 0, 0, Counter[str]()
    down_at, up_at = seconds / 2, seconds / 2 + chosen.outage
    killed: Service | None = None
    was_down = False
    while (now := time.monotonic() - start) < seconds:
        if chosen.outage and not was_down and now >= down_at:
            database.kill()
            was_down = True
        if was_down and now >= up_at:
            database.start()
        if killed is None and now >= EVERY * (kills + 1):
            killed = services[kills % SERVICES]
            killed.kill()
            kills += 1
        if killed is not None and now >= EVERY * kills + AWAY:
            killed.start()
            killed = None
        for service in services:
            if service is not killed and (state := service.state()):
                modes[state["log"]["mode"]] += 1
                most_waiting = max(most_waiting, state["log"]["waiting"])
        time.sleep(0.5)
    if killed is not None:
        killed.start()
    database.start()
    clients.end()
    wall = time.monotonic() - start
    ended = time.monotonic()
    while True:
        states = [service.state() for service in services]
        if all(s and s["log"]["mode"] == "database" and not s["log"]["waiting"] for s in states):
            break
        if time.monotonic() - ended > 120:
            raise SystemExit(f"Verdicts still wait: {states}")
        time.sleep(0.5)
    delivered = time.monotonic() - ended
    sent = clients.sent
    figures = {
        "commit": commit,
        "machine": machine(),
        "load average before": round(load_before, 1),
        "minutes": round(wall / 60, 2),
        "services": SERVICES,
        "clients": chosen.clients,
        "kills": kills,
        "outage of the database, s": chosen.outage,
        "parts answered": len(sent.answers),
        "parts without an answer": len(sent.unanswered),
        "attempts that were sent again": dict(sent.again),
        "most verdicts on a disk": most_waiting,
        "states seen": dict(modes),
        "delivered after the end within, s": round(delivered, 1),
        "p50, ms": round(1000 * float(np.percentile(sent.seconds, 50))),
        "p99, ms": round(1000 * float(np.percentile(sent.seconds, 99))),
        "slowest, ms": round(1000 * max(sent.seconds)),
        **compare(log, sent),
    }
    for service in services:
        service.stop()
    left = [path for path in (folder / "spool").iterdir() if path.stat().st_size]
    figures["files left in the spool"] = len(left)
    print(json.dumps(figures, indent=1))
    if chosen.out:
        chosen.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    failed = [
        name for name in ("lost", "doubles", "other than answered", "of nobody") if figures[name]
    ]
    if failed or left:
        raise SystemExit(f"Not as promised: {failed or left}; see {folder}.")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
