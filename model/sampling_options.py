"""Options of the command line for the fields of `SamplingParams`."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, cast

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from causalrn.model.sampling import SamplingParams
from causalrn.model.terminal import fail
from causalrn.model.validation import describe

_METAVARS = {int: "N", int | None: "N", float: "X"}  # of types that an option can have


def takes_sampling(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field, in place of its argument `sampling`.

    Fields that are not numbers, such as `logit_bias`, have no option.

    Args:
        command: a command for Typer, which is called with `sampling` made of these options.
    """
    fields = {
        name: field
        for name, field in SamplingParams.model_fields.items()
        if field.annotation in _METAVARS
    }

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        values = {name: arguments.pop(name) for name in fields}
        try:
            sampling = SamplingParams(**values)
        except ValidationError as error:
            problem = error.errors()[0]
            option = "--" + str(problem["loc"][0]).replace("_", "-")
            fail(describe(problem, (option,), SamplingParams))
        command(**arguments, sampling=sampling)

    signature = inspect.signature(command)
    parameters = _with_options(signature.parameters.values(), fields)
    cast(Any, run).__signature__ = signature.replace(parameters=list(parameters))
    return run


def _with_options(parameters: Any, fields: dict[str, FieldInfo]) -> Iterator[inspect.Parameter]:
    for parameter in parameters:
        if parameter.name != "sampling":
            yield parameter
            continue
        for name, field in fields.items():
            option = typer.Option(
                help=field.description,
                min=_bound(field, "ge"),
                max=_bound(field, "le"),
                metavar=_METAVARS[cast(Any, field.annotation)],
            )
            yield inspect.Parameter(
                name,
                parameter.kind,
                default=field.default,
                annotation=Annotated[cast(Any, field.annotation), option],
            )


def _bound(field: FieldInfo, name: str) -> float | None:
    """A field's bound of the name `ge` or `le`, if it has one."""
    found = [getattr(one, name) for one in field.metadata if hasattr(one, name)]
    return found[0] if found else None
