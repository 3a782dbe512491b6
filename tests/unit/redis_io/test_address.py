from __future__ import annotations

import ssl
import sys

import pytest
import redis

from legit_embedding.celery import make_app
from legit_embedding.config import get_settings, load_settings
from legit_embedding.errors import ConfigError
from legit_embedding.redis_io.address import RedisAddress
from legit_embedding.redis_io.client import make_client, sentinel_options
from tests.servers import free_port

SECRET = "s/e@cr?t"
QUOTED = "s%2Fe%40cr%3Ft"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("rediss://", "rediss://localhost:6379/0"),
        (f"redis://user:{QUOTED}@host:6380/3", "redis://host:6380/3"),
        (f"redis://host?db=2&password={QUOTED}", "redis://host:6379/2"),
        (f"rediss://:{QUOTED}@host?ssl_cert_reqs=CERT_REQUIRED", "rediss://host:6379/0"),
        ("redis://[::1]:7000/0", "redis://[::1]:7000/0"),
        (f"unix://user:{QUOTED}@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        (f"redis+socket://user:{QUOTED}@/run/redis.sock?virtual_host=1", "unix:///run/redis.sock"),
        (f"sentinel://:{QUOTED}@a:1,b/2?service=shop", "sentinel://a:1,b:26379/2?service=shop"),
        (
            f"sentinel://:{QUOTED}@a:1/2;sentinel://:{QUOTED}@b/2?master_name=shop",
            "sentinel://a:1,b:26379/2?service=shop",
        ),
        (f"redis+cluster://:{QUOTED}@a:1,b,[::1]:7000", "redis+cluster://a:1,b:6379,[::1]:7000"),
        (f"rediss+cluster://:{QUOTED}@a/0?ssl_cert_reqs=none", "rediss+cluster://a:6379"),
        ("redis://host?socket_timeout=5&health_check_interval=5&decode_responses=true", "redis://host:6379/0"),
    ],
)
def test_an_address_that_is_served_shows_no_secret(url, public):
    address = RedisAddress.of(url)
    assert address.public == public
    assert SECRET not in repr(address)
    assert address.password == (SECRET if QUOTED in url else None)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("a;b", "not an address like"),
        ("localhost:6379", "not an address like"),
        ("", "not an address like"),
        ("amqp://secret@host", "not an address like"),
        ("redis://[::1/0", "not an address like"),
        ("redis://:sec?ret@host/0", "not an address like"),
        ("redis://host:65536", "the port must be"),
        ("redis://host/cache", "the database must be a number"),
        ("redis://host?nothing=secret", "there is no option 'nothing'"),
        ("redis://host?password=a&secret", "there is no option of that name"),
        ("redis://ho\nst/0", "not an address like"),
        ("sentinel://a,,b/0?service=x", "an empty host"),
        ("redis://host?socket_timeout=1e-9", "socket_timeout must be a number of seconds"),
        ("redis://host?db=1&db=2", "the option db is there twice"),
        ("redis://host?socket_timeout=secret", "socket_timeout must be a number of seconds"),
        ("redis://host?health_check_interval=-1", "health_check_interval must be a whole number"),
        ("redis://host?socket_keepalive=secret", "socket_keepalive must be true or false"),
        ("rediss://host?ssl_cert_reqs=secret", "ssl_cert_reqs must be required, optional or none"),
        ("rediss://host?ssl_ca_certs=/no/such/secret", "ssl_ca_certs must be a file that exists"),
        ("redis://host?ssl_cert_reqs=none", "ssl_cert_reqs needs a rediss:// address"),
        ("redis://host?service=secret", "service needs a sentinel:// address"),
        ("sentinel://host/0", "needs the master's name"),
        ("sentinel://:a@host/0;sentinel://:secret@host/0?service=x", "must differ in nothing but host and port"),
        ("redis+cluster://a,b/1", "a cluster has no database but 0"),
        ("redis+cluster://a,,b", "an empty host"),
        ("redis+cluster://a?ssl_cert_reqs=none", "ssl_cert_reqs needs a rediss:// address"),
        ("redis+cluster://a?service=secret", "service needs a sentinel:// address"),
        ("unix://run/redis.sock", "a socket needs its absolute path"),
    ],
)
def test_an_address_that_cannot_be_served_is_one_line_that_names_the_setting(url, says, monkeypatch):
    monkeypatch.setenv("LEGIT_REDIS_URL", url or " ")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith("LEGIT_REDIS_URL: redis_url: ")
    assert says in message
    assert "secret" not in message
    assert "\n" not in message


