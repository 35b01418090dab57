"""What is sent: requests as plain values, built the same for the sync and the async client."""

import json
import operator
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from causalrn_client._version import __version__
from causalrn_client.errors import InvalidRequestError
from causalrn_client.turn_options import Mode
from causalrn_client.upload import Upload

DEFAULT_BASE_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
"""A whole answer, or the next piece of a stream, within two minutes; a connection within 5 s."""


@dataclass(frozen=True)
class Call:
    """One request to one of the server's resources, apart from where the server is.

    Attributes:
        method: Of HTTP.
        path: With the query, if there is one.
        headers: Besides those of every request.
        content: The body.
        repeatable: Whether to do it twice is the same as to do it once.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Upload | None = None
    repeatable: bool = True


JSON = "application/json"
EVENTS = "text/event-stream"

INFO = Call("GET", "/info", {"Accept": JSON})
READY = Call("GET", "/health/ready", {"Accept": JSON})


@dataclass(frozen=True)
class Endpoint:
    """Where the server is and what every request to it carries."""

    base_url: httpx.URL
    headers: httpx.Headers
    timeout: httpx.Timeout

    @classmethod
    def parse(
        cls,
        base_url: str | httpx.URL,
        headers: Mapping[str, str] | None,
        timeout: float | httpx.Timeout | None,
    ) -> "Endpoint":
        """Checks and completes the arguments of a client.

        Raises:
            ValueError: `base_url` is not an address of a server.
        """
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise ValueError(f"base_url is not a URL: {base_url!r} ({error})") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError(f"base_url must begin with http:// or https:// and a host: {url!s}")
        if url.query or url.fragment:
            raise ValueError(f"base_url must have neither query nor fragment: {url!s}")
        every = httpx.Headers({"User-Agent": f"causalrn-client/{__version__}"})
        every.update(headers)
        return cls(url, every, httpx.Timeout(timeout))

    def request(self, http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
        """Turns a call into the request that `http` is to send."""
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


def generate_call(
    prompt: str | None,
    *,
    stream: bool,
    token_ids: Sequence[int] | None,
    max_tokens: int | None,
    n: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    seed: int | None,
    stop: str | Sequence[str] | None,
    ignore_eos: bool | None,
    logprobs: int | None,
    echo: bool | None,
    priority: int | None,
    deadline: float | None,
    request_id: str | None,
    mode: Mode | None,
    session_id: str | None,
    wait_for_session: bool | None,
) -> Call:
    """Builds the call that asks for a generation; what is None is left to the server's defaults.

    Whether the values make sense is for the server to say: only it knows its model and its limits.

    Raises:
        InvalidRequestError: A value cannot be put on the wire.
    """
    fields = {
        "prompt": prompt,
        # Plain ints, whatever the sequence holds (NumPy's, say).
        "token_ids": None if token_ids is None else [operator.index(i) for i in token_ids],
        "max_tokens": max_tokens,
        "n": n,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "seed": seed,
        "stop": stop if stop is None or isinstance(stop, str) else list(stop),
        "ignore_eos": ignore_eos,
        "logprobs": logprobs,
        "echo": echo,
        "priority": priority,
        "timeout": deadline,
        "mode": mode,
        "session_id": session_id,
        "wait_for_session": wait_for_session,
        "stream": True if stream else None,
    }
    headers = {"Accept": EVENTS if stream else JSON, "Content-Type": JSON}
    if request_id is not None:
        if not (request_id.isascii() and request_id.isprintable()):
            raise InvalidRequestError(f"request_id must be printable ASCII: {request_id!r}")
        headers["x-request-id"] = request_id
    # In a session, a prompt that is sent twice is there twice.
    repeatable = session_id is None
    return Call("POST", "/generate", headers, encode(fields), repeatable)


def encode(fields: Mapping[str, object]) -> bytes:
    """Writes the fields that are not None as a JSON object.

    Raises:
        InvalidRequestError: A value cannot be put on the wire.
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
