"""API keys: who may use the server, and how much of it."""

import hmac
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from causalrn.server.auth.key_format import HASH, NAME, Role, digest_of
from causalrn.server.errors import StartupError

_MOST_REQUESTS = 1_000_000
_ADVICE = {
    "name": "must be 1 to 64 letters, digits, '.', '_' or '-'",
    "hash": "must be 'sha256:' and 64 hexadecimal digits; `causalrn key NAME` makes one",
    "role": "must be 'user' or 'admin'",
    "requests_per_minute": f"must be a whole number from 1 to {_MOST_REQUESTS}",
}


class ApiKey(BaseModel):
    """What is known of a key, besides its hash.

    Attributes:
        name: what logs and errors call it, and the owner of the sessions that it makes.
        role: what it may do; an admin may do everything.
        requests_per_minute: how many requests it may send; None for any number, here and below.
        tokens_per_minute: how many tokens may be read and generated for it.
        max_concurrent: how many requests it may have at once.
        max_sessions: how many sessions it may own.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    role: Role = "user"
    # Each request is remembered for a minute, so this must not be too large.
    requests_per_minute: Annotated[int, Field(gt=0, le=_MOST_REQUESTS)] | None = None
    tokens_per_minute: PositiveInt | None = None
    max_concurrent: PositiveInt | None = None
    max_sessions: PositiveInt | None = None


class _Entry(ApiKey):
    hash: Annotated[str, Field(pattern=f"^{HASH}[0-9a-f]{{64}}$", repr=False)]


class ApiKeys:
    """The keys of a server, found by their hashes. Nothing here tells a hash."""

    def __init__(self) -> None:
        self._keys: dict[bytes, ApiKey] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys.values())

    def add(self, key: ApiKey, digest: bytes) -> None:
        """Add a key.

        Args:
            key: to add.
            digest: its SHA-256.

        Raises:
            ValueError: its name or its hash is taken.
        """
        if key.name in [known.name for known in self]:
            raise ValueError(f"there are two keys with the name '{key.name}'")
        if digest in self._keys:
            raise ValueError(f"'{key.name}' has the same hash as '{self._keys[digest].name}'")
        self._keys[digest] = key

    def find(self, secret: str) -> ApiKey | None:
        """The key whose secret this is; None if there is none.

        It is compared with every key, each time in the same time, so that timing tells nothing.
        """
        given = digest_of(secret)
        found = None
        for digest, key in self._keys.items():
            if hmac.compare_digest(digest, given):
                found = key
        return found


def load_keys(text: str | None, file: Path | None) -> ApiKeys:
    """The keys of the settings; none if neither source is given.

    Args:
        text: a JSON list with an object for each key.
        file: a TOML file with a table `[[key]]` for each key.

    Raises:
        StartupError: a source that is given cannot be read, has no key, or has a wrong one. The
            message says where, and repeats nothing of what is written there.
    """
    keys = ApiKeys()
    if text is not None:
        _add_all(keys, "CAUSALRN_API_KEYS", "a JSON list", lambda: json.loads(text))
    if file is not None:
        source = f"CAUSALRN_API_KEYS_FILE ({file})"
        _add_all(keys, source, "TOML of tables [[key]]", lambda: _entries(file))
    return keys


def _entries(file: Path) -> Any:
    with file.open("rb") as stream:
        document = tomllib.load(stream)
    if document.keys() - {"key"}:
        raise ValueError
    return document.get("key", [])


def _add_all(keys: ApiKeys, source: str, shape: str, read: Callable[[], Any]) -> None:
    try:
        entries = read()
    except OSError as error:
        raise StartupError(f"{source} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):  # whose message may repeat what is written there
        raise StartupError(f"{source} must be {shape}, see docs/security.md") from None
    if not isinstance(entries, list) or not entries:
        # Nobody who sets this wants a server without keys.
        raise StartupError(f"{source} has no key; add one, or unset it to serve without keys")
    for number, values in enumerate(entries, 1):
        try:
            entry = _Entry.model_validate(values)
            keys.add(
                ApiKey.model_validate(entry.model_dump(exclude={"hash"})),
                bytes.fromhex(entry.hash.removeprefix(HASH)),
            )
        except ValidationError as error:
            raise StartupError(f"{source}, key {number}: {_explain(error)}") from None
        except ValueError as error:
            raise StartupError(f"{source}, key {number}: {error}") from None


def _explain(error: ValidationError) -> str:
    """What is wrong with an entry, without repeating anything of it."""
    problem = error.errors(include_input=False, include_url=False)[0]
    field = str(problem["loc"][0]) if problem["loc"] else ""
    if field not in _Entry.model_fields:
        return f"its fields are {', '.join(sorted(_Entry.model_fields))}"
    if problem["type"] == "missing":
        return f"the field '{field}' is missing"
    return f"{field}: {_ADVICE.get(field, 'must be a whole number of at least 1')}"
