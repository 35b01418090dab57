"""An engine of one version that makes passes when `benchmarks.compare` asks for them.

It is run by path, with the version's tree first on the module path, and imports that version's
`benchmarks.engine`. It says which model it has; then it reads a number of streams per line, and
answers with the tokens a second of each pass, all as lines of JSON.
"""

import importlib
import json
import sys
from typing import Any

import numpy as np
import uvloop


async def answer(n_prompt: int, n_new: int, max_streams: int, guesses: int) -> None:
    """Run passes until standard input ends, with prompts and answers of so many tokens.

    Versions that guess nothing have no option for it.
    """
    options = {"speculate": True} if guesses else {}
    version: Any = importlib.import_module("benchmarks.engine")
    settings = version.Settings(max_running=max_streams)
    model = version.load_checkpoint(settings.checkpoint[0])
    engine = version.Engine(model, settings)
    engine.start()
    rng = np.random.default_rng(0)
    try:
        print(json.dumps(model.name), flush=True)
        for line in sys.stdin:
            passes = await version.run_passes(engine, rng, int(line), n_prompt, n_new, **options)
            rates = {name: one.get("tokens_per_second", 0.0) for name, one in passes.items()}
            print(json.dumps(rates), flush=True)
    finally:
        await engine.stop()


if __name__ == "__main__":
    uvloop.run(answer(*map(int, sys.argv[1:])))
