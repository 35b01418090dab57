"""What routes get from the app and the request, through FastAPI."""

import re
from typing import Annotated, cast

from fastapi import Depends, Request

from causalrn.server.api.schemas.generation_fields import SESSION_ID
from causalrn.server.engine.engines import Engines
from causalrn.server.sessions.sessions import Sessions
from causalrn.server.sessions.store.refusals import not_found


async def _engines(request: Request) -> Engines:
    return cast(Engines, request.app.state.engines)


async def _sessions(request: Request) -> Sessions:
    return cast(Sessions, request.app.state.sessions)


async def _session_id(session_id: str) -> str:
    if not re.fullmatch(SESSION_ID, session_id):
        raise not_found(session_id)
    return session_id


async def _root_path(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


async def _request_id(request: Request) -> str:
    return cast(str, request.state.request_id)


EnginesDependency = Annotated[Engines, Depends(_engines)]
"""The engines of the app, one for each model that it serves."""

SessionsDependency = Annotated[Sessions, Depends(_sessions)]
"""The sessions of the app."""

RootPath = Annotated[str, Depends(_root_path)]
"""What comes before the paths of all routes, where a proxy serves them below a path of its own."""

RequestId = Annotated[str, Depends(_request_id)]
"""The id that the response carries as `x-request-id`."""

SessionId = Annotated[str, Depends(_session_id)]
"""The session's id in the path, which has the form of one."""
