"""Requests as plain values, which both clients build in the same way and then send."""

import json
import numbers
import operator
import os
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex, TypedDict, Unpack
from urllib.parse import quote, urlencode

import httpx

from causalrn_client._version import __version__
from causalrn_client.arguments import integers, kind_of, matches
from causalrn_client.errors import ConfigurationError, InvalidRequestError
from causalrn_client.generation_options import GenerateOptions
from causalrn_client.upload import Upload

API_KEY_VARIABLE = "CAUSALRN_API_KEY"
BASE_URL_VARIABLE = "CAUSALRN_BASE_URL"
DEFAULT_BASE_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
"""Two minutes for an answer or the next piece of a stream, and 5 s for a connection."""


@dataclass(frozen=True)
class Call:
    """A request, without the address of the server.

    Attributes:
        method: The HTTP method.
        path: The path, with the query if there is one.
        headers: The headers, apart from those that every request has.
        content: The body.
        repeatable: Whether doing it twice has the same effect as doing it once.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Upload | None = None
    repeatable: bool = True


JSON = "application/json"
EVENTS = "text/event-stream"

HEALTH = Call("GET", "/health", {"Accept": JSON})
READY = Call("GET", "/health/ready", {"Accept": JSON})


@dataclass(frozen=True)
class Endpoint:
    """The address of a server, and what every request to it needs."""

    base_url: httpx.URL
    headers: httpx.Headers
    timeout: httpx.Timeout

    @classmethod
    def parse(
        cls,
        base_url: str | httpx.URL | None,
        api_key: str | None,
        headers: Mapping[str, str] | None,
        timeout: float | httpx.Timeout | None,
    ) -> "Endpoint":
        """Checks the arguments of a client, and takes what is None from the environment.

        Raises:
            ConfigurationError: One of them is unusable; the message names it.
        """
        name = "base_url" if base_url is not None else BASE_URL_VARIABLE
        if base_url is None:
            base_url = os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
        if api_key is None:
            api_key = os.environ.get(API_KEY_VARIABLE) or None
        try:
            url = httpx.URL(base_url)
        except (httpx.InvalidURL, TypeError) as error:
            raise ConfigurationError(f"{name} is not a URL: {base_url!r} ({error})") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ConfigurationError(
                f"{name} must begin with http:// or https:// and a host: {url!s}"
            )
        if url.query or url.fragment:
            raise ConfigurationError(f"{name} must have neither query nor fragment: {url!s}")
        every = httpx.Headers({"User-Agent": f"causalrn-client/{__version__}"})
        if api_key is not None:
            if not matches("[!-~]+", api_key):
                # Without the key itself, which must not end up in a log.
                raise ConfigurationError(
                    f"api_key, or {API_KEY_VARIABLE}, must be printable ASCII without spaces"
                )
            every["Authorization"] = f"Bearer {api_key}"
        every.update(_parse_headers(headers))
        return cls(url, every, _parse_timeout(timeout))

    def request(self, http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
        """Turns a call into a request for `http` to send."""
        path = self.base_url.raw_path.rstrip(b"/") + call.path.encode("ascii")
        headers = self.headers.copy()
        headers.update(call.headers)
        content: bytes | Iterator[bytes] | AsyncIterator[bytes] | None
        if isinstance(call.content, Upload):
            headers["Content-Length"] = str(call.content.size)
            is_async = isinstance(http, httpx.AsyncClient)
            content = call.content.async_pieces() if is_async else call.content.pieces()
        else:
            content = call.content
        return http.build_request(
            call.method,
            self.base_url.copy_with(raw_path=path),
            headers=headers,
            content=content,
            timeout=self.timeout,
        )


def _parse_headers(headers: Mapping[str, str] | None) -> httpx.Headers:
    try:
        parsed = httpx.Headers(headers)
        for name, value in parsed.raw:
            (name + value).decode("ascii")
    except (AttributeError, TypeError, ValueError) as error:
        # Without the values, which may be secrets.
        raise ConfigurationError(
            "headers must be a mapping of names to values, all of them ASCII texts"
        ) from error
    return parsed


def _parse_timeout(timeout: float | httpx.Timeout | None) -> httpx.Timeout:
    parsed = httpx.Timeout(timeout)
    for seconds in parsed.as_dict().values():
        is_number = isinstance(seconds, numbers.Real)
        if seconds is not None and not (is_number and 0 < seconds < threading.TIMEOUT_MAX):
            raise ConfigurationError(
                f"timeout must be a number of seconds above 0, or None to wait forever: {timeout!r}"
            )
    return parsed


class Source(TypedDict, total=False):
    """A prompt as keyword arguments of `generate`."""

    prompt: str
    token_ids: Sequence[int]


def model_for(named: str | None, default: str | None, session_id: str | None) -> str | None:
    """Returns the model for a request to name: none in a session, which has a model already."""
    return default if named is None and session_id is None else named


def source(prompt: str | Sequence[int]) -> Source:
    """Returns a text, or token ids, as keyword arguments of `generate`.

    Raises:
        InvalidRequestError: It is neither.
    """
    if isinstance(prompt, bytes | bytearray) or not isinstance(prompt, str | Iterable):
        raise InvalidRequestError(
            f"a prompt is a text or a list of token ids, not {kind_of(prompt)}"
        )
    return {"prompt": prompt} if isinstance(prompt, str) else {"token_ids": prompt}


def sources(prompts: Iterable[str | Sequence[int]]) -> list[Source]:
    """Does the same for many of them.

    Raises:
        InvalidRequestError: One of them is neither, or this is a single text.
    """
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Iterable):
        raise InvalidRequestError(f"prompts must be a list of prompts, not {kind_of(prompts)}")
    return [source(prompt) for prompt in prompts]


def generate_call(prompt: str | None, *, stream: bool, **options: Unpack[GenerateOptions]) -> Call:
    """Builds the request for a generation, without the options that are None.

    It does not check the values: only the server knows its model and its limits.

    Raises:
        InvalidRequestError: A value cannot be sent.
        TypeError: An option does not exist.
    """
    for name in options.keys() - GenerateOptions.__optional_keys__:
        raise TypeError(f"got an unexpected keyword argument {name!r}")
    fields: dict[str, object] = {"prompt": prompt} | dict(options)
    request_id = options.get("request_id")
    token_ids, stop, bias = options.get("token_ids"), options.get("stop"), options.get("logit_bias")
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidRequestError(
            f"prompt must be a text, but is {kind_of(prompt)}: decode bytes first, and pass token "
            "ids as token_ids"
        )
    if token_ids is not None:
        fields["token_ids"] = integers("token_ids", token_ids)
    if isinstance(stop, Iterable) and not isinstance(stop, str | bytes):
        fields["stop"] = list(stop)
    if bias is not None:
        if not isinstance(bias, Mapping):
            raise InvalidRequestError(f"logit_bias must be a mapping, but is {kind_of(bias)}")
        ids = integers("logit_bias", bias)
        fields["logit_bias"] = dict(zip(map(str, ids), bias.values(), strict=True))
    _json("deadline", options.get("deadline"))  # an error calls it by the name that it has here
    # The client's own `timeout` is something else.
    fields["timeout"] = fields.pop("deadline", None)
    fields["stream"] = True if stream else None
    fields.pop("request_id", None)
    headers = {"Accept": EVENTS if stream else JSON, "Content-Type": JSON}
    if request_id is not None:
        if not matches("[ -~]*", request_id):
            raise InvalidRequestError(f"request_id must be printable ASCII: {request_id!r}")
        headers["x-request-id"] = request_id
    # A session would then hold the prompt twice.
    repeatable = options.get("session_id") is None
    return Call("POST", "/generate", headers, encode(fields), repeatable)


def query(**fields: object) -> str:
    """Writes the fields that are not None as the query of a path, or nothing if there are none.

    Raises:
        InvalidRequestError: A value cannot be sent.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return f"?{urlencode(given)}" if given else ""
    except UnicodeEncodeError as error:
        raise InvalidRequestError(_describe_surrogate(given)) from error


