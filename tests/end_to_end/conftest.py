import os
from collections.abc import Iterator

import pytest

from tests.end_to_end.served import ROOT, served
from tests.server.admin_client import KEYS


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server with nothing configured."""
    with served() as url:
        yield url


@pytest.fixture(scope="session")
def two_models_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of two models, whose administrator has a key; see `admin_client`."""
    store = tmp_path_factory.mktemp("two-models") / "sessions.db"
    with served(
        CAUSALRN_CHECKPOINT=os.pathsep.join(
            str(ROOT / "checkpoints" / name) for name in ("copy-bytes", "copy-az")
        ),
        CAUSALRN_API_KEYS=KEYS,
        CAUSALRN_SESSION_STORE=str(store),
    ) as url:
        yield url
