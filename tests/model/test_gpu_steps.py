"""Steps that are recorded and played again: they are filled up, and say the same."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.backends.gpu import GpuBackend
from causalrn.model.backends.gpu_inputs import Inputs, nobody
from causalrn.model.backends.gpu_shape import MOST_ROWS, Buckets, StepShape
from causalrn.model.backends.gpu_steps import DeviceSteps
from causalrn.model.decoder import Decoder
from causalrn.model.device import DeviceError
from causalrn.model.draws import RowDraw
from causalrn.model.mixers.normalized import NormalizedRelation
from causalrn.model.ops.relation.gpu import SEGMENT
from causalrn.model.predictions import Predictions
from causalrn.model.sampling import Sampler, SamplingParams
from causalrn.model.state import LayerState, RaggedBatch
from causalrn.model.step import Step
from tests.model.tiny import tiny_config

CPU = torch.device("cpu")
PAGE, N_SLOTS = 16, 4

pytestmark = pytest.mark.usefixtures("quick_interpreter")


class Records:
    """Stands in for what records steps: it counts, and may fail."""

    def __init__(self) -> None:
        self.n_recorded = self.n_played = 0
        self.error: RuntimeError | None = None

    def __call__(self, device: torch.device, launch: Callable[[], None]) -> Callable[[], object]:
        assert device == CPU
        if self.error is not None:
            raise self.error
        self.n_recorded += 1

        def play() -> None:
            self.n_played += 1
            launch()

        return play


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    found = Records()
    monkeypatch.setattr("causalrn.model.backends.gpu.record", found)
    return found


def _decoder(**changes: Any) -> Decoder:
    config = tiny_config(mixers=("normalized",), **changes)
    decoder = Decoder(config, "gpu").requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in decoder.parameters():
            parameter.normal_()
    return decoder


class Writers:
    """Sequences that each read a token a step."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.state = decoder.new_state(n_pages=2 * N_SLOTS, page_size=PAGE, n_slots=N_SLOTS)
        self.lengths = np.zeros(N_SLOTS, np.int64)

    @property
    def steps(self) -> DeviceSteps:
        steps: DeviceSteps = self.state.scratch
        return steps

    def extend(
        self, slots: np.ndarray, ids: np.ndarray, *, draws: list[RowDraw] | None = None
    ) -> Predictions:
        """What comes after one more token of some of them."""
        tables = np.arange(2 * N_SLOTS, dtype=np.int32).reshape(N_SLOTS, 2)
        n = len(slots)
        batch = RaggedBatch(ids, np.arange(n + 1), self.lengths[slots], slots, tables[slots])
        self.lengths[slots] += 1
        return self.decoder.extend(batch, self.state, draws=draws or [])

    def step(self, *slots: int, draws: list[RowDraw] | None = None) -> np.ndarray:
        """The logits after one more token of some of them, and what was drawn."""
        chosen = np.array(slots)
        found = self.extend(chosen, 3 + (chosen + self.lengths[chosen]) % 20, draws=draws)
        assert found.logits.shape == (len(slots), self.decoder.config.vocab_size)
        assert found.chosen is not None
        assert len(found.chosen) == len(draws or [])
        assert np.array_equal(found.likeliest, found.logits.argmax(-1))
        return found.logits.numpy()


def test_a_step_is_recorded_once_and_played_from_then_on(records: Records) -> None:
    writers = Writers(_decoder())
    for _ in range(4):
        writers.step(0, 1, 2)
    # What is as large as the first step is filled up to the same bucket.
    writers.step(3, 0, 1, 2)
    assert (records.n_recorded, records.n_played) == (1, 4)
    writers.step(1)
    assert (records.n_recorded, records.n_played, writers.steps.n_graphs) == (2, 4, 2)


def test_what_fills_a_step_up_changes_no_bit(records: Records) -> None:
    mlps = {"mlp_width": 20, "mlp_shift_width": 3}
    together, launched = Writers(_decoder(**mlps)), Writers(_decoder(**mlps))
    launched.steps.records = False
    for slots in ((0, 1, 2), (2,), (1, 2, 0), (0, 2), (3, 1, 0)):
        np.testing.assert_array_equal(together.step(*slots), launched.step(*slots))
    assert records.n_played == 2
    for mine, other in zip(together.state.layers, launched.state.layers, strict=True):
        for name, tensor in other.state.items():
            assert torch.equal(mine.state[name][:N_SLOTS], tensor[:N_SLOTS])


