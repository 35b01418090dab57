"""From a request's body to the answer: the one path of every route that generates."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Response

from causalrn.server.api.accounts import AccountDependency
from causalrn.server.api.dependencies import EnginesDependency, RequestId, SessionsDependency
from causalrn.server.api.schemas.generation_fields import GenerationFields
from causalrn.server.api.streaming import (
    DeltaStream,
    EventStream,
    Format,
    unless_disconnected,
    whole_response,
)
from causalrn.server.auth.access import Account
from causalrn.server.engine.engines import Engines
from causalrn.server.engine.merged_stream import MergedStream
from causalrn.server.sessions.sessions import Sessions
from causalrn.server.sessions.turn import Turn


class Submission:
    """Serves one request that generates.

    Args:
        request: the request, whose body has been read.
        request_id: its id, for the log.
        engines: those of the models that it can choose from.
        sessions: those that it can be a turn of.
        account: is charged for it, and says whose sessions it may use.
    """

    def __init__(
        self,
        request: Request,
        request_id: str,
        engines: Engines,
        sessions: Sessions,
        account: Account,
    ) -> None:
        self._request = request
        self._label = request_id
        self._engines = engines
        self._sessions = sessions
        self._account = account

    async def __call__(
        self,
        body: GenerationFields,
        write: Callable[[DeltaStream, Turn | None], Format],
        *,
        user: str | None = None,
    ) -> Response:
        """Generate what a body asks for, at once or as a stream of server-sent events.

        Args:
            body: what the client asks for.
            write: makes the format of the answer.
            user: on whose behalf the client asks, for the log.

        Raises:
            ServiceError: the request is refused, or the engine failed before the answer began.
            ClientDisconnect: the client left before that.
        """
        if user is not None:
            self._label += f", user {user!r}"
        stream, turn = await self._stream(body)
        self._account.meter(stream)
        if body.stream:
            return EventStream(stream, write(stream, turn))
        return await whole_response(stream, write(stream, turn), self._request.receive)

    async def _stream(self, body: GenerationFields) -> tuple[DeltaStream, Turn | None]:
        requests = [(source.prompt, body.params(source)) for source in body.sources()]
        if body.session_id is None:
            engine = self._engines.get(body.model)
            streams = engine.submit_all(
                requests,
                request_id=self._label,
                owner=self._account.owner,
                reserve=self._account.reserve,
            )
            return (streams[0] if len(streams) == 1 else MergedStream(streams)), None
        ((prompt, params),) = requests
        begin = self._sessions.turns.submit(
            self._account,
            body.session_id,
            prompt,
            params,
            wait=body.wait_for_session,
            request_id=self._label,
            model=body.model,
        )
        return await unless_disconnected(self._request.receive, begin)


async def _submission(
    request: Request,
    request_id: RequestId,
    engines: EnginesDependency,
    sessions: SessionsDependency,
    account: AccountDependency,
) -> Submission:
    # As a dependency itself, the class would be called on another thread.
    return Submission(request, request_id, engines, sessions, account)


Submit = Annotated[Submission, Depends(_submission)]
"""What a route calls with its body and the format of the answer."""
