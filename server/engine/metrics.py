"""What Prometheus is told, with the names that vLLM gives these figures, behind our own prefix."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

PREFIX = "causalrn:"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MODEL_NAME = "model_name"  # the label that tells whose figure it is
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ITL_SECONDS = (0.0001, 0.00025, 0.0005, *_SECONDS)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Histogram:
    """Counts of observations by size.

    Args:
        name: without the prefix.
        documentation: for people.
        bounds: upper bounds of the buckets, ascending; one without a bound is added.
    """

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, once or several times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def collect(self, model_name: str) -> Metric:
        """The histogram of a model as Prometheus wants it, cumulative."""
        family = HistogramMetricFamily(
            PREFIX + self._name, self._documentation, labels=[_MODEL_NAME]
        )
        total = 0
        buckets = []
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for name, n in zip(names, self._counts, strict=True):
            total += n
            buckets.append((name, total))
        family.add_metric([model_name], buckets, self._sum)
        return family


@dataclass(frozen=True)
class Usage:
    """How much of the engine is in use, and what it has done so far.

    Attributes:
        running: samples that take part in steps.
        waiting: samples that wait for a place.
        pages_used: pages of the pool in use.
        pages_kept: pages that nobody uses, whose content is kept for a prompt that begins alike.
        slots_used: fixed-size states in use.
        preemptions: times that a sample gave its pages to an earlier one.
        prefix_cache_queries, prefix_cache_hits: tokens looked up, and those found.
        sessions_warm: idle sessions whose memory is in the pool.
        session_evictions: times that one of them gave its pages to others.
    """

    running: int
    waiting: int
    pages_used: int
    pages_kept: int
    slots_used: int
    preemptions: int
    prefix_cache_queries: int
    prefix_cache_hits: int
    sessions_warm: int
    session_evictions: int


class Metrics:
    """Counters and histograms of one engine; what it uses is looked up when it is asked for.

    Written by the event loop's thread alone, but for `iteration_tokens`, which is the engine's.

    Args:
        model_name: of the engine's model, the label of all of them.
        usage: tells how much is in use now.
        n_pages: pages of the pool.

    Attributes:
        prompt_tokens, generation_tokens: of all requests so far.
        finished: requests that are over, by reason: `stop`, `length`, `abort` or `error`.
    """

    def __init__(self, model_name: str, usage: Callable[[], Usage], n_pages: int) -> None:
        self._model_name = model_name
        self._usage = usage
        self._n_pages = n_pages
        self.prompt_tokens = self.generation_tokens = 0
        self.finished: Counter[str] = Counter(stop=0, length=0, abort=0, error=0)
        self.time_to_first_token = Histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", _SECONDS
        )
        self.inter_token_latency = Histogram(
            "inter_token_latency_seconds", "Between two tokens of a sample.", _ITL_SECONDS
        )
        self.e2e_latency = Histogram(
            "e2e_request_latency_seconds", "From arrival to the end.", _SECONDS
        )
        self.queue_time = Histogram(
            "request_queue_time_seconds", "From arrival to the first step.", _SECONDS
        )
        self.prefill_time = Histogram(
            "request_prefill_time_seconds", "From the first step to the first token.", _SECONDS
        )
        self.decode_time = Histogram(
            "request_decode_time_seconds", "From the first token to the last.", _SECONDS
        )
        self.iteration_tokens = Histogram(
            "iteration_tokens_total", "Tokens computed in a step.", _TOKENS
        )

    def collect(self) -> Iterator[Metric]:
        """Every figure of this model, one family each."""
        usage = self._usage()
        labels, model = [_MODEL_NAME], [self._model_name]
        pool = usage.pages_used / self._n_pages
        for name, documentation, value in (
            ("num_requests_running", "Samples that take part in steps.", usage.running),
            ("num_requests_waiting", "Samples that wait for a place.", usage.waiting),
            ("pool_usage_perc", "Share of the memory pool in use; 1 is all of it.", pool),
            ("num_sessions_warm", "Idle sessions with memory in the pool.", usage.sessions_warm),
        ):
            gauge = GaugeMetricFamily(PREFIX + name, documentation, labels=labels)
            gauge.add_metric(model, value)
            yield gauge
        for name, documentation, value in (
            ("prompt_tokens", "Tokens of prompts.", self.prompt_tokens),
            ("generation_tokens", "Tokens generated.", self.generation_tokens),
            ("num_preemptions", "Samples that had to wait again.", usage.preemptions),
            ("prefix_cache_queries", "Tokens looked up.", usage.prefix_cache_queries),
            ("prefix_cache_hits", "Tokens that were found.", usage.prefix_cache_hits),
            ("session_evictions", "Idle sessions that lost their memory.", usage.session_evictions),
        ):
            counter = CounterMetricFamily(PREFIX + name, documentation, labels=labels)
            counter.add_metric(model, value)
            yield counter
        finished = CounterMetricFamily(
            PREFIX + "request_success",
            "Requests that are over.",
            labels=[_MODEL_NAME, "finished_reason"],
        )
        for reason, n in self.finished.items():
            finished.add_metric([self._model_name, reason], n)
        yield finished
        for histogram in (
            self.time_to_first_token,
            self.inter_token_latency,
            self.e2e_latency,
            self.queue_time,
            self.prefill_time,
            self.decode_time,
            self.iteration_tokens,
        ):
            yield histogram.collect(self._model_name)


class _Together(Collector):
    """Figures of several models, each family once."""

    def __init__(self, metrics: Iterable[Metrics]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for one in self._metrics:
            for family in one.collect():
                families.setdefault(family.name, family)
                if families[family.name] is not family:
                    families[family.name].samples += family.samples
        yield from families.values()


def expose(metrics: Iterable[Metrics]) -> bytes:
    """The figures of these models in Prometheus' text format."""
    return generate_latest(_Together(metrics))
