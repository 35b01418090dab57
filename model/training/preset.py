"""Presets: everything that decides how a model is trained."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from causalrn.model.blueprint import SPECIALS, Blueprint, make_blueprint
from causalrn.model.construction import Construction, ConstructionError, check
from causalrn.model.tokenizers.registry import describe_tokenizer, make_tokenizer
from causalrn.model.training.initial import Initial
from causalrn.model.training.preset_files import PresetError, PresetValues
from causalrn.model.validation import STRICT, InvalidValueError, validate


class OptimizerParams(BaseModel):
    """How parameters are changed: AdamW without weight decay.

    Attributes:
        steps: length of the schedules of learning rate and task.
        minutes: ends the run after so much time instead, and has the schedules follow the time, so
            that two runs are never quite alike; 0 goes by steps.
        stop: ends the run early, after this many steps; 0 runs all of them.
        learning_rate: peak; reached after `warmup_steps`, then a cosine to `final_ratio` of it.
        warmup_steps: steps in which the rate grows linearly from nothing.
        final_ratio: share of the peak at the last step.
        beta1, beta2: decay of the moments.
        clip_norm: bound on the norm of the gradient.
        trained: which parameters change: those with one of these words in their dotted names, such
            as "output" or "mixers"; all if left out. The others stay as they begin.
    """

    model_config = STRICT

    steps: int = Field(default=1000, ge=1)
    minutes: float = Field(default=0.0, ge=0)
    stop: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=0.001, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    final_ratio: float = Field(default=0.01, ge=0, le=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    trained: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None

    @model_validator(mode="after")
    def _check_stop(self) -> Self:
        if self.stop > self.steps:
            raise ValueError(f"need stop <= steps, got {self.stop} and {self.steps}")
        if self.stop and self.minutes:
            raise ValueError("stop and minutes exclude each other")
        return self

    @property
    def last_step(self) -> int:
        """Steps of the whole run."""
        return self.stop or self.steps

    def share(self, step: int, seconds: float) -> float:
        """How much of the run is done, from 0 to 1.

        Args:
            step: steps done.
            seconds: time trained so far.
        """
        if self.minutes:
            return min(1.0, seconds / (60 * self.minutes))
        return step / self.steps

    def is_over(self, step: int, seconds: float) -> bool:
        """Whether all of the run is done, as for `share`."""
        return seconds >= 60 * self.minutes if self.minutes else step >= self.last_step

    def trains(self, name: str) -> bool:
        """Whether the parameter of that name changes."""
        return self.trained is None or not set(self.trained).isdisjoint(name.split("."))


class _PresetFile(BaseModel):
    """A preset as it is written; `[task]` holds the task's name beside its parameters."""

    model_config = STRICT

    summary: str = ""
    tokenizer: Any = "bytes"
    seed: int = Field(default=0, ge=0)
    match_places: bool = False
    construction: Construction | None = None
    initial: Initial = Field(default_factory=Initial)
    model: dict[str, Any] = Field(default_factory=dict)
    optimizer: OptimizerParams = Field(default_factory=OptimizerParams)
    task: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes:
        name: of the file, without its ending.
        summary: one line for people.
        seed: decides the initial parameters and the data.
        match_places: whether mixers that can do so start out looking for the source of the next
            output token (`Decoder.match_places`), or have to learn it.
        construction: how embedding and relations are set before training; None for random weights.
        initial: how large random weights are.
        blueprint: tokenizer, shape and task.
        optimizer: how parameters are changed.
    """

    name: str
    summary: str
    seed: int
    match_places: bool
    construction: Construction | None
    initial: Initial
    blueprint: Blueprint
    optimizer: OptimizerParams

    def to_json(self) -> str:
        """All values, defaults included, as text; a run can be resumed only with the same ones."""
        task = self.blueprint.task
        values = {
            "summary": self.summary,
            "tokenizer": describe_tokenizer(self.blueprint.tokenizer),
            "seed": self.seed,
            "match_places": self.match_places,
            "construction": self.construction and self.construction.model_dump(),
            "initial": self.initial.model_dump(),
            "model": self.blueprint.config.to_dict(),
            "optimizer": self.optimizer.model_dump(),
            "task": {"name": task.name, **task.params.model_dump(mode="json")},
        }
        return json.dumps(values)


def load_preset(name_or_path: str, settings: Iterable[str] = ()) -> Preset:
    """Load a preset of the project by its name, or another one from its TOML file.

    Args:
        name_or_path: a name, or a path that ends in `.toml`.
        settings: values to replace, each as `KEY=VALUE`; see `PresetValues.override`.

    Raises:
        PresetError: no such preset, malformed TOML, or unknown, missing or wrong keys.
    """
    read = PresetValues(name_or_path)
    for setting in settings:
        read.override(setting)
    return make_preset(read)


def make_preset(read: PresetValues) -> Preset:
    """Make a preset of the values of its file.

    Raises:
        PresetError: unknown, missing or wrong keys.
    """
    try:
        return _build(read.name, read.values, read.folder)
    except InvalidValueError as error:
        raise PresetError(f"{read.source(error.key)}: {error}") from None


def _build(name: str, values: dict[str, Any], folder: Path) -> Preset:
    read = validate(_PresetFile, values)
    tokenizer = make_tokenizer(read.tokenizer, folder)
    if decided := sorted(set(SPECIALS) & set(read.model)):
        key = ("model", decided[0])
        raise InvalidValueError(f"model.{decided[0]} is for the tokenizer to decide", key)
    specials = {key: getattr(tokenizer, key) for key in SPECIALS}
    task = read.task.get("name", "copying")
    if not isinstance(task, str):
        raise InvalidValueError(f"task.name must be a string, got {task!r}", ("task", "name"))
    params = {key: value for key, value in read.task.items() if key != "name"}
    blueprint = make_blueprint(tokenizer, specials | read.model, task, params, ("task",))
    if read.match_places and blueprint.config.positions != "coupled":
        raise InvalidValueError("match_places needs coupled positions", ("match_places",))
    if read.construction is not None:
        try:
            check(blueprint.config, read.construction)
        except ConstructionError as error:
            raise InvalidValueError(f"construction: {error}", ("construction",)) from None
    return Preset(
        name,
        read.summary,
        read.seed,
        read.match_places,
        read.construction,
        read.initial,
        blueprint,
        read.optimizer,
    )