def path_segment(name: str, what: str) -> str:
    """Quotes a name, so that it can be part of a path.

    Args:
        name: The name.
        what: What the name should be, for the error's message.

    Raises:
        InvalidRequestError: The path would lead to something else.
    """
    if name in {"", ".", ".."} or not matches("(?s:.*)", name):
        raise InvalidRequestError(f"not {what}: {name!r}")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"not {what}: {name!r}") from error


def encode(fields: Mapping[str, object]) -> bytes:
    """Writes the fields that are not None as a JSON object.

    Raises:
        InvalidRequestError: A value cannot be sent.
    """
    body = {name: value for name, value in fields.items() if value is not None}
    text = ",".join(f'"{name}":{_json(name, value)}' for name, value in body.items())
    try:
        return f"{{{text}}}".encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(_describe_surrogate(body)) from error


def _json(name: str, value: object) -> str:
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_number
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{name} cannot be sent: {error}") from error


def _number(value: object) -> float:
    """Returns a number of another library, such as NumPy, as one of Python."""
    if isinstance(value, SupportsIndex):
        return operator.index(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"a value is {kind_of(value)}, which JSON does not have")


def _describe_surrogate(body: Mapping[str, object]) -> str:
    for name, value in body.items():
        for text in value if isinstance(value, list) else [value]:
            for position, character in enumerate(text if isinstance(text, str) else ""):
                if "\ud800" <= character <= "\udfff":
                    code = f"U+{ord(character):04X}"
                    return f"{name} holds a lone surrogate, {code}, at position {position}"
    return "a text holds a lone surrogate"
