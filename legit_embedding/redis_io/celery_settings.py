"""Celery and kombu settings for an address, since their URL syntax differs from redis-py's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from legit_embedding.errors import ConfigError
from legit_embedding.redis_io.client import CONNECT_TIMEOUT_S, sentinel_options

if TYPE_CHECKING:
    from celery.app.utils import Settings

    from legit_embedding.redis_io.address import RedisAddress

SENTINEL_SOCKET_TIMEOUT_S = 10.0
"""Timeout for a master that fails silently, in seconds: the Sentinels have elected another by then."""


def celery_settings(address: RedisAddress, theirs: Settings) -> dict[str, Any]:
    """The settings with which Celery uses this address as its broker and its result backend.

    A broker or a backend that the operator has configured is kept, with all of its options. Options that the operator
    sets for ours, such as ``visibility_timeout``, are merged with those that the address needs.

    Args:
        address: the server.
        theirs: the operator's settings, from the profile and the environment.
    """
    settings: dict[str, Any] = {}
    if address.is_cluster:
        return settings
    if not theirs.broker_url:
        options = _broker_options(address) | (theirs.get("broker_transport_options") or {})
        settings |= {"broker_url": _broker_url(address), "broker_transport_options": options}
        if address.tls is not None:
            settings["broker_use_ssl"] = _tls(address)
    if not theirs.result_backend:
        options = _sentinel_options(address) | (theirs.get("result_backend_transport_options") or {})
        settings |= {"result_backend": _result_url(address), **_result_settings(address)}
        settings["result_backend_transport_options"] = options
    return settings


def need_no_cluster(theirs: Settings) -> None:
    """Check that Celery has a broker and a result backend of its own, since it can use no cluster.

    Args:
        theirs: the operator's settings, from the profile and the environment.

    Raises:
        ConfigError: one of the two is missing; the message names the setting.
    """
    for name, url in {"broker_url": theirs.broker_url, "result_backend": theirs.result_backend}.items():
        if not url:
            message = (
                f"redis_url is a Redis Cluster, which Celery cannot use: set Celery's {name} too, in the profile or as "
                f"CELERY_{name.upper()}"
            )
            raise ConfigError(message)


def _broker_url(address: RedisAddress) -> str:
    user = quote(address.username or "", safe="")
    if address.password is not None:
        user += ":" + quote(address.password, safe="")
    return _url(address, user and f"{user}@")


def _result_url(address: RedisAddress) -> str:
    """The backend's URL without a password, which Celery would print if there is more than one address."""
    interval = {name: value for name, value in address.connection.items() if name == "health_check_interval"}
    if not interval or address.service:
        return _url(address)
    url = _url(address)
    return f"{url}{'&' if '?' in url else '?'}{urlencode(interval)}"


def _url(address: RedisAddress, user: str = "") -> str:
    if address.path:
        return f"redis+socket://{user}{quote(address.path)}?virtual_host={address.db}"
    scheme = "sentinel" if address.service else "redis" if address.tls is None else "rediss"
    hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in address.hosts]
    return ";".join(f"{scheme}://{user}{host}/{address.db}" for host in hosts)


def _broker_options(address: RedisAddress) -> dict[str, Any]:
    timeouts: dict[str, Any] = {}
    if address.service:
        timeouts = {"socket_timeout": SENTINEL_SOCKET_TIMEOUT_S, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    return timeouts | dict(address.connection) | _sentinel_options(address)


def _sentinel_options(address: RedisAddress) -> dict[str, Any]:
    if not address.service:
        return {}
    return {
        "master_name": address.service,
        "min_other_sentinels": address.min_other_sentinels,
        "sentinel_kwargs": sentinel_options(address),
    }


_RESULT_NAMES = {
    "socket_timeout": "redis_socket_timeout",
    "socket_connect_timeout": "redis_socket_connect_timeout",
    "socket_keepalive": "redis_socket_keepalive",
    "retry_on_timeout": "redis_retry_on_timeout",
    "max_connections": "redis_max_connections",
    "client_name": "redis_client_name",
}


def _result_settings(address: RedisAddress) -> dict[str, Any]:
    settings = {_RESULT_NAMES[name]: value for name, value in address.connection.items() if name in _RESULT_NAMES}
    if address.service:
        settings.setdefault("redis_socket_timeout", SENTINEL_SOCKET_TIMEOUT_S)
        settings.setdefault("redis_socket_connect_timeout", CONNECT_TIMEOUT_S)
    if address.path:
        settings.pop("redis_socket_keepalive", None)
    if address.username is not None:
        settings["redis_username"] = address.username
    if address.password is not None:
        settings["redis_password"] = address.password
    if address.tls is not None:
        settings["redis_backend_use_ssl"] = _tls(address)
    return settings


def _tls(address: RedisAddress) -> dict[str, Any]:
    # If it is missing, Celery rejects the settings and kombu verifies no certificate.
    return {"ssl_cert_reqs": "required"} | dict(address.tls or {})
