"""A real redis-server with an append-only file, to be killed and restarted: `with RedisServer() as redis`."""

from __future__ import annotations

import signal
import socket

from tests.peers.ports import free_port
from tests.peers.process import ServerProcess

START_WITHIN = 10.0


class RedisServer(ServerProcess):
    """redis-server on a free port of 127.0.0.1, AOF with `appendfsync everysec`, no RDB snapshots, in its own directory.

    `stop()` ends it and removes its data.
    """

    def __init__(self) -> None:
        super().__init__("redis")
        self.host = "127.0.0.1"
        self.port = free_port(self.host)

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command, on what data there is."""
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        command = ["redis-server", "--bind", self.host, "--port", str(self.port), "--dir", str(data)]
        return [*command, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no"]

    def wait_until_ready(self) -> None:
        """Block until it answers PING."""
        self.wait_until(self.answers, f"answering PING on port {self.port}", within=START_WITHIN)

    def answers(self) -> bool:
        """Whether it answers PING with PONG now (not while it loads its file)."""
        try:
            with socket.create_connection((self.host, self.port), timeout=0.5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a power failure would, with SIGKILL; its data stay for `restart()`."""
        self.end(gently=False)

    def restart(self) -> None:
        """Start it again on the same port and data, after `kill()` or, ending it gently first, while it runs."""
        self.end()
        self.start()

    def freeze(self) -> None:
        """Stop its process with SIGSTOP: connections stay open and nothing is answered."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze()`."""
        self.send_signal(signal.SIGCONT)
