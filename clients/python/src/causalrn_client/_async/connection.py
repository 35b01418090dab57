"""How requests reach the server and how answers come back."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
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
from causalrn_client.trace import AsyncTrace
from causalrn_client.upload import PIECE_BYTES, Progress
from causalrn_client.waiting import AsyncShield, async_run_blocking, async_sleep

ResultT = TypeVar("ResultT")


class AsyncConnection:
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
        http: httpx.AsyncClient,
        fresh: httpx.AsyncClient,
        proxy: EnvironmentProxy | None,
        endpoint: Endpoint,
        retries: RetryPolicy,
    ) -> None:
        self.http = http
        self.fresh = fresh
        self.address = endpoint.base_url.copy_with(userinfo=b"")
        self.shield = AsyncShield()
        self._endpoint = endpoint
        self._proxy = proxy
        self._retries = retries

    async def ask(self, call: Call, kind: type[ModelT]) -> ModelT:
        """Sends a request and returns its answer, read as a `kind`.

        Raises:
            CausalRNError: There was no successful answer, or it is not a `kind`.
        """
        return parse_answer(await self._repeat(call, partial(self.send_once, call)), kind)

    async def send_once(self, call: Call) -> httpx.Response:
        """Sends a request, without retries, and returns its successful answer with its body.

        Raises:
            CausalRNError: There was no successful answer.
        """
        return await self._exchange(call, stream=False)

    async def open_stream(self, call: Call) -> httpx.Response:
        """Sends a request and returns its successful answer, whose body is still to be read.

        Raises:
            CausalRNError: There was no successful answer of the type that the request accepts.
        """
        return await self._repeat(call, partial(self._open_once, call))

    async def delete(self, call: Call) -> None:
        """Sends a request that deletes something.

        Raises:
            NotFoundError: The first attempt did not find it. If only a later attempt does not, an
                earlier one probably deleted it and its answer was lost, which is no error.
            CausalRNError: There was no successful answer.
        """
        attempts = itertools.count()

        async def delete_once() -> None:
            is_first = next(attempts) == 0
            try:
                await self.send_once(call)
            except NotFoundError:
                if is_first:
                    raise

        await self._repeat(call, delete_once)

    async def download(self, call: Call, file: BinaryIO, progress: Progress | None) -> None:
        """Writes the body of an answer to an empty file, and starts over if the connection breaks.

        Raises:
            CausalRNError: There was no successful answer of the right type, or not all of it came.
            OSError: The file cannot be written.
        """

        async def download_once() -> None:
            response = await self._open_once(call)
            pieces = response.aiter_bytes(PIECE_BYTES)
            try:
                file.seek(0)
                file.truncate()
                while piece := await self.read(pieces):
                    await async_run_blocking(file.write, piece)
                    if progress is not None:
                        progress(response.num_bytes_downloaded, total_bytes(response))
            except httpx.RequestError as error:
                raise interruption(error) from error
            finally:
                await self.close(response)

        await self._repeat(call, download_once)

    async def read(self, pieces: AsyncIterator[bytes]) -> bytes:
        """Returns the next piece of the body of an answer; none at its end.

        What comes last gives the connection back. A loop may read the pieces themselves, which
        takes less time, but must leave the last ones to this method.
        """

        async def read_once() -> bytes:
            return await anext(pieces, b"")

        return await self.shield.exchange(read_once)

    async def close(self, response: httpx.Response) -> None:
        """Gives the connection of an answer back, or closes it if the answer was not read whole."""
        await self.shield.run(response.aclose)

    async def _repeat(self, call: Call, once: Callable[[], Awaitable[ResultT]]) -> ResultT:
        attempt = 0
        while True:
            try:
                return await once()
            except CausalRNError as error:
                delay = self._retries.delay(error, attempt, repeatable=call.repeatable)
                if delay is None:
                    raise
            await async_sleep(delay)
            attempt += 1

    async def _open_once(self, call: Call) -> httpx.Response:
        response = await self._exchange(call, stream=True)
        try:
            check_type(response, call.headers["Accept"])
        except BaseException:
            await self.close(response)
            raise
        return response

    async def _exchange(self, call: Call, *, stream: bool) -> httpx.Response:
        trace = AsyncTrace()
        try:
            try:
                response = await self._send(call, trace, stream=stream)
            except httpx.TransportError:
                if not (call.repeatable and trace.went_nowhere):
                    raise
                response = await self._send(call, None, stream=stream)
        except httpx.RequestError as error:
            raise failure(error, self._proxy) from error
        except RuntimeError as error:
            raise misuse(error, is_closed=self.http.is_closed) from error
        if not response.is_success:
            raise refusal(response)
        return response

    async def _send(self, call: Call, trace: AsyncTrace | None, *, stream: bool) -> httpx.Response:
        """Sends a request once; without a trace, on a new connection."""
        http = self.http if call.repeatable and trace is not None else self.fresh
        request = self._endpoint.request(http, call)
        if trace is not None:
            request.extensions["trace"] = trace

        async def exchange() -> httpx.Response:
            response = await http.send(request, stream=stream)
            if stream and not response.is_success:
                async with contextlib.aclosing(response):
                    await response.aread()
            return response

        return await self.shield.exchange(exchange, httpx.Response.aclose)
