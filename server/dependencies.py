"""What routes ask FastAPI for."""

from typing import Annotated, cast

from fastapi import Depends, Request

from server.engine import Engine


async def _engine(request: Request) -> Engine:
    return cast(Engine, request.app.state.engine)


async def _request_id(request: Request) -> str:
    return cast(str, request.state.request_id)


EngineDependency = Annotated[Engine, Depends(_engine)]
"""The engine of the app."""

RequestId = Annotated[str, Depends(_request_id)]
"""The id that the response will carry as `x-request-id`."""
