"""Who may connect: TLS, users with few rights, sockets, and passwords that are never shown."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pymq
from conftest import Box, Server
from pymq.provider.redis import RedisConfig
from rig import _free_port

PAGE = Path(__file__).resolve().parents[2] / "SECURITY.md"


def rules(user: str) -> list[str]:
    """A user's rules, as the page has them."""
    found = re.search(rf"ACL SETUSER {user} ([^`]*)```", PAGE.read_text())
    assert found, f"{PAGE.name} has no user {user}"
    return found[1].split()


@pytest.fixture
def admit(redis_server: Server) -> Iterator[Callable[[str], RedisConfig]]:
    """Makes a user of SECURITY.md; the configuration logs in as it."""
    users: list[str] = []

    def admit(user: str) -> RedisConfig:
        redis_server.command("ACL", "SETUSER", user, "reset", *rules(user))
        users.append(user)
        return RedisConfig(port=redis_server.port, username=user, password="PASSWORD")

    redis_server.command("FLUSHALL")
    yield admit
    for user in users:
        redis_server.command("ACL", "DELUSER", user)


def upper(text: str) -> str:
    return text.upper()


def talk(one: pymq.EventBus, other: pymq.EventBus, box: Box) -> None:
    """Events, a queue and calls."""
    one.subscribe(box.put, "news")
    other.publish("hello", "news")
    assert box.take(1) == ["hello"]
    other.queue("jobs").put({"a": 1})
    assert one.queue("jobs").get(timeout=60) == {"a": 1}
    one.expose(upper, "upper")
    assert other.stub("upper")("loud") == "LOUD"


def test_the_rules_for_everything_suffice(admit: Callable[[str], RedisConfig], box: Box) -> None:
    config = admit("pymq-everything")
    with pymq.connect(config.url) as one, pymq.connect(config.url) as other:
        one.subscribe(box.put, "shop.*", pattern=True)
        other.publish("paid", "shop.orders")
        assert box.take(1) == ["paid"]
        talk(one, other, Box())
        manual = one.queue("tasks", ack="manual")
        other.queue("tasks").put_many([1, 2])
        assert [manual.get(timeout=60), manual.get(timeout=60)] == [1, 2]
        manual.task_done()
        manual.task_done()
        manual.join()


def test_publishers_and_workers_can_do_their_part_only(
    admit: Callable[[str], RedisConfig], redis_server: Server
) -> None:
    publisher, worker = admit("pymq-publisher"), admit("pymq-worker")
    with pymq.connect(publisher.url) as sender, pymq.connect(worker.url) as taker:
        sender.publish("hello", "news")
        sender.queue("jobs").put("job")
        assert taker.queue("jobs").get(timeout=60) == "job"
        with pytest.raises(pymq.PymqError, match=re.escape("its ACL lacks +publish")):
            taker.publish("hello", "news")
        with pytest.raises(pymq.PymqError, match=re.escape("its ACL lacks +")):
            sender.queue("jobs").get(timeout=60)


def test_a_unix_socket_and_a_name_are_used_by_every_connection(
    redis_server: Server, box: Box
) -> None:
    redis_server.command("FLUSHALL")
    path = redis_server.folder / "redis.sock"
    config = RedisConfig(unix_socket_path=str(path), db=3, client_name="till-4")
    with pymq.connect(config.url) as one, pymq.connect(config.url) as other:
        talk(one, other, box)
        clients = redis_server.command("CLIENT", "LIST")
        assert isinstance(clients, bytes)
        ours = [line for line in clients.decode().splitlines() if " name=till-4 " in line]
        assert len(ours) >= 4
        assert all(f"{path}:0" in line and " db=3 " in line for line in ours)
    with pytest.raises(pymq.ConfigError, match="client_name"):
        pymq.connect(RedisConfig(unix_socket_path=str(path), client_name="till 4").url)


