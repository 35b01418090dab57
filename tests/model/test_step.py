"""A backend without an operation says so when a part of the decoder asks for it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from causalrn.model.backends.cpu import CpuBackend
from causalrn.model.backends.registry import BACKENDS
from causalrn.model.decoder import Decoder
from causalrn.model.state import DecoderState, RaggedBatch
from causalrn.model.step import Op, Step, UnsupportedOpError
from tests.model.tiny import tiny_config
from tests.toys import registered


class WithoutMlps(CpuBackend):
    """The CPU's, but for those of MLPs."""

    ops: ClassVar[Mapping[str, Op]] = {
        name: op for name, op in CpuBackend.ops.items() if "mlp" not in name
    }


def one_token() -> RaggedBatch:
    return RaggedBatch(
        token_ids=np.array([3]),
        starts=np.array([0, 1]),
        context_lens=np.array([0]),
        slots=np.array([0]),
        block_tables=np.zeros((1, 1), np.int32),
    )


def test_an_operation_is_found_by_its_name() -> None:
    state = DecoderState([], n_pages=1, page_size=16, n_slots=1, n_counters=3)
    x = np.zeros((1, 2), np.float32)
    everywhere = np.ones(1, np.bool_)
    step = Step(
        one_token(), state, {"b": print, "a": max}, x, np.zeros(1), np.zeros(1), everywhere, 1, None
    )
    assert step.op("a") is max
    with pytest.raises(UnsupportedOpError, match="no operation 'c', it has a, b"):
        step.op("c")


@pytest.mark.parametrize(
    ("mlp", "op"),
    [
        ({}, None),
        ({"mlp_width": 5}, "mlp"),
        ({"mlp_width": 5, "mlp_shift_width": 2}, "shifted_mlp"),
    ],
)
def test_only_a_model_that_needs_an_operation_is_refused(
    mlp: dict[str, Any], op: str | None
) -> None:
    with registered(lacking=(BACKENDS, WithoutMlps)):
        decoder = Decoder(tiny_config(**mlp), "lacking").requires_grad_(False)
    state = decoder.new_state(n_pages=1, page_size=16, n_slots=1)
    if op is None:
        assert torch.isfinite(decoder.extend(one_token(), state).logits).all()
        return
    with pytest.raises(
        UnsupportedOpError, match=f"no operation '{op}', it has attention, classify, embed, "
    ):
        decoder.extend(one_token(), state)
