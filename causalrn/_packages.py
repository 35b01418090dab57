"""Makes sure that `model` and `server` are this project's packages, and not modules of a user."""

import sys
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def check() -> None:
    """Return if they are.

    Raises:
        ImportError: one of them is something else; the message names its file.
    """
    for name in ("model", "server"):
        loaded = sys.modules.get(name)
        spec = find_spec(name) if loaded is None else None
        file = spec.origin if spec is not None else getattr(loaded, "__file__", None)
        if file is None or Path(file).resolve().parent != _ROOT / name:
            raise ImportError(
                f"causalrn has a package called {name!r}, and {file or name} is found in its "
                "place; rename it, or import causalrn from another folder"
            )
