# Written by unasync.py from _async/connection.py; change that one.
"""How requests reach the server and how answers come back."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, TypeVar

import httpx

from causalrn_client.errors import CausalRNError, NotFoundError
from causalrn_client.proxy import EnvironmentProxy
from causalrn_client.requests import Call, Endpoint
from causalrn_client.responses import (
    ModelT,
    check_type,
    failure,
    interruption,
    misuse,
    parse_answer,
    refusal,
    total_bytes,
)
from causalrn_client.retry import RetryPolicy
from causalrn_client.trace import Trace
from causalrn_client.upload import PIECE_BYTES, Progress
from causalrn_client.waiting import Shield, run_blocking, sleep

ResultT = TypeVar("ResultT")


class Connection:
    """Sends requests to one server, and retries them as the policy says. Can be shared.

    Attributes:
        http: The client of `httpx` that sends what can be repeated.
        fresh: The one that sends everything else, on a connection of its own.
        address: The server's address, without the name and password that a URL can contain.
        shield: Protects what must be finished, such as the deletion of a session, and connections
            from cancellation at a wrong moment.
    """

    def __init__(
        self,
        http: httpx.Client,
        fresh: httpx.Client,
        proxy: EnvironmentProxy | None,
        endpoint: Endpoint,
        retries: RetryPolicy,
    ) -> None:
        self.http = http
        self.fresh = fresh
        self.address = endpoint.base_url.copy_with(userinfo=b"")
        self.shield = Shield()
        self._endpoint = endpoint
        self._proxy = proxy
        self._retries = retries

    def ask(self, call: Call, kind: type[ModelT]) -> ModelT:
        """Sends a request and returns its answer, read as a `kind`.

        Raises:
            CausalRNError: There was no successful answer, or it is not a `kind`.
        """
        return parse_answer(self._repeat(call, partial(self.send_once, call)), kind)

    def send_once(self, call: Call) -> httpx.Response:
        """Sends a request, without retries, and returns its successful answer with its body.

        Raises:
            CausalRNError: There was no successful answer.
        """
        return self._exchange(call, stream=False)

    def open_stream(self, call: Call) -> httpx.Response:
        """Sends a request and returns its successful answer, whose body is still to be read.

        Raises:
            CausalRNError: There was no successful answer of the type that the request accepts.
        """
        return self._repeat(call, partial(self._open_once, call))

    def delete(self, call: Call) -> None:
        """Sends a request that deletes something.

        Raises:
            NotFoundError: The first attempt did not find it. If only a later attempt does not, an
                earlier one probably deleted it and its answer was lost, which is no error.
            CausalRNError: There was no successful answer.
        """
        attempts = itertools.count()

        def delete_once() -> None:
            is_first = next(attempts) == 0
            try:
                self.send_once(call)
            except NotFoundError:
                if is_first:
                    raise

        self._repeat(call, delete_once)

    def download(self, call: Call, file: BinaryIO, progress: Progress | None) -> None:
        """Writes the body of an answer to an empty file, and starts over if the connection breaks.

        Raises:
            CausalRNError: There was no successful answer of the right type, or not all of it came.
            OSError: The file cannot be written.
        """

        def download_once() -> None:
            response = self._open_once(call)
            pieces = response.iter_bytes(PIECE_BYTES)
            try:
                file.seek(0)
                file.truncate()
                while piece := self.read(pieces):
                    run_blocking(file.write, piece)
                    if progress is not None:
                        progress(response.num_bytes_downloaded, total_bytes(response))
            except httpx.RequestError as error:
                raise interruption(error) from error
            finally:
                self.close(response)

        self._repeat(call, download_once)

    def read(self, pieces: Iterator[bytes]) -> bytes:
        """Returns the next piece of the body of an answer; none at its end.

        What comes last gives the connection back. A loop may read the pieces themselves, which
        takes less time, but must leave the last ones to this method.
        """

        def read_once() -> bytes:
            return next(pieces, b"")

        return self.shield.exchange(read_once)

    def close(self, response: httpx.Response) -> None:
        """Gives the connection of an answer back, or closes it if the answer was not read whole."""
        self.shield.run(response.close)

    def _repeat(self, call: Call, once: Callable[[], ResultT]) -> ResultT:
        attempt = 0
        while True:
            try:
                return once()
            except CausalRNError as error:
                delay = self._retries.delay(error, attempt, repeatable=call.repeatable)
                if delay is None:
                    raise
            sleep(delay)
            attempt += 1

    def _open_once(self, call: Call) -> httpx.Response:
        response = self._exchange(call, stream=True)
        try:
            check_type(response, call.headers["Accept"])
        except BaseException:
            self.close(response)
            raise
        return response

    def _exchange(self, call: Call, *, stream: bool) -> httpx.Response:
        trace = Trace()
        try:
            try:
                response = self._send(call, trace, stream=stream)
            except httpx.TransportError:
                if not (call.repeatable and trace.went_nowhere):
                    raise
                response = self._send(call, None, stream=stream)
        except httpx.RequestError as error:
            raise failure(error, self._proxy) from error
        except RuntimeError as error:
            raise misuse(error, is_closed=self.http.is_closed) from error
        if not response.is_success:
            raise refusal(response)
        return response

    def _send(self, call: Call, trace: Trace | None, *, stream: bool) -> httpx.Response:
        """Sends a request once; without a trace, on a new connection."""
        http = self.http if call.repeatable and trace is not None else self.fresh
        request = self._endpoint.request(http, call)
        if trace is not None:
            request.extensions["trace"] = trace

        def exchange() -> httpx.Response:
            response = http.send(request, stream=stream)
            if stream and not response.is_success:
                with contextlib.closing(response):
                    response.read()
            return response

        return self.shield.exchange(exchange, httpx.Response.close)
