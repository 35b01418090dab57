"""Programs that speak HTTP in ways of their own: curl, Java's client, ab and a browser."""

import json
import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.programs import program
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve

HERE = Path(__file__).parent
JSON = "content-type: application/json"


@pytest.fixture(scope="module")
def plain() -> Iterator[LiveServer]:
    """A server as uvicorn starts it, with all of its patience."""
    with serve(FakeModel(), make_settings()) as live:
        yield live


def run(*command: str) -> str:
    """What a program prints that must succeed."""
    command = (program(command[0]), *command[1:])
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_curl_that_offers_http_2_is_read(plain: LiveServer) -> None:
    if "HTTP2" not in run("curl", "--version"):
        pytest.skip("this curl knows no HTTP/2")
    ask = ("curl", "-sS", "--http2", "-H", JSON)
    answer = json.loads(run(*ask, f"{plain.url}/generate", "-d", '{"prompt": "hello"}'))
    assert answer["text"] == "hello"
    stream = run(*ask, f"{plain.url}/generate", "-d", '{"prompt": "hello", "stream": true}')
    assert stream.endswith("data: [DONE]\n\n")
    session = json.loads(run(*ask, f"{plain.url}/sessions", "-d", '{"ttl_seconds": 60}'))
    assert session["ttl_seconds"] == 60


def test_java_that_offers_http_2_is_read_each_time(plain: LiveServer) -> None:
    ask = ("java", str(HERE / "Ask.java"))
    answers = run(*ask, f"{plain.url}/generate", '{"prompt": "hello"}', "5").splitlines()
    assert [json.loads(answer.removeprefix("200 "))["text"] for answer in answers] == ["hello"] * 5
    answers = run(*ask, f"{plain.url}/sessions", '{"ttl_seconds": 60}', "2").splitlines()
    made = [json.loads(answer.removeprefix("201 ")) for answer in answers]
    assert [session["ttl_seconds"] for session in made] == [60, 60]


@pytest.mark.parametrize("options", [(), ("-k",)], ids=["close", "keep-alive"])
@pytest.mark.parametrize("stream", [False, True])
def test_ab_which_speaks_http_1_0_gets_whole_answers(
    plain: LiveServer, tmp_path: Path, options: tuple[str, ...], stream: bool
) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"prompt": "hello", "stream": stream}))
    ask = ("ab", "-v", "4", "-n", "20", "-c", "4", *options, "-p", str(body))
    said = run(*ask, "-T", "application/json", f"{plain.url}/generate")
    assert said.count("POST /generate HTTP/1.0") == 1
    assert said.count("LOG: Response code = 200\n") == 20
    assert "Complete requests:      20\n" in said
    assert "transfer-encoding" not in said.lower()


def test_curl_that_speaks_http_1_0_gets_a_stream_without_chunks(plain: LiveServer) -> None:
    body = '{"prompt": "hello", "stream": true}'
    ask = ("curl", "-sS", "--raw", "-i", "--http1.0", "-H", JSON)
    head, _, events = run(*ask, f"{plain.url}/generate", "-d", body).partition("\n\n")
    assert "transfer-encoding" not in head
    assert events.startswith("data: {")
    assert events.endswith("data: [DONE]\n\n")


@pytest.fixture
def browse(
    plain: LiveServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[[str, str], int]:
    """Has a browser open a page, and gives the status of the request that it makes in the end."""
    browser = program("chromium")
    caplog.set_level(logging.INFO, "causalrn.server.http.answers")

    def status(url: str, request: str) -> int:
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
        rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        with subprocess.Popen(
            [browser, *options, rules, profile, url], stderr=subprocess.DEVNULL
        ) as process:
            try:
                plain.wait_until(lambda: f"{request}: " in caplog.text, 60)
            finally:
                process.terminate()
        (found, *_) = re.findall(rf"{re.escape(request)}: (\d+) ", caplog.text)
        caplog.clear()
        return int(found)

    return status


def test_a_browser_changes_nothing_for_a_page_of_another_site(
    plain: LiveServer, browse: Callable[[str, str], int], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        f"<form action='{plain.url}/sessions' method='POST'></form>"
        "<script>document.forms[0].submit()</script>"
    )
    assert browse(page.as_uri(), "POST /sessions") == 403


@pytest.mark.parametrize(("host", "status"), [("evil.example", 421), ("localhost", 200)])
def test_a_browser_shows_nothing_under_a_name_that_was_led_here(
    plain: LiveServer, browse: Callable[[str, str], int], host: str, status: int
) -> None:
    assert browse(f"http://{host}:{plain.port}/info", "GET /info") == status
