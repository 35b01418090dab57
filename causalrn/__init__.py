"""CausalRN in process: load a checkpoint, ask it, keep sessions, train.

For example:

    import causalrn

    model = causalrn.load("exact-bytes")
    print(model.generate("copy this"))

    session = model.session()
    session.generate("a passage to remember")
    print(session.recall("a pass"))

    mine = causalrn.train("lm", data=["book.txt"], minutes=5)
    print(mine.generate("Once upon a time", max_tokens=100, temperature=0.8))

More is in `docs/in-process.md`.
"""

from causalrn._packages import check as _check

_check()

from causalrn.answer import Answer, Score  # noqa: E402 - what they import must be this project's
from causalrn.loaded import Model, load  # noqa: E402
from causalrn.session import Session  # noqa: E402
from causalrn.training import train  # noqa: E402
from model.shipped import shipped_names as names  # noqa: E402

__all__ = ["Answer", "Model", "Score", "Session", "load", "names", "train"]
