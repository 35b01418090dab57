"""Turns answers, refusals and failures into models and typed errors."""

from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from causalrn_client.errors import (
    STATUS_ERRORS,
    TYPED_ERRORS,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    CausalRNError,
    IncompleteStreamError,
    InvalidRequestError,
    NotOpenError,
    ResponseFormatError,
    TimeoutPhase,
)
from causalrn_client.proxy import EnvironmentProxy

ModelT = TypeVar("ModelT", bound=BaseModel)

_EXCERPT = 200  # characters of an unexpected body that an error shows

_TIMEOUT_PHASES: dict[type[httpx.TimeoutException], TimeoutPhase] = {
    httpx.ConnectTimeout: "connect",
    httpx.ReadTimeout: "read",
    httpx.WriteTimeout: "write",
    httpx.PoolTimeout: "pool",
}

_NOT_CONNECTED = (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol)


def parse_object(source: bytes | str) -> dict[str, object]:
    """Reads a JSON object.

    Raises:
        ResponseFormatError: The source is not JSON, or not an object.
    """
    try:
        value = from_json(source)
    except ValueError as error:
        raise ResponseFormatError(f"not JSON ({error}): {_excerpt(source)}") from error
    if not isinstance(value, dict):
        raise ResponseFormatError(f"not a JSON object: {_excerpt(source)}")
    return value


def validate(kind: type[ModelT], value: dict[str, object]) -> ModelT:
    """Reads an object of JSON as a model.

    Raises:
        ResponseFormatError: It does not fit; the message names the first field that is wrong.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ResponseFormatError(f"{kind.__name__}: {where}: {first['msg']}") from error


def parse_answer(response: httpx.Response, kind: type[ModelT]) -> ModelT:
    """Reads the body of a successful answer.

    Raises:
        ResponseFormatError: The body is not a `kind`.
    """
    return validate(kind, parse_object(response.content))


def check_type(response: httpx.Response, media_type: str) -> None:
    """Checks the content type of an answer, which might be an error page of a proxy.

    Raises:
        ResponseFormatError: It is another type.
    """
    content_type: str = response.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != media_type:
        raise ResponseFormatError(f"not {media_type}, but content-type {content_type or 'missing'}")


def total_bytes(response: httpx.Response) -> int | None:
    """Returns how many bytes the body of an answer has while it is sent; None if unknown."""
    length: str = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() else None


def refusal(response: httpx.Response) -> APIStatusError:
    """Turns an unsuccessful answer, whose body has been read, into an error."""
    error_type: str | None = None
    message = _excerpt(response.content) or response.reason_phrase or "no explanation"
    param: str | None = None
    try:
        error = parse_object(response.content).get("error")
    except ResponseFormatError:
        error = None
    if isinstance(error, dict):
        error_type = _text(error.get("type"))
        message = _text(error.get("message")) or message
        param = _text(error.get("param"))
    status = response.status_code
    kind = TYPED_ERRORS.get((status, error_type)) or STATUS_ERRORS.get(status, APIStatusError)
    return kind(status, error_type, message, param, response.headers)


def failure(error: httpx.RequestError, proxy: EnvironmentProxy | None = None) -> CausalRNError:
    """Returns the error to raise if no answer arrives, from a server or from a proxy before it."""
    reason = str(error) or type(error).__name__
    place = _address(error)
    if proxy is not None:
        place += f" through the proxy of {proxy.variable}"
    if isinstance(error, httpx.TimeoutException):
        phase = _TIMEOUT_PHASES.get(type(error), "read")
        return APITimeoutError(f"timed out ({phase}) at {place}", phase)
    if isinstance(error, httpx.LocalProtocolError):
        if reason.startswith("Illegal header value"):  # followed by the value, maybe a secret
            reason = "a header holds characters that no header can hold"
        return InvalidRequestError(f"the request cannot be sent: {reason}")
    if isinstance(error, httpx.DecodingError):
        return ResponseFormatError(f"the answer cannot be decompressed: {reason}")
    return APIConnectionError(
        f"no answer from {place}: {reason}",
        may_have_arrived=not isinstance(error, _NOT_CONNECTED),
    )


def misuse(error: RuntimeError, *, is_closed: bool) -> RuntimeError:
    """Returns the error to raise if `httpx` refuses a request."""
    if is_closed:
        return NotOpenError("the client is closed: make a new one, or keep its with block open")
    if "event loop" in str(error).lower():
        return NotOpenError(
            "an AsyncClient belongs to one event loop: make one inside each asyncio.run()"
        )
    return error


def interruption(error: httpx.RequestError) -> CausalRNError:
    """Returns the error to raise if a stream breaks."""
    if isinstance(error, httpx.TimeoutException | httpx.DecodingError):
        return failure(error)
    reason = str(error) or type(error).__name__
    return IncompleteStreamError(f"the connection broke in mid-stream: {reason}")


def _address(error: httpx.RequestError) -> str:
    url = error.request.url
    # Without the name and password that a URL can hold.
    return str(url.copy_with(userinfo=b""))


def _excerpt(body: bytes | str) -> str:
    # A character has at most four bytes.
    text = body[: 4 * _EXCERPT].decode("utf-8", "replace") if isinstance(body, bytes) else body
    return text[:_EXCERPT]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
