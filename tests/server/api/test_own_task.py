"""A model of a task that the server has never heard of: its modes, its framing, its lengths."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.tasks.registry import TASKS
from causalrn.model.training.preset import load_preset
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer
from tests.model.counting import Counting
from tests.model.tiny import TINY
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.toys import registered


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of a checkpoint that a run of ten steps left when it was stopped."""
    folder = tmp_path_factory.mktemp("own")
    text = TINY.read_text()
    preset = folder / "counting.toml"
    preset.write_text(text[: text.index("[task]")] + '[task]\nname = "counting"\n')
    with registered(counting=(TASKS, Counting)):
        trainer = Trainer(load_preset(str(preset)), Run(folder / "run"))
        trainer.train(lambda _: None, lambda: trainer.step == 10)
        settings = make_settings(checkpoint=str(folder / "run"), pool_bytes=2**22, page_size=64)
        with serve(FakeModel(), settings, load=load_checkpoint) as live:
            yield live


def post(live: LiveServer, path: str, **body: Any) -> httpx.Response:
    with live.client() as client:
        return client.post(path, json=body)


def test_text_is_framed_in_the_first_mode(live: LiveServer) -> None:
    assert post(live, "/tokenize", prompt="abc").json()["tokens"] == [0, 3, 4, 5]
    assert post(live, "/tokenize", prompt="abc", mode="count").json()["tokens"] == [0, 3, 4, 5]
    assert post(live, "/generate", prompt="abc").json()["usage"]["prompt_tokens"] == 4


def test_an_answer_is_as_long_as_the_task_says(live: LiveServer) -> None:
    options = {"prompt": "abc", "ignore_eos": True}
    assert len(post(live, "/generate", **options).json()["token_ids"]) == 5
    assert len(post(live, "/generate", mode="raw", **options).json()["token_ids"]) == 16
    (choice,) = post(live, "/v1/completions", **options).json()["choices"]
    assert len(choice["token_ids"]) == 5


def test_modes_of_other_tasks_are_refused(live: LiveServer) -> None:
    for path, status in (("/generate", 422), ("/tokenize", 422), ("/v1/completions", 400)):
        response = post(live, path, prompt="abc", mode="copy")
        assert response.status_code == status
        error = response.json()["error"]
        assert error["param"] == "mode"
        assert error["message"].endswith("'copy'; its modes are 'count' and 'raw'")


def test_a_session_goes_on_in_the_modes_of_the_task(live: LiveServer) -> None:
    id = post(live, "/sessions").json()["id"]
    first = post(live, "/generate", session_id=id, prompt="ab", max_tokens=2).json()
    assert first["usage"]["prompt_tokens"] == 3
    second = post(live, "/generate", session_id=id, prompt="c", mode="count", max_tokens=1).json()
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
