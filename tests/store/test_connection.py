"""Connections by URL: TLS with a password, a Unix socket, Sentinels."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis.asyncio.sentinel import SentinelConnectionPool

from resyncctl.errors import InputError, StoreError
from resyncctl.store.connection import open_pool
from resyncctl.store.redis_store import RedisStore
from tests.peers.ports import free_port
from tests.peers.redis_server import RedisServer


class SecureRedis(RedisServer):
    """A redis-server that speaks TLS alone, and wants a password."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.certificate, self._key = folder / "cert.pem", folder / "key.pem"
        self.plain_port, self.port = 0, free_port(self.host)
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(self._key), "-out", str(self.certificate)]
        subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=30)

    def command(self) -> Sequence[str]:  # type: ignore[override]
        plain = [word if word != str(self.port) else "0" for word in super().command()]
        tls = ["--tls-port", str(self.port), "--tls-cert-file", str(self.certificate), "--tls-key-file", str(self._key)]
        return [*plain, *tls, "--tls-auth-clients", "no", "--requirepass", "geheim"]

    def answers(self) -> bool:
        return "Ready to accept connections" in self.log()


@pytest.mark.needs("redis-server", "openssl")
async def test_tls_and_password_of_the_url_are_used_and_checked(tmp_path: Path) -> None:
    with SecureRedis(tmp_path) as server:
        url = f"rediss://:geheim@127.0.0.1:{server.port}/0?ssl_ca_certs={server.certificate}"
        store = RedisStore(url)
        assert "redis_version" in await store.info()
        assert "geheim" not in store.where
        await store.close()
        for wrong, text in (
            (url.replace("geheim", "falsch"), "check user and password"),
            (url.partition("?")[0], "CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
            (url.replace("rediss://", "redis://").partition("?")[0], "cannot be reached|answers with an error"),
        ):
            other = RedisStore(wrong)
            with pytest.raises(StoreError, match=text):
                await other.info()
            await other.close()


@pytest.mark.parametrize(
    ("url", "sentinels"),
    [
        ("redis+sentinel://a:1,b:2/main/3", [("a", 1), ("b", 2)]),
        ("redis+sentinel://a/main", [("a", 26379)]),
        ("redis+sentinel://user:p%40ss@[::1]:5,10.0.0.1/main", [("::1", 5), ("10.0.0.1", 26379)]),
    ],
)
def test_sentinels_of_a_url_are_read(url: str, sentinels: list[tuple[str, int]]) -> None:
    pool = open_pool(url)
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "main"
    asked = [client.connection_pool.connection_kwargs for client in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == sentinels
    given = pool.connection_kwargs
    assert (given["db"], given.get("password")) == (3 if "/3" in url else 0, "p@ss" if "@" in url else None)


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://", "redis+sentinel://a", "redis+sentinel://a/main/x", "redis+sentinel://a:b/main", "http://a"],
)
def test_url_that_names_no_redis_is_bad_input(url: str) -> None:
    with pytest.raises(InputError, match=r"--redis-url .* cannot be used"):
        RedisStore(url)
