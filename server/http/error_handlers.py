"""Turns the exceptions that reach FastAPI into errors, in the shape that each path has."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from causalrn.server.errors import InvalidRequestError, ServiceError
from causalrn.server.http.errors import OPENAI_PREFIX, answer, error_response, is_openai
from causalrn.server.http.note_answers import CLIENT_LEFT
from causalrn.server.printable import LONGEST_ECHO, printable

_SURROGATES = re.compile("[\ud800-\udfff]")


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of an app, whose routers are `app.state.routers`.

    Exceptions of other kinds are answered by `AnswerFailures`.
    """
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return error_response(request.scope, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(request.scope, _explain(error.errors()[0]))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    scope, status = request.scope, error.status_code
    where = printable(f"{request.method} {scope['path']}", LONGEST_ECHO)
    if status == HTTPStatus.NOT_FOUND:
        message = f"{where}: there is nothing here; {_elsewhere(request)}"
        return answer(scope, status, "not_found", message)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        message = f"{where}: use {allowed}"
        return answer(scope, status, "method_not_allowed", message, headers={"allow": allowed})
    return answer(scope, status, "http_error", str(error.detail), headers=error.headers)


async def _on_disconnect(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=CLIENT_LEFT)


def _elsewhere(request: Request) -> str:
    """Where to look instead, for whoever asked for a path that does not exist."""
    scope = request.scope
    given = scope.get("root_path", "")
    root = given.rstrip("/")
    # What is right is said and not done: rules of a proxy, which go by paths, may not know of it.
    path = re.sub("/+", "/", "/" + scope["path"].removeprefix(given)).rstrip("/")
    if _routes(request, given + path):
        return f"did you mean {printable(root + path, LONGEST_ECHO)}?"
    if not is_openai(scope):
        return f"see {root}/docs"
    there = [
        f"{method} {root}{route.path}"
        for router in request.app.state.routers
        for route in router.routes
        for method in sorted(route.methods)
        if route.path.startswith(OPENAI_PREFIX)
    ]
    return f"of OpenAI's API, this server has {', '.join(there)}"


def _methods(request: Request) -> list[str]:
    """The methods of all routes that have the path of a request."""
    routes = _routes(request, request.scope["path"])
    methods = {method for route in routes for method in route.methods}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _routes(request: Request, path: str) -> list[Any]:
    """The routes that have a path, whatever their methods."""
    scope = {**request.scope, "path": path}
    routes = [route for router in request.app.state.routers for route in router.routes]
    return [route for route in routes if route.matches(scope)[0] is not Match.NONE]


def _explain(problem: Mapping[str, Any]) -> InvalidRequestError:
    """One of pydantic's findings, in our own words where they say more."""
    path = problem["loc"][1:]  # the first is "body"
    if path[-1:] == ("[key]",) and problem["type"] != "extra_forbidden":
        path = path[:-1]  # pydantic's way to say that a key of an object is wrong
    param = _dotted(path) or problem.get("ctx", {}).get("param")
    match problem["type"]:
        case "extra_forbidden":
            message = f"unknown field '{param}'"
        case "string_unicode":
            text = problem["input"]
            place = next(_SURROGATES.finditer(text)).start()
            message = (
                f"{param or 'the name of a field'}: the character {text[place]!r} at position "
                f"{place} is a lone surrogate, which no text can hold"
            )
        case "missing" | "model_attributes_type" | "model_type" if not path:
            message = "the body must be a JSON object"
        case _:
            message = str(problem["msg"])
            message = f"{param}: {message[0].lower()}{message[1:]}" if path else message
    return InvalidRequestError(message, param=param)


def _dotted(path: tuple[str | int, ...]) -> str | None:
    """`("stop", 2)` as `stop[2]`."""
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return printable(dotted.removeprefix("."), LONGEST_ECHO) or None
