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

import lazy_loader

# Imported when first used: the server and the command are in this package too, and need none of it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
