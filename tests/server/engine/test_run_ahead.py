"""Steps that are launched before the one before them is waited for change nothing but the time."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.backends.gpu import GpuBackend
from causalrn.model.backends.registry import BACKENDS
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.device import DeviceError
from causalrn.model.sampling import SamplingParams
from causalrn.model.state import SequenceMemory
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.storage import pool_bytes
from tests.model.tiny import random_checkpoint
from tests.server.conftest import make_settings
from tests.server.driver import Driver
from tests.server.engine.ahead import AheadBackend, Record
from tests.toys import registered

pytestmark = pytest.mark.usefixtures("quick_interpreter")
BOS, SEP, EOS = 0, 1, 2
PAGE, N_TOKENS = 16, 16
ON_HOST = pytest.mark.parametrize("checkpoint", ["ahead"], indirect=True)  # as kernels take long
DRAWN = SamplingParams(temperature=1.5, seed=1)
REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {"ignore_eos": True},
    "short": {"ignore_eos": True, "max_tokens": 7},
    "seeded": {"ignore_eos": True, "sampling": DRAWN},
    "ends": {
        "min_tokens": 3,
        "sampling": SamplingParams(
            temperature=2.0, seed=2, logit_bias={EOS: 100.0, 5: 100.0, 6: 100.0}
        ),
    },
    "borders": {
        "ignore_eos": True,
        "sampling": SamplingParams(
            temperature=2.0, seed=3, logit_bias={BOS: 100.0, SEP: 94.0, 5: 94.0}
        ),
    },
    "late": {
        "sampling": SamplingParams(logit_bias={EOS: 100.0, 4: 99.0}), "min_tokens": 5,
    },
    "stops": {
        "ignore_eos": True, "stop": ("ca",),
        "sampling": SamplingParams(temperature=2.0, seed=4, logit_bias={3: 100.0, 5: 100.0}),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    random_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose MLPs keep states of their own."""
    folder = tmp_path_factory.mktemp("shifted")
    random_checkpoint(folder, mlp_width=12, mlp_shift_width=3)
    return folder


@pytest.fixture(params=["ahead", "gpu"])
def checkpoint(folder: Path, shifted: Path, request: pytest.FixtureRequest) -> Iterator[Checkpoint]:
    backend, _, kind = request.param.partition(" ")
    with registered(ahead=(BACKENDS, AheadBackend)):
        yield load_checkpoint(shifted if kind == "shifted" else folder, backend)


