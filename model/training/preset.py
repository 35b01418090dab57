"""Presets: everything that decides how a model is trained, in one TOML file each."""

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from model.config import ConfigError, ModelConfig
from model.tasks.strings import SOURCES
from model.tokenizer import TOKENIZERS

_FOLDER = Path(__file__).parent / "presets"
_SPECIALS = ("vocab_size", "bos_id", "sep_id", "eos_id")  # of a model: its tokenizer decides them
_AT_LEAST_ONE = (
    "steps", "batch_tokens", "max_strings", "max_turns", "max_context", "min_length", "max_offset",
)  # fmt: skip


class PresetError(ValueError):
    """A preset that does not exist or cannot be used. The message names the file and the key."""


@dataclass(frozen=True)
class Schedule:
    """What is trained on, and how.

    Attributes:
        seed: decides parameters and data.
        steps: optimizer steps that the course of learning rates and lengths is laid out for.
        stop: steps after which the run ends before that; 0 for never.
        batch_tokens: about how many tokens a step sees.
        max_strings: contexts of a step at most.
        max_turns: strings of one context at most, one after the other.
        max_context: tokens that several strings of one context may take.
        full: share of the steps whose contexts hold as many strings as they may.
        min_length, max_length: strings, in characters.
        first_length: longest string of the first tenth of the run.
        growth: share of the run in which that limit then grows, linearly, to `max_length`; 0 for
            `max_length` from the first step on.
        max_offset: positions begin anywhere below this; 1 for always at 0.
        corruption: share of the output tokens that are read as wrong ones.
        recall: share of the later turns of a context that recall earlier strings.
        learning_rate: peak; reached after `warmup_steps`, then a cosine to `final_ratio` of it.
        beta1, beta2: of AdamW, which runs without weight decay.
        clip_norm: bound on the norm of the gradient.
    """

    seed: int
    steps: int
    stop: int
    batch_tokens: int
    max_strings: int
    max_turns: int
    max_context: int
    full: float
    min_length: int
    max_length: int
    first_length: int
    growth: float
    max_offset: int
    corruption: float
    recall: float
    learning_rate: float
    warmup_steps: int
    final_ratio: float
    beta1: float
    beta2: float
    clip_norm: float

    @property
    def last_step(self) -> int:
        """Steps of the whole run."""
        return self.stop or self.steps


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes:
        name: of the file, without its ending.
        summary: one line for people.
        tokenizer: key of `model.tokenizer.TOKENIZERS`.
        strings: key of that tokenizer's part of `model.tasks.strings.SOURCES`.
        match_places: whether normalized layers start out looking for the source of the next output
            token (`Decoder.match_places`), or have to find out.
        model: shape of the decoder.
        schedule: how it is trained.
    """

    name: str
    summary: str
    tokenizer: str
    strings: str
    match_places: bool
    model: ModelConfig
    schedule: Schedule


def preset_names() -> list[str]:
    """Names of the presets that come with the project."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def load_preset(name_or_path: str) -> Preset:
    """Load a preset by its name, or from a TOML file of one's own.

    Raises:
        PresetError: no such preset, malformed TOML, or unknown, missing or wrong keys.
    """
    if name_or_path.endswith(".toml"):
        file = Path(name_or_path)
    elif name_or_path in preset_names():
        file = _FOLDER / f"{name_or_path}.toml"
    else:
        raise PresetError(
            f"no preset {name_or_path!r}; there are {', '.join(preset_names())}, "
            "or give a file that ends in .toml"
        )
    try:
        return _build(file.stem, tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise PresetError(f"{file}: {error.strerror}") from None
    except (ConfigError, PresetError, RecursionError, ValueError) as error:
        raise PresetError(f"{file}: {error}") from None


def _build(name: str, values: dict[str, Any]) -> Preset:
    _check_keys(values, {field.name for field in fields(Preset)} - {"name"}, "")
    for key in ("summary", "tokenizer", "strings"):
        if not isinstance(values[key], str):
            raise PresetError(f"{key} must be a string, got {values[key]!r}")
    if not isinstance(values["match_places"], bool):
        raise PresetError(f"match_places must be true or false, got {values['match_places']!r}")
    for key in ("model", "schedule"):
        if not isinstance(values[key], dict):
            raise PresetError(f"{key} must be a table, got {values[key]!r}")
    if values["tokenizer"] not in TOKENIZERS:
        raise PresetError(
            f"tokenizer must be one of {sorted(TOKENIZERS)}, got {values['tokenizer']!r}"
        )
    sources = SOURCES[values["tokenizer"]]
    if values["strings"] not in sources:
        raise PresetError(
            f"strings must be one of {sorted(sources)} for the {values['tokenizer']!r} tokenizer, "
            f"got {values['strings']!r}"
        )
    if decided := sorted(set(_SPECIALS) & set(values["model"])):
        raise PresetError(f"model.{decided[0]} is for the tokenizer to decide")
    tokenizer = TOKENIZERS[values["tokenizer"]]
    specials = {key: getattr(tokenizer, key) for key in _SPECIALS}
    try:
        model = ModelConfig.from_dict(specials | values["model"])
    except ConfigError as error:
        raise PresetError(f"model: {error}") from None
    schedule = _schedule(values["schedule"])
    _check_room(model, schedule)
    if values["match_places"] and (model.positions != "coupled" or model.shift_width < 2):
        raise PresetError(
            "match_places needs coupled positions and model.shift_width of at least 2"
        )
    return Preset(name, **(values | {"model": model, "schedule": schedule}))


def _schedule(values: dict[str, Any]) -> Schedule:
    _check_keys(values, {field.name for field in fields(Schedule)}, "schedule.")
    for field in fields(Schedule):
        value = values[field.name]
        whole = field.type is int
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "a whole number" if whole else "a number"
            raise PresetError(f"schedule.{field.name} must be {kind}, got {value!r}")
        least = 1 if field.name in _AT_LEAST_ONE else 0
        if not least <= value < math.inf:
            raise PresetError(f"schedule.{field.name} must be at least {least}, got {value}")
    if not values["min_length"] <= values["first_length"] <= values["max_length"]:
        raise PresetError("schedule: need min_length <= first_length <= max_length")
    if values["stop"] > values["steps"]:
        raise PresetError("schedule: need stop <= steps")
    for key in ("growth", "final_ratio", "corruption", "recall", "full"):
        most = 0.9 if key == "growth" else 1.0
        if values[key] > most:
            raise PresetError(f"schedule.{key} must be at most {most}, got {values[key]}")
    for key in ("beta1", "beta2"):
        if values[key] >= 1:
            raise PresetError(f"schedule.{key} must be below 1, got {values[key]}")
    for key in ("learning_rate", "clip_norm"):
        if values[key] == 0:
            raise PresetError(f"schedule.{key} must be above 0")
    return Schedule(**values)


def _check_room(model: ModelConfig, schedule: Schedule) -> None:
    """A model must hold the longest string with its copy, at the furthest place if it has a table.

    Codes need no table, so only "learned" positions bound the offset. Recall takes a model that
    knows such turns, and contexts of several.
    """
    if schedule.recall and not (model.recall and schedule.max_turns > 1):
        raise PresetError(
            "schedule.recall needs model.recall = true and schedule.max_turns of at least 2"
        )
    longest = 2 * schedule.max_length + 2
    if schedule.max_turns > 1:
        longest = max(longest, schedule.max_context)
    if longest > model.max_seq_len:
        raise PresetError(
            f"model.max_seq_len must be at least {longest} for strings of schedule.max_length = "
            f"{schedule.max_length} and contexts of schedule.max_context = "
            f"{schedule.max_context}, got {model.max_seq_len}"
        )
    if model.positions == "learned" and longest + schedule.max_offset - 1 > model.max_seq_len:
        raise PresetError(
            f"schedule.max_offset must be at most {model.max_seq_len - longest + 1} for learned "
            f"positions, got {schedule.max_offset}"
        )


def _check_keys(values: dict[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(values) - known):
        raise PresetError(f"unknown key {where}{unknown[0]}")
    if missing := sorted(known - set(values)):
        raise PresetError(f"missing key {where}{missing[0]}")
