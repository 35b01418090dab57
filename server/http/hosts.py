"""Under which names the server answers."""

import re
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from causalrn.server.errors import MalformedRequestError, MisdirectedRequestError, ServiceError
from causalrn.server.http.errors import error_response
from causalrn.server.settings import Settings

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._~!$&'()*+,;=%-]*))(?::[0-9]*)?", re.IGNORECASE)


class Hosts:
    """Refuses requests that do not say which host they are for, or that are for another one.

    A page may have the name of its site lead to this machine, and is then no stranger to the
    browser. Where no key keeps it out, the name does: on a loopback address only names of this
    machine are taken, and those in the settings. If the settings have any, this holds for all
    addresses.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        error = _fault(scope) if scope["type"] == "http" else None
        if error is None:
            await self.app(scope, receive, send)
        else:
            await error_response(scope, error)(scope, receive, send)


def _fault(scope: Scope) -> ServiceError | None:
    hosts = Headers(scope=scope).getlist("host")
    if not hosts and scope["http_version"] == "1.0":  # which no browser speaks
        return None
    if len(hosts) != 1:
        return MalformedRequestError(f"the request has {len(hosts)} Host headers; it must have one")
    host = _HOST.fullmatch(hosts[0])
    if host is None:
        return MalformedRequestError(
            "the Host header must be a name or an address, and may have a port"
        )
    name = (host[1] or host[2]).lower().removesuffix(".")
    if _is_ours(name, scope):
        return None
    return MisdirectedRequestError(
        "a server without API keys answers only to the names of its own machine, such as "
        f"localhost, and to those in CAUSALRN_HOSTS; the Host header says '{name}'"
    )


def _is_ours(name: str, scope: Scope) -> bool:
    settings: Settings = scope["app"].state.settings
    address = (scope.get("server") or ("",))[0]  # of this end of the connection
    is_guarded = settings.hosts or _is_loopback(address)
    return (
        settings.has_keys
        or not is_guarded
        or name == address
        or name == "localhost"
        or name.endswith(".localhost")
        or _is_loopback(name)
        or name in settings.hosts
    )


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:  # a name, or the path of a socket
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
