"""Requests as plain values, which both clients build in the same way and then send."""

import json
import operator
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack
from urllib.parse import quote, urlencode

import httpx

from causalrn_client._version import __version__
from causalrn_client.errors import InvalidRequestError
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
            ValueError: `base_url` is not the address of a server, or `api_key` cannot be a key.
        """
        if base_url is None:
            base_url = os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
        if api_key is None:
            api_key = os.environ.get(API_KEY_VARIABLE) or None
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise ValueError(f"base_url is not a URL: {base_url!r} ({error})") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError(f"base_url must begin with http:// or https:// and a host: {url!s}")
        if url.query or url.fragment:
            raise ValueError(f"base_url must have neither query nor fragment: {url!s}")
        every = httpx.Headers({"User-Agent": f"causalrn-client/{__version__}"})
        if api_key is not None:
            if not api_key or not all("!" <= character <= "~" for character in api_key):
                # Without the key itself, which must not end up in a log.
                raise ValueError(
                    f"api_key, or {API_KEY_VARIABLE}, must be printable ASCII without spaces"
                )
            every["Authorization"] = f"Bearer {api_key}"
        every.update(headers)
        return cls(url, every, httpx.Timeout(timeout))

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


class Source(TypedDict, total=False):
    """A prompt as keyword arguments of `generate`."""

    prompt: str
    token_ids: Sequence[int]


def model_for(named: str | None, default: str | None, session_id: str | None) -> str | None:
    """Returns the model for a request to name: none in a session, which has a model already."""
    return default if named is None and session_id is None else named


def source(prompt: str | Sequence[int]) -> Source:
    """Returns a text, or token ids, as keyword arguments of `generate`."""
    return {"prompt": prompt} if isinstance(prompt, str) else {"token_ids": prompt}


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
    if token_ids is not None:
        # Plain ints, whatever integers the sequence holds, such as NumPy's.
        fields["token_ids"] = [operator.index(i) for i in token_ids]
    if stop is not None and not isinstance(stop, str):
        fields["stop"] = list(stop)
    if bias is not None:
        fields["logit_bias"] = {str(operator.index(i)): value for i, value in bias.items()}
    # The client's own `timeout` is something else.
    fields["timeout"] = fields.pop("deadline", None)
    fields["stream"] = True if stream else None
    fields.pop("request_id", None)
    headers = {"Accept": EVENTS if stream else JSON, "Content-Type": JSON}
    if request_id is not None:
        if not (request_id.isascii() and request_id.isprintable()):
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
    if name in {"", ".", ".."}:
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
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(_describe_surrogate(body)) from error


def _describe_surrogate(body: Mapping[str, object]) -> str:
    for name, value in body.items():
        for text in value if isinstance(value, list) else [value]:
            for position, character in enumerate(text if isinstance(text, str) else ""):
                if "\ud800" <= character <= "\udfff":
                    code = f"U+{ord(character):04X}"
                    return f"{name} holds a lone surrogate, {code}, at position {position}"
    raise AssertionError("only a lone surrogate cannot be encoded as UTF-8")
