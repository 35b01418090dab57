"""The compiled call of a step, and what it leaves to Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from causalrn.model.backends import cpu_program
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.mixers.normalized import NormalizedRelation
from causalrn.model.mixers.registry import MIXERS
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation.cpu_layers import normalized_layer
from causalrn.model.state import LayerState, RaggedBatch
from causalrn.model.step import Step
from tests.model.tiny import tiny_config
from tests.toys import registered


class Twice(NormalizedRelation):
    """A mixer in Python that asks for an operation, and then does something more."""

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:
        return 2 * super().forward(x, reaches, active)

    def extend(self, step: Step, layer: LayerState) -> None:
        before = step.x.copy()
        step.op(self.op)(self, step, layer)
        step.x[step.active] += (step.x - before)[step.active]


def _decoder(*mixers: str, seed: int = 0, **changes: Any) -> Decoder:
    torch.manual_seed(seed)
    with registered(twice=(MIXERS, Twice)):
        return Decoder(tiny_config(mixers=mixers, **changes)).requires_grad_(False)


def _batch(ids: np.ndarray, held: int = 0) -> RaggedBatch:
    return RaggedBatch(
        token_ids=ids,
        starts=np.array([0, len(ids)]),
        context_lens=np.array([held]),
        slots=np.array([0]),
        block_tables=np.arange(-(-(held + len(ids)) // 16), dtype=np.int32)[None],
    )


def _extend(decoder: Decoder, ids: np.ndarray, chunks: list[int]) -> Tensor:
    state = decoder.new_state(n_pages=-(-len(ids) // 16), page_size=16, n_slots=1)
    logits, first = [], 0
    for n in chunks:
        part = ids[first : first + n]
        logits.append(decoder.extend(_batch(part, first), state, np.arange(n)).logits)
        first += n
    return torch.cat(logits)


def _ids(decoder: Decoder, n: int) -> np.ndarray:
    ids = np.random.default_rng(0).integers(3, 29, n)  # no special ones
    ids[0], ids[n // 2] = decoder.config.bos_id, decoder.config.sep_id
    return ids


@pytest.mark.parametrize(
    "mlp", [{}, {"mlp_width": 20}, {"mlp_width": 20, "mlp_shift_width": 3}], ids=str
)
@pytest.mark.parametrize("mixers", [("twice",), ("separable", "twice", "normalized")])
def test_a_mixer_in_python_stands_between_compiled_ones(
    mixers: tuple[str, ...], mlp: dict[str, Any]
) -> None:
    decoder = _decoder(*mixers, **mlp)
    ids = _ids(decoder, 40)
    expected = decoder(torch.from_numpy(ids)[None])[0]
    got = _extend(decoder, ids, [40])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(_extend(decoder, ids, [1, 20, 3, 16]), got)


def test_a_mixer_in_python_writes_in_its_phases_only() -> None:
    decoder = _decoder("twice", "normalized", recall=True, recall_blocks=1, recall_shift_width=2)
    ids = _ids(decoder, 40)
    silent = _extend(decoder, ids, [40])
    decoder.blocks[0].silence()
    assert torch.equal(_extend(decoder, ids, [40]), silent)
    ids[20:22] = decoder.config.bos_id, decoder.config.sep_id
    recalled = _extend(decoder, ids, [40])
    again = _decoder("twice", "normalized", recall=True, recall_blocks=1, recall_shift_width=2)
    assert not torch.equal(_extend(again, ids, [40]), recalled)


@pytest.mark.parametrize("mixer", ["normalized", "separable"])
def test_weights_may_be_replaced_between_two_steps(mixer: str) -> None:
    decoder, other = _decoder(mixer), _decoder(mixer, seed=1)
    ids = _ids(decoder, 20)
    state = decoder.new_state(n_pages=2, page_size=16, n_slots=1)
    decoder.extend(_batch(ids), state)
    decoder.load_state_dict(other.state_dict(), assign=True)  # other memory, not other values
    state.reset_slot(0)
    assert torch.equal(decoder.extend(_batch(ids), state).logits, _extend(other, ids, [20])[-1:])
    for parameter in decoder.parameters():
        parameter.mul_(1.5)  # in place
    state.reset_slot(0)
    assert torch.equal(decoder.extend(_batch(ids), state).logits, _extend(decoder, ids, [20])[-1:])


def test_zeros_among_the_weights_may_become_something_else_between_two_steps() -> None:
    """The keyed relation leaves out what they multiply."""
    keyed = {"d_relation": 32, "n_head": 1, "d_value": 16, "tied_keys": True, "shift_width": 2}
    decoder = _decoder("normalized", params=keyed)
    weights = [one for name, one in decoder.named_parameters() if name.endswith("r.weight")]
    weights += [decoder.get_parameter("mixers.0.memory.weight")]
    drawn = [one.clone() for one in weights]
    for one in weights:
        one.zero_()
    ids = _ids(decoder, 30)
    state = decoder.new_state(n_pages=2, page_size=16, n_slots=1)
    for change in (lambda: None, lambda: [w.copy_(d) for w, d in zip(weights, drawn, strict=True)]):
        change()
        state.reset_slot(0)
        got = decoder.extend(_batch(ids), state, np.arange(len(ids))).logits
        expected = decoder(torch.from_numpy(ids)[None])[0]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_threads_may_change_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then another form of an operation is needed, which is not compiled before."""
    monkeypatch.setattr(jit, "PARALLEL_WORK", 0)
    decoder = _decoder("normalized")
    ids, threads = _ids(decoder, 20), jit.num_threads()
    state = decoder.new_state(n_pages=2, page_size=16, n_slots=1)
    results = []
    try:
        for n in (1, threads, 1):
            jit.set_num_threads(n)
            state.reset_slot(0)
            results.append(decoder.extend(_batch(ids), state).logits)
    finally:
        jit.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_one_thread_computes_until_what_needs_several_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jit, "PARALLEL_WORK", 0)
    monkeypatch.setattr(jit, "num_threads", lambda: 2)
    awaited = {normalized_layer.parallel.home}
    decoder = _decoder("normalized", "normalized")
    ids = _ids(decoder, 20)
    state = decoder.new_state(n_pages=2, page_size=16, n_slots=1)
    with monkeypatch.context() as patch:
        patch.setattr(cpu_program, "is_awaited", lambda form: form.home in awaited)
        patch.setattr(normalized_layer.parallel, "address", lambda: 1 / 0)
        alone = decoder.extend(_batch(ids), state).logits
        awaited.clear()
        with pytest.raises(ZeroDivisionError):  # it asks again in every step
            decoder.extend(_batch(ids), state)
    state.reset_slot(0)
    assert torch.equal(decoder.extend(_batch(ids), state).logits, alone)


