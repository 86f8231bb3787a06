"""A primary, a replica and a Sentinel that fails over between them: `with RedisSentinel() as redis`."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from redis import Redis
from redis.exceptions import RedisError

from tests.peers.ports import free_port
from tests.peers.process import ServerProcess
from tests.peers.redis_server import RedisServer
from tests.peers.waiting import wait_until

SERVICE: Final = "main"
DOWN_AFTER: Final = 1.0
"""Seconds of silence after which the Sentinel gives a primary up."""
FAIL_OVER_WITHIN: Final = 20.0


class _Replica(RedisServer):
    """A redis-server that copies another one."""

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        self.primary = primary

    def command(self) -> list[str]:
        return [*super().command(), "--replicaof", self.primary.host, str(self.primary.port)]

    def wait_until_ready(self) -> None:
        """Block until it has all that its primary has."""
        super().wait_until_ready()
        with Redis(host=self.host, port=self.port) as client:
            self.wait_until(
                lambda: client.info("replication").get("master_link_status") == "up", "copying", within=FAIL_OVER_WITHIN
            )


class _SentinelProcess(ServerProcess):
    """`redis-server --sentinel`, alone: a quorum of one."""

    def __init__(self, primary: RedisServer) -> None:
        super().__init__("sentinel")
        self.primary = primary
        self.host = "127.0.0.1"
        self.port = free_port(self.host)

    def command(self) -> list[str]:
        lines = [
            f"bind {self.host}",
            f"port {self.port}",
            f"sentinel monitor {SERVICE} {self.primary.host} {self.primary.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {int(DOWN_AFTER * 1000)}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        configuration = self.directory / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return ["redis-server", str(configuration), "--sentinel"]

    def wait_until_ready(self) -> None:
        """Block until it knows the replica: it could not fail over before."""
        self.wait_until(self._knows_the_replica, "finding the replica", within=FAIL_OVER_WITHIN)

    def _knows_the_replica(self) -> bool:
        try:
            with Redis(host=self.host, port=self.port) as client:
                return len(client.sentinel_slaves(SERVICE)) == 1
        except RedisError:
            return False


class RedisSentinel:
    """Two redis-servers and the Sentinel at `host`:`port`, which calls the service SERVICE."""

    def __init__(self) -> None:
        self.primary = RedisServer()
        self.replica: RedisServer = _Replica(self.primary)
        self._sentinel = _SentinelProcess(self.primary)
        self.host = self._sentinel.host
        self.port = self._sentinel.port

    @property
    def url(self) -> str:
        """The URL that resyncctl takes."""
        return f"redis+sentinel://{self.host}:{self.port}/{SERVICE}/0"

    def kill_primary(self) -> None:
        """End the first primary as a power failure would."""
        self.primary.kill()

    def wait_until_failed_over(self) -> None:
        """Block until the replica is the primary."""
        wait_until(self._failed_over, "the Sentinel's fail-over", within=FAIL_OVER_WITHIN)

    def _failed_over(self) -> bool:
        try:
            with Redis(host=self.host, port=self.port, decode_responses=True) as sentinel:
                address = tuple(sentinel.sentinel_get_master_addr_by_name(SERVICE) or ())
            with Redis(host=self.replica.host, port=self.replica.port) as client:
                return (
                    address == (self.replica.host, self.replica.port) and client.info("replication")["role"] == "master"
                )
        except RedisError:
            return False

    def __enter__(self) -> Self:
        try:
            for process in (self.primary, self.replica, self._sentinel):
                process.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all three and remove their data."""
        for process in (self._sentinel, self.replica, self.primary):
            process.stop()
