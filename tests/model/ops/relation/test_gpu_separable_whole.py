"""The separable relation over whole sequences on a device, interpreted: beside the reference."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from causalrn.model.ops.device import as_on_device
from causalrn.model.ops.relation import gpu_separable_whole, reference, separable_relation

pytestmark = pytest.mark.usefixtures("quick_interpreter")
EPS = 1e-6
CHUNK = gpu_separable_whole.CHUNK
Relation = Callable[[Tensor, Tensor, float], Tensor]


def _draw(*shape: int, seed: int) -> Tensor:
    """Readers, memories and gradients `[3, B, T, H, K]`."""
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))


def _gradients(relation: Relation, a: Tensor, b: Tensor, g: Tensor) -> list[Tensor]:
    """The result, and the gradients of readers and of memories, computed as on a device."""
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    with as_on_device():
        out = relation(a, b, EPS)
    return [out.detach(), *torch.autograd.grad(out, (a, b), g.to(out.dtype))]


def _errors(drawn: Tensor) -> list[float]:
    """The largest of any row, as a share of the row's largest number, and a millionth of all."""
    got = _gradients(separable_relation, *drawn)
    expected = _gradients(reference.separable_relation, *drawn.double())
    errors = []
    for one, exact in zip(got, expected, strict=True):
        largest = exact.abs().amax(-1, keepdim=True)
        errors.append(float(((one - exact).abs() / (largest + 1e-6 * largest.max())).max()))
    return errors


# Two channels normalize to ±1 whatever they are: their gradient is rounding only.
@pytest.mark.parametrize(
    ("batch", "length", "heads", "k"),
    [
        (1, 1, 1, 3), (2, CHUNK - 1, 2, 24), (1, CHUNK, 1, 128), (3, CHUNK + 1, 1, 5),
        (2, 63, 3, 63), (1, 2 * CHUNK, 1, 16), (2, 257, 1, 24), (1, 130, 1, 257),
    ],
)  # fmt: skip
def test_equals_the_reference_with_its_gradients(
    batch: int, length: int, heads: int, k: int
) -> None:
    forward, *gradients = _errors(_draw(batch, length, heads, k, seed=length))
    assert forward < 2e-6
    assert max(gradients) < 2e-4


@pytest.mark.parametrize("length", [1, 63, 257])
def test_large_exponents_and_sums_that_nearly_cancel(length: int) -> None:
    """What is off is a rounding or two of what is added up, as on the CPU, however much cancels."""
    generator = torch.Generator().manual_seed(length)
    a, b = 10 * torch.randn(2, 2, length, 1, 9, generator=generator)
    g = torch.randn(a.shape, generator=generator)
    places = torch.arange(1, length + 1).view(1, -1, 1, 1)
    g[:, 1::2] = 0  # but for what cancels the one before, up to a ten-thousandth
    shares = a.double().exp() / places
    g[:, 1::2] = -1.0001 * (g * shares)[:, : length - 1 : 2] / shares[:, 1::2]
    weights = g * shares

    def means(a: Tensor, b: Tensor) -> Tensor:
        return a.exp() * (b.exp().cumsum(1) / places)

    def from_the_last(x: Tensor) -> Tensor:
        return x.flip(1).cumsum(1).flip(1)

    exact = means(a.double(), b.double())
    added = exact, (g * exact).abs(), b.double().exp() * from_the_last(weights.abs())
    expected = exact, g * exact, b.double().exp() * from_the_last(weights)
    for relate in (means, gpu_separable_whole.running_means):
        one, other = a.clone().requires_grad_(), b.clone().requires_grad_()
        out = relate(one, other)
        found = out.detach(), *torch.autograd.grad(out, (one, other), g)
        for got, correct, of in zip(found, expected, added, strict=True):
            assert ((got - correct).abs() <= 8 * 2**-24 * of).all()


@pytest.mark.parametrize("length", [CHUNK, 3 * CHUNK + 5])
def test_sums_keep_what_float64_keeps(length: int) -> None:
    """Terms up to 2^40, all of which float32 has, and whose sums come back to small numbers."""
    generator = torch.Generator().manual_seed(length)
    small = torch.randint(-8, 9, (1, length, 1, 5), generator=generator).double()
    large = 2.0 ** torch.randint(20, 37, (1, length, 1, 5), generator=generator).double()
    large *= torch.tensor([1.0, -1.0]).repeat(length)[:length].view(1, -1, 1, 1)
    large[:, 1::2] = -large[:, : length - 1 : 2][:, : length // 2]
    terms = torch.where(torch.arange(length).view(1, -1, 1, 1) % 7 == 3, small, large)
    places = torch.arange(1, length + 1).view(1, -1, 1, 1)
    given = (terms * places).float()
    assert torch.equal(given.double(), terms * places)
    zeros = torch.zeros_like(given)
    a, b = zeros, zeros.clone().requires_grad_()
    out = gpu_separable_whole.running_means(a, b)
    assert torch.equal(out, torch.ones_like(out))
    (db,) = torch.autograd.grad(out, b, given)
    assert torch.equal(db, terms.flip(1).cumsum(1).flip(1).float())


def test_a_sequence_has_the_same_bits_in_any_batch() -> None:
    a, b, g = _draw(3, CHUNK + 9, 2, 5, seed=1)
    whole = _gradients(separable_relation, a, b, g)
    alone = _gradients(separable_relation, a[1:2], b[1:2], g[1:2])
    for one, among in zip(alone, whole, strict=True):
        assert torch.equal(one, among[1:2])
    part = slice(0, CHUNK + 3)
    begun = _gradients(separable_relation, a[:, part], b[:, part], g[:, part])
    assert torch.equal(begun[0], whole[0][:, part])


def test_what_is_not_a_number_stays_so_where_it_is_seen() -> None:
    a, b, g = _draw(1, 2 * CHUNK + 3, 1, 6, seed=2)
    place = CHUNK + 2
    b[0, place, 0, 1] = float("nan")
    out, _, db = _gradients(separable_relation, a, b, g)
    assert out[:, :place].isfinite().all()
    assert out[:, place:].isnan().all()
    assert db[:, :place].isfinite().all()
    assert db[:, place].isnan().all()
    b[0, place, 0, 1] = 0.0
    g[0, place] = float("nan")
    _, da, db = _gradients(separable_relation, a, b, g)
    assert da[:, place].isnan().all()
    assert da[:, :place].isfinite().all()
    assert da[:, place + 1 :].isfinite().all()
    assert db[:, : place + 1].isnan().all()
    assert db[:, place + 1 :].isfinite().all()


@pytest.mark.parametrize("length", [1, CHUNK + 1])
def test_a_single_channel_normalizes_to_zero_whatever_it_is(length: int) -> None:
    out, da, db = _gradients(separable_relation, *_draw(1, length, 1, 1, seed=length))
    assert torch.equal(out, torch.ones_like(out))
    assert torch.equal(da, torch.zeros_like(da))
    assert torch.equal(db, torch.zeros_like(db))
