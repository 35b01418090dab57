"""One training of an experiment: everything that decides it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from causalrn.model.block import Block
from causalrn.model.reproduction.models import find_model
from causalrn.model.state import sequence_bytes
from causalrn.model.training.preset import Preset, load_preset


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        model: its name in `causalrn.model.reproduction.models`.
        length: L, of the strings that are copied; of another task, see `FRAMES`.
        learning_rate: after the warm-up.
        batch: sequences in a batch.
        steps: after which it ends if it has not learned to copy before.
        layers, width: blocks, and channels of the residual stream and of what mixes tokens.
        seed: of weights and data.
        task: what is learned, by its name in `causalrn.model.tasks.registry`.
        shortest: where strings have any length from this one to L; 0 if L is the only one.
        beyond: lengths of other strings, which are copied once the training is over.
    """

    model: str
    length: int
    learning_rate: float
    batch: int
    steps: int
    layers: int
    width: int
    seed: int
    task: str = "copying"
    shortest: int = 0
    beyond: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Tells it from all others, and may be the name of a folder."""
        task = "" if self.task == "copying" else f"{self.task}-"
        length = f"{self.shortest}to{self.length}" if self.shortest else f"{self.length}"
        return (
            f"{task}{self.model}-{self.layers}x{self.width}-L{length}-b{self.batch}"
            f"-lr{self.learning_rate:g}-s{self.seed}-n{self.steps}"
        )

    @property
    def cost(self) -> float:
        """About how long a step takes, to compare jobs with each other."""
        pairs = self.length * self.width if "linear" not in self.model else 0
        return self.batch * self.length * self.layers * self.width * (self.width + pairs / 16)

    def memory(self) -> int:
        """Bytes that the model has of a sequence at its end."""
        config = self.preset().blueprint.config
        specs = [Block.spec(block, config.d_model) for block in config.blocks]
        return sequence_bytes(specs, FRAMES[self.task](self.length, self.batch).max_seq_len - 1)

    def preset(self) -> Preset:
        """Everything that decides the training: the preset `paper` with other values.

        Raises:
            PresetError: the model cannot have this width, as its heads do not divide it.
        """
        model = find_model(self.model)
        frame = FRAMES[self.task](self.length, self.batch)
        if self.shortest:
            frame.params["min_length"] = self.shortest
        longest = max((frame.max_seq_len, *(2 * length + 3 for length in self.beyond)))
        values = {
            "seed": self.seed,
            "tokenizer": frame.tokenizer,
            "model.d_model": self.width,
            "model.max_seq_len": longest,
            "model.positions": model.positions,
            "model.blocks": [model.block(number, self.width) for number in range(self.layers)],
            "optimizer.steps": self.steps,
            "optimizer.learning_rate": self.learning_rate,
            "task": {"name": self.task, **frame.params},
        }
        return load_preset("paper", [f"{key}={_toml(value)}" for key, value in values.items()])


@dataclass(frozen=True)
class _Frame:
    """How a task is put.

    Attributes:
        params: of the task.
        max_seq_len: tokens of a sequence, and room for one more.
        tokenizer: whose symbols there are.
    """

    params: dict[str, Any]
    max_seq_len: int
    tokenizer: str = "letters"


def _copying(length: int, batch: int) -> _Frame:
    context = 2 * length + 2
    params: dict[str, Any] = {
        "strings": "letters", "min_length": length, "max_length": length, "max_offset": 1,
        "batch_tokens": batch * context, "max_strings": batch,
    }  # fmt: skip
    return _Frame(params, context + 1)


def _selective(length: int, batch: int) -> _Frame:
    among = 6 * length
    params = {"n_copied": length, "length": among, "n_sequences": batch}
    return _Frame(params, among + length + 2)


FRAMES: Mapping[str, Callable[[int, int], _Frame]] = {
    # Symbols are bytes, as there are too few letters for keys.
    "associative": lambda length, batch: _Frame(
        {"n_pairs": length, "n_sequences": batch}, 4 * length + 1, "bytes"
    ),
    "copying": _copying,
    "induction": lambda length, batch: _Frame({"length": length, "n_sequences": batch}, length + 2),
    "languages": lambda length, batch: _Frame({"length": length, "n_sequences": batch}, length + 1),
    "selective": _selective,
}
"""How each task is put for an L: the number of pairs of associative recall, of letters of a string,
of tokens of a sequence, or of symbols that are copied among six times as many tokens."""


def _toml(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
