"""Checkpoints: a folder with `model.safetensors`, `config.json` and a README card. No pickle."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from causalrn.model.backends.registry import DEFAULT
from causalrn.model.blueprint import Blueprint, make_blueprint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.registry import UnknownNameError
from causalrn.model.tasks.base import Task
from causalrn.model.tokenizers.base import Tokenizer
from causalrn.model.tokenizers.registry import describe_tokenizer, make_tokenizer
from causalrn.model.validation import STRICT, InvalidValueError, validate

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_TASK_IS_MISSING = (
    "missing key task, which says what the model was trained on; for a model that copies, add "
    '"task": {"name": "copying", "params": {}}'
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded. The message names the file and the field or tensor."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained decoder, with everything that is needed to serve it.

    Attributes:
        name: the folder's name.
        path: the folder.
        config: shape of the decoder.
        tokenizer: turns text into content ids and back.
        task: what it was trained on and can be asked for.
        decoder: float32, in evaluation mode, without gradients.
        fingerprint: SHA-256 of the weights file, hexadecimal.
    """

    name: str
    path: Path
    config: ModelConfig
    tokenizer: Tokenizer
    task: Task
    decoder: Decoder
    fingerprint: str


class _NoInitialWeights(TorchFunctionMode):
    """Leaves tensors as they are where `torch.nn.init` would draw random numbers for them.

    For tensors that have shapes only, torch would import its compiler first, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class _TaskEntry(BaseModel):
    model_config = STRICT

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class _ConfigFile(BaseModel):
    model_config = STRICT

    tokenizer: Any
    task: _TaskEntry
    model: dict[str, Any]


def save_checkpoint(path: Path, decoder: Decoder, tokenizer: Tokenizer, task: Task) -> None:
    """Write weights and configuration into a folder, which is created if necessary.

    Each file is replaced as a whole, so that a crash never leaves half of one.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in decoder.state_dict().items()}
    _replace(path / _WEIGHTS, lambda file: save_file(tensors, file, {"format": "pt"}))
    tokenizer.save(path)
    values = {
        "tokenizer": describe_tokenizer(tokenizer),
        "task": {"name": task.name, "params": task.params.model_dump(mode="json")},
        "model": decoder.config.to_dict(),
    }
    text = json.dumps(values, indent=2) + "\n"
    _replace(path / _CONFIG, lambda file: file.write_text(text, encoding="utf-8"))


def load_checkpoint(
    path: str | Path, backend: str = DEFAULT, pool_dtype: PoolDtype = "float32"
) -> Checkpoint:
    """Load and validate a checkpoint folder.

    Args:
        path: the folder.
        backend: name of the backend that is to serve it; see `causalrn.model.backends.registry`.
        pool_dtype: what it is to keep memories in; see `causalrn.model.decoder.Decoder`.

    Raises:
        UnknownNameError: there is no such backend.
        CheckpointError: it is not a checkpoint; a file is missing, truncated or malformed; a key
            is unknown, missing or wrong; a tensor is missing, not expected, of the wrong shape or
            dtype, or has values that are not finite.
    """
    path = Path(path).absolute()
    try:
        _require_files(path)
        blueprint = _read_config(path / _CONFIG)
        data = (path / _WEIGHTS).read_bytes()
    except OSError as error:
        raise CheckpointError(str(error)) from None
    decoder = _shapes(blueprint.config, backend, pool_dtype, path / _CONFIG)
    tensors = _read_weights(path / _WEIGHTS, data, decoder.state_dict())
    # Copies, which begin where vectors do. `to_empty` would import torch's compiler, as below.
    decoder.load_state_dict({name: one.clone() for name, one in tensors.items()}, assign=True)
    decoder.requires_grad_(False).eval().to(decoder.backend.device)
    fingerprint = hashlib.sha256(data).hexdigest()
    return Checkpoint(
        path.name,
        path,
        blueprint.config,
        blueprint.tokenizer,
        blueprint.task,
        decoder,
        fingerprint,
    )


def _require_files(path: Path) -> None:
    if not path.is_dir():
        reason = "is a file" if path.exists() else "no such folder"
        raise CheckpointError(f"{path}: {reason}; a checkpoint is a folder")
    for name in (_CONFIG, _WEIGHTS):
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: not a checkpoint, {name} is missing")


def _shapes(config: ModelConfig, backend: str, pool_dtype: PoolDtype, file: Path) -> Decoder:
    """A decoder whose tensors have shapes only: takes no memory, draws no random numbers."""
    try:
        with torch.device("meta"), _NoInitialWeights():
            return Decoder(config, backend, pool_dtype)
    except UnknownNameError:
        raise
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{file}: model: no such decoder can be made: {reason}") from None


def _read_weights(file: Path, data: bytes, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parse a weights file, which must hold the expected tensors by name, shape and dtype."""
    try:
        tensors: dict[str, Tensor] = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{file}: truncated or malformed: {error}") from None
    if missing := sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(f"{file}: tensor {missing[0]!r} is missing")
    if extra := sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(f"{file}: unexpected tensor {extra[0]!r}")
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape:
            raise CheckpointError(
                f"{file}: tensor {name!r} has shape {list(tensor.shape)}, "
                f"{_CONFIG} asks for {list(wanted.shape)}"
            )
        if tensor.dtype != wanted.dtype:
            raise CheckpointError(
                f"{file}: tensor {name!r} is {tensor.dtype}, expected {wanted.dtype}"
            )
        if not tensor.isfinite().all():
            raise CheckpointError(f"{file}: tensor {name!r} holds values that are not finite")
    return tensors


def _read_config(file: Path) -> Blueprint:
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: must be a JSON object")
    if "model" in values and "task" not in values:
        raise CheckpointError(f"{file}: {_TASK_IS_MISSING}")
    try:
        read = validate(_ConfigFile, values)
        tokenizer = make_tokenizer(read.tokenizer, file.parent)
        name, params = read.task.name, read.task.params
        return make_blueprint(tokenizer, read.model, name, params, ("task", "params"))
    except InvalidValueError as error:
        raise CheckpointError(f"{file}: {error}") from None


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    """Write to a file beside it and rename that, so that a crash never leaves half a file."""
    partial = file.with_name(file.name + ".partial")
    write(partial)
    partial.replace(file)
