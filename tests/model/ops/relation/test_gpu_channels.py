"""Rows laid out channel by channel, interpreted, and back."""

import pytest
import torch

from causalrn.model.ops.relation.gpu_channels import DEPTH, WIDTH, turned, turned_back

pytestmark = pytest.mark.usefixtures("quick_interpreter")


@pytest.mark.parametrize(
    ("length", "k"), [(1, 1), (3, 2), (33, 24), (64, 3), (65, 63), (130, 128), (5, 257), (9, 1024)]
)  # fmt: skip
def test_there_and_back(length: int, k: int) -> None:
    x = torch.randn(2, length, 3, k, generator=torch.Generator().manual_seed(length))
    columns, totals = turned(x)
    groups, depth, width = columns.shape
    assert groups == 6
    assert 0 <= depth - k < DEPTH
    assert 0 <= width - length < WIDTH
    rows = x.permute(0, 2, 3, 1).flatten(0, 1)
    assert torch.equal(columns[:, :k, :length], rows)
    assert not columns[:, k:].any()
    assert not columns[:, :, length:].any()
    exact = rows.double().sum(1)
    torch.testing.assert_close(totals.double().sum(0)[:, :length], exact, rtol=1e-13, atol=1e-13)
    places = torch.arange(1, length + 1).view(1, length, 1, 1)
    torch.testing.assert_close(turned_back(columns, x, centres=False), x / places)
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(turned_back(columns, x, centres=True), centred, rtol=1e-5, atol=1e-6)


def test_rows_can_be_divided_by_their_places() -> None:
    x = torch.randn(1, 70, 1, 5, generator=torch.Generator().manual_seed(0))
    columns, _ = turned(x, divides=True)
    expected = x[0, :, 0].T / torch.arange(1, 71)
    torch.testing.assert_close(columns[0, :5, :70], expected)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_of_a_row_that_is_not_finite_the_sum_alone_tells(number: float) -> None:
    x = torch.ones(1, 3, 1, 4)
    x[0, 1, 0, 2] = number
    columns, totals = turned(x)
    assert columns[0, :, :3].tolist() == [[1.0, 0.0, 1.0]] * 4
    assert totals.sum(0)[0, :3].isnan().tolist() == [False, True, False]
