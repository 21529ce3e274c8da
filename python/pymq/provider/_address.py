"""What `redis.Redis(...)` takes, or a live client has, as an address of ours, and back.

redis-py is read, never imported. An argument that has no meaning here is accepted; one that
matters and cannot be honoured is an error that names it, and so is a client that is no plain one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlencode

from pymq.exceptions import ConfigError

_POSITIONS = ("host", "port", "db", "password", "socket_timeout", "socket_connect_timeout")

_USED = {
    "client_name",
    "connection_pool",
    "db",
    "host",
    "password",
    "port",
    "socket_connect_timeout",
    "ssl",
    "unix_socket_path",
    "username",
}

#: How TLS is spoken; redis-py's names, and ours.
_TLS = {
    "ssl_ca_certs": "ca",
    "ssl_ca_path": "ca",
    "ssl_certfile": "cert",
    "ssl_keyfile": "key",
    "ssl_cert_reqs": "verify",
    "ssl_check_hostname": "verify",
}

#: They tune redis-py, or ask for what is the case here anyway.
_WITHOUT_MEANING = {
    "auto_close_connection_pool",
    "cache",
    "cache_config",
    "charset",
    "command_packer",
    "decode_responses",
    "driver_info",
    "encoding",
    "encoding_errors",
    "errors",
    "event_dispatcher",
    "from_pool",
    "health_check_interval",
    "himport_client",
    "legacy_responses",
    "lib_name",
    "lib_version",
    "maint_notifications_config",
    "max_connections",
    "oss_cluster_maint_notifications_handler",
    "protocol",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "single_connection_client",
    "socket_keepalive",
    "socket_keepalive_options",
    "socket_read_size",
    "socket_timeout",
}

#: They change who one is on the server, and cannot be honoured.
_REFUSED = {
    "connection_class": "give host and port, or unix_socket_path",
    "credential_provider": "give username and password",
    "redis_connect_func": "give username, password, db and client_name",
    "ssl_ca_data": "write it to a file and give ssl_ca_certs",
    "ssl_ciphers": "leave it out: TLS 1.2 and 1.3 are spoken with safe ciphers only",
    "ssl_exclude_verify_flags": "leave it out",
    "ssl_include_verify_flags": "leave it out",
    "ssl_ocsp_context": "leave it out",
    "ssl_ocsp_expected_cert": "leave it out",
    "ssl_password": "give ssl_keyfile a key without a password",
    "ssl_validate_ocsp": "leave it out",
    "ssl_validate_ocsp_stapled": "leave it out",
}

#: What redis-py calls by another name in a URL.
_THEIRS = {
    "ca": "ssl_ca_certs",
    "cert": "ssl_certfile",
    "connect_timeout": "socket_connect_timeout",
    "key": "ssl_keyfile",
    "pass": "password",
    "user": "username",
}

#: Words of a URL that mean nothing to redis-py.
_OURS = ("connect_wait", "reconnect_wait", "replicas")

_NO = (None, "", False, 0, "0", "false", "no", "none")


def from_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The address that these arguments of `redis.Redis` name, or a URL, or a live client."""
    if args and isinstance(args[0], str) and "://" in args[0]:
        _only_meaningless("a URL", args[1:], kwargs)
        return _from_url(args[0])
    if args and not isinstance(args[0], (str, type(None))):
        _only_meaningless("a live client", args[1:], kwargs)
        return from_client(args[0])
    if len(args) > len(_POSITIONS):
        raise ConfigError(f"give arguments after {_POSITIONS[-1]} by their names")
    given = dict(zip(_POSITIONS, args, strict=False))
    twice = given.keys() & kwargs.keys()
    if twice:
        raise TypeError(f"got multiple values for argument {min(twice)!r}")
    given.update(kwargs)
    for name, value in given.items():
        _check(name, value)
    pool = given.get("connection_pool")
    return _address(given) if pool is None else _from_pool(pool)


