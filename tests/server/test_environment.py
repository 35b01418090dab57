import pytest

from causalrn.server.application import create_app
from causalrn.server.environment import check_environment, settings_of_environment
from causalrn.server.errors import StartupError
from tests.server.failed_start import failed_start
from tests.server.fake_model import FakeModel


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CAUSALRN_APIKEYS", "did you mean CAUSALRN_API_KEYS?"),
        ("causalrn_pool_byte", "did you mean CAUSALRN_POOL_BYTES?"),
        ("CAUSALRN_MAX_TOKEN", "did you mean CAUSALRN_MAX_TOKENS?"),
        ("CAUSALRN_", "the README lists them all"),
        ("CAUSALRN_QQQ", "the README lists them all"),
    ],
)
def test_a_variable_that_is_none_is_refused_with_the_nearest_that_is(name: str, hint: str) -> None:
    with pytest.raises(StartupError) as refused:
        check_environment(["PATH", name])
    assert str(refused.value) == f"{name} is not a setting; {hint}"


def test_settings_and_what_belongs_to_others_are_let_through() -> None:
    check_environment(
        [
            "CAUSALRN_POOL_BYTES",
            "causalrn_api_keys",
            "CAUSALRN_BASE_URL",
            "UVICORN_PORT",
            "_CAUSALRN_X",
        ]
    )


def test_a_client_s_key_opens_no_server_that_was_to_have_keys() -> None:
    with pytest.raises(StartupError, match="CAUSALRN_API_KEY is what a client sends"):
        check_environment(["CAUSALRN_API_KEY"])
    for keys in ("CAUSALRN_API_KEYS", "CAUSALRN_API_KEYS_FILE"):
        check_environment(["CAUSALRN_API_KEY", keys])


def test_a_server_does_not_start_with_a_misspelt_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSALRN_API_KEYZ", "secret")
    message = failed_start(create_app(load=lambda _: FakeModel()))
    assert message == "CAUSALRN_API_KEYZ is not a setting; did you mean CAUSALRN_API_KEYS?"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("POOL_BYTES", "1GX", "must be a number of bytes, such as 1073741824 or 1GiB, got '1GX'"),
        ("POOL_BYTES", "much", "must be a number of bytes, such as 1073741824 or 1GiB, got 'much'"),
        ("POOL_BYTES", "0", "must be above 0, got '0'"),
        ("PAGE_SIZE", "24", "must be a multiple of 16, got '24'"),
        ("MAX_WAITING", "many", "must be a whole number, got 'many'"),
        ("MAX_WAITING", "-1", "must be at least 0, got '-1'"),
        ("STALL_SECONDS", "soon", "must be a number, got 'soon'"),
        ("DRAIN_SECONDS", "inf", "must be a finite number, got 'inf'"),
        ("CHECKPOINT", "", "must be a list with something in it, got ''"),
        (
            "CORS_ORIGINS",
            "x",
            ": 'x' is no origin, such as https://example.org:8443 or tauri://localhost",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_in_our_words(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"CAUSALRN_{variable}", value)
    with pytest.raises(StartupError) as refused:
        settings_of_environment()
    separator = "" if message.startswith(":") else " "
    assert str(refused.value) == f"CAUSALRN_{variable}{separator}{message}"


def test_settings_that_do_not_fit_together_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSALRN_MAX_RUNNING", "300")
    monkeypatch.setenv("CAUSALRN_MAX_BATCH_TOKENS", "256")
    with pytest.raises(StartupError, match=r"^max_batch_tokens \(256\) must be at least max_run"):
        settings_of_environment()
