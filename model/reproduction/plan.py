"""Which trainings an experiment consists of."""

import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, field_validator

from model.reproduction.models import find_model
from model.training.preset import Preset, load_preset
from model.validation import STRICT, InvalidValueError, validate

_FOLDER = Path(__file__).parent / "plans"


class PlanError(ValueError):
    """A plan that does not exist or cannot be used. The message names the file and the key."""


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        model: its name in `model.reproduction.models`.
        length: of the strings that are copied, L.
        learning_rate: after the warm-up.
        batch: strings in a batch.
        steps: after which it ends if it has not learned to copy before.
        layers, width: blocks, and channels of the residual stream and of what mixes tokens.
        seed: of weights and data.
    """

    model: str
    length: int
    learning_rate: float
    batch: int
    steps: int
    layers: int
    width: int
    seed: int

    @property
    def name(self) -> str:
        """Tells it from all others, and may be the name of a folder."""
        return (
            f"{self.model}-{self.layers}x{self.width}-L{self.length}-b{self.batch}"
            f"-lr{self.learning_rate:g}-s{self.seed}-n{self.steps}"
        )

    @property
    def cost(self) -> float:
        """About how long a step takes, to compare jobs with each other."""
        pairs = self.length * self.width if "linear" not in self.model else 0
        return self.batch * self.length * self.layers * self.width * (self.width + pairs / 16)

    def preset(self) -> Preset:
        """Everything that decides the training: the preset `paper` with other values.

        Raises:
            PresetError: the model cannot have this width, as its heads do not divide it.
        """
        model = find_model(self.model)
        context = 2 * self.length + 2
        values = {
            "seed": self.seed,
            "model.d_model": self.width,
            "model.max_seq_len": context + 1,
            "model.positions": model.positions,
            "model.blocks": [model.block(self.width)] * self.layers,
            "optimizer.steps": self.steps,
            "optimizer.learning_rate": self.learning_rate,
            "task.min_length": self.length,
            "task.max_length": self.length,
            "task.batch_tokens": self.batch * context,
            "task.max_strings": self.batch,
        }
        return load_preset("paper", [f"{key}={_toml(value)}" for key, value in values.items()])


@dataclass(frozen=True)
class Contest:
    """Trainings that differ in their learning rate alone.

    Attributes:
        jobs: the trainings.
        sweep_steps: after which only the best one goes on; 0 if all do.
    """

    jobs: tuple[Job, ...]
    sweep_steps: int


def _toml(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


class Runs(BaseModel):
    """Trainings that differ in model, length, learning rate and seed: all combinations.

    Attributes:
        models: their names.
        lengths: of the strings.
        learning_rates: to choose from.
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

    def jobs(self) -> Iterator[Job]:
        """All of them."""
        combinations = itertools.product(self.lengths, self.models, self.seeds, self.learning_rates)
        for length, model, seed, rate in combinations:
            yield Job(model, length, rate, self.batch, self.steps, self.layers, self.width, seed)


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
