"""For `uvicorn tests.server.slow_app:app`: a fake model that takes its time for every step."""

import os
import time

from server.app import create_app
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel, VerboseTokenizer

_model = FakeModel(VerboseTokenizer())
_model.decoder.before_extend = lambda _: time.sleep(float(os.environ["STEP_SECONDS"]))

app = create_app(
    make_settings(
        drain_seconds=float(os.environ["DRAIN_SECONDS"]), pool_bytes=100_000, max_batch_tokens=1000
    ),
    load=lambda _: _model,
)
