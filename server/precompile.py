"""`python -m causalrn.server.precompile`: compile the kernels now, for all starts of a server.

Numba keeps them in its cache, for this kind of CPU and this version of the sources.
"""

import sys

from causalrn.model.backends.registry import BACKENDS
from causalrn.model.checkpoint import CheckpointError, load_checkpoint
from causalrn.model.device import DeviceError, backend_for
from causalrn.server.engine.core import EngineCore
from causalrn.server.environment import settings_of_environment
from causalrn.server.errors import StartupError
from causalrn.server.settings import Settings

_BATCH_TOKENS = 4096  # enough for every kernel to take its parallel form, on any machine


def precompile(settings: Settings) -> None:
    """Compile what the engines of a server with these settings run.

    Raises:
        DeviceError: there is no such device.
        CheckpointError: one of the checkpoints cannot be loaded.
        StartupError: the memory pool is too small to hold anything.
    """
    backend = backend_for(settings.device)
    BACKENDS.find(backend)().start(lambda doing: sys.stderr.write(f"{doing}\n"))
    many = settings.model_copy(update={"max_batch_tokens": _BATCH_TOKENS})
    for path in settings.checkpoint:
        model = load_checkpoint(path, backend, pool_dtype=settings.pool_dtype)
        EngineCore(model, many).warm_up(model.config.bos_id)


if __name__ == "__main__":
    try:
        precompile(settings_of_environment())
    except (CheckpointError, DeviceError, StartupError) as error:
        sys.exit(f"error: {error}")
