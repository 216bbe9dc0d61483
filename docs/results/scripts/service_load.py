"""Load for a service on this machine: bodies made beforehand, sent by few threads, times kept."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Answers:
    """What came back.

    Attributes:
        seconds: from when a request was due to its answer.
        lost: requests without an answer of 200, by what came instead.
        busy: answers of 429, each sent again.
        wall: seconds in all.
    """

    seconds: list[float] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    busy: int = 0
    wall: float = 0.0

    def __add__(self, other: Answers) -> Answers:
        lost = {
            why: self.lost.get(why, 0) + other.lost.get(why, 0) for why in self.lost | other.lost
        }
        return Answers(
            self.seconds + other.seconds, lost, self.busy + other.busy, self.wall + other.wall
        )

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        return 1000 * float(np.percentile(self.seconds, share))

    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall


def body(files: dict[str, Path]) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{role}"; filename="{path.name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + path.read_bytes()
        + b"\r\n"
        for role, path in files.items()
    ]
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


class Load:
    """Sends bodies in turn to one model of one service on 127.0.0.1."""

    def __init__(self, port: int, model: str, bodies: Sequence[tuple[bytes, str]]) -> None:
        self._port = port
        self._path = f"/v1/models/{model}/predict"
        self._bodies = bodies
        self._own = threading.local()
        self._lock = threading.Lock()

    def closed(self, *, clients: int, seconds: float, keep: bool = True) -> Answers:
        """Each client sends its next request when its last one is answered."""
        until = time.perf_counter() + seconds
        answers = Answers()
        numbers = iter(range(10**9))

        def client() -> None:
            while time.perf_counter() < until:
                self._one(next(numbers), time.perf_counter(), answers, keep=keep)

        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(client) for _ in range(clients)]:
                done.result()
        answers.wall = time.perf_counter() - start
        return answers

    def open(self, *, rate: float, seconds: float, clients: int = 16, seed: int = 0) -> Answers:
        """Requests fall due at random moments, whether others are answered or not."""
        gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
        answers = Answers()
        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            sent = []
            for number, due in enumerate(np.cumsum(gaps)):
                time.sleep(max(0.0, start + due - time.perf_counter()))
                sent.append(pool.submit(self._one, number, start + due, answers, keep=True))
            for done in sent:
                done.result()
        answers.wall = time.perf_counter() - start
        return answers

    def _one(self, number: int, due: float, answers: Answers, *, keep: bool) -> None:
        content, kind = self._bodies[number % len(self._bodies)]
        headers = {"Content-Type": kind} | ({} if keep else {"Connection": "close"})
        while True:
            try:
                connection = self._connection(keep)
                connection.request("POST", self._path, content, headers)
                answer = connection.getresponse()
                answer.read()
                outcome = str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
                self._own.kept = None
            if outcome != "429":
                break
            with self._lock:
                answers.busy += 1
            time.sleep(0.2)
        with self._lock:
            if outcome == "200":
                answers.seconds.append(time.perf_counter() - due)
            else:
                answers.lost[outcome] = answers.lost.get(outcome, 0) + 1

    def _connection(self, keep: bool) -> http.client.HTTPConnection:
        kept = getattr(self._own, "kept", None) if keep else None
        if kept is None:
            kept = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._own.kept = kept if keep else None
        return kept
