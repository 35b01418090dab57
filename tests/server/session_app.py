"""For `uvicorn tests.server.session_app:app`: a fake model with sessions, and short leases.

`SESSION_STORE` says where the sessions are kept, `STEP_SECONDS` how long each new token takes,
`STALL_SECONDS` how long a step may take, `API_KEYS` which keys there are.
"""

import os
import time

from causalrn.model.state import RaggedBatch
from causalrn.server import application
from causalrn.server.sessions import upkeep
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel

for _module in (application, upkeep):
    setattr(_module, "LEASE_SECONDS", 3.0)  # noqa: B010
upkeep._SWEEP_SECONDS = 0.1


def _wait(batch: RaggedBatch) -> None:
    """Take the time for every token that is generated."""
    if len(batch.token_ids) == len(batch.slots):
        # In pieces: a sleep is over at once in a process that stood still meanwhile.
        for _ in range(int(100 * float(os.environ.get("STEP_SECONDS", "0")))):
            time.sleep(0.01)


_model = FakeModel(recall=True, min_match=1.0)
_model.decoder.before_extend = _wait

app = application.create_app(
    make_settings(
        session_store=os.environ["SESSION_STORE"],
        drain_seconds=0.2,
        stall_seconds=os.environ.get("STALL_SECONDS", "10"),
        api_keys=os.environ.get("API_KEYS"),
    ),
    load=lambda _: _model,
)
