from prometheus_client.parser import text_string_to_metric_families

from tests.server.live_server import LiveServer

NAMES = {
    "num_requests_running", "num_requests_waiting", "pool_usage_perc", "prompt_tokens",
    "generation_tokens", "num_preemptions", "prefix_cache_queries", "prefix_cache_hits",
    "num_sessions_warm", "session_evictions", "tensor_bytes",
    "request_success", "time_to_first_token_seconds", "inter_token_latency_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
    "request_decode_time_seconds", "iteration_tokens_total",
}  # fmt: skip


def test_prometheus_can_read_them(shared: LiveServer) -> None:
    assert shared.post({"prompt": "hello"}).status_code == 200
    with shared.client() as client:
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.headers["cache-control"] == "no-store"
    families = {one.name: one for one in text_string_to_metric_families(response.text)}
    assert set(families) == {f"causalrn:{name}" for name in NAMES}
    assert all(family.documentation for family in families.values())
    samples = [one for family in families.values() for one in family.samples]
    assert {one.labels["model_name"] for one in samples} == {"fake-copy"}
    (memory,) = families["causalrn:tensor_bytes"].samples
    assert memory.labels == {"model_name": "fake-copy", "layer": "0", "tensor": "pool"}
    assert memory.value == 1024 * 4  # a float32 for each token of the pool
    [first] = [
        one.value
        for one in families["causalrn:time_to_first_token_seconds"].samples
        if one.name.endswith("_count")
    ]
    assert first == 1
