"""Training in process: presets, on texts of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from causalrn.loaded import Model, load, start
from causalrn.model.data.documents import Format
from causalrn.model.data.options import HELD_OUT
from causalrn.model.device import Device, chosen_device
from causalrn.model.training.request import Request
from causalrn.model.training.watching import Watched


def train(
    preset: str,
    *,
    data: str | Path | Sequence[str | Path] = (),
    field: str = "text",
    separator: str | None = None,
    held_out: float = HELD_OUT,
    tokenizer: str | None = None,
    alphabet: str | None = None,
    minutes: float | None = None,
    settings: Sequence[str] = (),
    output: str | Path | None = None,
    start_from: Model | None = None,
    restart: bool = False,
    device: Device = "auto",
    threads: int | None = None,
) -> Model:
    """Train a preset, or go on with its interrupted run, as `causalrn train` does.

    Progress is shown on standard error. `KeyboardInterrupt` leaves what was saved last, about a
    minute ago at most; the same call then goes on from there.

    Args:
        preset: its name, such as "lm" or "copy", or the path of a TOML file.
        data: files and folders to train on.
        field, separator: where documents are in them; see `causalrn.model.data.documents.Format`.
        held_out: share of the documents that is not trained on.
        tokenizer, alphabet: see `causalrn train --help`.
        minutes: ends the training after so much time; None for what the preset says.
        settings: values of the preset to replace, such as "optimizer.steps=100".
        output: folder for the run; None for runs/PRESET.
        start_from: a model to begin with, instead of random weights.
        restart: whether to delete the run in that folder, and begin again.
        device: what to compute on.
        threads: how many to compute with, in the whole process.

    Returns:
        The trained model, from its checkpoint.

    Raises:
        PresetError, DataError, RunError: something is wrong with preset, data or folder.
        DivergedError: the loss is no longer finite.
    """
    paths: Sequence[Any] = [data] if isinstance(data, str | Path) else data
    start(device, threads)
    changes = [*settings, *([] if minutes is None else [f"optimizer.minutes={float(minutes)}"])]
    job = Request(
        preset, changes, [Path(path) for path in paths], Format(field, separator), held_out,
        tokenizer, alphabet, None if output is None else Path(output), restart,
        None if start_from is None else start_from.checkpoint, device=chosen_device(device),
    ).trainer()  # fmt: skip
    with Watched(job) as watched:
        job.train(watched.report, lambda: False)
    return load(job.run.folder, device=device)
