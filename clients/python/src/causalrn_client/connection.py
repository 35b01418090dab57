"""The way of a request of synchronous code to the server, and of the answer back."""

import contextlib
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, TypeVar

import httpx

from causalrn_client.errors import CausalRNError, NotFoundError
from causalrn_client.requests import Call, Endpoint
from causalrn_client.responses import check_type, failure, interruption, refusal, total_bytes
from causalrn_client.retry import RetryPolicy
from causalrn_client.upload import PIECE_BYTES, Progress

ResultT = TypeVar("ResultT")


class Connection:
    """Sends requests to one server, again where the policy says so. Threads may share it.

    Attributes:
        http: What they go through.
        address: Of the server, without the name and password that a URL can hold.
    """

    def __init__(self, http: httpx.Client, endpoint: Endpoint, retries: RetryPolicy) -> None:
        self.http = http
        self.address = endpoint.base_url.copy_with(userinfo=b"")
        self._endpoint = endpoint
        self._retries = retries

    def send(self, call: Call) -> httpx.Response:
        """Returns the whole of a successful answer.

        Raises:
            CausalRNError: There was none.
        """
        return self._repeat(call, partial(self.send_once, call))

    def send_once(self, call: Call) -> httpx.Response:
        """Does the same without a second attempt."""
        return self._exchange(call, stream=False)

    def open_stream(self, call: Call) -> httpx.Response:
        """Returns a successful answer of the type that was asked for, its body not read.

        Raises:
            CausalRNError: There was none.
        """
        return self._repeat(call, partial(self._open_once, call))

    def delete(self, call: Call) -> None:
        """Deletes something.

        Raises:
            NotFoundError: It was not there, at the first attempt. Later ones may only have missed
                the answer to an earlier one.
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
        """Writes the body of an answer to an empty file; where it breaks, again from its start.

        Raises:
            CausalRNError: There was no successful answer of the type asked for, or not all of it.
            OSError: The file cannot be written.
        """

        def download_once() -> None:
            with contextlib.closing(self._open_once(call)) as response:
                file.seek(0)
                file.truncate()
                try:
                    for piece in response.iter_bytes(PIECE_BYTES):
                        file.write(piece)
                        if progress is not None:
                            progress(response.num_bytes_downloaded, total_bytes(response))
                except httpx.RequestError as error:
                    raise interruption(error) from error

        self._repeat(call, download_once)

    def _repeat(self, call: Call, once: Callable[[], ResultT]) -> ResultT:
        attempt = 0
        while True:
            try:
                return once()
            except CausalRNError as error:
                delay = self._retries.delay(error, attempt, repeatable=call.repeatable)
                if delay is None:
                    raise
            time.sleep(delay)
            attempt += 1

    def _open_once(self, call: Call) -> httpx.Response:
        response = self._exchange(call, stream=True)
        try:
            check_type(response, call.headers["Accept"])
        except BaseException:
            response.close()
            raise
        return response

    def _exchange(self, call: Call, *, stream: bool) -> httpx.Response:
        request = self._endpoint.request(self.http, call)
        try:
            response = self.http.send(request, stream=stream)
            if stream and not response.is_success:
                with contextlib.closing(response):
                    response.read()
        except httpx.RequestError as error:
            raise failure(error) from error
        if not response.is_success:
            raise refusal(response)
        return response
