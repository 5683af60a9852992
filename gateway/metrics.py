"""What Prometheus is told: every number of the gateway, collected when it asks (docs/operations.md).

Rule 1: nothing is counted here. The rooms keep plain numbers where things happen, and a scrape reads them. It costs by
the runs that are watched or unfinished, however many watch them.
Rule 2: labels are the protocol's own words and the names of pipelines, so series are few. Never a run, a person or an
address.
Rule 3: the registries are this gateway's own; two gateways in one process do not meet.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.auth import Tokens
from gateway.broker import Broker
from gateway.hub import Hub
from gateway.routes import Audit, Rates
from gateway.runs import Runs
from gateway.tally import Histogram, Sockets

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily
# One series for each tuple of labels' values, as many as there are labels.
Series = Mapping[Any, float]


@dataclass(frozen=True)
class Sources:
    """The parts of a gateway that count."""

    hub: Hub
    runs: Runs
    broker: Broker
    audit: Audit
    rates: Rates
    tokens: Tokens
    sockets: Sockets


class Metrics(Collector):
    def __init__(self, sources: Sources) -> None:
        self._of = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._process = CollectorRegistry()
        for make in (ProcessCollector, PlatformCollector, GCCollector):
            make(registry=self._process)

    async def exposition(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        # Beside the loop: the kernel takes 20 ms to list ten thousand open files.
        process = await asyncio.to_thread(generate_latest, self._process)
        return generate_latest(self._registry) + process

    def collect(self) -> Iterator[Family]:
        info = InfoMetricFamily("runcast", "The version of this gateway")
        info.add_metric([], {"version": __version__})
        yield info
        yield from self._connections()
        yield from self._delivery()
        yield from self._limits()
        yield from self._runs()
        yield from self._broker()
        yield from self._loop()

    def _connections(self) -> Iterator[Family]:
        hub, counts = self._of.hub, self._of.hub.counts
        labels = ("transport", "way")
        yield _gauge("connections", "Open streams and sockets", hub.kinds, labels)
        yield _counter("connections_opened", "Streams and sockets opened", counts.opened, labels)
        yield _gauge("connections_lagging", "Connections with more unsent than they may have", counts.lagging)
        yield _gauge("sockets", "Accepted sockets, whatever they are used for", self._of.sockets.open)
        live, behind = hub.subscriptions
        yield _gauge("subscriptions", "Runs on connections", {("live",): live, ("behind",): behind}, ("state",))
        yield _gauge("watched_runs", "Runs that somebody watches", hub.topics)
        yield _gauge("unsent_bytes", "Bytes held for clients that are slow to take them", counts.unsent_bytes)
        yield _gauge("draining", "1 once new connections are sent elsewhere", hub.draining)
        yield _gauge("retry_seconds", "What clients are told to wait before they come back", hub.pace.retry_ms / 1000)

    def _delivery(self) -> Iterator[Family]:
        counts = self._of.hub.counts
        yield _counter("events_in", "Events of runs made durable", self._of.runs.counts.events)
        sent = {("live",): counts.sent_live, ("past",): counts.sent_past}
        yield _counter("events_out", "Events sent, for each client; past: replayed or caught up with", sent, ("part",))
        yield _counter("sent_bytes", "Bytes of the events sent, framing included", counts.sent_bytes)
        joins = {(str(resume),): count for resume, count in counts.joins.items()}
        yield _counter("joins", "Subscriptions begun, by the verdict on their cursor", joins, ("resume",))
        yield _counter("gaps", "Gap frames: somebody was told that history is gone", counts.gaps)
        yield _counter("fell_behind", "Live subscriptions that had too much unsent", counts.fell_behind)
        yield _counter("slow_clients_cut_off", "Clients that took nothing, or answered nothing", counts.cut_off)

    def _limits(self) -> Iterator[Family]:
        audit, sockets = self._of.audit, self._of.sockets
        answers = {(str(status),): count for status, count in audit.answers.items()}
        yield _counter("requests", "HTTP requests answered", answers, ("status",))
        yield _counter("commands", "WebSocket commands", _by_one(audit.commands), ("type",))
        yield _counter("refusals", "Requests, sockets and commands refused", _by_one(audit.refusals), ("code",))
        yield _counter("sockets_refused", "Sockets closed as they were accepted: there were too many", sockets.refused)
        yield _counter("slow_requests_cut_off", "Requests that did not come in whole in time", sockets.late)
        yield _gauge("rate_buckets", "Subjects, addresses and sockets that asked lately", self._of.rates.names)
        tokens = self._of.tokens
        verified = {("hit",): tokens.hits, ("miss",): tokens.misses}
        yield _counter("tokens_verified", "Tokens looked at; hit: remembered from before", verified, ("cache",))
        yield _gauge("tokens_remembered", "Tokens in the cache", tokens.remembered)

    def _runs(self) -> Iterator[Family]:
        runs, counts = self._of.runs, self._of.runs.counts
        yield _gauge("runs_unfinished", "Runs without an end, by status", _by_one(runs.unfinished), ("status",))
        yield _counter("runs_started", "Runs made", _by_one(counts.started), ("pipeline",))
        durations = {(pipeline, str(status)): each for (pipeline, status), each in counts.durations_s.items()}
        labels = ("pipeline", "outcome")
        yield _histogram("run_duration_seconds", "From a run's making to its end", durations, labels)
        yield _histogram("run_cancel_seconds", "From the asking for a cancel to the run's end", counts.cancels_s)

    def _broker(self) -> Iterator[Family]:
        broker, counts = self._of.broker, self._of.broker.counts
        yield _gauge("broker_available", "0 once the log is lost", broker.available)
        yield _gauge("broker_queue", "Events that wait to become durable", broker.queue)
        yield _histogram("broker_commit_seconds", "How long a commit takes", counts.commits_s)
        yield _histogram("broker_batch_events", "Events that shared a commit", counts.batches)

    def _loop(self) -> Iterator[Family]:
        lag_s = self._of.hub.counts.loop_lag_s
        yield _histogram("event_loop_lag_seconds", "How late the loop is for its own clock", lag_s)


def _by_one(counts: Mapping[str, int]) -> Series:
    return {(name,): count for name, count in counts.items()}


def _counter(name: str, says: str, value: float | Series, labels: Iterable[str] = ()) -> CounterMetricFamily:
    family = CounterMetricFamily(f"runcast_{name}", says, labels=tuple(labels))
    for values, each in _series(value):
        family.add_metric(values, each)
    return family


def _gauge(name: str, says: str, value: float | Series, labels: Iterable[str] = ()) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"runcast_{name}", says, labels=tuple(labels))
    for values, each in _series(value):
        family.add_metric(values, each)
    return family


def _series(value: float | Series) -> Iterable[tuple[tuple[str, ...], float]]:
    return value.items() if isinstance(value, Mapping) else [((), value)]


def _histogram(
    name: str, says: str, value: Histogram | Mapping[Any, Histogram], labels: Iterable[str] = ()
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"runcast_{name}", says, labels=tuple(labels))
    for values, each in [((), value)] if isinstance(value, Histogram) else value.items():
        ends = [*map(str, each.bounds), "+Inf"]
        family.add_metric(values, list(zip(ends, accumulate(each.counts), strict=True)), each.sum)
    return family
