"""Arguments that several `causalrn` commands share, and the functions that act on them.

What needs torch is imported where it is used; see `model/cli.py`.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from causalrn.model.device import Device, DeviceError, backend_for
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.shipped import checkpoint_folder, shipped_names
from causalrn.model.terminal import fail, say

if TYPE_CHECKING:
    from causalrn.model.checkpoint import Checkpoint

CHECKPOINT_HELP = "A checkpoint folder, or the name of one that comes with the project."


def complete_checkpoint(incomplete: str) -> list[str]:
    """Names of shipped checkpoints that begin with what was typed, for the Tab key."""
    return [name for name in shipped_names() if name.startswith(incomplete)]


CheckpointName = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help=CHECKPOINT_HELP, autocompletion=complete_checkpoint),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Number of threads to compute with; by default, one for each core.",
        min=1,
        metavar="N",
    ),
]


PoolDtypeOption = Annotated[
    PoolDtype,
    typer.Option(
        "--pool-dtype", help="What memories are kept in; bfloat16 takes about half the bytes."
    ),
]


DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device",
        help="What to compute on: cuda is an NVIDIA GPU, auto such a one if there is one, else the "
        "CPU.",
    ),
]


def load(name: str, pool_dtype: PoolDtype = "float32", device: Device = "cpu") -> "Checkpoint":
    """Load a checkpoint by its folder or name; on failure, end the command with the reason."""
    from causalrn.model.checkpoint import CheckpointError, load_checkpoint

    try:
        return load_checkpoint(
            checkpoint_folder(name), backend=_backend(device), pool_dtype=pool_dtype
        )
    except CheckpointError as error:
        fail(error)


def start_backend(threads: int | None, device: Device = "cpu") -> None:
    """Get ready to compute, and tell people when that takes long.

    Args:
        threads: how many to compute with; None for one for each core. The command ends if there
            are fewer.
        device: what to compute on. The command ends if it is not there.
    """
    from causalrn.model.backends.registry import BACKENDS

    backend = BACKENDS.find(_backend(device))()
    backend.start(say)
    if threads is None:
        return
    import torch

    try:
        backend.set_threads(threads)
    except ValueError as error:
        fail(f"--threads: {error}")
    torch.set_num_threads(threads)


def _backend(device: Device) -> str:
    try:
        return backend_for(device)
    except DeviceError as error:
        fail(f"--device: {error}")
