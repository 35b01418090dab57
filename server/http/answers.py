"""What the server answered: a line in the log for each answer, and figures for Prometheus."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from causalrn.server.errors import ServiceError
from causalrn.server.http.errors import status_of
from causalrn.server.printable import LONGEST_ECHO, printable

logger = logging.getLogger(__name__)

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_ROUTINE = {"/health", "/health/live", "/health/ready", "/metrics"}  # asked for every few seconds


@dataclass(frozen=True)
class Answer:
    """The beginning of an answer.

    Attributes:
        client: address that the request came from.
        status: of the answer; 499 if the client left before it began.
        request_id: as in the answer's `x-request-id`.
        method, path: of the request, without the query; empty if its head was never complete.
        route: template of the path; empty if there is no such route.
        reason: `type` of the error; empty if the request succeeded.
        param: the field at fault; empty if no single field is.
        seconds: since the head of the request had arrived.
        failure: an exception that nothing has handled, if that is why.
    """

    client: str
    status: int
    request_id: str
    method: str = ""
    path: str = ""
    route: str = ""
    reason: str = ""
    param: str = ""
    seconds: float = 0.0
    failure: Exception | None = None


class Answers(Collector):
    """Counts answers and writes them into the log. Only the event loop's thread uses it.

    Errors are counted from 0: Prometheus cannot tell how much a figure grew that was not there.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._errors = Counter(
            {(error.type, str(status_of(error))): 0 for error in _kinds(ServiceError)}
        )

    def note(self, answer: Answer) -> None:
        """Count an answer and write a line about it.

        The line has neither the query nor the headers nor anything of the body but the name of a
        field, so no secrets.
        """
        method = answer.method if answer.method in _METHODS else "other"
        self._requests[method, answer.route or "none", str(answer.status)] += 1
        if answer.reason:
            self._errors[answer.reason, str(answer.status)] += 1
        level = _level(answer)
        if not logger.isEnabledFor(level):
            return
        asked = f"{answer.method} {answer.path}" if answer.method else "an incomplete request"
        where = printable(asked, LONGEST_ECHO)
        why = answer.reason and f" {answer.reason}"
        field = answer.param and f" ({answer.param})"
        logger.log(
            level,
            "%s: %d%s%s in %.1f ms, from %s, request %s",
            *(where, answer.status, why, field, 1e3 * answer.seconds),
            *(answer.client, answer.request_id),
            exc_info=answer.failure,
            extra={
                "request_id": answer.request_id,
                "status": answer.status,
                "reason": answer.reason,
            },
        )

    def collect(self) -> Iterator[Metric]:
        """The counts, as Prometheus wants them."""
        requests = CounterMetricFamily(
            "causalrn_http_requests",
            "Answers that have begun, by method, route and status.",
            labels=["method", "route", "status"],
        )
        for labels, n in self._requests.items():
            requests.add_metric(labels, n)
        yield requests
        errors = CounterMetricFamily(
            "causalrn_http_errors",
            "Requests that were refused or failed, by the type of the error.",
            labels=["reason", "status"],
        )
        for reason, n in self._errors.items():
            errors.add_metric(reason, n)
        yield errors


def _kinds(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """An error and all that derive from it."""
    yield error
    for kind in error.__subclasses__():
        yield from _kinds(kind)


def _level(answer: Answer) -> int:
    """How much an answer matters to whoever runs the server."""
    if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return logging.ERROR
    if answer.status > HTTPStatus.INTERNAL_SERVER_ERROR:
        return logging.WARNING  # it could not serve, and said so
    if answer.status < HTTPStatus.BAD_REQUEST and answer.route in _ROUTINE:
        return logging.DEBUG
    return logging.INFO
