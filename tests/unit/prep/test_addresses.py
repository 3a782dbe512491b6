from __future__ import annotations

import pytest

from legit_embedding.prep.addresses import PrivateHosts, is_public

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "168.63.129.16",
    "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1",
    "2620:4f:8000::1",
    "2001:3::1",
    "2001:4:112::1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "224.0.1.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%2",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "93.184.216.34",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("allowed", "place", "expected"),
    [
        ("minio", ("minio", 9000), True),
        ("minio:9000", ("minio", 9000), True),
        ("MinIO:9000", ("minio", 9000), True),
        ("minio", ("MINIO", 80), True),
        ("minio:9000", ("minio", 9001), False),
        ("minio:900", ("minio", 9000), False),
        ("minio", ("minio.evil.example", 80), False),
        ("minio", ("evil-minio", 80), False),
        ("10.0.0.1", ("10.0.0.1", 80), True),
        ("10.0.0.1", ("10.0.0.11", 80), False),
        ("::1", ("::1", 80), True),
        ("[::1]", ("::1", 80), True),
        ("[::1]:80", ("::1", 80), True),
        ("[::1]:80", ("::1", 81), False),
    ],
)
def test_private_hosts_are_listed_whole(allowed: str, place: tuple[str, int], expected: bool) -> None:
    assert (place in PrivateHosts([allowed])) is expected
    assert place not in PrivateHosts([])
