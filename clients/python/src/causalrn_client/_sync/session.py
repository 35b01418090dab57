# Written by unasync.py from _async/session.py; change that one.
"""A session on the server."""

import os
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack, overload

from causalrn_client._sync.connection import Connection
from causalrn_client._sync.stream import Stream
from causalrn_client.errors import NotFoundError, NotOpenError
from causalrn_client.generation_options import TurnOptions
from causalrn_client.models import Generation
from causalrn_client.partial_file import PartialFile
from causalrn_client.requests import generate_call
from causalrn_client.session_info import SessionInfo
from causalrn_client.session_requests import (
    create_call,
    delete_call,
    fork_call,
    show_call,
    snapshot_call,
)
from causalrn_client.upload import Progress
from causalrn_client.waiting import run_blocking


class Session:
    """A conversation that the server remembers: every turn continues from all turns before it.

    Enter a `with` block, or call `open`, to start using a session. Leaving the block deletes
    it from the server if it was made for the block, also after an error and, with asyncio, when
    the task is cancelled. A session that you opened by its id, or asked to keep, stays; the server
    drops it once nobody has used it for its time-to-live. An error in the block is never hidden by
    a failure to delete the session, which is added to the error as a note.

    The server takes one turn of a session at a time. A second one raises a `SessionBusyError`, or
    waits if you pass `wait=True`. Every method raises a `SessionNotFoundError` if the server has no
    such session, or no longer has it.
    """

    def __init__(
        self,
        connection: Connection,
        session_id: str | None,
        *,
        model: str | None = None,
        ttl: float | None = None,
        is_open: bool = False,
        keep: bool,
    ) -> None:
        """Not for you to call: `Client.session`, `Client.restore` and `fork` return one.

        Args:
            connection: Sends the requests.
            session_id: The session's id; None if opening it is to make it.
            model: The model to make it for.
            ttl: The time-to-live to make it with, in seconds.
            is_open: Whether the server is known to have it.
            keep: Whether it stays on the server when the block is left.
        """
        self._connection = connection
        self._id = session_id
        self._model = model
        self._ttl = ttl
        self._is_open = is_open
        self._deletes = not keep

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id!r})"

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif self._deletes:
            self._connection.shield.run(partial(self._delete_after, error))

    def _delete_after(self, error: BaseException) -> None:
        try:
            # Without retries: waiting for them would hold up the error.
            self._connection.send_once(delete_call(self.id))
        except NotFoundError:
            pass
        except Exception as second:
            error.add_note(f"{self!r} could not be deleted: {second}")

    @property
    def id(self) -> str:
        """The session's id, by which any client can open it.

        Raises:
            NotOpenError: The session has none yet, because it has not been opened.
        """
        if self._id is None:
            raise NotOpenError("the session is not open: use it in a with block, or call open()")
        return self._id

    def open(self) -> Self:
        """Makes the session, or checks that the server has it, and returns it.

        Does nothing if the session is open already.
        """
        if not self._is_open:
            if self._id is None:
                call = create_call(self._ttl, self._model)
            else:
                call = show_call(self._id, include_token_ids=False)
            self._id = (self._connection.ask(call, SessionInfo)).id
            self._is_open = True
        return self

    def close(self) -> None:
        """Deletes the session unless it is to be kept, just as leaving the block does.

        Can be called twice, and when the session is gone already.
        """
        if self._is_open and self._deletes:
            try:
                self.delete()
            except NotFoundError:
                self._deletes = False

    def delete(self) -> None:
        """Deletes the session from the server, even if it was to be kept.

        A turn in progress ends with an error.
        """
        self._connection.delete(delete_call(self.id))
        self._deletes = False

    def generate(
        self,
        prompt: str | None = None,
        *,
        mode: str | None = None,
        wait: bool | None = None,
        **options: Unpack[TurnOptions],
    ) -> Generation:
        """Takes a turn and returns the whole answer. The session then holds prompt and answer.

        A turn that the server may have taken is not sent again, because the session might then
        hold it twice. After an `APIConnectionError` whose `may_have_arrived` is true, compare
        `info().n_tokens` with what it was before.

        Args:
            prompt: The text to read. Either this or `token_ids`.
            mode: What the prompt is; see `BatchOptions`.
            wait: Wait while another request is using the session, for as long as `deadline` allows.
            options: See `TurnOptions`.

        Raises:
            SessionBusyError: Another request is using the session.
            SessionFullError: The session would hold more than the model, or the server, allows.
        """
        call = generate_call(
            prompt,
            stream=False,
            mode=mode,
            session_id=self.id,
            wait_for_session=wait,
            **options,
        )
        return self._connection.ask(call, Generation)

    def stream(
        self,
        prompt: str | None = None,
        *,
        mode: str | None = None,
        wait: bool | None = None,
        **options: Unpack[TurnOptions],
    ) -> Stream:
        """Takes a turn and returns a stream of the answer, each piece once the session holds it.

        The arguments are those of `generate`, and the stream is like that of `Client.stream`.
        If you leave the stream early, or it breaks, the session keeps what was written until then.
        """
        call = generate_call(
            prompt,
            stream=True,
            mode=mode,
            session_id=self.id,
            wait_for_session=wait,
            **options,
        )
        return Stream(self._connection, call)

    def recall(
        self,
        prefix: str | None = None,
        *,
        wait: bool | None = None,
        **options: Unpack[TurnOptions],
    ) -> Generation:
        """Continues, word for word, a passage that the session has read.

        The answer goes to the end of the passage, or to `max_tokens`, by default 256. Its
        `verified` says whether it is what the session has read. If the model does not find the
        passage, the text is empty, `finish_reason` is `not_found`, and the session stays as it was.

        Args:
            prefix: The first words of the passage, which the answer does not repeat. Either this
                or `token_ids`.
            wait: See `generate`.
            options: See `TurnOptions`.

        Raises:
            UnprocessableEntityError: The model cannot recall.
        """
        return self.generate(prefix, mode="recall", wait=wait, **options)

    def read(
        self,
        text: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        wait: bool | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> Generation:
        """Reads a passage into the session and writes nothing.

        Args:
            text: The passage. Either this or `token_ids`.
            token_ids: The passage as token ids, without special ones.
            wait: See `generate`.
            priority: See `SamplingOptions`.
            deadline: See `SamplingOptions`.
            request_id: See `TurnOptions`.

        Returns:
            A generation without text. Its `session` says how many tokens the session holds.
        """
        return self.generate(
            text,
            mode="copy",
            wait=wait,
            token_ids=token_ids,
            max_tokens=0,
            priority=priority,
            deadline=deadline,
            request_id=request_id,
        )

    def fork(self, *, ttl: float | None = None, keep: bool = False) -> "Session":
        """Makes a second session with the same content, and returns it, open.

        Both share the server's memory of what they have in common.

        Args:
            ttl: Seconds without use after which the server drops the new session; None for the
                time-to-live of this one.
            keep: Whether the new session stays on the server when its block is left.

        Raises:
            SessionBusyError: Another request is using this session.
            TooManySessionsError: The server holds as many sessions as it may.
        """
        child = self._connection.ask(fork_call(self.id, ttl), SessionInfo)
        return Session(self._connection, child.id, is_open=True, keep=keep)

    def info(self, *, include_token_ids: bool = False) -> SessionInfo:
        """Returns what the server says about the session, with all of its token ids if you ask."""
        call = show_call(self.id, include_token_ids=include_token_ids)
        return self._connection.ask(call, SessionInfo)

    @overload
    def snapshot(self, path: None = None, *, progress: Progress | None = None) -> bytes: ...

    @overload
    def snapshot(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Path: ...

    def snapshot(
        self, path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> bytes | Path:
        """Downloads the session, for `Client.restore` to make it anew on any such server.

        Args:
            path: The file to write, which replaces one of the same name. It appears only once it
                is complete.
            progress: A plain function. Called with the number of bytes that have arrived and the
                total, or None if the server does not tell it; from 0 again when the connection
                breaks and the request is retried.

        Returns:
            The path; or the content, if there is no path.

        Raises:
            SessionBusyError: Another request is using the session.
            UnprocessableEntityError: The session is empty.
            OSError: The file cannot be written.
        """
        call = snapshot_call(self.id)
        if path is None:
            content = BytesIO()
            self._connection.download(call, content, progress)
            return content.getvalue()
        with PartialFile(path) as partial_file:
            self._connection.download(call, partial_file.open(), progress)
            return run_blocking(partial_file.put_in_place)
