import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.programs import program
from tests.server.live_server import LiveServer

OF_MODELS = {
    "num_requests_running", "num_requests_waiting", "pool_usage_ratio", "prompt_tokens",
    "generation_tokens", "num_preemptions", "prefix_cache_queries", "prefix_cache_hits",
    "num_sessions_warm", "session_evictions", "tensor_bytes", "answers",
    "request_success", "time_to_first_token_seconds", "inter_token_latency_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
    "request_decode_time_seconds", "iteration_tokens", "spec_decode_num_draft_tokens",
    "spec_decode_num_accepted_tokens",
}  # fmt: skip
OF_THE_SERVER = {"http_requests", "http_errors", "build_info"}
DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "monitoring.md"


@pytest.fixture(scope="module")
def text(shared: LiveServer) -> str:
    assert shared.post({"prompt": "hello"}).status_code == 200
    with shared.client() as client:
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.headers["cache-control"] == "no-store"
    return response.text


def test_prometheus_can_read_them(text: str) -> None:
    families = {one.name: one for one in text_string_to_metric_families(text)}
    ours = {name.removeprefix("causalrn_") for name in families if name.startswith("causalrn_")}
    assert ours == OF_MODELS | OF_THE_SERVER
    assert all(family.documentation for family in families.values())
    of_models = [families[f"causalrn_{name}"] for name in OF_MODELS]
    samples = [one for family in of_models for one in family.samples]
    assert {one.labels["model_name"] for one in samples} == {"fake-copy"}
    (memory,) = families["causalrn_tensor_bytes"].samples
    assert memory.labels == {"model_name": "fake-copy", "layer": "0", "tensor": "pool"}
    assert memory.value == 1024 * 4  # a float32 for each token of the pool
    [first] = [
        one.value
        for one in families["causalrn_time_to_first_token_seconds"].samples
        if one.name.endswith("_count")
    ]
    assert first == 1


def test_they_tell_of_the_process_and_of_its_version(text: str) -> None:
    families = {one.name: one for one in text_string_to_metric_families(text)}
    (memory,) = families["process_resident_memory_bytes"].samples
    assert memory.value > 10e6
    (build,) = families["causalrn_build_info"].samples
    assert build.labels.keys() == {"version", "torch", "backend"}
    assert all(build.labels.values())


def test_prometheus_own_linter_finds_nothing_to_object_to(text: str) -> None:
    command = [program("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_document_lists_every_figure(text: str) -> None:
    listed = re.findall(r"^\| `(causalrn_\w+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    given = re.findall(r"^# TYPE (causalrn_\w+) ", text, re.MULTILINE)
    assert sorted(listed) == sorted(given)
