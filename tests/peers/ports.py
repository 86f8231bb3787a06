"""Free ports on loopback."""

from __future__ import annotations

import random
import socket
from collections import deque
from contextlib import ExitStack
from pathlib import Path

LOWEST = 20_000
"""Below Linux's range of ephemeral ports (32768 and up), so that no client socket takes a port that we just chose."""
HIGHEST = 32_000
ATTEMPTS = 200
RECENT: deque[int] = deque(maxlen=4_000)
"""What was returned last, and may not be open yet: not returned again until this many others were."""


def free_port(host: str = "127.0.0.1", *, adjacent: int = 1) -> int:
    """Return a port of `host` that is free for UDP and TCP, with its `adjacent - 1` followers.

    The sockets are closed again: another process may take the port before the caller does, which is unlikely
    because nothing is given ports of this range by the kernel. Raises OSError when no free port was found.
    """
    chooser = random.SystemRandom()
    for _ in range(ATTEMPTS):
        port = chooser.randrange(LOWEST, HIGHEST)
        ports = range(port, port + adjacent)
        if all(each not in RECENT and _is_free(host, each) for each in ports):
            RECENT.extend(ports)
            return port
    raise OSError(f"no free port on {host} between {LOWEST} and {HIGHEST} in {ATTEMPTS} attempts")


def free_udp_port(host: str = "127.0.0.1") -> int:
    """Return a UDP port of `host` that is free; so is the TCP port of the same number."""
    return free_port(host)


def udp_port_is_open(port: int) -> bool:
    """Whether any process of this machine has a UDP socket on that port (read from /proc, nothing is sent)."""
    local = f":{port:04X} "
    tables = (Path("/proc/net/udp"), Path("/proc/net/udp6"))
    return any(local in table.read_text(encoding="ascii") for table in tables if table.exists())


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as sockets:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            candidate = sockets.enter_context(socket.socket(family, kind))
            try:
                candidate.bind((host, port))
            except OSError:
                return False
    return True
