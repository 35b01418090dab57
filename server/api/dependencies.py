"""What routes ask FastAPI for."""

import re
from typing import Annotated, cast

from fastapi import Depends, Request

from server.api.schemas.generation_fields import SESSION_ID
from server.engine.engines import Engines
from server.errors import SessionNotFoundError
from server.printable import LONGEST_ECHO, printable
from server.sessions.sessions import Sessions


async def _engines(request: Request) -> Engines:
    return cast(Engines, request.app.state.engines)


async def _sessions(request: Request) -> Sessions:
    return cast(Sessions, request.app.state.sessions)


async def _session_id(session_id: str) -> str:
    if not re.fullmatch(SESSION_ID, session_id):
        raise SessionNotFoundError(f"there is no session {printable(session_id, LONGEST_ECHO)}")
    return session_id


async def _request_id(request: Request) -> str:
    return cast(str, request.state.request_id)


EnginesDependency = Annotated[Engines, Depends(_engines)]
"""The engines of the app, one for each model that it serves."""

SessionsDependency = Annotated[Sessions, Depends(_sessions)]
"""The sessions of the app."""

RequestId = Annotated[str, Depends(_request_id)]
"""The id that the response will carry as `x-request-id`."""

SessionId = Annotated[str, Depends(_session_id)]
"""The id in the path, which looks like one of a session."""
