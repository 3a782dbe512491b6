"""Which network addresses a fetch may reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# What `is_global` of some Python release in use lets through although it leads inside or nowhere.
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "100.64.0.0/10",  # carriers' and clouds' inner networks
            "192.0.0.0/24",  # protocol assignments, where some clouds answer with their metadata
            "168.63.129.16/32",  # a cloud's own services, in the middle of public addresses
            "192.31.196.0/24",  # AS112: answers for names that should not have been asked for
            "192.52.193.0/24",  # AMT: multicast relays
            "192.175.48.0/24",  # AS112
            "192.88.99.0/24",  # relays into IPv6, withdrawn
            "64:ff9b:1::/48",  # local translation into IPv4
            "2001::/23",  # protocol assignments; Teredo, AMT and a part of AS112 among them
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing
            "fec0::/10",  # site-local, withdrawn
        ),
    )
)
_TRANSLATED = ip_network("64:ff9b::/96")
"""The last 32 bits of these are an IPv4 address that the network's NAT64 connects to."""


def is_public(address: str) -> bool:
    """True if an IP address, as text, is one of the public internet's; of one IPv4 address in an IPv6 one, that one."""
    parsed = ip_address(address)
    embedded = _embedded(parsed) if isinstance(parsed, IPv6Address) else None
    return _is_public(parsed if embedded is None else embedded)


class PrivateHosts:
    """The hosts that may be reached although they are private.

    Args:
        allowed: ``host`` (any port) or ``host:port``, as URLs write them; an IPv6 address with a port in brackets.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(entry.lower() for entry in allowed)

    def __contains__(self, place: tuple[str, int]) -> bool:
        host, port = place
        host = host.lower()
        written = f"[{host}]" if ":" in host else host
        return not self._allowed.isdisjoint({host, written, f"{written}:{port}"})


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local:
        return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
