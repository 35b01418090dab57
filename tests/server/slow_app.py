"""For `uvicorn tests.server.slow_app:app`: a fake model that takes its time for every step.

It takes `STEP_SECONDS`, and makes no step as long as there is a file `HOLD_FILE`.
"""

import os
import time
from pathlib import Path

from causalrn.model.state import RaggedBatch
from causalrn.server.application import create_app
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel, VerboseTokenizer

_hold = Path(os.environ.get("HOLD_FILE", "/nowhere"))


def _wait(_: RaggedBatch) -> None:
    time.sleep(float(os.environ["STEP_SECONDS"]))
    while _hold.exists():
        time.sleep(0.01)


_model = FakeModel(VerboseTokenizer())
_model.decoder.before_extend = _wait

app = create_app(
    make_settings(
        drain_seconds=float(os.environ["DRAIN_SECONDS"]), pool_bytes=100_000, max_batch_tokens=1000
    ),
    load=lambda _: _model,
)
