"""The way of a request of asyncio to the server, and of the answer back."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, BinaryIO, TypeVar

import httpx

from causalrn_client.errors import CausalRNError, NotFoundError
from causalrn_client.requests import Call, Endpoint
from causalrn_client.responses import check_type, failure, interruption, refusal, total_bytes
from causalrn_client.retry import RetryPolicy
from causalrn_client.upload import PIECE_BYTES, Progress

ResultT = TypeVar("ResultT")


class AsyncConnection:
    """Sends requests to one server, again where the policy says so. Tasks may share it.

    Attributes:
        http: What they go through.
        address: Of the server, without the name and password that a URL can hold.
    """

    def __init__(self, http: httpx.AsyncClient, endpoint: Endpoint, retries: RetryPolicy) -> None:
        self.http = http
        self.address = endpoint.base_url.copy_with(userinfo=b"")
        self._endpoint = endpoint
        self._retries = retries
        self._shielded: set[asyncio.Task[None]] = set()  # the event loop alone would forget them

    async def send(self, call: Call) -> httpx.Response:
        """Returns the whole of a successful answer.

        Raises:
            CausalRNError: There was none.
        """
        return await self._repeat(call, partial(self.send_once, call))

    async def send_once(self, call: Call) -> httpx.Response:
        """Does the same without a second attempt."""
        return await self._exchange(call, stream=False)

    async def open_stream(self, call: Call) -> httpx.Response:
        """Returns a successful answer of the type that was asked for, its body not read.

        Raises:
            CausalRNError: There was none.
        """
        return await self._repeat(call, partial(self._open_once, call))

    async def delete(self, call: Call) -> None:
        """Deletes something.

        Raises:
            NotFoundError: It was not there, at the first attempt. Later ones may only have missed
                the answer to an earlier one.
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
        """Writes the body of an answer to an empty file; where it breaks, again from its start.

        Raises:
            CausalRNError: There was no successful answer of the type asked for, or not all of it.
            OSError: The file cannot be written.
        """

        async def download_once() -> None:
            async with contextlib.aclosing(await self._open_once(call)) as response:
                file.seek(0)
                file.truncate()
                try:
                    async for piece in response.aiter_bytes(PIECE_BYTES):
                        # A slow disk must not hold up the event loop.
                        await asyncio.to_thread(file.write, piece)
                        if progress is not None:
                            progress(response.num_bytes_downloaded, total_bytes(response))
                except httpx.RequestError as error:
                    raise interruption(error) from error

        await self._repeat(call, download_once)

    async def shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for some work, which comes to its end also when this task is cancelled.

        In a task of its own: where a whole scope is cancelled, as anyio does it, each next wait of
        the task that is in it ends at once.
        """
        task = asyncio.create_task(work)
        self._shielded.add(task)
        task.add_done_callback(self._shielded.discard)
        await asyncio.shield(task)

    async def finish(self) -> None:
        """Waits for shielded work that nobody waits for any more."""
        await asyncio.gather(*self._shielded, return_exceptions=True)

    async def _repeat(self, call: Call, once: Callable[[], Awaitable[ResultT]]) -> ResultT:
        attempt = 0
        while True:
            try:
                return await once()
            except CausalRNError as error:
                delay = self._retries.delay(error, attempt, repeatable=call.repeatable)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def _open_once(self, call: Call) -> httpx.Response:
        response = await self._exchange(call, stream=True)
        try:
            check_type(response, call.headers["Accept"])
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _exchange(self, call: Call, *, stream: bool) -> httpx.Response:
        request = self._endpoint.request(self.http, call)
        try:
            response = await self.http.send(request, stream=stream)
            if stream and not response.is_success:
                async with contextlib.aclosing(response):
                    await response.aread()
        except httpx.RequestError as error:
            raise failure(error) from error
        if not response.is_success:
            raise refusal(response)
        return response