def test_a_password_is_never_shown(redis_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    redis_server.command(
        "ACL", "SETUSER", "teller", "reset", "on", ">s3cr3t-word", "~*", "&*", "+@all"
    )
    right = RedisConfig(port=redis_server.port, username="teller", password="s3cr3t-word")
    with right() as bus:
        bus.queue("jobs").put(1)
        shown = [repr(right), str(right), repr(bus), repr(bus.queue("jobs"))]
    redis_server.command("ACL", "DELUSER", "teller")
    for address in (
        right.url,
        f"redis://teller:s3cr3t-word@127.0.0.1:{redis_server.port}/zero",
        "redis://:half/s3cr3t-word@127.0.0.1",
        "redis+unix:///nowhere?pass=s3cr3t-word",
    ):
        with pytest.raises(pymq.PymqError) as caught:
            pymq.connect(address)
        shown += [str(caught.value), repr(caught.value), repr(RedisConfig(address))]
    assert "do user and password fit" in shown[4]
    assert not [text for text in [*shown, caplog.text] if "s3cr3t-word" in text]


class Certificates:
    """An authority of the tests' own, and what it signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = self._sign("ca", "/CN=authority", "-x509")
        self.server = self._sign("server", "/CN=server", *self._by_us, san="IP:127.0.0.1")
        self.client = self._sign("client", "/CN=client", *self._by_us, san="DNS:client")

    @property
    def _by_us(self) -> list[str]:
        return ["-x509", "-CA", f"{self.ca}.pem", "-CAkey", f"{self.ca}.key"]

    def _sign(self, name: str, subject: str, *further: str, san: str = "") -> Path:
        path = self._folder / name
        command = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "2", "-subj", subject, *further]
        command += ["-keyout", f"{path}.key", "-out", f"{path}.pem"]
        if san:
            command += ["-addext", f"subjectAltName={san}"]
            command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        else:
            # Python 3.13 refuses an authority that does not say so.
            command += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        subprocess.run(command, check=True, capture_output=True)
        return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with; Rust's tests need none")
    try:
        return Certificates(tmp_path_factory.mktemp("tls"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this openssl cannot sign certificates by an authority: {error.stderr!r}")


@pytest.fixture(scope="module")
def tls_port(certificates: Certificates) -> Iterator[int]:
    """A server that speaks TLS there and demands certificates of its clients."""
    own, ca = certificates.server, f"{certificates.ca}.pem"
    arguments = ["--tls-ca-cert-file", ca, "--tls-cert-file", f"{own}.pem"]
    arguments += ["--tls-key-file", f"{own}.key"]
    with contextlib.ExitStack() as stack:
        # A free port may be taken by somebody else before the server binds it: then another one.
        for _ in range(10):
            port = _free_port()
            try:
                stack.enter_context(Server("--tls-port", str(port), *arguments))
            except AssertionError as error:
                # Those built without it do not know the option, or not what it stands for.
                if "'tls-port" in str(error) or "Failed finding TLS support" in str(error):
                    pytest.skip("this redis-server was built without TLS")
                continue
            yield port
            return
        raise AssertionError("no redis-server started with a port for TLS")


def test_events_queues_and_calls_go_over_tls(
    certificates: Certificates, tls_port: int, box: Box
) -> None:
    given = {
        "ssl_ca_certs": f"{certificates.ca}.pem",
        "ssl_certfile": f"{certificates.client}.pem",
        "ssl_keyfile": f"{certificates.client}.key",
    }
    config = RedisConfig(host="127.0.0.1", port=tls_port, ssl=True, **given)
    words = "&".join(f"{name}={value}" for name, value in given.items())
    in_their_words = f"rediss://127.0.0.1:{tls_port}/0?{words}"
    with pymq.connect(config.url) as one, pymq.connect(in_their_words) as other:
        talk(one, other, box)
    pytest.importorskip("redis")
    with RedisConfig(config.get_redis())() as from_client:
        assert from_client.rds.ping()
        from_client.rds.close()
    config.get_redis().close()


def test_who_is_not_trusted_is_refused_with_the_way_out(
    certificates: Certificates, tls_port: int
) -> None:
    here = {"host": "127.0.0.1", "port": tls_port, "ssl": True}
    ca = f"{certificates.ca}.pem"
    wrong = f"{certificates.client}.pem"
    for given, advice in (
        ({"ssl_ca_certs": wrong}, "name its certificate with ca=PATH"),
        ({"ssl_ca_certs": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
        ({"ssl_ca_certs": ca}, "give cert=PATH and key=PATH"),
        ({"ssl_ca_certs": ca, "ssl_certfile": wrong}, "give both"),
        ({"ssl_cert_reqs": "none"}, "give cert=PATH and key=PATH"),
    ):
        with pytest.raises(pymq.PymqError, match=re.escape(advice)):
            pymq.connect(RedisConfig(**here, **given).url)