def is_client(thing: Any) -> bool:
    """Whether it is a live client, of one server or of a cluster."""
    return hasattr(thing, "connection_pool") or hasattr(thing, "nodes_manager")


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    # The last '@', since a password may hold some; who has no ':' may be a password that lacks it.
    url = re.sub(r"://([^:/?@]*:)?.*@", r"://\1…@", url, flags=re.DOTALL)
    # A word that is not known may be a password in another spelling.
    return re.sub(r"([?&](?!db=\d+(?:&|$))[^=&]*=)[^&]*", r"\1…", url)


def for_redis_py(url: str) -> str:
    """The same address in the words of redis-py."""
    place, query = _split(_as_redis(url).replace("redis+unix://", "unix://"))
    words = []
    for name, value in query:
        if name == "verify" and value == "none":
            words.append("ssl_cert_reqs=none")
        elif name == "verify" and value == "chain":
            words.append("ssl_check_hostname=false")
        elif name != "verify" and name not in _OURS:
            words.append(f"{_THEIRS.get(name, name)}={value}")
    return "?".join([place, "&".join(words)]) if words else place


def for_sentinels(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any], dict[str, Any]]:
    """The same address of a master as `redis.sentinel.Sentinel` and its `master_for` take it.

    The sentinels, the master's name, what is said to the sentinels, and what to the master.
    """
    hosts, path, known = _of_several(url, 26379)
    master, _, db = path.partition("/")
    theirs = {
        name: known.pop(word)
        for name, word in (("username", "sentinel_username"), ("password", "sentinel_password"))
        if word in known
    }
    known["db"] = int(known.get("db", db or 0))
    theirs.update((name, value) for name, value in known.items() if name.startswith("ssl"))
    return hosts, unquote(master), theirs, known


