"""What this process has done, in numbers for Prometheus: requests, predictions, their batches, the model that answers.

Every API process counts for itself, so each replica is scraped. What all of them share, the runs, comes from the
database while it answers.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.computing import computed
from app.database import UNAVAILABLE

RUNS_SECONDS = 1.0  # a scrape waits no longer for the database
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONFIDENCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

CountRuns = Callable[[], Mapping[str, int]]


class Metrics:
    """One app's own; the predictor, the middleware and the scrapers may call it from any thread."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.requests = Counter(
            "inkling_http_requests",
            "Requests by route, method and status; a stream counts when it starts",
            ("route", "method", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "inkling_http_request_duration_seconds",
            "Seconds from a request's head to its answer's",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "inkling_prediction_queue_depth", "Images that wait to be prepared or recognised", registry=registry
        )
        self._batch_sizes = Histogram(
            "inkling_prediction_batch_size", "Images that were run together", buckets=BATCH_BUCKETS, registry=registry
        )
        self._confidences = Histogram(
            "inkling_prediction_confidence", "Probability of the digit named", buckets=CONFIDENCES, registry=registry
        )
        self._model = Info("inkling_model", "The default model, by which this process answers", registry=registry)
        compared = Counter(
            "inkling_candidate_answers",
            "Answers of a candidate model beside the default's, by whether both name the same digit",
            ("agreed",),
            registry=registry,
        )
        self._compared = {agreed: compared.labels(str(agreed).lower()) for agreed in (True, False)}
        self._runs: _RunCounts | None = None

    def answered(self, confidences: Iterable[float]) -> None:
        """confidences: the probabilities of the digits named."""
        for confidence in confidences:
            self._confidences.observe(confidence)

    def ran_batch(self, size: int) -> None:
        """size: the images that were run together, without padding."""
        self._batch_sizes.observe(size)

    def model(self, model: str) -> None:
        """model: the id of the model that answers from now on."""
        self._model.info({"model": model})

    def compared(self, agreed: int, images: int) -> None:
        """Of so many images a candidate named the same digit as the default model."""
        self._compared[True].inc(agreed)
        self._compared[False].inc(images - agreed)

    def count_runs_by(self, count: CountRuns) -> None:
        """count(): the runs of the database by state; it may block, and raise what the database raises."""
        self._runs = _RunCounts(count)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Everything in the text format that an Accept header asks for, and its media type."""
        runs = None if self._runs is None else await self._runs.ask()
        encode, media_type = choose_encoder(accept)
        return await computed(encode, _Scrape(self.registry, runs)), media_type


class _RunCounts:
    """Asks the database in a thread of its own, once for all who scrape: one that hangs holds nothing else up."""

    def __init__(self, count: CountRuns) -> None:
        self._executor = ThreadPoolExecutor(1, "run-counts")
        self._count = count
        self._asked: Future[Mapping[str, int] | None] | None = None

    async def ask(self) -> Mapping[str, int] | None:
        """None while the database is away."""
        if self._asked is None or self._asked.done():
            self._asked = self._executor.submit(self._try_to_count)
        answer = asyncio.wrap_future(self._asked)
        await asyncio.wait([answer], timeout=RUNS_SECONDS)
        return answer.result() if answer.done() else None

    def _try_to_count(self) -> Mapping[str, int] | None:
        try:
            return self._count()
        except UNAVAILABLE:
            return None


class _Scrape(Collector):
    """A registry, and the runs as they were counted for this scrape."""

    def __init__(self, registry: CollectorRegistry, runs: Mapping[str, int] | None) -> None:
        self._registry, self._runs = registry, runs

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()
        if self._runs is not None:
            family = GaugeMetricFamily("inkling_runs", "Runs in the database by state", labels=["state"])
            for state, count in self._runs.items():
                family.add_metric([state], count)
            yield family
