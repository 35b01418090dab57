"""Rounded relations against arithmetic of 16 bits, and without rounding against the project's."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from benchmarks.rounded import RoundedDecoder, Rounding, normalized_relation, separable_relation
from causalrn.model.decoder import Decoder
from causalrn.model.ops.norm.reference import norm
from causalrn.model.ops.relation import reference
from causalrn.model.reproduction.job import Job

Relation = Callable[[Tensor, Tensor, float, Rounding], Tensor]
DTYPES = [torch.bfloat16, torch.float16]
BLUEPRINT = Job("pool-1-in-2", 5, 1e-3, batch=2, steps=2, layers=2, width=24, seed=1).preset()
IDS = torch.randint(29, (3, 11), generator=torch.Generator().manual_seed(0))
OFFSETS = torch.zeros(3, dtype=torch.int64)


def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(BLUEPRINT.blueprint.config)


@pytest.mark.parametrize("relation", [normalized_relation, separable_relation])
def test_without_rounding_relations_are_those_of_the_reference(relation: Relation) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 9, 2, 24, dtype=torch.float64)
    expected = getattr(reference, relation.__name__)(a, b, 1e-3)
    torch.testing.assert_close(relation(a, b, 1e-3, Rounding()), expected)


@pytest.mark.parametrize("relation", [normalized_relation, separable_relation])
def test_smaller_exponents_alone_make_no_difference(relation: Relation) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 9, 1, 24, dtype=torch.float64)
    lowered = relation(a, b, 1e-3, Rounding(lowered=True))
    torch.testing.assert_close(lowered, relation(a, b, 1e-3, Rounding()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_added_up_in_16_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 400, 1, 8)
    total = torch.zeros(8, dtype=dtype)
    for v in range(400):
        total += norm(a[0, -1, 0] + b[0, v, 0], 0.0).exp().to(dtype)
    found = normalized_relation(a, b, 0.0, Rounding(dtype, sums=True))[0, -1, 0]
    assert torch.equal(found, total.float() / 400)


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_are_added_up_in_16_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 1, 1, 12)

    def mean(x: Tensor) -> Tensor:
        parts = [*x.to(dtype), *torch.zeros(4, dtype=dtype)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [parts[i] + parts[half + i] for i in range(half)]
        total: Tensor = parts[0]
        return total.float() / 12

    pair = (a + b).flatten()
    centred = pair - mean(pair)
    expected = (centred / (mean(centred.square()).sqrt() + 1e-3)).exp()
    found = normalized_relation(a, b, 1e-3, Rounding(dtype, moments=True))
    assert torch.equal(found.flatten(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_memories_are_rounded(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 9, 1, 24)
    expected = normalized_relation(a, b.to(dtype).float(), 0.0, Rounding())
    assert torch.equal(normalized_relation(a, b, 0.0, Rounding(dtype, pool=True)), expected)


def test_a_decoder_that_rounds_nothing_is_the_decoder() -> None:
    own = decoder()
    expected = own(IDS, OFFSETS)
    torch.testing.assert_close(RoundedDecoder(deepcopy(own), Rounding())(IDS, OFFSETS), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_rounded_and_learn(dtype: torch.dtype) -> None:
    own = decoder()
    rounded = deepcopy(own)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.to(dtype))
    expected = RoundedDecoder(rounded, Rounding())(IDS, OFFSETS)
    found = RoundedDecoder(own, Rounding(dtype, weights=True))(IDS, OFFSETS)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in own.parameters())


def test_other_mixers_are_refused() -> None:
    job = Job("transformer", 5, 1e-3, batch=2, steps=2, layers=2, width=24, seed=1)
    with pytest.raises(TypeError, match="Attention is not rounded"):
        RoundedDecoder(Decoder(job.preset().blueprint.config), Rounding())