def test_the_two_spellings_of_tls_are_one():
    celerys, redis_pys = (RedisAddress.of(f"rediss://host?ssl_cert_reqs={each}") for each in ("CERT_NONE", "none"))
    assert celerys == redis_pys
    with make_client(celerys, 1) as client:
        connection = client.connection_pool.make_connection()
    assert (connection.cert_reqs, connection.check_hostname) == (ssl.CERT_NONE, False)


def test_the_timeout_of_the_address_wins_but_for_who_blocks():
    address = RedisAddress.of("redis://host?socket_timeout=0.5")
    with make_client(address, 7) as client:
        assert client.connection_pool.connection_kwargs["socket_timeout"] == 0.5
    with make_client(address, 7, least_timeout_s=2) as client:
        assert client.connection_pool.connection_kwargs["socket_timeout"] == 2


def test_a_cluster_that_is_away_is_met_when_it_is_used_and_as_any_other_server():
    address = RedisAddress.of(f"redis+cluster://127.0.0.1:{free_port()}")
    with make_client(address, 1) as client:
        for use in (client.ping, lambda: client.delete("key"), lambda: client.pipeline(transaction=False)):
            with pytest.raises(redis.ConnectionError, match="cannot be connected"):
                use()


CLUSTER = {
    "LEGIT_REDIS_URL": "redis+cluster://a,b",
    "LEGIT_STREAMS__TASKS": "embedding_tasks:{a}",
    "LEGIT_STREAMS__RESULTS": "embedding_results:{a}",
    "LEGIT_STREAMS__DEAD_LETTER": "embedding_tasks:{a}:dead",
}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        (
            {"LEGIT_STREAMS__TASKS": "embedding_tasks"},
            "tasks needs a hash tag: 'embedding_tasks' could be 'embedding_tasks:{a}'",
        ),
        ({"LEGIT_STREAMS__RESULTS": "embedding_results"}, "results 'embedding_results' and tasks"),
        ({"LEGIT_STREAMS__DEAD_LETTER": "dead:{b}"}, "dead_letter 'dead:{b}' and tasks"),
        (
            {"LEGIT_STREAMS__ROUTES": '{"shop": "embedding_results:{b}"}'},
            "routes.shop 'embedding_results:{b}' and tasks",
        ),
        ({"LEGIT_STREAMS__RESULTS": "embedding_results", "LEGIT_REDIS_URL": "redis://a"}, ""),
    ],
)
def test_in_a_cluster_the_streams_that_the_settings_name_share_a_slot(changed, says, monkeypatch):
    for name, value in (CLUSTER | changed).items():
        monkeypatch.setenv(name, value)
    if not says:
        assert load_settings().streams.tasks
        return
    with pytest.raises(ConfigError, match="streams: ") as refused:
        load_settings()
    assert says in str(refused.value)


