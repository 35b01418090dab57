"""How this package makes its own clients of `httpx`, where the caller brings none."""

import os
import ssl
from pathlib import Path
from typing import TypedDict

import httpx

from causalrn_client.errors import ConfigurationError
from causalrn_client.proxy import EnvironmentProxy

# The server keeps idle connections for longer, so that it is the client that closes them.
KEPT = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)
"""For requests that can be repeated: connections that are used again."""

FRESH = httpx.Limits(max_connections=100, max_keepalive_connections=0)
"""For requests that must not be repeated: a new connection each, which no server closes as idle."""


class HTTPOptions(TypedDict):
    """Arguments of `httpx.Client` and `httpx.AsyncClient`."""

    verify: ssl.SSLContext
    proxy: httpx.Proxy | None
    trust_env: bool


def http_options(server: httpx.URL, proxy: EnvironmentProxy | None) -> HTTPOptions:
    """Returns the arguments for a client of one server.

    Only what this server needs is read from the environment: `httpx` itself would fail over what it
    does not.

    Raises:
        ConfigurationError: A variable of the environment is unusable; the message names it.
    """
    is_proxy_secure = proxy is not None and proxy.url.scheme == "https"
    if server.scheme == "https" or is_proxy_secure:
        verify = _certificates()
    else:
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and is not asked
    ssl_context = verify if is_proxy_secure else None
    return {
        "verify": verify,
        "proxy": None if proxy is None else httpx.Proxy(proxy.url, ssl_context=ssl_context),
        "trust_env": False,  # all that counts has been read
    }


def _certificates() -> ssl.SSLContext:
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if folders and not file and not any(Path(one).is_dir() for one in folders.split(os.pathsep)):
        raise ConfigurationError(f"SSL_CERT_DIR is not a folder: {folders}. Correct it or unset it")
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # `ssl.SSLError` is one
        read = ("SSL_CERT_FILE" if file else "SSL_CERT_DIR", "SSLKEYLOGFILE")
        told = [f"{name} ({value})" for name in read if (value := os.environ.get(name))]
        advice = f". Correct or unset {' and '.join(told)}" if told else ""
        raise ConfigurationError(f"TLS cannot be set up: {error}{advice}") from error
