"""What Prometheus is told is what its own client would have told it."""

import prometheus_client
import pytest
from prometheus_client import generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from causalrn.server.engine.metrics import Histogram, Metrics, ModelCollector, Usage

BOUNDS = (0.001, 0.25, 1, 30)


def figures(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples]
    found = {(one.name, frozenset(one.labels.items())): one.value for one in samples}
    assert len(found) == len(samples)
    return found


def test_buckets_are_those_of_prometheus_own_histogram() -> None:
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("seconds", "Of a test.", buckets=BOUNDS, registry=registry)
    ours = Histogram(BOUNDS)
    for value in (0.0, 0.001, 0.0011, 0.25, 0.3, 1.0, 29.9, 30.0, 31.0, 1e9):
        theirs.observe(value)
        ours.observe(value)
    family = HistogramMetricFamily("seconds", "Of a test.")
    ours.add_to(family, [])
    [wanted] = registry.collect()
    assert {(one.name, str(one.labels), one.value) for one in family.samples} == {
        (one.name, str(one.labels), one.value)
        for one in wanted.samples
        if not one.name.endswith("_created")
    }


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_every_figure_of_every_model_is_there_once(names: list[str]) -> None:
    models = []
    for n, name in enumerate(names, 1):
        usage = Usage(n, 2, 16 * n, 4, 5, 6, 7, 8, 9, 10, 11, 12)
        metrics = Metrics(name, lambda usage=usage: usage, 64, {(0, "pool"): 128})  # type: ignore[misc]
        metrics.prompt_tokens += 5 * n
        metrics.finished["abort"] += n
        metrics.inter_token_latency.observe(0.5)
        models.append(metrics)
    found = figures(generate_latest(ModelCollector(lambda: models)).decode())
    for n, name in enumerate(names, 1):
        for figure, value in {
            "num_requests_running": n,
            "pool_usage_ratio": n / 4,
            "prompt_tokens_total": 5 * n,
            "inter_token_latency_seconds_count": 1,
        }.items():
            assert found["causalrn_" + figure, frozenset({("model_name", name)})] == value
        labels = frozenset({("model_name", name), ("finished_reason", "abort")})
        assert found["causalrn_request_success_total", labels] == n