def test_draws_are_filled_up_too(records: Records) -> None:
    sampler = Sampler(SamplingParams(temperature=1.0, seed=1, logit_bias={5: 100.0}))
    writers = Writers(_decoder())
    for _ in range(2):
        (draw,) = sampler.draws([], [None])
        writers.step(0, 1, 2, draws=[RowDraw(1, draw)])
        assert writers.steps._recorded.chosen.tolist()[0] == 5
    assert records.n_played == 1


@pytest.mark.parametrize("change", ["room", "weights", "block", "decoder"])
def test_no_record_outlives_what_it_works_on(records: Records, change: str) -> None:
    params = {"n_head": 1, "d_value": 6, "temperature": 40.0}
    decoder = _decoder(params=params)
    writers = Writers(decoder)
    writers.step(0, 1)
    if change == "room":
        writers.step(0, 1, 2, 3)  # needs more, in another place
    elif change == "weights":
        decoder.get_parameter("mixers.0.temperature").fill_(2.0)  # a kernel is made for it
    elif change == "block":
        decoder.blocks[0].silence()
    else:
        other = _decoder(params=params)
        other.backend = decoder.backend
        writers.decoder = other
    n_recorded = records.n_recorded
    writers.step(0, 1)
    assert records.n_played == 0
    assert records.n_recorded == n_recorded + 1
    writers.step(0, 1)
    assert records.n_played == 1


class OwnRelation(NormalizedRelation):
    """A mixer with its own `extend`, on the host, where a record would not see it."""

    def extend(self, step: Step, layer: LayerState) -> None:
        assert isinstance(step.batch, RaggedBatch)
        super().extend(step, layer)


def test_a_mixer_with_its_own_extend_is_never_recorded(records: Records) -> None:
    writers, others = Writers(_decoder()), Writers(_decoder())
    writers.decoder.mixers[0].__class__ = OwnRelation
    others.steps.records = False
    for _ in range(2):
        np.testing.assert_array_equal(writers.step(0, 1, 2), others.step(0, 1, 2))
    assert records.n_recorded == 0


