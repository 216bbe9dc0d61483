"""What Prometheus may read of the service."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Observation:
    """Counters of one service; resident memory and open files come with the process's own.

    Args:
        depth: how many requests hold a place in the queue now.
    """

    def __init__(self, depth: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "chiasm_requests",
            "Requests answered, by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "chiasm_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.verdicts = Counter(
            "chiasm_verdicts",
            "Verdicts given, by model and decision.",
            ["model", "decision"],
            registry=self.registry,
        )
        self.judging = Histogram(
            "chiasm_judging_seconds",
            "Decoding, preparation and inference of one request, without waiting.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        queue = Gauge(
            "chiasm_queue_depth", "Requests that hold a place in the queue.", registry=self.registry
        )
        queue.set_function(depth)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
