"""A command has an option for every field of `SamplingParams` that is a number."""

import inspect

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from causalrn.model import sampling_options
from causalrn.model.sampling import SamplingParams
from causalrn.model.sampling_options import takes_sampling


class Wider(SamplingParams):
    typical_p: float = Field(default=1.0, gt=0, le=1, description="Draw what is typical.")


def options() -> tuple[typer.Typer, list[SamplingParams]]:
    """A command, and what it was asked for so far."""
    app, asked = typer.Typer(rich_markup_mode=None), list[SamplingParams]()

    @app.command()
    @takes_sampling
    def draw(*, sampling: SamplingParams) -> None:
        asked.append(sampling)

    return app, asked


def test_what_is_left_out_has_the_default_of_the_field() -> None:
    app, asked = options()
    assert CliRunner().invoke(app, []).exit_code == 0
    assert CliRunner().invoke(app, ["--top-k", "3", "--min-p", "0.5", "--seed", "1"]).exit_code == 0
    assert asked == [SamplingParams(), SamplingParams(top_k=3, min_p=0.5, seed=1)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--top-k", "-2"], "'--top-k': Input should be greater than or equal to -1"),
        (["--temperature", "2.5"], "'--temperature': Input should be less than or equal to 2"),
        (["--top-p", "0"], "--top-p must be above 0"),
    ],
)
def test_bounds_are_those_of_the_field(args: list[str], message: str) -> None:
    app, asked = options()
    result = CliRunner().invoke(app, args)
    assert result.exit_code != 0
    assert message in result.stderr
    assert asked == []


def test_a_new_field_is_an_option_without_more_ado(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_options, "SamplingParams", Wider)
    app, asked = options()
    result = CliRunner().invoke(app, ["--typical-p", "0.5"])
    assert result.exit_code == 0, result.stderr
    assert asked == [Wider(typical_p=0.5)]
    assert "Draw what is typical." in CliRunner().invoke(app, ["--help"]).stdout


def test_what_is_no_number_has_no_option() -> None:
    @takes_sampling
    def draw(*, sampling: SamplingParams) -> None: ...

    names = set(inspect.signature(draw).parameters)
    assert set(SamplingParams.model_fields) - names == {"logit_bias"}
