import os
from collections.abc import Iterator

import pytest

from tests.end_to_end.served import served


@pytest.fixture(scope="session")
def copier_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the default model in a process of its own, and of `copy-bytes` beside it."""
    store = tmp_path_factory.mktemp("copier") / "sessions.db"
    models = os.pathsep.join(("exact-bytes", "copy-bytes"))
    with served(CAUSALRN_SESSION_STORE=str(store), CAUSALRN_CHECKPOINT=models) as url:
        yield url
