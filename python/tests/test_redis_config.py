"""What `RedisConfig` takes, and which server it means."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

import pymq
from conftest import Server
from pymq import _default
from pymq.provider.redis import RedisConfig, RedisEventBus, RedisQueue

ADDRESSES: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "redis://localhost:6379/0"),
    (("host", 1, 2, "s/e:cret"), {}, "redis://:s%2Fe%3Acret@host:1/2"),
    ((), {"host": "::1", "db": 3}, "redis://[::1]:6379/3"),
    ((), {"username": "me", "password": "p"}, "redis://me:p@localhost:6379/0"),
    ((), {"client_name": "a b"}, "redis://localhost:6379/0?client_name=a+b"),
    ((), {"socket_connect_timeout": 2.5}, "redis://localhost:6379/0?connect_timeout=2.5"),
    ((), {"unix_socket_path": "/run/r.sock"}, "redis+unix:///run/r.sock"),
    ((), {"unix_socket_path": "/run/r.sock", "db": 2}, "redis+unix:///run/r.sock?db=2"),
    ((), {"ssl": True, "port": 6380}, "rediss://localhost:6380/0"),
    ((), {"ssl": True, "ssl_ca_certs": "/ca"}, "rediss://localhost:6379/0?ca=%2Fca"),
    ((), {"ssl": True, "ssl_ca_path": "/cas"}, "rediss://localhost:6379/0?ca=%2Fcas"),
    (
        (),
        {"ssl": True, "ssl_certfile": "c", "ssl_keyfile": "k"},
        "rediss://localhost:6379/0?cert=c&key=k",
    ),
    ((), {"ssl": True, "ssl_cert_reqs": "none"}, "rediss://localhost:6379/0?verify=none"),
    ((), {"ssl": True, "ssl_cert_reqs": None}, "rediss://localhost:6379/0?verify=none"),
    ((), {"ssl": True, "ssl_cert_reqs": ssl.CERT_REQUIRED}, "rediss://localhost:6379/0"),
    ((), {"ssl": True, "ssl_check_hostname": False}, "rediss://localhost:6379/0?verify=chain"),
    ((), {"ssl": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}, "rediss://localhost:6379/0"),
    (("redis://h/5",), {}, "redis://h/5"),
    (("redis://h?db=5&decode_responses=True&max_connections=3",), {}, "redis://h?db=5"),
    (("unix://me@/run/r.sock?db=2",), {}, "redis+unix://me@/run/r.sock?db=2"),
    (("rediss://h?ssl_ca_certs=%2Fca&protocol=3",), {}, "rediss://h?ssl_ca_certs=%2Fca"),
    (("rediss://h?ssl_validate_ocsp=False",), {}, "rediss://h"),
    ((), {"max_connections": 5, "encoding": "latin-1", "decode_responses": True}, ""),
    ((), {"socket_timeout": 5, "health_check_interval": 3, "retry_on_timeout": True}, ""),
    ((), {"credential_provider": None, "connection_pool": None}, ""),
]


@pytest.mark.parametrize(("args", "kwargs", "wanted"), ADDRESSES)
def test_arguments_of_redis_py_are_an_address(
    args: tuple[Any, ...], kwargs: dict[str, Any], wanted: str
) -> None:
    assert RedisConfig(*args, **kwargs).url == (wanted or "redis://localhost:6379/0")


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {"credential_provider": object()}, "credential_provider"),
        ((), {"redis_connect_func": print}, "redis_connect_func"),
        ((), {"hots": "typo"}, "hots"),
        ((), {"ssl_hots": "typo"}, "ssl_hots"),
        ((), {"ssl": True, "ssl_password": "p"}, "ssl_password"),
        ((), {"ssl": True, "ssl_ca_data": "PEM"}, "ssl_ca_data"),
        ((), {"ssl": True, "ssl_ciphers": "ALL"}, "ssl_ciphers"),
        ((), {"ssl": True, "ssl_validate_ocsp": True}, "ssl_validate_ocsp"),
        ((), {"ssl": True, "ssl_min_version": ssl.TLSVersion.TLSv1_3}, "ssl_min_version"),
        ((), {"ssl": True, "ssl_cert_reqs": "perhaps"}, "ssl_cert_reqs"),
        ((), {"ssl": True, "ssl_ca_certs": "a", "ssl_ca_path": "b"}, "ssl_ca_path"),
        (("rediss://h?ssl_password=p",), {}, "ssl_password"),
        (("redis://h", "secret"), {}, "a URL says it all"),
        (("redis://h",), {"db": 3}, "db"),
        (("host", 1), {"port": 2}, "port"),
        ((object(),), {}, "builtins.object"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    args: tuple[Any, ...], kwargs: dict[str, Any], named: str
) -> None:
    with pytest.raises((pymq.ConfigError, TypeError), match=named):
        RedisConfig(*args, **kwargs)


def test_a_live_client_is_read() -> None:
    redis = pytest.importorskip("redis")
    quick = {"socket_connect_timeout": 5}
    client = redis.Redis("h", 7, db=3, password="p", **quick)
    assert RedisConfig(client).url == "redis://:p@h:7/3?connect_timeout=5"
    from_url = redis.Redis.from_url("unix:///run/r.sock?db=4")
    assert RedisConfig(from_url).url.startswith("redis+unix:///run/r.sock?db=4")
    pool = redis.ConnectionPool(host="pool", port=8)
    assert RedisConfig(connection_pool=pool).url.startswith("redis://pool:8/0")
    assert RedisConfig(redis.Redis(ssl=True)).url.startswith("rediss://localhost:6379/0")
    loose = redis.Redis(ssl=True, ssl_ca_certs="ca", ssl_check_hostname=False)
    assert RedisConfig(loose).url == "rediss://localhost:6379/0?ca=ca&verify=chain"


def test_a_client_that_is_no_plain_one_is_refused_by_name() -> None:
    redis = pytest.importorskip("redis")

    class FakeConnection(redis.Connection):  # type: ignore[misc,name-defined]
        pass

    FakeConnection.__module__ = "fakeredis"
    pool = redis.ConnectionPool(connection_class=FakeConnection)
    with pytest.raises(pymq.ConfigError, match="fakeredis"):
        RedisConfig(redis.Redis(connection_pool=pool))
    with pytest.raises(pymq.ConfigError, match="master_for"):
        RedisConfig(redis.Sentinel([("h", 1)]).slave_for("x"))
    with pytest.raises(pymq.ConfigError, match="TLS both"):
        RedisConfig(redis.Sentinel([("h", 1)], sentinel_kwargs={}).master_for("x", ssl=True))


def test_the_master_of_live_sentinels_is_read() -> None:
    redis = pytest.importorskip("redis")
    sentinel = redis.Sentinel([("h", 1), ("::1", 2)])
    url = RedisConfig(sentinel.master_for("my/x")).url
    assert url == "redis+sentinel://h:1,[::1]:2/my%2Fx/0"
    theirs = {"username": "s", "password": "w&x", "ssl": True}
    sentinel = redis.Sentinel([("h", 1)], sentinel_kwargs=theirs, password="p", ssl=True)
    config = RedisConfig(sentinel.master_for("x", db=3, ssl_ca_certs="ca"))
    assert config.url == (
        "rediss+sentinel://:p@h:1/x/3?ca=ca&sentinel_username=s&sentinel_password=w%26x"
    )
    assert "w%26x" not in repr(config)
    assert ":p@" not in repr(config)


@pytest.mark.parametrize(
    "address",
    [
        "redis://me:secret@h/1",
        "redis://me:sec/secret@h",
        "redis://me:sec\nsecret@h",
        "redis://secret@h",
        "redis://h?password=secret",
        "redis://h?db=1&PASS=secret",
        "redis://h?pwd=secret",
        "redis://h?db=1;password=secret",
        "redis+sentinel://h/m?sentinel_password=secret",
    ],
)
def test_a_configuration_shows_no_password_however_it_is_spelled(address: str) -> None:
    assert "secret" not in repr(RedisConfig(address))


def test_a_client_is_made_for_the_master_that_an_address_names() -> None:
    redis = pytest.importorskip("redis")
    url = (
        "valkey+sentinel://me:p%40@h1,[::1]:7/my%20x/2"
        "?sentinel_password=s%2F&connect_timeout=2&replicas=1&connect_wait=3"
    )
    pool = RedisConfig(url).get_redis().connection_pool
    assert isinstance(pool, redis.sentinel.SentinelConnectionPool)
    assert pool.service_name == "my x"
    wanted = {"username": "me", "password": "p@", "db": 2, "socket_connect_timeout": 2.0}
    assert wanted.items() <= pool.connection_kwargs.items()
    theirs = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"], one["password"]) for one in theirs] == [
        ("h1", 26379, "s/"),
        ("::1", 7, "s/"),
    ]
    assert (
        RedisConfig("valkey://:p@h:7/1?replicas=1").get_redis().get_connection_kwargs()["port"] == 7
    )


@pytest.fixture
def config(redis_server: Server) -> RedisConfig:
    redis_server.command("FLUSHALL")
    return RedisConfig(host="127.0.0.1", port=redis_server.port)


def test_the_bus_shows_what_the_originals_shows(config: RedisConfig, redis_server: Server) -> None:
    redis = pytest.importorskip("redis")
    client = redis.Redis(port=redis_server.port)
    with RedisEventBus("mine", rds=client) as bus:
        assert bus.rds is client
        assert bus.namespace == "mine"
        assert bus.channel_prefix == "__eventbus:mine:"
        assert bus.rpc_channel_expire == 300
        bus.queue("jobs").put("job")
        assert client.lrange("__eventbus:mine:jobs", 0, -1) == [b'"job"']
    client.close()
    with config() as other:
        assert other.namespace == "global"
        assert other.rds.ping()
        other.rds.close()


def test_a_queue_is_made_from_a_client_and_a_key(config: RedisConfig, redis_server: Server) -> None:
    with config() as bus:
        assert isinstance(bus.queue("jobs"), RedisQueue)
        bus.queue("jobs").put("job")
        queue = RedisQueue(config, "mine", "__eventbus:global:jobs")
        assert queue.name == "mine"
        assert queue.get(timeout=60) == "job"
    with pytest.raises(pymq.UnsupportedError, match="outside of every bus"):
        RedisQueue(config, "mine")


def test_options_of_the_bus_go_with_the_config(config: RedisConfig) -> None:
    options = {"namespace": "mine", "workers": 3, "trust": "declared"}
    config = RedisConfig(*config.args, **config.kwargs, **options)
    with config() as bus:
        assert bus.namespace == "mine"


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(pymq.ConnectionLostError):
        pymq.init(RedisConfig(port=1))
    assert _default.default_bus() is None


def test_a_client_of_redis_py_is_made_from_an_address_in_our_words() -> None:
    pytest.importorskip("redis")
    words = "db=3&user=me&pass=p&ca=%2Fca&cert=c&key=k&verify=chain&connect_timeout=2"
    client = RedisConfig(f"rediss://h:7?{words}&reconnect_wait=1").get_redis()
    settings = client.connection_pool.connection_kwargs
    assert settings["db"] == 3
    assert (settings["username"], settings["password"]) == ("me", "p")
    assert settings["ssl_ca_certs"] == "/ca"
    assert settings["ssl_check_hostname"] in (False, "false")
    assert settings["socket_connect_timeout"] == 2
    assert "reconnect_wait" not in settings
