"""Which proxy the environment puts between this machine and a server."""

import importlib.util
import ipaddress
import os
from dataclasses import dataclass
from typing import Self
from urllib.request import getproxies, proxy_bypass

import httpx

from causalrn_client.errors import ConfigurationError

_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True)
class EnvironmentProxy:
    """A proxy that the environment asks for.

    Attributes:
        url: Its address, maybe with a name and a password.
        variable: Where the environment names it, for messages.
    """

    url: httpx.URL
    variable: str

    @classmethod
    def to(cls, server: httpx.URL) -> Self | None:
        """Finds the proxy for a server; None for servers on this machine and those of `NO_PROXY`.

        The rules are those of `urllib`, and networks such as 10.0.0.0/8 in `NO_PROXY` count too.

        Raises:
            ConfigurationError: There is one, and it cannot be used.
        """
        proxies = getproxies()
        if _is_this_machine(server.host) or _is_excepted(server, proxies.get("no", "")):
            return None
        for kind in (server.scheme, "all"):
            if address := proxies.get(kind):
                return cls(_parse(address, _variable(kind)), _variable(kind))
        return None


def _is_this_machine(host: str) -> bool:
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _is_excepted(server: httpx.URL, exceptions: str) -> bool:
    entries = [entry.strip() for entry in exceptions.split(",")]
    host = f"[{server.host}]" if ":" in server.host else server.host
    port = server.port or {"http": 80, "https": 443}[server.scheme]
    if "*" in entries or proxy_bypass(f"{host}:{port}"):
        return True
    address = _address(server.host)
    return address is not None and any(
        address in network for network in map(_network, entries) if network
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(exception: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    address, slash, length = exception.partition("/")
    try:
        return ipaddress.ip_network(address.strip("[]") + slash + length, strict=False)
    except ValueError:
        return None


def _variable(kind: str) -> str:
    names = [name for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY") if os.environ.get(name)]
    return names[0] if names else "the system's proxy setting"


def _parse(address: str, variable: str) -> httpx.URL:
    # The messages leave out the address, which may hold a password.
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in _SCHEMES or not url.host:
        raise ConfigurationError(
            f"{variable} is not the address of a proxy, such as http://proxy.example:3128 or "
            f"socks5://proxy.example:1080: correct it, unset it, or list the server in NO_PROXY"
        )
    if url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigurationError(
            f"{variable} names a SOCKS proxy, which needs another package: "
            "pip install 'httpx[socks]', unset it, or list the server in NO_PROXY"
        )
    return url
