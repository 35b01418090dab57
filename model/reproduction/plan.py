"""Which trainings an experiment consists of."""

import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from causalrn.model.reproduction.job import FRAMES, Job
from causalrn.model.reproduction.models import find_model
from causalrn.model.validation import STRICT, InvalidValueError, validate

_FOLDER = Path(__file__).parent / "plans"


class PlanError(ValueError):
    """A plan that does not exist or cannot be used. The message names the file and the key."""


@dataclass(frozen=True)
class Contest:
    """Trainings that differ in their learning rate alone.

    Attributes:
        jobs: the trainings.
        sweep_steps: after which only the best one goes on; 0 if all do.
    """

    jobs: tuple[Job, ...]
    sweep_steps: int


class Runs(BaseModel):
    """Trainings that differ in model, length, learning rate and seed: all combinations.

    Attributes:
        models: their names.
        lengths: of the strings.
        learning_rates: to choose from.
        task: what is learned.
        shortest, beyond: see `Job`; for copying alone.
        sweep_steps: after so many steps, only the learning rate with the highest accuracy, or the
            lowest loss, goes on; 0 if all of them do.
        batch, steps, layers, width, seeds: see `Job`; the defaults are the paper's.
    """

    model_config = STRICT

    models: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, strict=False)]
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, strict=False)] = (
        5e-4,
    )
    task: str = "copying"
    shortest: int = Field(default=0, ge=0)
    beyond: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = ()
    sweep_steps: int = Field(default=0, ge=0)
    batch: PositiveInt = 320
    steps: PositiveInt = 2000
    layers: PositiveInt = 12
    width: PositiveInt = 192
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (1,)

    @field_validator("models")
    @classmethod
    def _check_models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find_model(name)
        return names

    @field_validator("task")
    @classmethod
    def _check_task(cls, name: str) -> str:
        if name not in FRAMES:
            raise ValueError(f"there is no task {name!r}; there are {', '.join(FRAMES)}")
        return name

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.task != "copying" and (self.shortest or self.beyond):
            raise ValueError("shortest and beyond are of strings, for the task copying")
        if self.shortest > min(self.lengths):
            raise ValueError(f"shortest must be at most {min(self.lengths)}, the least of lengths")
        return self

    def jobs(self) -> Iterator[Job]:
        """All of them."""
        combinations = itertools.product(self.lengths, self.models, self.seeds, self.learning_rates)
        for length, model, seed, rate in combinations:
            yield Job(
                model, length, rate, self.batch, self.steps, self.layers, self.width, seed,
                self.task, self.shortest, self.beyond,
            )  # fmt: skip


class Plan(BaseModel):
    """An experiment.

    Attributes:
        summary: one line for people.
        evaluate_every: after so many steps, strings that were held out are copied, and a training
            ends that copies them all.
        runs: the trainings.
    """

    model_config = STRICT

    summary: str = ""
    evaluate_every: PositiveInt = 100
    runs: Annotated[tuple[Runs, ...], Field(min_length=1, strict=False)]

    def contests(self) -> list[Contest]:
        """Its trainings, those together that differ in their learning rate alone."""
        found: list[Contest] = []
        for runs in self.runs:
            alike: dict[Job, list[Job]] = {}
            for job in runs.jobs():
                alike.setdefault(replace(job, learning_rate=0.0), []).append(job)
            found += [Contest(tuple(jobs), runs.sweep_steps) for jobs in alike.values()]
        return found


def plan_names() -> list[str]:
    """Names of the plans that come with the project."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def load_plan(name_or_path: str) -> Plan:
    """Load a plan of the project by its name, or another one from its TOML file.

    Raises:
        PlanError: no such plan, malformed TOML, or unknown, missing or wrong keys.
    """
    file = Path(name_or_path)
    if not name_or_path.endswith(".toml"):
        if name_or_path not in plan_names():
            raise PlanError(
                f"no plan {name_or_path!r}; there are {', '.join(plan_names())}, or give a file "
                "that ends in .toml"
            )
        file = _FOLDER / f"{name_or_path}.toml"
    try:
        return validate(Plan, tomllib.loads(file.read_text(encoding="utf-8")))
    except InvalidValueError as error:
        raise PlanError(f"{file}: {error}") from None
    except OSError as error:
        raise PlanError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise PlanError(f"{file}: not TOML: {error}") from None