@pytest.fixture
def record(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Record:
    return Record(checkpoint.decoder, monkeypatch)


def driven(model: Checkpoint, n_pages: int = 40, **changes: Any) -> Driver[Checkpoint]:
    n_bytes = pool_bytes(model, page_size=PAGE, n_slots=8, n_pages=n_pages)
    return Driver(model, make_settings(pool_bytes=n_bytes, max_batch_tokens=200, **changes))


@pytest.fixture
def apart(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Does something with a driver whose host waits for each step before it plans the next one."""

    def do(work: Callable[..., Any], *args: Any, **changes: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(type(checkpoint.decoder.backend), "runs_ahead", False)
            # The same memory as with steps that run ahead.
            return work(driven(checkpoint, max_draft_tokens=1, **changes), *args)

    return do


def ask(driver: Driver[Checkpoint], name: str, session: str | None = None) -> None:
    options = {"max_tokens": N_TOKENS} | REQUESTS[name]
    driver.add(name, "abcd" + name, session=session, speculate=False, **options)


def answers(driver: Driver[Checkpoint]) -> dict[str, Delta]:
    for name in REQUESTS:
        ask(driver, name)
    driver.run()
    return {name: driver.joined(name) for name in REQUESTS}


def held(driver: Driver[Checkpoint], session: str = "s") -> tuple[int, SequenceMemory]:
    found = driver.core.sessions.export(session, driver.logs[session])
    assert found is not None
    return found


def assert_same(one: tuple[int, SequenceMemory], other: tuple[int, SequenceMemory]) -> None:
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1].counters, other[1].counters)
    for mine, its in zip(
        (*one[1].pools, *one[1].states), (*other[1].pools, *other[1].states), strict=True
    ):
        assert mine.keys() == its.keys()
        for name, array in mine.items():
            np.testing.assert_array_equal(array, its[name])


def test_tokens_are_the_same_and_nothing_is_left(
    checkpoint: Checkpoint, record: Record, apart: Callable[..., Any]
) -> None:
    expected, other = apart(lambda driver: (answers(driver), driver.core))
    assert record.n_ahead == 0
    assert {name: one.finish_reason for name, one in expected.items()} == (
        dict.fromkeys(REQUESTS, "length") | dict.fromkeys(("ends", "late", "stops"), "stop")
    )
    assert 1 < expected["ends"].n_generated < N_TOKENS
    assert 1 < expected["stops"].n_generated < N_TOKENS
    assert expected["late"].token_ids == [4] * 5
    assert set(expected["borders"].token_ids) == {BOS, SEP, 5}
    record.calls.clear()
    driver = driven(checkpoint)
    assert answers(driver) == expected
    assert record.n_ahead > N_TOKENS // 2
    core = driver.core
    assert core.n_tokens == other.n_tokens
    assert core.pool.allocator.n_free == core.pool.allocator.n_pages
    assert core.pool.cache.n_pages == other.pool.cache.n_pages
    assert core.pool.states.n_used == other.pool.states.n_used


def test_a_step_is_launched_before_the_results_of_the_one_before_are_read(
    checkpoint: Checkpoint, record: Record
) -> None:
    driver = driven(checkpoint)
    driver.add("a", "abc", 6, ignore_eos=True)
    driver.run()
    # The first token comes with the prompt, and the last step is known to be the last one.
    assert record.calls == [1, -1, 2, 3, -2, 4, -3, 5, -4, 6, -5, -6]


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("gpu", "ends"),
        ("gpu", "borders"),
        ("gpu shifted", "late"),
        *(("ahead", name) for name in REQUESTS if name != "seeded"),
        *(("ahead shifted", name) for name in ("greedy", "borders", "late")),
    ],
    indirect=["checkpoint"],
)
def test_a_session_is_parked_as_if_nothing_had_been_computed_in_vain(
    checkpoint: Checkpoint, record: Record, apart: Callable[..., Any], name: str
) -> None:
    def talk(driver: Driver[Checkpoint]) -> tuple[Any, ...]:
        driver.add("company", "abcd", 2 * N_TOKENS, ignore_eos=True)
        ask(driver, name, "s")
        while name not in driver.ended:
            driver.step()
        memory = held(driver)
        ask(driver, "seeded", "s")
        driver.run()
        return memory, driver.joined("seeded"), held(driver)

    expected = apart(talk)
    record.calls.clear()
    found = talk(driven(checkpoint))
    assert record.n_ahead > 0
    assert found[1] == expected[1]
    assert_same(found[0], expected[0])
    assert_same(found[2], expected[2])


@pytest.mark.parametrize("checkpoint", ["ahead", "gpu", "ahead shifted"], indirect=True)
@pytest.mark.parametrize("n_steps", [3, 14])  # the second one fills a page in vain
def test_an_abort_finds_a_step_under_way(
    checkpoint: Checkpoint, record: Record, apart: Callable[..., Any], n_steps: int
) -> None:
    def talk(driver: Driver[Checkpoint]) -> tuple[Any, ...]:
        ask(driver, "greedy")
        driver.add("a", "x", 40, ignore_eos=True, session="s")
        for _ in range(n_steps):
            driver.step()
        is_under_way = record.calls[-1] < 0 < record.calls[-2]
        driver.abort("a")
        memory, n_used = held(driver), driver.core.pool.allocator.n_used
        driver.run()
        return memory, n_used, driver.joined("greedy"), is_under_way

    expected = apart(talk)
    found = talk(driven(checkpoint))
    assert_same(found[0], expected[0])
    assert found[1:] == (*expected[1:3], True)


def test_nobody_waits_for_a_step_whose_sequences_are_gone(
    checkpoint: Checkpoint, record: Record
) -> None:
    driver = driven(checkpoint)
    ask(driver, "greedy")
    for _ in range(3):
        driver.step()
    driver.abort("greedy")
    driver.assert_nothing_leaks()
    assert driver.core.step() == []
    n_given = max(record.calls)
    assert -n_given not in record.calls
    ask(driver, "seeded")
    driver.run()
    assert record.calls[record.calls.index(n_given + 1) + 1] == -(n_given + 1)


def test_a_lost_device_is_told_by_whoever_waits(checkpoint: Checkpoint, record: Record) -> None:
    driver = driven(checkpoint)
    ask(driver, "greedy")
    for _ in range(3):
        driver.step()
    record.error = DeviceError("the GPU failed")
    with pytest.raises(DeviceError):
        driver.step()
    assert record.calls[-2:] == [max(record.calls), 1 - max(record.calls)]


@ON_HOST
def test_a_failure_ends_the_requests_of_its_step_alone(
    checkpoint: Checkpoint, record: Record, apart: Callable[..., Any]
) -> None:
    expected = apart(answers)["seeded"]
    driver = driven(checkpoint)
    driver.talk("before", "abc", max_tokens=3)
    ask(driver, "greedy")
    ask(driver, "ends", "s")
    for _ in range(2):
        driver.step()
    record.error = torch.OutOfMemoryError("out of memory")
    driver.step()
    assert driver.failed == {"greedy", "ends"}
    assert not driver.use().is_warm  # it may be wrong
    ask(driver, "seeded")
    driver.run()
    assert driver.joined("seeded") == expected
    driver.assert_nothing_leaks()


def test_what_is_not_finite_fails_one_request(
    checkpoint: Checkpoint, record: Record, apart: Callable[..., Any]
) -> None:
    expected = apart(answers)["seeded"]
    known = {*expected.token_ids, *checkpoint.tokenizer.encode("abcdseeded")}
    bad = next(id for id in range(3, 29) if id not in known)
    weight = checkpoint.decoder.embedding.token.weight
    weight[bad] = float("nan")
    sampling = SamplingParams(temperature=2.0, seed=5, logit_bias={bad: 100.0, 5: 100.0})
    driver = driven(checkpoint)
    ask(driver, "seeded")
    driver.add("bad", "abc", N_TOKENS, sampling=sampling)
    driver.run()
    assert driver.ended == {"seeded": "length", "bad": "error"}
    assert len(driver.deltas["bad"][0]) > 2
    assert driver.joined("seeded") == expected
    assert record.n_ahead > 0


@ON_HOST
def test_too_few_pages_change_no_token(
    checkpoint: Checkpoint, record: Record, apart: Callable[..., Any]
) -> None:
    expected = apart(answers)
    record.calls.clear()
    driver = driven(checkpoint, n_pages=7)
    assert answers(driver) == expected
    assert driver.core.scheduler.n_preemptions > 0
    assert record.n_ahead > 0
    driver.assert_nothing_leaks()


@ON_HOST
@pytest.mark.parametrize(
    "options", [{"logprobs": 1}, {"sampling": SamplingParams(frequency_penalty=0.5)}]
)
def test_what_hangs_on_a_token_waits_for_it(
    checkpoint: Checkpoint, record: Record, options: dict[str, Any]
) -> None:
    driver = driven(checkpoint)
    driver.add("a", "abc", 6, ignore_eos=True, **options)
    driver.run()
    assert record.n_ahead == 0


@ON_HOST
def test_prompts_are_read_as_soon_as_without(checkpoint: Checkpoint, record: Record) -> None:
    driver = driven(checkpoint)
    driver.add("a", "abc", 30, ignore_eos=True)
    for _ in range(3):
        driver.step()
    driver.add("b", "abcdefgh", 3, ignore_eos=True)
    n_given = max(record.calls)
    driver.step()  # which was under way
    driver.step()
    assert (max(record.calls), driver.core.last_step_tokens) == (n_given + 1, 11)
    assert len(driver.deltas["b"][0]) == 1


@ON_HOST
def test_a_drafter_that_pauses_does_not_hold_steps_back(
    checkpoint: Checkpoint, record: Record, apart: Callable[..., Any]
) -> None:
    def write(driver: Driver[Checkpoint]) -> Delta:
        driver.add("a", "abcd", 60, ignore_eos=True, sampling=DRAWN)
        driver.run()
        return driver.joined("a")

    expected = apart(write)
    record.calls.clear()
    assert write(driven(checkpoint, max_draft_tokens=8)) == expected
    assert record.n_ahead > 20


def test_errors_of_the_device_itself_are_found_out_by_waiting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access\nand more")

    checkpoint = load_checkpoint(folder, "gpu")
    assert isinstance(checkpoint.decoder.backend, GpuBackend)
    driver = driven(checkpoint)
    ask(driver, "greedy")
    driver.step()
    patch = partial(monkeypatch.setattr, "causalrn.model.backends.gpu_scratch.DeviceScratch.bring")
    patch(lambda *_: fail)
    with pytest.raises(DeviceError, match="CUDA error: an illegal memory access"):
        driver.step()
