"""What is counted for Prometheus. Made once by the composition root and handed on; nothing global is registered.

What a process counts itself (HTTP requests, event streams) is kept here. What is known of rollouts, leases and schedules is in
Redis, for all processes together: whoever answers a scrape gathers it and hands it over as `Numbers`. Rates are the rate() of
the counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from resyncctl.rollout.model import LATENCY

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LAG: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0)
"""The same for schedules; a fire time that is 30 s late is missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutNumbers:
    """What is exported of a rollout that the service executes."""

    rollout: str
    state: str
    rate: float
    """Sends per second that it may make; 0 = unlimited."""
    counts: Mapping[str, int]
    """Targets by state."""
    responses: Mapping[str, int]
    """Targets by SIP status."""
    retries: int
    latency: Mapping[str, int] = field(default_factory=dict)
    """Answers by the upper bound of their bucket (of LATENCY, as text; `+Inf`), not added up."""
    latency_sum: float = 0.0
    lease: float = 0.0
    """Seconds until the lease of whoever executes it ends; 0 = nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What is known in Redis at the time of a scrape; `None` where that could not be asked."""

    rollouts: tuple[RolloutNumbers, ...] = ()
    workers: int = 0
    backlog: Mapping[str, int] = field(default_factory=dict)
    """Batches that wait or are worked on, by pool; `default` is that of phones that no pool is named for."""
    frozen: bool = False
    scheduler_lease: float = 0.0
    """Seconds until the lease of whoever schedules ends; 0 = nobody does."""


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "resyncctl_http_requests",
            "HTTP requests answered, by the path of the operation.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "resyncctl_http_request_seconds",
            "Time to the beginning of the answer.",
            ("method", "route"),
            registry=self.registry,
        )
        self.streams = Gauge("resyncctl_event_streams", "Event streams that are open.", registry=self.registry)
        self._lag = Histogram(
            "resyncctl_schedule_lag_seconds",
            "From a fire time to its launch, in the process that schedules.",
            buckets=LAG,
            registry=self.registry,
        )
        self._numbers = _Gathered()
        self.registry.register(self._numbers)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request; `route` is the path as it is declared, '' for one that is not."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def fired(self, seconds: float) -> None:
        """Count a fire time of a schedule that was launched so late (`Scheduler.on_fire`)."""
        self._lag.observe(seconds)

    def render(self, numbers: Numbers | None) -> bytes:
        """Return everything as Prometheus reads it; None: Redis could not be asked."""
        self._numbers.numbers = numbers
        return generate_latest(self.registry)


class _Gathered(Collector):
    """Turns numbers into metrics."""

    def __init__(self) -> None:
        self.numbers: Numbers | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the numbers at hand."""
        numbers = self.numbers
        yield GaugeMetricFamily("resyncctl_store_up", "Whether Redis answered.", value=float(numbers is not None))
        if numbers is None:
            return
        yield GaugeMetricFamily("resyncctl_workers", "Processes that execute rollouts.", value=numbers.workers)
        backlog = GaugeMetricFamily(
            "resyncctl_queue_backlog", "Batches that wait for a worker of the pool, or run.", labels=["pool"]
        )
        for pool, count in numbers.backlog.items():
            backlog.add_metric([pool], count)
        yield backlog
        yield GaugeMetricFamily("resyncctl_frozen", "Whether all rollouts are frozen.", value=float(numbers.frozen))
        sending = sum(one.counts.get("sending", 0) for one in numbers.rollouts)
        yield GaugeMetricFamily("resyncctl_in_flight", "Requests that wait for an answer.", value=sending)
        yield from _rollouts(numbers.rollouts)
        yield _latency(numbers.rollouts)
        yield from _leases(numbers)


def _rollouts(rollouts: tuple[RolloutNumbers, ...]) -> Iterator[Metric]:
    state = GaugeMetricFamily("resyncctl_rollouts", "Rollouts that the service executes.", labels=["state"])
    states = [one.state for one in rollouts]
    for name in sorted(set(states)):
        state.add_metric([name], states.count(name))
    targets = GaugeMetricFamily("resyncctl_rollout_targets", "Targets by state.", labels=["rollout", "state"])
    responses = CounterMetricFamily(
        "resyncctl_rollout_responses", "Targets by the class of their SIP response.", labels=["rollout", "class"]
    )
    retries = CounterMetricFamily("resyncctl_rollout_retries", "Attempts after the first.", labels=["rollout"])
    rates = GaugeMetricFamily(
        "resyncctl_rollout_rate_limit", "Sends per second that are allowed; 0 = unlimited.", labels=["rollout"]
    )
    for one in rollouts:
        for name, count in sorted(one.counts.items()):
            targets.add_metric([one.rollout, name], count)
        classes: dict[str, int] = {}
        for status, count in one.responses.items():
            classes[f"{status[:1]}xx"] = classes.get(f"{status[:1]}xx", 0) + count
        for name, count in sorted(classes.items()):
            responses.add_metric([one.rollout, name], count)
        retries.add_metric([one.rollout], one.retries)
        rates.add_metric([one.rollout], one.rate)
    yield from (state, targets, responses, retries, rates)


def _latency(rollouts: tuple[RolloutNumbers, ...]) -> Metric:
    seconds = HistogramMetricFamily(
        "resyncctl_answer_seconds", "From the first datagram of an attempt to its answer.", labels=["rollout"]
    )
    for one in rollouts:
        if one.latency:
            total = 0
            buckets: list[tuple[str, float]] = []
            for bound in (*map(str, LATENCY), "+Inf"):
                total += one.latency.get(bound, 0)
                buckets.append((bound, total))
            seconds.add_metric([one.rollout], buckets, one.latency_sum)
    return seconds


def _leases(numbers: Numbers) -> Iterator[Metric]:
    held = GaugeMetricFamily("resyncctl_leases", "Leases that are held.", labels=["of"])
    held.add_metric(["rollout"], sum(one.lease > 0 for one in numbers.rollouts))
    held.add_metric(["scheduler"], float(numbers.scheduler_lease > 0))
    left = GaugeMetricFamily("resyncctl_lease_seconds", "Time until the lease of a rollout ends.", labels=["rollout"])
    for one in numbers.rollouts:
        left.add_metric([one.rollout], one.lease)
    yield from (held, left)
