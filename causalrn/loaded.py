"""Checkpoints in memory, which answer."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from causalrn.answer import Answer, Score
from causalrn.model.backends.registry import BACKENDS
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.device import Device, backend_for, chosen_device
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.shipped import DEFAULT, checkpoint_folder, shipped_names
from causalrn.model.terminal import say
from causalrn.server.engine.modes import modes
from causalrn.session import Session


def names() -> list[str]:
    """The names of the checkpoints that come with the project."""
    return shipped_names()


def load(
    name: str | Path = DEFAULT,
    *,
    device: Device = "auto",
    pool_dtype: PoolDtype = "float32",
    threads: int | None = None,
) -> "Model":
    """Load a checkpoint.

    To be called on the main thread first. Compiling kernels, once, takes up to a minute, and is
    told on standard error.

    Args:
        name: of a checkpoint that comes with the project, or a folder.
        device: what to compute on.
        pool_dtype: what memories are kept in.
        threads: how many to compute with, in the whole process; None leaves them as they are.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be loaded.
        DeviceError: there is no such device.
        ValueError: there are fewer threads.
    """
    backend = start(device, threads)
    return Model(load_checkpoint(checkpoint_folder(name), backend, pool_dtype))


def start(device: Device, threads: int | None) -> str:
    """Get a backend ready, once; gives its name."""
    backend = backend_for(chosen_device(device))
    _start(backend)
    if threads is not None:
        BACKENDS.find(backend)().set_threads(threads)
        torch.set_num_threads(threads)
    return backend


@cache
def _start(backend: str) -> None:
    BACKENDS.find(backend)().start(say)


class Model:
    """A checkpoint in memory.

    Attributes:
        checkpoint: weights, shape, tokenizer and task.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.checkpoint.name

    @property
    def modes(self) -> tuple[str, ...]:
        """What it can be asked to do, the default first."""
        return modes(self.checkpoint)

    def session(self) -> Session:
        """A new session, which has read nothing yet."""
        return Session(self.checkpoint)

    def restore(self, snapshot: bytes) -> Session:
        """A session as it was when the snapshot was made, here or by a server.

        Raises:
            InvalidSnapshotError: it is no snapshot of a session with these weights.
        """
        return Session.restore(self.checkpoint, snapshot)

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Answer:
        """Answer a prompt by itself; see `Session.generate`."""
        return self.session().generate(prompt, **options)

    def stream(self, prompt: str | Sequence[int], **options: Any) -> Iterator[str]:
        """Answer a prompt by itself, piece by piece; see `Session.stream`."""
        return self.session().stream(prompt, **options)

    def score(self, text: str) -> Score:
        """How likely a text is, behind BOS.

        Raises:
            TokenizerError: a character has no token.
            ValueError: there is no text, or more than the model holds.
        """
        checkpoint = self.checkpoint
        ids = checkpoint.tokenizer.encode(text)
        most = checkpoint.config.max_seq_len
        if not 0 < len(ids) <= most:
            raise ValueError(f"a text must have 1 to {most} tokens, got {len(ids)}")
        read = torch.tensor([[checkpoint.config.bos_id, *ids[:-1]]])
        with torch.no_grad():
            logprobs = checkpoint.decoder(read)[0].double().log_softmax(-1).cpu()
        own = logprobs[torch.arange(len(ids)), torch.tensor(ids)].numpy()
        return Score(ids, own, float(-own.sum()) / math.log(2) / len(text.encode()))

    def __repr__(self) -> str:
        return f"<causalrn.Model {self.name}: {', '.join(self.modes)}>"
