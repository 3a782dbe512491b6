"""The address and credentials of Redis, parsed once from ``redis_url``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from legit_embedding.redis_io.options import Options, read_options

if TYPE_CHECKING:
    from collections.abc import Mapping

REDIS_PORT, SENTINEL_PORT = 6379, 26379
CLUSTER = "+cluster"
"""The end of the schemes of a Redis Cluster."""
SCHEMES = {name: name for name in ("redis", "rediss", "unix", "sentinel", f"redis{CLUSTER}", f"rediss{CLUSTER}")} | {
    "redis+socket": "unix"
}
"""The accepted schemes, including Celery's own for a socket, and the kind of address each denotes."""

NO_ADDRESS = (
    "not an address like redis://user:password@host:6379/0, rediss://, unix:///path, sentinel:// or redis+cluster:// "
    "(in a password write / ? # @ as %2F %3F %23 %40)"
)
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]*))(?::(?P<port>\d{1,5}))?", re.ASCII)

Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis server, the master that a set of Sentinels reports, or a Redis Cluster.

    Neither `public` nor the representation contains secrets.
    """

    hosts: tuple[Host, ...] = ()
    """The server, the Sentinels, or some nodes of the cluster; empty for a socket."""
    is_cluster: bool = False
    path: str = ""
    """The path of the socket."""
    service: str = ""
    """The master's name for the Sentinels; empty without them."""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    """redis-py's own ``ssl_`` options; None without TLS."""
    connection: Mapping[str, Any] = field(default_factory=dict)
    """redis-py's connection options that the address sets, such as ``socket_timeout``."""
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    min_other_sentinels: int = 0

    @classmethod
    def of(cls, url: str | RedisAddress) -> RedisAddress:
        """Parse an address; one that is already parsed is returned unchanged.

        Raises:
            ValueError: the address cannot be used. The message repeats only names of options: the rest may hold a
                misplaced password.
        """
        return url if isinstance(url, RedisAddress) else _read(url)

    @property
    def public(self) -> str:
        """The address without user, password and options, safe to log."""
        if self.path:
            return f"unix://{self.path}"
        hosts = ",".join(map(_shown, self.hosts))
        if self.service:
            return f"sentinel://{hosts}/{self.db}?service={self.service}"
        scheme = "redis" if self.tls is None else "rediss"
        return f"{scheme}{CLUSTER}://{hosts}" if self.is_cluster else f"{scheme}://{hosts}/{self.db}"


@cache
def _read(url: str) -> RedisAddress:
    text = url.strip()
    if not text.isprintable():
        raise ValueError(NO_ADDRESS)
    if not (text.lower().startswith("sentinel://") and ";" in text):
        return _read_one(text)
    # Celery's notation for several Sentinels: whole addresses separated by semicolons.
    text, mark, query = text.partition("?")
    address, *others = [_read_one(f"{each}{mark}{query}") for each in text.split(";")]
    if any(replace(other, hosts=address.hosts) != address for other in others):
        raise ValueError("the addresses of a list of Sentinels must differ in nothing but host and port")
    return replace(address, hosts=tuple(host for each in (address, *others) for host in each.hosts))


def _read_one(url: str) -> RedisAddress:
    scheme, _, rest = url.partition("://")
    kind = SCHEMES.get(scheme.lower())
    if kind is None or "://" not in url:
        raise ValueError(NO_ADDRESS)
    try:
        parts = urlsplit(f"{kind}://{rest}")
    except ValueError:  # unbalanced brackets
        raise ValueError(NO_ADDRESS) from None
    # An unescaped `/`, `?` or `#` in a password ends the host too early, and an error would show it as the host.
    if parts.fragment or (kind != "unix" and any("@" in part for part in (parts.path, parts.query))):
        raise ValueError(NO_ADDRESS)
    options = read_options(parts.query)
    _check_options(kind, options)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    db = _database(parts.path if kind != "unix" else "", options.db)
    is_cluster = kind.endswith(CLUSTER)
    if is_cluster and db:
        raise ValueError("a cluster has no database but 0")
    return RedisAddress(
        hosts=() if kind == "unix" else _hosts(kind, hosts),
        is_cluster=is_cluster,
        path=_path(parts, hosts) if kind == "unix" else "",
        service=options.service,
        db=db,
        username=options.username or unquote(username) or None,
        password=options.password or unquote(password) or None,
        tls=options.tls if kind.startswith("rediss") or options.tls else None,
        connection=options.connection,
        sentinel_username=options.sentinel_username or None,
        sentinel_password=options.sentinel_password or None,
        min_other_sentinels=options.min_other_sentinels,
    )


def _check_options(kind: str, options: Options) -> None:
    if options.tls and not kind.startswith(("rediss", "sentinel")):
        message = f"{next(iter(options.tls))} needs a rediss:// address"
        raise ValueError(message)
    if kind == "sentinel" and not options.service:
        raise ValueError("a sentinel:// address needs the master's name: sentinel://host:26379/0?service=NAME")
    if kind != "sentinel" and options.of_sentinel:
        message = f"{options.of_sentinel} needs a sentinel:// address"
        raise ValueError(message)


def _hosts(kind: str, text: str) -> tuple[Host, ...]:
    default = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    hosts = text.split(",") if kind == "sentinel" or kind.endswith(CLUSTER) else [text]
    if len(hosts) > 1 and not all(each.strip() for each in hosts):
        raise ValueError("an empty host stands between the commas")
    return tuple(_host(each, default) for each in hosts)


def _host(text: str, default: int) -> Host:
    found = _HOST.fullmatch(text.strip())
    if found is None:
        raise ValueError(NO_ADDRESS)
    port = default if found["port"] is None else int(found["port"])
    if not 0 < port < 1 << 16:
        raise ValueError("the port must be a number from 1 to 65535")
    return found["v6"] or found["name"] or "localhost", port


def _path(parts: SplitResult, host: str) -> str:
    path = unquote(parts.path)
    if host or not path.strip("/"):
        raise ValueError("a socket needs its absolute path: unix:///run/redis.sock?db=0")
    return path


def _database(path: str, option: str) -> int:
    text = option or unquote(path).strip("/")
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("the database must be a number, as in redis://host:6379/0")
    return int(text or 0)


def _shown(host: Host) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
