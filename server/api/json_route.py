"""Routes whose bodies are JSON."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from causalrn.server.api.accounts import enter
from causalrn.server.http.json_body import JsonRequest


class JsonRoute(APIRoute):
    """A route that reads its body strictly, and only after the request has been let in.

    By itself FastAPI reads the body before it looks at a route's dependencies, such as the key, and
    answers anything that goes wrong there with a plain 400.
    """

    body_is_optional = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler, which finds the body read and parsed."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            if self.body_field is not None:
                enter(request)
                request = JsonRequest(request, optional=self.body_is_optional)
                await request.json()
            return await handle(request)

        return handle_json


class OptionalJsonRoute(JsonRoute):
    """A route whose body may be missing."""

    body_is_optional = True
