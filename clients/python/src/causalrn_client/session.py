"""A session on the server, for synchronous code."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack, overload

from causalrn_client.connection import Connection
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
from causalrn_client.stream import Stream
from causalrn_client.upload import Progress


class Session:
    """What the server has read and written so far, kept there, and a context manager that ends it.

    Every turn goes on from the ones before. The server takes one turn of a session at a time: a
    second one raises a `SessionBusyError`, or waits with `wait=True`.

    Entering the block opens the session; without a block, `open` does. Leaving it deletes the
    session from the server if its id was made for it, and it was not to be kept. What is not
    deleted is gone after its time-to-live without use. An error in the block is never hidden by
    one of the deletion, which is added to it as a note.

    Whatever opens or uses it raises a `SessionNotFoundError` where the server has no such session
    (any more).
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
        """Made by `Client.session`, `Client.restore` and `fork`.

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
            try:
                # Once: waiting to ask again would hold up the error.
                self._connection.send_once(delete_call(self.id))
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

    def open(self) -> Self:
        """Makes the session, or sees to it that it is there, and returns it.

        Does nothing when it is open.
        """
        if not self._is_open:
            if self._id is None:
                call = create_call(self._ttl, self._model)
            else:
                call = show_call(self._id, include_token_ids=False)
            self._id = parse_answer(self._connection.send(call), SessionInfo).id
            self._is_open = True
        return self

    def close(self) -> None:
        """Does what leaving the block does: deletes the session, unless it is to be kept.

        May be called twice, and when it is gone already.
        """
        if self._is_open and self._deletes:
            try:
                self.delete()
            except NotFoundError:
                self._deletes = False

    def delete(self) -> None:
        """Deletes the session from the server, also one that was to be kept.

        A turn that is under way ends with an error.
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
        """Generates, and returns when all is written. The prompt and that are in the session then.

        A turn is not sent again where the server may have taken it, since it could be there twice:
        after an `APIConnectionError` whose `may_have_arrived` is true, `info` tells by `n_tokens`.

        Args:
            prompt: See `Client.generate`, also for what is not listed here.
            mode: What the prompt is; see there.
            wait: Wait, for as long as `deadline` allows, while another request has the session.
            options: The other keywords of `Client.generate`, without `n` and `model`.

        Raises:
            SessionBusyError: Another request has it.
            SessionFullError: It would outgrow what the model, or the server, can hold.
        """
        call = generate_call(
            prompt,
            stream=False,
            mode=mode,
            session_id=self.id,
            wait_for_session=wait,
            **options,
        )
        return parse_answer(self._connection.send(call), Generation)

    def stream(
        self,
        prompt: str | None = None,
        *,
        mode: str | None = None,
        wait: bool | None = None,
        **options: Unpack[TurnOptions],
    ) -> Stream:
        """Generates, and hands out what is written as it is written, once it is in the session.

        The arguments are those of `generate`; the stream is like that of `Client.stream`. What was
        written before the stream was left, or broke, is in the session.
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
        """Goes on, verbatim, from the first words of a passage that the session has read.

        Args:
            prefix: The words, which are not repeated in the answer; or `token_ids`.
            wait: See `generate`.
            options: See `generate`.

        Raises:
            UnprocessableEntityError: The model was not trained to recall.
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
        """Reads a passage into the session, and writes nothing.

        Args:
            text: The passage. Either this or `token_ids`.
            token_ids: The passage as token ids, without special ones.
            wait: See `generate`.
            priority: See `Client.generate`.
            deadline: See there.
            request_id: See there.

        Returns:
            A generation without text; its `session` tells how much the session holds.
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
        """Makes another session that holds the same, and shares the server's memory of it.

        Args:
            ttl: Seconds without use after which it is gone; this one's if None.
            keep: Whether leaving its block leaves it on the server.

        Returns:
            The child, which is open.

        Raises:
            SessionBusyError: Another request has this one.
            TooManySessionsError: The server holds as many as it may.
        """
        response = self._connection.send(fork_call(self.id, ttl))
        child = parse_answer(response, SessionInfo).id
        return Session(self._connection, child, is_open=True, keep=keep)

    def info(self, *, include_token_ids: bool = False) -> SessionInfo:
        """Asks the server about the session, and for all of its tokens if wanted."""
        call = show_call(self.id, include_token_ids=include_token_ids)
        return parse_answer(self._connection.send(call), SessionInfo)

    @overload
    def snapshot(self, path: None = None, *, progress: Progress | None = None) -> bytes: ...

    @overload
    def snapshot(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Path: ...

    def snapshot(
        self, path: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
    ) -> bytes | Path:
        """Fetches what `Client.restore` makes a session like this one of, on any such server.

        Args:
            path: A file to write, in place of one that there may be. It is there when it is
                complete, and not before.
            progress: Told how many bytes have come, and of how many; None where the server does not
                say. Begins again where the connection breaks and the request is sent again.

        Returns:
            The path; without one, the bytes.

        Raises:
            SessionBusyError: Another request has the session.
            UnprocessableEntityError: There is nothing in it yet.
            OSError: The file cannot be written.
        """
        call = snapshot_call(self.id)
        if path is None:
            content = BytesIO()
            self._connection.download(call, content, progress)
            return content.getvalue()
        with PartialFile(path) as partial:
            self._connection.download(call, partial.file, progress)
            return partial.put_in_place()
