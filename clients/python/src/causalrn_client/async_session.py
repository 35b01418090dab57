"""A session on the server, for asyncio."""

import asyncio
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack, overload

from causalrn_client.async_connection import AsyncConnection
from causalrn_client.async_stream import AsyncStream
from causalrn_client.errors import NotFoundError
from causalrn_client.generation_options import TurnOptions
from causalrn_client.models import Generation
from causalrn_client.partial_file import PartialFile
from causalrn_client.requests import generate_call
from causalrn_client.responses import parse_answer
from causalrn_client.session_info import SessionInfo
from causalrn_client.session_requests import (
    create_call,
    delete_call,
    fork_call,
    show_call,
    snapshot_call,
)
from causalrn_client.upload import Progress


class AsyncSession:
    """What the server has read and written so far, kept there, and a context manager that ends it.

    Like `Session`, which says what there is to know, but awaited. Leaving the block deletes the
    session also where the task is cancelled.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        session_id: str | None,
        *,
        model: str | None = None,
        ttl: float | None = None,
        is_open: bool = False,
        keep: bool,
    ) -> None:
        """Made by `AsyncClient.session`, `AsyncClient.restore` and `fork`.

        Args:
            connection: The client's; sends every request.
            session_id: None for one that is yet to be made.
            model: Of one that is yet to be made.
            ttl: Of one that is yet to be made.
            is_open: Whether the server is known to have it.
            keep: Whether leaving the block leaves it on the server.
        """
        self._connection = connection
        self._id = session_id
        self._model = model
        self._ttl = ttl
        self._is_open = is_open
        self._deletes = not keep

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id!r})"

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        elif self._deletes:
            await self._connection.shielded(self._delete_after(error))

    async def _delete_after(self, error: BaseException) -> None:
        try:
            # Once: waiting to ask again would hold up the error.
            await self._connection.send_once(delete_call(self.id))
        except NotFoundError:
            pass
        except Exception as second:
            error.add_note(f"{self!r} could not be deleted: {second}")

    @property
    def id(self) -> str:
        """The session's name, which another client can open it by.

        Raises:
            RuntimeError: It is yet to be made.
        """
        if self._id is None:
            raise RuntimeError("the session is not open: use it in a with block, or call open()")
        return self._id

    async def open(self) -> Self:
        """Makes the session, or sees to it that it is there, and returns it.

        Does nothing when it is open.
        """
        if not self._is_open:
            if self._id is None:
                call = create_call(self._ttl, self._model)
            else:
                call = show_call(self._id, include_token_ids=False)
            self._id = parse_answer(await self._connection.send(call), SessionInfo).id
            self._is_open = True
        return self

    async def close(self) -> None:
        """Does what leaving the block does: deletes the session, unless it is to be kept.

        May be called twice, and when it is gone already.
        """
        if self._is_open and self._deletes:
            try:
                await self.delete()
            except NotFoundError:
                self._deletes = False

    async def delete(self) -> None:
        """Deletes the session from the server, also one that was to be kept.

        A turn that is under way ends with an error.
        """
        await self._connection.delete(delete_call(self.id))
        self._deletes = False

    async def generate(
        self,
        prompt: str | None = None,
        *,
        mode: str | None = None,
        wait: bool | None = None,
        **options: Unpack[TurnOptions],
    ) -> Generation:
        """Generates, and returns when all is written. The prompt and that are in the session then.

        The arguments and the errors are those of `Session.generate`.
        """
        call = generate_call(
            prompt,
            stream=False,
            mode=mode,
            session_id=self.id,
            wait_for_session=wait,
            **options,
        )
        return parse_answer(await self._connection.send(call), Generation)

    def stream(
        self,
        prompt: str | None = None,
        *,
        mode: str | None = None,
        wait: bool | None = None,
        **options: Unpack[TurnOptions],
    ) -> AsyncStream:
        """Generates, and hands out what is written as it is written, once it is in the session.

        The arguments are those of `Session.stream`; the stream is like that of
        `AsyncClient.stream`.
        """
        call = generate_call(
            prompt,
            stream=True,
            mode=mode,
            session_id=self.id,
            wait_for_session=wait,
            **options,
        )
        return AsyncStream(self._connection, call)

    async def recall(
        self,
        prefix: str | None = None,
        *,
        wait: bool | None = None,
        **options: Unpack[TurnOptions],
    ) -> Generation:
        """Goes on, verbatim, from the first words of a passage that the session has read.

        The arguments and the errors are those of `Session.recall`.
        """
        return await self.generate(prefix, mode="recall", wait=wait, **options)

    async def read(
        self,
        text: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        wait: bool | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> Generation:
        """Reads a passage into the session, and writes nothing.

        The arguments and the result are those of `Session.read`.
        """
        return await self.generate(
            text,
            mode="copy",
            wait=wait,
            token_ids=token_ids,
            max_tokens=0,
            priority=priority,
            deadline=deadline,
            request_id=request_id,
        )

    async def fork(self, *, ttl: float | None = None, keep: bool = False) -> "AsyncSession":
        """Makes another session that holds the same, and shares the server's memory of it.

        The arguments, the result and the errors are those of `Session.fork`.
        """
        response = await self._connection.send(fork_call(self.id, ttl))
        child = parse_answer(response, SessionInfo).id
        return AsyncSession(self._connection, child, is_open=True, keep=keep)

    async def info(self, *, include_token_ids: bool = False) -> SessionInfo:
        """Asks the server about the session, and for all of its tokens if wanted."""
        call = show_call(self.id, include_token_ids=include_token_ids)
        return parse_answer(await self._connection.send(call), SessionInfo)

    @overload
    async def snapshot(self, path: None = None, *, progress: Progress | None = None) -> bytes: ...

    @overload
    async def snapshot(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Path: ...

    async def snapshot(
        self, path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> bytes | Path:
        """Fetches what `AsyncClient.restore` makes a session like this one of, on any such server.

        The arguments, the result and the errors are those of `Session.snapshot`; `progress` is
        called, not awaited.
        """
        call = snapshot_call(self.id)
        if path is None:
            content = BytesIO()
            await self._connection.download(call, content, progress)
            return content.getvalue()
        with PartialFile(path) as partial:
            await self._connection.download(call, partial.file, progress)
            return await asyncio.to_thread(partial.put_in_place)
