"""The query options of ``redis_url``, under Celery's and redis-py's names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_IGNORED = frozenset({"decode_responses", "protocol"})
"""Options that are ignored because each client here sets them itself."""
_TEXTS = frozenset({"username", "password", "service", "sentinel_username", "sentinel_password"})
_OTHER_NAMES = {"virtual_host": "db", "master_name": "service"}
_OF_SENTINEL = frozenset({"service", "sentinel_username", "sentinel_password", "min_other_sentinels"})


def read_options(query: str) -> Options:
    """Parse the query options of an address.

    Raises:
        ValueError: an option is unknown, duplicated or has an invalid value; the message names it.
    """
    found: dict[str, Any] = {}
    tls: dict[str, Any] = {}
    connection: dict[str, Any] = {}
    for given, text in parse_qsl(query, keep_blank_values=True):
        name = _OTHER_NAMES.get(given, given)
        if name in found or name in tls or name in connection:
            message = f"the option {given} is there twice"
            raise ValueError(message)
        if name in _TLS:
            tls[name] = _value(given, text, _TLS[name])
        elif name in _CONNECTION:
            connection[name] = _value(given, text, _CONNECTION[name])
        elif name in _TEXTS or name == "db":
            found[name] = text
        elif name == "min_other_sentinels":
            found[name] = _value(given, text, _whole)
        elif name not in _IGNORED:
            # A password may contain an unescaped `&`: the text after it is not an option name, and is not repeated.
            shown = repr(given) if given.isidentifier() and not found.keys() & _SECRETS else "of that name"
            message = f"there is no option {shown} for this address (in a value write & as %26)"
            raise ValueError(message)
    of_sentinel = next((name for name in found if name in _OF_SENTINEL), "")
    return Options(tls=MappingProxyType(tls), connection=MappingProxyType(connection), of_sentinel=of_sentinel, **found)


@dataclass(frozen=True, slots=True)
class Options:
    """The validated options of one address."""

    tls: Mapping[str, Any] = field(repr=False)
    connection: Mapping[str, Any]
    of_sentinel: str
    """The first option given that only Sentinels understand; empty if there is none."""
    db: str = ""
    service: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)
    min_other_sentinels: int = 0


def _value(name: str, text: str, read: Callable[[str], Any]) -> Any:  # noqa: ANN401 - each option has a type of its own
    try:
        return read(text)
    except ValueError as error:
        message = f"{name} must be {error}"
        raise ValueError(message) from None


LEAST_S = 0.05
"""The shortest accepted timeout, in seconds: no server on a network reliably answers sooner."""


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not LEAST_S <= seconds < float("inf"):
        message = f"a number of seconds from {LEAST_S:g} on"
        raise ValueError(message)
    return seconds


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a whole number, 0 or more")
    return int(text)


def _boolean(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in known:
        raise ValueError("true or false")
    return known[text.lower()]


def _verification(text: str) -> str:
    known = text.lower().removeprefix("cert_")
    if known not in {"required", "optional", "none"}:
        raise ValueError("required, optional or none (or CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE)")
    return known


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError("a file that exists")
    return text


_CONNECTION: dict[str, Callable[[str], Any]] = {
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _boolean,
    "health_check_interval": _whole,
    "retry_on_timeout": _boolean,
    "max_connections": _whole,
    "client_name": str,
}
_SECRETS = frozenset({"password", "sentinel_password"})
_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": _verification,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": str,
    "ssl_check_hostname": _boolean,
}