def test_two_decoders_may_take_turns_on_one_state() -> None:
    folder = Path(__file__).parents[2] / "checkpoints" / "copy-az"
    first, second = (load_checkpoint(folder).decoder for _ in range(2))
    ids = first.config.bos_id + np.zeros(1, np.int64)
    state = first.new_state(n_pages=1, page_size=64, n_slots=1)
    expected = first.extend(_batch(ids), state).logits
    state.reset_slot(0)
    assert torch.equal(second.extend(_batch(ids), state).logits, expected)


@pytest.mark.parametrize("work", [0, 10**9])
def test_what_is_not_finite_makes_nothing_likely_in_its_own_sequence(
    work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_program, "SHARES_WORK", work)
    decoder = _decoder("normalized")
    decoder.embedding.token.weight[5] = torch.nan
    batch = RaggedBatch(
        token_ids=np.array([3, 4, 5, 4, 6]),
        starts=np.array([0, 2, 4, 5]),
        context_lens=np.zeros(3, np.int64),
        slots=np.array([0, 1, 2]),
        block_tables=np.arange(3, dtype=np.int32)[:, None],
    )
    found = decoder.extend(batch, decoder.new_state(n_pages=3, page_size=16, n_slots=3))
    first, _, last = found.logits.argmax(-1).tolist()
    assert found.likeliest.tolist() == [first, -1, last]
