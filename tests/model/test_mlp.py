"""The channel MLP beside the formula in float64, with and without a token shift."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.block import Block
from causalrn.model.config import BlockConfig, MlpConfig
from causalrn.model.decoder import Decoder
from causalrn.model.mixers.relation import RelationParams
from causalrn.model.mlp import Mlp
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.norm import reference as norm
from causalrn.model.ops.token_shift import reference
from causalrn.model.state import RaggedBatch
from causalrn.model.step import Step
from tests.model.tiny import tiny_config

PAGE = 16


def _mlp(width: int, shift_width: int, d: int, seed: int = 0) -> Mlp:
    generator = torch.Generator().manual_seed(seed)
    config = MlpConfig(width=width, shift_width=shift_width)
    mlp = Mlp(config, d, norm_eps=1e-6, n_blocks=1).requires_grad_(False)
    for parameter in mlp.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return mlp.requires_grad_()


def _exact(mlp: Mlp, x: Tensor, taps: Tensor | None) -> Tensor:
    """What the MLP writes, in float64, to whole sequences `x` `[B, T, D]`."""
    up, down = ((one.weight.double(), one.bias.double()) for one in (mlp.up, mlp.down))
    z = x.double()
    if taps is not None:
        everywhere = torch.full(x.shape[:2], x.shape[1])
        z = reference.token_shift(z, taps.double()[None], everywhere)[0]
    hidden = torch.nn.functional.gelu(torch.nn.functional.linear(z, *up), approximate="tanh")
    return torch.nn.functional.linear(hidden, *down)


@pytest.mark.parametrize("shift_width", [1, 2, 5])
def test_whole_sequences_and_their_gradients(shift_width: int) -> None:
    mlp = _mlp(7, shift_width, 6)
    x = torch.randn(3, 11, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    written = mlp(x)
    g = torch.randn(written.shape, generator=torch.Generator().manual_seed(2))
    wanted = (x, *mlp.parameters())
    got = torch.autograd.grad(written, wanted, g)
    exact = _exact(mlp, x, mlp.taps)
    torch.testing.assert_close(written.double(), exact, rtol=1e-5, atol=1e-5)
    for one, other in zip(got, torch.autograd.grad(exact, wanted, g.double()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


def test_gradients_are_finite_differences() -> None:
    mlp = _mlp(4, 3, 5).double()
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, *_: mlp(x), (x.requires_grad_(), *mlp.parameters())
    )  # fmt: skip


def test_a_shift_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    plain = Mlp(MlpConfig(width=7), 6, norm_eps=0, n_blocks=1)
    shifted = Mlp(MlpConfig(width=7, shift_width=4), 6, norm_eps=0, n_blocks=1)
    assert plain.state_dict().keys() == shifted.state_dict().keys() - {"taps"}
    shifted.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 9, 6)
    assert torch.equal(shifted(x), plain(x))


class Rows:
    """Random rows of the residual stream of some sequences, of a decoder with one MLP."""

    def __init__(self, decoder: Decoder, n: int, length: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.decoder, self.length = decoder, length
        self.x = self.rng.standard_normal((n, length, decoder.config.d_model)).astype(np.float32)
        self.active = self.rng.random((n, length)) < 0.7
        n_pages = -(-length // PAGE)
        self.tables = self.rng.permutation(n * n_pages).astype(np.int32).reshape(n, n_pages)
        self.state = decoder.new_state(
            n_pages=n * n_pages, page_size=PAGE, n_slots=n, n_rows=n * n_pages
        )
        self.done = np.zeros(n, np.int64)
        self.found = self.x.copy()

    def step(self, chosen: np.ndarray, counts: np.ndarray) -> None:
        """Let the MLP work on the next rows of some sequences."""
        spans = [
            (s, slice(self.done[s], self.done[s] + n)) for s, n in zip(chosen, counts, strict=True)
        ]
        starts = np.cumsum([0, *counts])
        rows = (len(self.x) + self.tables[chosen]).astype(np.int32)
        batch = RaggedBatch(
            np.zeros(starts[-1], np.int64), starts, self.done[chosen], chosen, self.tables[chosen],
            rows,
        )  # fmt: skip
        x, active = (np.concatenate([one[span] for span in spans]) for one in (self.x, self.active))
        self.state.scratch.make_room(batch, PAGE)
        nothing = np.zeros(len(x), np.int64)
        ops = self.decoder.backend.ops
        step = Step(batch, self.state, ops, x, nothing, nothing, active, 0, self.state.scratch)
        mlp: Any = self.decoder.mlps["0"]
        mlp.extend(step, self.state.layers[0])
        for span, part in zip(spans, np.split(x, starts[1:-1]), strict=True):
            self.found[span] = part
        self.done[chosen] += counts

    def run(self) -> None:
        """All rows in random chunks."""
        while (left := self.length - self.done).any():
            waiting = np.flatnonzero(left)
            chosen = self.rng.permutation(waiting)[: self.rng.integers(1, len(waiting) + 1)]
            self.step(chosen, np.minimum(left[chosen], self.rng.integers(1, 40, len(chosen))))


def _decoder(shift_width: int) -> Decoder:
    config = tiny_config(mixers=("separable",), mlp_width=13, mlp_shift_width=shift_width)
    decoder = Decoder(config).requires_grad_(False)
    mlp: Any = decoder.mlps["0"]
    mlp.load_state_dict(_mlp(13, shift_width, config.d_model).state_dict())
    return decoder


@settings(max_examples=60)
@given(
    st.integers(1, 4),
    st.integers(1, 100),
    st.sampled_from([1, 2, 4, 18, 40]),
    st.sampled_from([0.0, math.inf]),
    st.integers(0, 10**6),
)
def test_new_rows_in_any_chunks_on_any_number_of_threads(
    n: int, length: int, shift_width: int, least_work: float, seed: int
) -> None:
    rows = Rows(_decoder(shift_width), n, length, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "PARALLEL_WORK", least_work)
        rows.run()
    mlp: Any = rows.decoder.mlps["0"]
    z = norm.norm(torch.from_numpy(rows.x).double(), mlp.norm_eps)
    expected = np.where(rows.active[..., None], rows.x + _exact(mlp, z, mlp.taps).numpy(), rows.x)
    np.testing.assert_allclose(rows.found, expected, rtol=1e-5, atol=1e-4)
    whole = Rows(rows.decoder, n, length, seed)
    whole.step(np.arange(n), np.full(n, length))
    np.testing.assert_array_equal(rows.found, whole.found)
    if shift_width == 1:
        return
    tails = rows.state.layers[0].state["mlp_tail"]
    padded = torch.nn.functional.pad(z.float(), (0, 0, shift_width - 1, 0))
    ends = [(s, length, s) for s in range(n)] + [
        (s, (page + 1) * PAGE, n + int(rows.tables[s, page]))
        for s in range(n)
        for page in range(length // PAGE)
    ]
    for s, end, row in ends:
        kept = padded[s, end : end + shift_width - 1]
        torch.testing.assert_close(tails[row], kept, rtol=1e-5, atol=1e-6)


def test_a_block_keeps_what_its_mixer_and_its_mlp_do() -> None:
    params = RelationParams(d_relation=8, shift_width=3)
    block = BlockConfig(mixer="separable", params=params)
    plain = Block.spec(block, 6)
    assert Block.spec(block.model_copy(update={"mlp": MlpConfig(width=5)}), 6) == plain
    mlp = MlpConfig(width=5, shift_width=4)
    shifted = Block.spec(block.model_copy(update={"mlp": mlp}), 6)
    assert shifted.pool == plain.pool
    assert shifted.state[:-1] == plain.state
    assert (shifted.state[-1].name, shifted.state[-1].shape) == ("mlp_tail", (3, 6))
