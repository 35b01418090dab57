import pytest
from prometheus_client import generate_latest

from server.engine.engine import Engine
from server.engine.generation import GenerationParams
from server.engine.metrics import ModelCollector
from server.errors import EngineError
from server.settings import Settings
from tests.server.conftest import Gate
from tests.server.engine.running import read, running, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.live_server import is_idle
from tests.server.steps import fail


@in_loop
async def test_metrics_are_exact(model: FakeModel, settings: Settings, gate: Gate) -> None:
    def figures(engine: Engine) -> dict[str, float]:
        lines = generate_latest(ModelCollector(lambda: [engine.metrics])).decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        label = 'model_name="fake-copy"'
        assert all(label in name for name, _ in pairs)
        short = (name.removeprefix("causalrn_").replace(label, "") for name, _ in pairs)
        names = (name.replace("{,", "{").replace("{}", "").replace(",}", "}") for name in short)
        return dict(zip(names, (float(value) for _, value in pairs), strict=True))

    async with running(model, settings) as engine:
        assert await read(engine.submit("hello")) == "hello"
        several = GenerationParams(max_tokens=2, n=2)
        assert sorted(await read(engine.submit("hello", several))) == list("eehh")
        model.decoder.before_extend = gate
        left = engine.submit("world")
        await until(gate.reached.is_set)
        during = figures(engine)
        await left.aclose()
        model.decoder.before_extend = fail
        gate.open()
        with pytest.raises(EngineError):
            await read(engine.submit("again"))
        await until(lambda: is_idle(engine))
        after = figures(engine)
    assert (during["num_requests_running"], during["num_requests_waiting"]) == (1, 0)
    assert during["pool_usage_ratio"] == 1 / 64
    for name, value in {
        "num_requests_running": 0,
        "num_requests_waiting": 0,
        "pool_usage_ratio": 0,
        'request_success_total{finished_reason="stop"}': 1,
        'request_success_total{finished_reason="length"}': 1,
        'request_success_total{finished_reason="abort"}': 1,
        'request_success_total{finished_reason="error"}': 1,
        "prompt_tokens_total": 14,
        "generation_tokens_total": 9,
        "time_to_first_token_seconds_count": 2,
        "inter_token_latency_seconds_count": 6,
        "e2e_request_latency_seconds_count": 4,
        "request_queue_time_seconds_count": 4,
        "request_prefill_time_seconds_count": 2,
        "request_decode_time_seconds_count": 2,
        "num_preemptions_total": 0,
    }.items():
        assert after[name] == value, name
    assert after['iteration_tokens_bucket{le="+Inf"}'] == after["iteration_tokens_count"]
    assert after["iteration_tokens_sum"] >= 14
