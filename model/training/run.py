"""The folder of a training run: the state to resume from, the log and the checkpoint."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from causalrn.model.output_file import check_writable

_STATE = "training-state.safetensors"
_LOG = "log.jsonl"
_CHECKPOINT = "model.safetensors", "config.json"
_WAYS_OUT = "choose another --output, or --restart to begin again"


class RunError(ValueError):
    """A run that cannot be resumed or begun. The message says what to do."""


class Run:
    """What a run keeps on disk. A crash during a save leaves the state that was saved before.

    Args:
        folder: made if it is not there.

    Raises:
        RunError: the folder cannot be made, or no file in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_writable(folder / _STATE)
        except OSError as error:
            raise RunError(f"{folder}: {error.strerror}; choose another --output") from None

    @property
    def exists(self) -> bool:
        """Whether there is a state to resume from."""
        return (self.folder / _STATE).is_file()

    def save(
        self, recipe: str, step: int, seconds: float, model: nn.Module, optimizer: torch.optim.AdamW
    ) -> None:
        """Save everything that the rest of the run depends on.

        Args:
            recipe: everything that decides the run, as text; only the same one can resume it.
            step: steps done.
            seconds: time trained so far.
            model: its parameters are saved.
            optimizer: its moments are saved, under the parameters' names.
        """
        tensors: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            tensors[f"model.{name}"] = parameter.detach()
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        metadata = {"recipe": recipe, "step": str(step), "seconds": repr(seconds)}
        partial = self.folder / (_STATE + ".partial")
        save_file(tensors, partial, metadata)
        partial.replace(self.folder / _STATE)

    def restore(
        self, recipe: str, model: nn.Module, optimizer: torch.optim.AdamW
    ) -> tuple[int, float]:
        """Load a saved state into model and optimizer, and drop log lines written after it.

        Args:
            recipe: of the run that is to be resumed; must be the one that was saved.
            model: its parameters are replaced.
            optimizer: its moments are replaced.

        Returns:
            Steps done and seconds trained.

        Raises:
            RunError: the recipe is another one, or the file is not a state of this model.
        """
        file = self.folder / _STATE
        try:
            with safe_open(file, framework="pt") as opened:
                metadata: dict[str, str] = opened.metadata() or {}
            if metadata["recipe"] != recipe:
                raise RunError(
                    f"{file} is of another preset, or of this one with other values or settings; "
                    f"{_WAYS_OUT}"
                )
            step, seconds = int(metadata["step"]), float(metadata["seconds"])
            _fill(load_file(file), model, optimizer if step else None)
        except RunError:
            raise
        except KeyError as error:
            raise RunError(f"{file}: {error} is missing; {_WAYS_OUT}") from None
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise RunError(f"{file}: truncated or malformed: {error}; {_WAYS_OUT}") from None
        kept = [line for line in self.log_lines() if line["step"] <= step]
        partial = self.folder / (_LOG + ".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        partial.replace(self.folder / _LOG)
        return step, seconds

    def begin(self) -> None:
        """Prepare the folder for a run that begins at step 0.

        Raises:
            RunError: it holds a checkpoint without the state of its training, and the run would
                replace that checkpoint.
        """
        for name in _CHECKPOINT:
            if (self.folder / name).exists():
                raise RunError(f"{self.folder} holds a checkpoint ({name}); {_WAYS_OUT}")
        (self.folder / _LOG).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete a former run in this folder: its state, its log and its checkpoint."""
        for name in (_STATE, _LOG, *_CHECKPOINT):
            (self.folder / name).unlink(missing_ok=True)

    def log(self, line: dict[str, Any]) -> None:
        """Append one JSON line to the log."""
        with (self.folder / _LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of the log, without a last one that a crash cut off."""
        file = self.folder / _LOG
        if not file.is_file():
            return []
        lines = []
        for text in file.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines


def _fill(
    tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.AdamW | None
) -> None:
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(tensors[f"model.{name}"])
        if optimizer is not None and parameter.requires_grad:
            optimizer.state[parameter] = {
                key: tensors[f"optimizer.{key}.{name}"].to(parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
