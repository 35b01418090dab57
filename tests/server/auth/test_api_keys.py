import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from causalrn.model.cli import app as causalrn
from causalrn.server.application import create_app
from causalrn.server.auth.api_keys import ApiKey, ApiKeys, load_keys
from causalrn.server.auth.key_command import app as command
from causalrn.server.auth.key_format import new_key
from causalrn.server.errors import StartupError
from tests.server.conftest import make_settings
from tests.server.failed_start import failed_start
from tests.server.fake_model import FakeModel

ROOT = Path(__file__).resolve().parents[3]
HASH = "sha256:" + "5e" * 32
ENTRY = {"name": "alice", "hash": HASH}


def load(*entries: object) -> ApiKeys:
    return load_keys(json.dumps(entries), None)


def test_a_key_is_found_by_itself_alone() -> None:
    made = {name: new_key() for name in ("alice", "bob", "carol")}
    keys = load(*({"name": name, "hash": hash} for name, (_, hash) in made.items()))
    for name, (secret, hash) in made.items():
        assert keys.find(secret) == ApiKey(name=name)
        for other in (hash, secret[:-1], secret + " ", secret.upper(), ""):
            assert keys.find(other) is None
    assert ApiKeys().find("") is None


def test_keys_are_long_random_and_hashed_as_anybody_would() -> None:
    secrets = {new_key()[0] for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(secret) == len("crn-") + 43 for secret in secrets)  # 256 bits in base64
    secret, hash = new_key()
    assert hash == "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def test_both_sources_and_all_quotas(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(
        f'[[key]]\nname = "bob"\nhash = "sha256:{"00" * 32}"\nrole = "admin"\n'
        "requests_per_minute = 1\ntokens_per_minute = 2\nmax_concurrent = 3\nmax_sessions = 4\n"
    )
    alice, bob = load_keys(json.dumps([ENTRY]), file)
    assert alice == ApiKey(name="alice")
    assert bob == ApiKey(
        name="bob",
        role="admin",
        requests_per_minute=1,
        tokens_per_minute=2,
        max_concurrent=3,
        max_sessions=4,
    )


SECRET = "crn-do-not-repeat-me"
FIELDS = (
    "its fields are hash, max_concurrent, max_sessions, name, requests_per_minute, role, "
    "tokens_per_minute"
)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (ENTRY | {"hash": SECRET}, "hash: must be 'sha256:' and 64 hexadecimal digits"),
        (ENTRY | {"hash": HASH.upper()}, "hash: must be 'sha256:'"),
        (ENTRY | {"hash": HASH + "\n"}, "hash: must be 'sha256:'"),
        (ENTRY | {"name": SECRET + " "}, "name: must be 1 to 64 letters"),
        (ENTRY | {"name": ""}, "name: must be 1 to 64 letters"),
        (ENTRY | {"role": SECRET}, "role: must be 'user' or 'admin'"),
        (ENTRY | {"max_sessions": 0}, "max_sessions: must be a whole number of at least 1"),
        (
            ENTRY | {"requests_per_minute": 10**9},
            "requests_per_minute: must be a whole number from",
        ),
        (ENTRY | {"max_concurrent": "9"}, "max_concurrent: must be a whole number"),
        (ENTRY | {"tokens_per_minute": True}, "tokens_per_minute: must be a whole number"),
        (ENTRY | {SECRET: 1}, FIELDS),
        ({"name": "alice"}, "the field 'hash' is missing"),
        (SECRET, FIELDS),
        (None, FIELDS),
        (ENTRY, "there are two keys with the name 'alice'"),
        (ENTRY | {"name": "bob"}, "'bob' has the same hash as 'alice'"),
    ],
)
def test_a_bad_entry_is_named_and_not_repeated(values: object, reason: str) -> None:
    with pytest.raises(StartupError) as refused:
        load(ENTRY, values)
    assert str(refused.value).startswith(f"CAUSALRN_API_KEYS, key 2: {reason}")
    assert SECRET not in str(refused.value)
    assert "5e5e" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a JSON list"),
        (SECRET, "must be a JSON list"),
        ("[" * 100_000, "must be a JSON list"),
        ("[]", "has no key; add one, or unset it to serve without keys"),
        (json.dumps(ENTRY), "has no key"),
        ("null", "has no key"),
    ],
)
def test_a_bad_list_never_means_an_open_server(text: str, reason: str) -> None:
    with pytest.raises(StartupError, match=reason) as refused:
        load_keys(text, None)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no key"),
        (b'[[keys]]\nname = "crn-do-not-repeat-me"', "must be TOML of tables"),
        (b"crn-do-not-repeat-me", "must be TOML of tables"),
        (b"\xff", "must be TOML of tables"),
        (b"key = 3", "has no key"),
        (b'[[key]]\nname = "alice"', "key 1: the field 'hash' is missing"),
    ],
)
def test_a_bad_file_never_means_an_open_server(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_bytes(content)
    with pytest.raises(StartupError, match=reason) as refused:
        load_keys(None, file)
    assert str(refused.value).startswith(f"CAUSALRN_API_KEYS_FILE ({file})")
    assert SECRET not in str(refused.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StartupError, match="cannot be read: "):
            load_keys(None, path)


def test_nothing_shows_a_key_or_its_hash(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret, hash = new_key()
    text = json.dumps([{"name": "alice", "hash": hash}])
    settings, keys = make_settings(api_keys=text), load_keys(text, None)
    assert keys.find(secret) is not None
    digest = bytes.fromhex(hash.removeprefix("sha256:"))
    shown = [repr(settings), str(settings), repr(keys), repr(list(keys)), caplog.text]
    for hidden in (secret, hash, digest.hex(), repr(digest)):
        assert not [text for text in shown if hidden in text]
    assert settings.api_keys == SecretStr(text)


def test_a_server_does_not_start_with_a_bad_key() -> None:
    settings = make_settings(api_keys=json.dumps([ENTRY | {"hash": SECRET}]))
    message = failed_start(create_app(settings, load=lambda _: FakeModel()))
    assert message.startswith("CAUSALRN_API_KEYS, key 1: hash: must be")
    assert SECRET not in message


class TestCommand:
    def test_what_it_prints_works(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(command, ["alice", "--role", "admin"])
        assert result.exit_code == 0
        (secret,) = [line for line in result.stderr.splitlines() if line.startswith("crn-")]
        assert secret not in result.stdout
        file = tmp_path / "keys.toml"
        file.write_text(result.stdout + CliRunner().invoke(command, ["bob"]).stdout)
        keys = load_keys(None, file)
        assert keys.find(secret) == ApiKey(name="alice", role="admin")
        assert [key.name for key in keys] == ["alice", "bob"]

    def test_help_waits_for_no_server(self) -> None:
        program = "import sys, server.auth.key_command; sys.exit('fastapi' in sys.modules)"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

    @pytest.mark.parametrize("args", [["two words"], [""], [], ["alice", "--role", "king"]])
    def test_nonsense_is_refused(self, args: list[str]) -> None:
        assert CliRunner().invoke(command, args).exit_code == 2

    def test_it_is_a_command_among_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = tmp_path / "added-1.0.dist-info"  # as the installed project has it
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[causalrn.commands]\nkey = server.auth.key_command:app"
        )
        monkeypatch.syspath_prepend(tmp_path)
        result = CliRunner().invoke(causalrn, ["key", "bob"])
        assert 'name = "bob"' in result.stdout
        assert "causalrn key [OPTIONS]" in CliRunner().invoke(causalrn, ["key", "--help"]).stdout
        assert "Make an API key" in CliRunner().invoke(causalrn, ["--help"]).stdout
