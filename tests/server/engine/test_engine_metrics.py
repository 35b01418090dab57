import pytest
from prometheus_client import generate_latest

from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.metrics import ModelCollector
from causalrn.server.engine.ticket import Context
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import EngineError
from causalrn.server.settings import Settings
from tests.server.conftest import Gate
from tests.server.engine.running import read, running, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.live_server import is_idle
from tests.server.steps import fail


def figures(engine: Engine) -> dict[str, float]:
    lines = generate_latest(ModelCollector(lambda: [engine.metrics])).decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    label = 'model_name="fake-copy"'
    assert all(label in name for name, _ in pairs)
    short = (name.removeprefix("causalrn_").replace(label, "") for name, _ in pairs)
    names = (
        name.replace("{,", "{").replace("{}", "").replace(",}", "}").replace(",,", ",")
        for name in short
    )
    return dict(zip(names, (float(value) for _, value in pairs), strict=True))


@in_loop
async def test_answers_are_counted_by_how_good_they_are(settings: Settings) -> None:
    passages = [256, *b"key: old", 257, 256, *b"key: new", 257]

    def recall(prefix: str, **options: bool) -> TokenStream:
        params = GenerationParams(mode="recall", **options)  # type: ignore[arg-type]
        return engine.enqueue(engine.admit(prefix, params, Context(prefix, passages)))

    async with running(FakeModel(recall=True, min_match=0.8), settings) as engine:
        assert [await read(recall(prefix)) for prefix in ("key: n", "key: ", "keys")] == [
            "ew",
            "old",  # the first passage that fits, not the latest
            "",
        ]
        assert await read(recall("keys", allow_partial=True)) == ""
        await read(engine.submit("copied"))
        await read(engine.submit("copied", GenerationParams(max_tokens=2)))
        await read(engine.submit("copied", GenerationParams(max_tokens=2, mode="raw")))
        counted = figures(engine)
    assert {name: n for name, n in counted.items() if name.startswith("answers_total")} == {
        f'answers_total{{mode="{mode}",outcome="{outcome}",verified="{verified}"}}': 1
        for mode, outcome, verified in (
            ("recall", "found", "true"),
            ("recall", "found", "false"),
            ("recall", "not_found", "unknown"),
            ("recall", "partial", "false"),
            ("copy", "found", "true"),
            ("copy", "found", "unknown"),
        )
    }
    assert counted['request_success_total{finished_reason="not_found"}'] == 1
    assert counted["time_to_first_token_seconds_count"] == 6  # one of seven had no token


@in_loop
async def test_metrics_are_exact(model: FakeModel, settings: Settings, gate: Gate) -> None:
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
        'answers_total{mode="copy",outcome="unknown",verified="true"}': 1,
        'answers_total{mode="copy",outcome="unknown",verified="unknown"}': 2,
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
