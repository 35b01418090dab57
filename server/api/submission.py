"""From a request's body to the answer: the one path of every route that generates."""

from collections.abc import Callable

from fastapi import Request, Response

from server.api.schemas.generation_fields import GenerationFields
from server.api.streaming import (
    DeltaStream,
    EventStream,
    Format,
    unless_disconnected,
    whole_response,
)
from server.auth.access import Account
from server.engine.engines import Engines
from server.engine.merged_stream import MergedStream
from server.sessions.sessions import Sessions


async def answer(
    body: GenerationFields,
    write: Callable[[DeltaStream], Format],
    request: Request,
    *,
    models: Engines,
    sessions: Sessions,
    account: Account,
    label: str,
) -> Response:
    """Generate what a body asks for, at once or as a stream of server-sent events.

    Args:
        body: of the request.
        write: how the answer is written.
        request: whose body has been read.
        models: that are served.
        sessions: that can be gone on from.
        account: which pays, and whose sessions it may go on.
        label: what the log calls the request.

    Raises:
        ServiceError: the request is refused, or the engine failed before the answer began.
        ClientDisconnect: the client left before that.
    """
    stream = await _submit(body, request, models, sessions, account, label)
    account.meter(stream)
    if body.stream:
        return EventStream(stream, write(stream))
    return await whole_response(stream, write(stream), request.receive)


async def _submit(
    body: GenerationFields,
    request: Request,
    models: Engines,
    sessions: Sessions,
    account: Account,
    label: str,
) -> DeltaStream:
    requests = [(source.prompt, body.params(source)) for source in body.sources()]
    if body.session_id is None:
        streams = models.get(body.model).submit_all(requests, request_id=label, owner=account.owner)
        return streams[0] if len(streams) == 1 else MergedStream(streams)
    ((prompt, params),) = requests
    turn = sessions.turns.submit(
        account,
        body.session_id,
        prompt,
        params,
        wait=body.wait_for_session,
        request_id=label,
        model=body.model,
    )
    return await unless_disconnected(request.receive, turn)