def for_cluster(url: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """The same address of a cluster as `redis.RedisCluster` takes it: nodes, and what they hear."""
    hosts, _, known = _of_several(url, 6379)
    known.pop("db", None)
    return hosts, known


def _of_several(url: str, port: int) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """An address that names several hosts: these, what stands behind them, and redis-py's words."""
    place, query = _split(for_redis_py(url))
    scheme, _, rest = place.partition("://")
    authority, _, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    known: dict[str, Any] = {"username": unquote(user), "password": unquote(password)}
    known.update((name, unquote_plus(value)) for name, value in query)
    known = {name: value for name, value in known.items() if value}
    if "socket_connect_timeout" in known:
        known["socket_connect_timeout"] = float(known["socket_connect_timeout"])
    if "ssl_check_hostname" in known:
        known["ssl_check_hostname"] = False
    if scheme.startswith("rediss"):
        known["ssl"] = True
    return [_host(host, port) for host in hosts.split(",")], path, known


def is_of_sentinels(url: str) -> bool:
    """Whether it is the address of a master that sentinels name."""
    return _as_redis(url).startswith(("redis+sentinel://", "rediss+sentinel://"))


def is_of_cluster(url: str) -> bool:
    """Whether it is the address of a cluster."""
    return _as_redis(url).startswith(("redis+cluster://", "rediss+cluster://"))


def _as_redis(url: str) -> str:
    return re.sub(r"^valkey", "redis", url)


def _host(text: str, usual: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if re.search(r":\d+$", text) else (text, "", usual)
    return unquote(host.strip("[]")), int(port)


def _from_url(url: str) -> str:
    place, query = _split(url)
    if place.startswith("unix://"):
        place = f"redis+{place}"
    words = []
    for name, value in query:
        if name in _REFUSED or name == "ssl_min_version":
            _check(name, value.lower())
        elif name not in _WITHOUT_MEANING:
            words.append(f"{name}={value}")
    return "?".join([place, "&".join(words)]) if words else place


def _split(url: str) -> tuple[str, list[tuple[str, str]]]:
    """What stands before the words of a URL, and the words, encoded as they are."""
    place, _, query = url.partition("?")
    pairs = [word.partition("=") for word in query.split("&") if word]
    return place, [(name, value) for name, _, value in pairs]


def from_client(client: Any) -> str:
    """The address that a live `redis.Redis` or `redis.RedisCluster` is connected to."""
    if _is_plain(type(client), "redis.cluster", ("RedisCluster",)):
        return _from_cluster(client)
    pool = getattr(client, "connection_pool", None)
    if not _is_plain(type(client), "redis.client", ("Redis", "StrictRedis")) or pool is None:
        raise _unreadable(client)
    return _from_pool(pool)


def _from_pool(pool: Any) -> str:
    if _is_plain(type(pool), "redis.sentinel", ("SentinelConnectionPool",)):
        return _from_sentinels(pool)
    settings = getattr(pool, "connection_kwargs", None)
    connection = getattr(pool, "connection_class", None)
    pools = ("ConnectionPool", "BlockingConnectionPool")
    if not isinstance(settings, dict) or not _is_plain(type(pool), "redis.connection", pools):
        raise _unreadable(pool)
    if (
        not isinstance(connection, type)
        or connection.__module__ != "redis.connection"
        or connection.__name__ not in ("Connection", "SSLConnection", "UnixDomainSocketConnection")
    ):
        raise _unreadable(connection if isinstance(connection, type) else pool)
    given = dict(settings)
    given["unix_socket_path"] = given.pop("path", None)
    given["ssl"] = connection.__name__ == "SSLConnection"
    for name in (*_REFUSED, "ssl_min_version"):
        _check(name, given.get(name))
    return _address(given)


def _from_sentinels(pool: Any) -> str:
    """The address of the master that a live pool of `redis.sentinel` leads to."""
    if not pool.is_master:
        raise ConfigError("a replica takes no writes; give the client that master_for(...) makes")
    given = {
        name: value for name, value in pool.connection_kwargs.items() if name != "connection_pool"
    }
    given["ssl"] = pool.connection_class.__name__ == "SentinelManagedSSLConnection"
    names = ("SentinelManagedConnection", "SentinelManagedSSLConnection")
    if not _is_plain(pool.connection_class, "redis.sentinel", names):
        raise _unreadable(pool.connection_class)
    for name in (*_REFUSED, "ssl_min_version"):
        _check(name, given.get(name))
    sentinels = [client.connection_pool for client in pool.sentinel_manager.sentinels]
    hosts, theirs = [], {}
    for sentinel in sentinels:
        theirs = sentinel.connection_kwargs
        if (sentinel.connection_class.__name__ == "SSLConnection") != given["ssl"]:
            raise ConfigError("sentinels and their master speak TLS both, or neither of them")
        hosts.append(f"{_quoted_host(theirs.get('host'))}:{theirs.get('port') or 26379}")
    options = _options(given)
    options["sentinel_username"] = theirs.get("username")
    options["sentinel_password"] = theirs.get("password")
    scheme = "rediss" if given["ssl"] else "redis"
    user = _credentials(given.get("username"), given.get("password"))
    master = quote(pool.service_name, safe="")
    place = f"{scheme}+sentinel://{user}{','.join(hosts)}/{master}/{given.get('db') or 0}"
    return place + _query(options)


def _from_cluster(client: Any) -> str:
    """The address of the cluster that a live client knows, by all the nodes that it does."""
    manager = client.nodes_manager
    given = dict(manager.connection_kwargs)
    connection = given.pop("connection_class", None)
    name = getattr(connection, "__name__", "Connection")
    if name not in ("Connection", "SSLConnection"):
        raise _unreadable(connection)
    given["ssl"] = given.get("ssl") or name == "SSLConnection"
    # It puts a function of its own there, and keeps the user's.
    given["redis_connect_func"] = client.user_on_connect_func
    for name in (*_REFUSED, "ssl_min_version"):
        _check(name, given.get(name))
    nodes = manager.startup_nodes.values()
    hosts = ",".join(f"{_quoted_host(node.host)}:{node.port}" for node in nodes)
    scheme = "rediss" if given["ssl"] else "redis"
    user = _credentials(given.get("username"), given.get("password"))
    return f"{scheme}+cluster://{user}{hosts}{_query(_options(given))}"


def _is_plain(cls: type, module: str, names: tuple[str, ...]) -> bool:
    """A class of redis-py, or one derived from it that may know better how to be made."""
    return any(base.__module__ == module and base.__name__ in names for base in cls.__mro__)


def _unreadable(thing: Any) -> ConfigError:
    cls = thing if isinstance(thing, type) else type(thing)
    return ConfigError(
        f"cannot read the connection of {cls.__module__}.{cls.__qualname__}; "
        "give a redis.Redis, a redis.RedisCluster, a URL, or host and port"
    )


def _only_meaningless(beside: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if args:
        raise ConfigError(f"{beside} says it all; what are further arguments beside it?")
    for name, value in kwargs.items():
        _check(name, value)
        if name in _USED:
            raise ConfigError(f"{beside} says it all; leave out {name!r}, or put it in there")


def _check(name: str, value: Any) -> None:
    if name in _REFUSED:
        if value not in _NO:
            raise ConfigError(f"{name!r} is not supported; {_REFUSED[name]}")
    elif name == "ssl_min_version":
        # An `ssl.TLSVersion`, or its name or number in a URL.
        if str(value).upper().rpartition(".")[2] in ("TLSV1_3", "772"):
            raise ConfigError(
                f"{name!r} is TLS 1.2 here; leave it out, or let the server demand 1.3"
            )
    elif name not in _USED and name not in _WITHOUT_MEANING and name not in _TLS:
        raise TypeError(f"RedisConfig got an unexpected keyword argument {name!r}")


def _tls(given: Mapping[str, Any]) -> dict[str, Any]:
    """Our words for how TLS is spoken."""
    folder = given.get("ssl_ca_path")
    if folder and given.get("ssl_ca_certs"):
        raise ConfigError("give 'ssl_ca_certs' or 'ssl_ca_path', not both")
    verify = None
    reqs = given.get("ssl_cert_reqs", "required")
    if reqs in (None, "none", 0):
        verify = "none"
    elif reqs not in ("optional", "required", 1, 2):
        raise ConfigError(f"'ssl_cert_reqs' is 'none', 'optional' or 'required', not {reqs!r}")
    elif not given.get("ssl_check_hostname", True):
        verify = "chain"
    return {
        "ca": given.get("ssl_ca_certs") or folder,
        "cert": given.get("ssl_certfile"),
        "key": given.get("ssl_keyfile"),
        "verify": verify,
    }


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        "client_name": given.get("client_name"),
        "connect_timeout": given.get("socket_connect_timeout"),
    }
    return {**options, **_tls(given)} if given.get("ssl") else options


def _quoted_host(host: Any) -> str:
    host = str(host or "localhost")
    return f"[{host}]" if ":" in host else quote(host)


def _address(given: Mapping[str, Any]) -> str:
    path = given.get("unix_socket_path")
    user = _credentials(given.get("username"), given.get("password"))
    db = given.get("db") or 0
    if path:
        options = _options({**given, "ssl": False})
        return f"redis+unix://{user}{quote(str(path))}{_query({'db': db or None, **options})}"
    scheme = "rediss" if given.get("ssl") else "redis"
    host, port = _quoted_host(given.get("host")), given.get("port") or 6379
    return f"{scheme}://{user}{host}:{port}/{db}{_query(_options(given))}"


def _credentials(username: Any, password: Any) -> str:
    if not username and not password:
        return ""
    words = [quote(str(word or ""), safe="") for word in (username, password)]
    return f"{words[0]}:{words[1]}@" if password else f"{words[0]}@"


def _query(options: Mapping[str, Any]) -> str:
    given = {name: value for name, value in options.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
