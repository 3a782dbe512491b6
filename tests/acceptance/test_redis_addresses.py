"""Sockets, user names and both spellings of TLS: each through a real worker, on every connection that it makes."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack

import pytest

from tests.acceptance.conftest import NULL_MODELS
from tests.clients import AddressedClient
from tests.servers import Server, available_kinds, free_port
from tests.unit.cli.invoking import Cli
from tests.workers import Worker

USER = "shop:of-the-shop"
PERMISSIONS = "+@all -@dangerous +info"
"""What docs/redis.md gives to a worker's user."""
ADDRESSES = {
    "unix": "unix://{user}@{folder}/redis.sock?db=1",
    "Celery's TLS": "rediss://{user}@localhost:{port}/2?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={folder}/ca.pem",
    "redis-py's TLS": "rediss://{user}@localhost:{port}/3?ssl_cert_reqs=required&ssl_ca_certs={folder}/ca.pem",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the server's certificate and its socket are."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, "-keyout", "key.pem", "-out", "ca.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def urls(folder, tmp_path_factory):
    """An address of each kind, of one server that knows a user."""
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", f"{folder}/ca.pem", "--tls-key-file", f"{folder}/key.pem"]
    options += ["--tls-ca-cert-file", f"{folder}/ca.pem", "--tls-auth-clients", "no"]
    options += ["--unixsocket", f"{folder}/redis.sock"]
    name, password = USER.split(":")
    options += ["--user", name, "on", f">{password}", "~*", "&*", *PERMISSIONS.split()]
    with Server(available_kinds()[-1], tmp_path_factory.mktemp("server"), options=options) as server:
        yield {kind: url.format(user=USER, folder=folder, port=port) for kind, url in ADDRESSES.items()}
        with server.client() as client:
            assert client.dbsize() == 0, "something went to another database"


@pytest.fixture(scope="module")
def workers(urls, tmp_path_factory):
    """A worker on each address, started beside each other."""
    with ExitStack() as stack:
        workers = {}
        for kind, url in urls.items():
            config = {"models": NULL_MODELS, "worker_id": "shopper"}
            worker = Worker(url, tmp_path_factory.mktemp("worker"), config)
            workers[kind] = stack.enter_context(worker)
        yield {kind: worker.wait_ready() for kind, worker in workers.items()}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_worker_serves_this_address_everywhere(urls, workers, kind):
    producer = AddressedClient(urls[kind])
    try:
        assert producer.text("one", task_id="one").get(timeout=20)["status"] == "ok"
        producer.redis.xadd("embedding_tasks", {"task_id": "two", "text": "two"})
        assert producer.answers(["one", "two"])["two"]["worker"] == "shopper"
    finally:
        producer.close()
    cli = Cli(REDIS_URL=urls[kind], WORKER_ID="shopper")
    assert cli("health").stdout == "shopper is running\n"
    assert "of-the-shop" not in workers[kind].log
    assert "of-the-shop" not in cli("streams").stdout


def test_a_certificate_of_somebody_elses_is_refused(urls):
    url, _, _ = urls["redis-py's TLS"].partition("&")
    assert "certificate verify failed" in Cli(REDIS_URL=url).failure("streams")