def test_where_recording_fails_steps_are_launched(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    records.error = RuntimeError("CUDA error: not permitted while capturing\nand more")
    writers, others = Writers(_decoder()), Writers(_decoder())
    others.steps.records = False
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_array_equal(writers.step(0, 1, 2), others.step(0, 1, 2))
    (said,) = caplog.messages
    assert said == (
        "steps cannot be recorded, so all are launched: CUDA error: not permitted while capturing"
    )


def test_all_buckets_can_be_recorded_beforehand(records: Records) -> None:
    writers = Writers(_decoder())
    parts = writers.decoder.parts
    writers.steps.prepare(parts, writers.state)
    n_buckets = len(list(DeviceSteps._buckets(parts, writers.state).all()))
    assert records.n_recorded == writers.steps.n_graphs == n_buckets == 5
    held = writers.steps.n_bytes
    for slots in ((0,), (1, 2), (0, 1, 3)):
        writers.step(*slots)
    assert (records.n_recorded, records.n_played) == (n_buckets, 3)
    assert writers.steps.n_bytes == held  # no step has allocated anything


def test_a_step_of_which_nothing_is_wanted_predicts_nothing(records: Records) -> None:
    writers = Writers(_decoder())
    one = RaggedBatch(
        np.array([3]), np.arange(2), np.zeros(1, np.int64), np.zeros(1, np.int64),
        np.zeros((1, 1), np.int32),
    )  # fmt: skip
    found = writers.decoder.extend(one, writers.state, np.empty(0, np.int64))
    assert found.logits.shape == (0, writers.decoder.config.vocab_size)
    assert len(found.likeliest) == 0
    assert records.n_recorded == 1


def _shapes() -> Iterator[StepShape]:
    for n_rows in (1, 3, 16, 200, 256):
        for longest in (1, SEGMENT, SEGMENT + 1, 5000):
            yield StepShape(n_rows, max(1, n_rows // 2), 1, 1, 0, -(-longest // PAGE), longest)


def test_a_bucket_holds_what_is_filled_up_to_it() -> None:
    buckets = Buckets.for_slots(200, 6000, PAGE)
    all_buckets = list(buckets.all())
    assert len(set(all_buckets)) == len(all_buckets) == 9 * 3
    rows = [bucket.n_rows for bucket in all_buckets]
    assert rows == sorted(rows, reverse=True)
    for shape in _shapes():
        found = buckets.find(shape)
        assert found in all_buckets
        assert found is not None
        assert shape.fits(found)
        assert found.n_pages * PAGE >= found.longest
        assert found.n_rows < 2 * shape.n_rows or shape.n_rows == 1


def test_what_is_too_large_has_no_bucket() -> None:
    shape = StepShape(1, 1, 1, 1, 0, 1, 1)
    buckets = Buckets.for_slots(2000, 6000, PAGE)
    assert buckets.most_rows == MOST_ROWS
    for name, value in (
        ("n_rows", MOST_ROWS + 1), ("longest", 6001), ("n_draws", 2), ("n_changes", 17),
        ("n_wanted", 2),
    ):  # fmt: skip
        assert buckets.find(StepShape(**(vars(shape) | {name: value}))) is None


def test_what_goes_up_is_no_more_than_there_is() -> None:
    """Of a large buffer for changes of logits, only what a step has of them goes up."""
    shape = StepShape(2, 2, 2, 2, 1000, 3, 40)
    host = torch.full((Inputs.n_bytes(shape),), 7, dtype=torch.uint8)
    up = torch.full_like(host, 9)
    inputs = Inputs(shape, host, up)
    sampler = Sampler(SamplingParams(temperature=1.0, seed=1, logit_bias={3: 1.0, 4: 2.0}))
    draws = [RowDraw(0, *sampler.draws([], [None]))]
    inputs.put(nobody(), np.empty(0, np.int64), np.empty((3, 0), np.int64), draws)
    assert inputs.draws.changes[:2].tolist() == [[3, 1, 0, 1], [4, 1, 0, 2]]
    assert inputs.draws.whole[1].tolist() == [0] * 6
    assert (up[-32 * 998 :] == 9).all()


def test_an_interpreter_prepares_nothing(records: Records) -> None:
    decoder = _decoder()
    assert isinstance(decoder.backend, GpuBackend)
    writers = Writers(decoder)
    decoder.prepare(writers.state)
    assert records.n_recorded == 0


@pytest.mark.parametrize("n_before", [2, 3, 4])
@pytest.mark.parametrize("records_before", [True, False])
def test_a_step_takes_tokens_that_nobody_has_read(n_before: int, records_before: bool) -> None:
    """Of the likeliest and of draws, by steps that are recorded and launched, in any order."""
    decoder = _decoder()
    sampler = Sampler(SamplingParams(temperature=1.0, seed=1))
    draws = [RowDraw(1, *sampler.draws([], [None]))]
    alone, ahead = Writers(decoder), Writers(decoder)
    slots = np.arange(n_before)
    for writers in (alone, ahead):
        writers.steps.records = records_before
        writers.step(*slots)
    first = [writers.extend(slots, 3 + slots, draws=draws) for writers in (alone, ahead)]
    assert first[0].chosen is not None
    ids = np.array([first[0].chosen[0], first[0].likeliest[0]])
    for writers in (alone, ahead):
        writers.steps.records = True
    last = np.array([1, 0])
    expected = alone.extend(last, ids).logits
    assert torch.equal(ahead.extend(last, np.array([~n_before, ~0])).logits, expected)
    # The results of the step before are still there for those who ask for them only now.
    assert first[1].likeliest.tolist() == first[0].likeliest.tolist()
    assert first[1].chosen is not None
    assert first[1].chosen.tolist() == first[0].chosen.tolist()


def test_what_is_not_finite_is_no_token_of_the_next_step() -> None:
    decoder = _decoder()
    weight = decoder.embedding.token.weight
    weight[20] = float("nan")
    writers = Writers(decoder)
    found = writers.extend(np.array([0, 1]), np.array([20, 3]))
    writers.extend(np.array([1, 0]), np.array([~1, ~0])).bring()
    assert found.likeliest[0] == -1
    assert found.likeliest[1] >= 0


def test_a_device_that_is_lost_is_told_by_copies_of_states_too() -> None:
    class Lost:
        def __getitem__(self, _: object) -> None:
            raise torch.AcceleratorError("CUDA error: an illegal memory access\nand more")

    state = Writers(_decoder()).state
    state._states = [Lost()]  # type: ignore[list-item]
    for copy in (state.copy_slots, partial(state.copy_state, 0)):
        with pytest.raises(DeviceError, match="the GPU failed: CUDA error"):
            copy(1)
