"""What Prometheus is told about the models.

The names are vLLM's behind our own prefix, where Prometheus' rules for names allow them: base
units, and `_total` at the end of counters only.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from causalrn.server.engine.judge import Finding

PREFIX = "causalrn_"

_MODEL_NAME = "model_name"  # the label that tells whose figure it is
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ITL_SECONDS = (0.0001, 0.00025, 0.0005, *_SECONDS)
_VERIFIED = {True: "true", False: "false", None: "unknown"}
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Histogram:
    """Counts of observations by size.

    prometheus_client's own takes a lock, and five times as long, for every token of every stream.

    Args:
        bounds: upper bounds of the buckets, ascending; a last bucket without a bound is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, which was observed once or several times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += times * value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add the counts to a family of Prometheus, cumulative as it wants them."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        family.add_metric(labels, buckets, self._sum)


@dataclass(frozen=True)
class Usage:
    """How much of the engine is in use, and what it has done so far.

    Attributes:
        running: samples that take part in steps.
        waiting: samples that wait for a place.
        pages_used: pages of the pool in use.
        pages_kept: pages that nobody uses, whose content is kept for prompts that begin alike.
        slots_used: fixed-size states in use.
        preemptions: times that a sample gave its pages to an earlier one.
        drafted, accepted: tokens that were guessed, and those of them that were right.
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
    drafted: int
    accepted: int
    prefix_cache_queries: int
    prefix_cache_hits: int
    sessions_warm: int
    session_evictions: int


class Metrics:
    """Counters and histograms of one engine.

    Only the event loop's thread writes to it; but `iteration_tokens` is the engine's thread's.

    Args:
        model_name: of the engine's model, the label of all of them.
        usage: measures how much is in use; called whenever the figures are read.
        n_pages: pages of the pool.
        tensor_bytes: memory of every tensor of pool and state, by the number of its layer and its
            name.

    Attributes:
        prompt_tokens, generation_tokens: tokens read and generated, by all requests so far.
        finished: requests that are over, by reason: `stop`, `length`, `not_found`, `abort` or
            `error`.
        answers: samples that are over, by mode, by what became of them (`judge.Finding`), and by
            whether they were verified.
    """

    def __init__(
        self,
        model_name: str,
        usage: Callable[[], Usage],
        n_pages: int,
        tensor_bytes: Mapping[tuple[int, str], int],
    ) -> None:
        self.model_name = model_name
        self.tensor_bytes = tensor_bytes
        self.usage = usage
        self.n_pages = n_pages
        self.prompt_tokens = self.generation_tokens = 0
        self.finished: Counter[str] = Counter(stop=0, length=0, not_found=0, abort=0, error=0)
        self.answers: Counter[tuple[str, Finding, bool | None]] = Counter()
        self.time_to_first_token = Histogram(_SECONDS)
        self.inter_token_latency = Histogram(_ITL_SECONDS)
        self.e2e_latency = Histogram(_SECONDS)
        self.queue_time = Histogram(_SECONDS)
        self.prefill_time = Histogram(_SECONDS)
        self.decode_time = Histogram(_SECONDS)
        self.iteration_tokens = Histogram(_TOKENS)


_Value = Callable[[Metrics, Usage], float]

_GAUGES: tuple[tuple[str, str, _Value], ...] = (
    ("num_requests_running", "Samples that take part in steps.", lambda _, now: now.running),
    ("num_requests_waiting", "Samples that wait for a place.", lambda _, now: now.waiting),
    (
        "pool_usage_ratio",
        "Share of the memory pool in use; 1 is all of it.",
        lambda one, now: now.pages_used / one.n_pages,
    ),
    (
        "num_sessions_warm",
        "Idle sessions with memory in the pool.",
        lambda _, now: now.sessions_warm,
    ),
)
_COUNTERS: tuple[tuple[str, str, _Value], ...] = (
    ("prompt_tokens", "Tokens of prompts.", lambda one, _: one.prompt_tokens),
    ("generation_tokens", "Tokens generated.", lambda one, _: one.generation_tokens),
    ("num_preemptions", "Samples that had to wait again.", lambda _, now: now.preemptions),
    ("spec_decode_num_draft_tokens", "Tokens that were guessed.", lambda _, now: now.drafted),
    (
        "spec_decode_num_accepted_tokens",
        "Tokens that were guessed right.",
        lambda _, now: now.accepted,
    ),
    ("prefix_cache_queries", "Tokens looked up.", lambda _, now: now.prefix_cache_queries),
    ("prefix_cache_hits", "Tokens that were found.", lambda _, now: now.prefix_cache_hits),
    (
        "session_evictions",
        "Idle sessions that lost their memory.",
        lambda _, now: now.session_evictions,
    ),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[Metrics], Histogram]], ...] = (
    (
        "time_to_first_token_seconds",
        "From arrival to the first token.",
        lambda one: one.time_to_first_token,
    ),
    (
        "inter_token_latency_seconds",
        "Between two tokens of a sample.",
        lambda one: one.inter_token_latency,
    ),
    ("e2e_request_latency_seconds", "From arrival to the end.", lambda one: one.e2e_latency),
    ("request_queue_time_seconds", "From arrival to the first step.", lambda one: one.queue_time),
    (
        "request_prefill_time_seconds",
        "From the first step to the first token.",
        lambda one: one.prefill_time,
    ),
    (
        "request_decode_time_seconds",
        "From the first token to the last.",
        lambda one: one.decode_time,
    ),
    ("iteration_tokens", "Tokens computed in a step.", lambda one: one.iteration_tokens),
)


class ModelCollector(Collector):
    """The figures of several models: each family once, with a label that says whose they are.

    Args:
        metrics: gives the figures of all models that are served at the moment.
    """

    def __init__(self, metrics: Callable[[], Sequence[Metrics]]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Read the figures, as they are at this moment."""
        metrics = self._metrics()
        usages = [one.usage() for one in metrics]
        for kind, figures in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, documentation, value in figures:
                family = kind(PREFIX + name, documentation, labels=[_MODEL_NAME])
                for one, usage in zip(metrics, usages, strict=True):
                    family.add_metric([one.model_name], value(one, usage))
                yield family
        memory = GaugeMetricFamily(
            PREFIX + "tensor_bytes",
            "Memory of each tensor that a layer keeps, of tokens or of sequences.",
            labels=[_MODEL_NAME, "layer", "tensor"],
        )
        for one in metrics:
            for (layer, name), n_bytes in one.tensor_bytes.items():
                memory.add_metric([one.model_name, str(layer), name], n_bytes)
        yield memory
        finished = CounterMetricFamily(
            PREFIX + "request_success",
            "Requests that are over.",
            labels=[_MODEL_NAME, "finished_reason"],
        )
        for one in metrics:
            for reason, n in one.finished.items():
                finished.add_metric([one.model_name, reason], n)
        yield finished
        answers = CounterMetricFamily(
            PREFIX + "answers",
            "Answers, by what the model found and whether they were verified.",
            labels=[_MODEL_NAME, "mode", "outcome", "verified"],
        )
        for one in metrics:
            for (mode, finding, verified), n in one.answers.items():
                answers.add_metric([one.model_name, mode, finding, _VERIFIED[verified]], n)
        yield answers
        for name, documentation, histogram in _HISTOGRAMS:
            counts = HistogramMetricFamily(PREFIX + name, documentation, labels=[_MODEL_NAME])
            for one in metrics:
                histogram(one).add_to(counts, [one.model_name])
            yield counts
