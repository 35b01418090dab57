"""Request bodies: JSON and nothing else, read within a limit, parsed without leniency."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from starlette.requests import Request

from causalrn.server.errors import (
    BodyTooLargeError,
    MalformedBodyError,
    RequestTimeoutError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
)
from causalrn.server.http.body_room import BodyRoom
from causalrn.server.http.content_type import content_type
from causalrn.server.printable import LONGEST_ECHO, printable

MAX_KEYS = 1024  # of one object; refusing a million of them one by one would hold up other requests
MAX_CONTAINERS = 1024  # lists and objects of a body that has very many values
_SHORT = 16 * 1024  # bytes that are parsed faster than they are handed to another thread
_FEW_VALUES = 20_000  # which Python's compiled parser reads within two milliseconds


class JsonRequest(Request):
    """A request that refuses bodies which are too large, too slow, or not strictly JSON.

    Args:
        request: the request, of whose body nothing has been read yet.
        optional: whether the body may be missing.
    """

    def __init__(self, request: Request, *, optional: bool = False) -> None:
        super().__init__(request.scope, request.receive)
        self._optional = optional

    async def body(self) -> bytes:
        """Read the body, once.

        Raises:
            UnsupportedMediaTypeError: its `content-type` is not JSON in UTF-8, or it is compressed.
            BodyTooLargeError: it has more bytes than the server's limit.
            OverloadedError: it is not short, and others on their way leave no room for it.
            RequestTimeoutError: it does not arrive in time.
            MalformedBodyError: it is empty, but must not be.
            ClientDisconnect: the client left before its end.
        """
        if not hasattr(self, "_body"):
            if not self._optional:
                self._check_media_type()
            body = await self._read()
            if body:
                self._check_media_type()
            elif not self._optional:
                raise MalformedBodyError("the body is empty; it must be a JSON object")
            self._body = body
        return self._body

    async def json(self) -> Any:
        """Parse the body, once. If it is missing, and may be, it counts as `null`.

        Raises:
            MalformedBodyError: it is not UTF-8, not JSON or nested too deeply; or an object in it
                has too many keys, or one of them twice.
            ServiceError: as `body`.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) <= _SHORT:
                self._json = parse_json(body) if body else None
            else:
                self._json = await asyncio.to_thread(parse_json, body)
        return self._json

    def _check_media_type(self) -> None:
        given = content_type(self.headers)
        sub = given.get_content_subtype()
        if (
            given.get_content_maintype() != "application"
            or not (sub == "json" or sub.endswith("+json"))
            or given.get_content_charset("utf-8") not in ("utf-8", "utf8", "us-ascii")
        ):
            raise UnsupportedMediaTypeError(
                "the body must be JSON in UTF-8, sent with 'content-type: application/json'"
            )

    async def _read(self) -> bytes:
        settings = self.app.state.settings
        room: BodyRoom = self.app.state.body_room
        body = bytearray()
        n_taken = 0
        try:
            async with asyncio.timeout(settings.body_seconds):
                async for piece in limited_body(self, settings.max_body_bytes):
                    if len(body) + len(piece) > _SHORT:
                        room.take(len(piece))
                        n_taken += len(piece)
                    body += piece
        except TimeoutError:
            raise too_slow(settings.body_seconds) from None
        finally:
            room.give_back(n_taken)
        return bytes(body)


async def limited_body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The pieces of a body.

    Raises:
        UnsupportedEncodingError: it is compressed: a small one could become one of any size.
        BodyTooLargeError: it says that it has more than `limit` bytes, or has.
        ClientDisconnect: the client left before the end.
    """
    encodings = ", ".join(request.headers.getlist("content-encoding"))
    if encodings.strip().lower() not in ("", "identity"):
        raise UnsupportedEncodingError(
            f"the body must be sent as it is, without 'content-encoding: "
            f"{printable(encodings, LONGEST_ECHO)}'"
        )
    too_large = BodyTooLargeError(f"the body is larger than the limit of {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and _exceeds(declared, limit):
        raise too_large
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise too_large
        yield piece


def too_slow(seconds: float) -> RequestTimeoutError:
    """The error of a body, or of its next piece, that took too long."""
    return RequestTimeoutError(f"the body did not arrive within {seconds:g} s")


def parse_json(body: bytes) -> Any:
    """Parse JSON strictly. Only `NaN` and `Infinity` get through, as floats that no field takes.

    A mark of the byte order may come first, as some programs begin each text in UTF-8 with it.
    No other thread waits for it longer than for any other code, however large the body is.

    Raises:
        MalformedBodyError: see `JsonRequest.json`.
    """
    n_values = sum(body.count(mark) for mark in (b",", b"[", b"{"))  # or more, if texts have these
    decoder = json.JSONDecoder if n_values <= _FEW_VALUES else _YieldingDecoder
    try:
        text = body.decode().removeprefix("\ufeff")
        return json.loads(text, cls=decoder, object_pairs_hook=_object, parse_float=_number)
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"the body is not UTF-8 from byte {error.start} on") from None
    except json.JSONDecodeError as error:
        raise MalformedBodyError(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise MalformedBodyError("the body is nested too deeply") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise MalformedBodyError("the body has a number of too many digits") from None


class _YieldingDecoder(json.JSONDecoder):
    """Python's parser that is written in Python.

    It is slower than the compiled one, which keeps the interpreter to itself until it is done.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._n_containers = 0
        self.parse_array = self._counted(JSONArray)
        self.parse_object = self._counted(JSONObject)
        self.scan_once = py_make_scanner(self)

    def _counted(self, parse: Callable[..., Any]) -> Callable[..., Any]:
        def count_and_parse(*args: Any) -> Any:
            self._n_containers += 1
            if self._n_containers > MAX_CONTAINERS:
                raise MalformedBodyError(
                    f"the body has more than {MAX_CONTAINERS} lists and objects"
                )
            return parse(*args)

        return count_and_parse


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise MalformedBodyError(f"an object has {len(pairs)} keys, the limit is {MAX_KEYS}")
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise MalformedBodyError(f"the key '{printable(twice, LONGEST_ECHO)}' appears twice")
    return parsed


def _number(digits: str) -> float | int:
    """A number with a point or an exponent. JSON has one kind of number: 5.0 is the integer 5."""
    value = float(digits)
    return int(value) if value.is_integer() else value


def _exceeds(digits: str, limit: int) -> bool:
    """Whether a decimal number is larger, without parsing one of thousands of digits."""
    digits = digits.lstrip("0")
    return len(digits) > len(str(limit)) or int(digits or "0") > limit