@pytest.mark.parametrize("missing", ["broker_url", "result_backend"])
def test_a_cluster_is_no_broker(missing, conf_of, monkeypatch):
    for name, value in CLUSTER.items():
        monkeypatch.setenv(name, value)
    theirs = {"broker_url": "redis://broker", "result_backend": "redis://results"}
    profile = "".join(f"{name} = {url!r}\n" for name, url in theirs.items() if name != missing)
    with pytest.raises(ConfigError, match=f"redis_url is a Redis Cluster.*set Celery's {missing} too"):
        conf_of(CLUSTER["LEGIT_REDIS_URL"], profile)
    monkeypatch.setenv(f"CELERY_{missing.upper()}", theirs[missing])
    assert getattr(conf_of(CLUSTER["LEGIT_REDIS_URL"], profile), missing) == theirs[missing]


@pytest.fixture
def conf_of(monkeypatch, tmp_path):
    """Gives the Celery settings for a ``redis_url`` and a profile."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "a_profile_of_ours")

    def make(url, profile=""):
        monkeypatch.delitem(sys.modules, "a_profile_of_ours", raising=False)
        (tmp_path / "a_profile_of_ours.py").write_text(profile)
        monkeypatch.setenv("LEGIT_REDIS_URL", url)
        get_settings.cache_clear()
        return make_app().conf

    yield make
    get_settings.cache_clear()


def test_celery_is_told_of_sentinels_beside_what_the_profile_says(conf_of):
    url = "sentinel://user:p%40ss@a:1,b:2/3?service=shop&sentinel_password=third&socket_timeout=4"
    conf = conf_of(url, "broker_transport_options = {'visibility_timeout': 60}")
    assert conf.broker_url == "sentinel://user:p%40ss@a:1/3;sentinel://user:p%40ss@b:2/3"
    options = conf.broker_transport_options
    assert options["visibility_timeout"] == 60
    assert (options["master_name"], options["socket_timeout"]) == ("shop", 4)
    assert options["sentinel_kwargs"] == sentinel_options(RedisAddress.of(url))
    assert options["sentinel_kwargs"]["retry"].get_retries() < 2, "a Sentinel that is away would cost seconds"
    assert options["sentinel_kwargs"]["password"] == "third"
    assert conf.result_backend == "sentinel://a:1/3;sentinel://b:2/3"
    assert (conf.redis_username, conf.redis_password, conf.redis_socket_timeout) == ("user", "p@ss", 4)
    assert conf.result_backend_transport_options["master_name"] == "shop"
    assert "p@ss" not in conf.humanize()
    assert "p%40ss" not in conf.humanize()
    assert "third" not in conf.humanize()


def test_a_broker_of_the_operators_stays_theirs(conf_of, monkeypatch):
    url = "sentinel://a:1/3?service=shop"
    conf = conf_of(url, "broker_url = 'amqp://broker//'\nbroker_transport_options = {'visibility_timeout': 60}")
    assert conf.broker_url == "amqp://broker//"
    assert conf.broker_transport_options == {"visibility_timeout": 60}
    assert conf.result_backend == "sentinel://a:1/3"
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere/3")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://elsewhere/4")
    conf = conf_of("rediss://host?ssl_cert_reqs=CERT_NONE")
    assert (conf.broker_url, conf.result_backend) == ("redis://elsewhere/3", "redis://elsewhere/4")
    assert not conf.broker_use_ssl
    assert not conf.redis_backend_use_ssl


def test_celery_never_goes_without_verification_unasked(conf_of):
    conf = conf_of("rediss://host/1")
    assert (conf.broker_url, conf.result_backend) == ("rediss://host:6379/1", "rediss://host:6379/1")
    assert conf.broker_use_ssl == conf.redis_backend_use_ssl == {"ssl_cert_reqs": "required"}


def test_celery_is_told_of_a_socket(conf_of):
    conf = conf_of("unix://user:p%40ss@/run/my%20redis.sock?db=1&socket_keepalive=true&health_check_interval=9")
    assert conf.broker_url == "redis+socket://user:p%40ss@/run/my%20redis.sock?virtual_host=1"
    assert conf.result_backend == "redis+socket:///run/my%20redis.sock?virtual_host=1&health_check_interval=9"
    assert "ss@" not in conf.humanize()
