"""A storm of hook calls over HTTP against a real `resyncctl serve`: how many a second, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.product import COMMAND
from tests.peers.redis_server import RedisServer

CONNECTIONS: Final = 16
_LISTENING: Final = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of it. `grown` is by how many bytes the service's memory has grown meanwhile."""

    calls: int
    seconds: float
    statuses: Counter[int]
    rollouts: int
    grown: int

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


def storm(calls: int, *, rate: float = 0.0) -> Storm:
    """Call one hook so often, `rate` times a second (0 = as fast as it answers), and count the rollouts that come of it."""
    with tempfile.TemporaryDirectory(prefix="resyncctl-bench-") as folder, RedisServer() as redis:
        phones = Path(folder) / "phones.csv"
        phones.write_text("contact\nsip:1001@127.0.0.1:9\n", encoding="ascii")
        resyncctl = [*COMMAND, "--redis-url", redis.url]
        create = [*resyncctl, "token", "create", "bench", "--scope", "trigger"]
        token = subprocess.run(create, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
        wait = ["--quiet", "2s", "--max-wait", "120s", "--auth", "token"]
        add = [*resyncctl, "hook", "add", "bench", "--phones", str(phones), *wait]
        subprocess.run(add, check=True, capture_output=True, timeout=30)
        with _serving(resyncctl) as (pid, port):
            request = _request(port, token)
            asyncio.run(_call(port, request, calls=CONNECTIONS * 5, rate=0.0))  # whatever is made at the first call
            before = _resident(pid)
            seconds, statuses = asyncio.run(_call(port, request, calls=calls, rate=rate))
            grown = _resident(pid) - before
            rollouts = _rollouts(resyncctl)
    return Storm(calls, seconds, statuses, rollouts, grown)


def _request(port: int, token: str) -> bytes:
    body = b'{"extension": "1001"}'
    head = (
        f"POST /v1/hooks/bench HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextmanager
def _serving(resyncctl: Sequence[str]) -> Iterator[tuple[int, int]]:
    command = [*resyncctl, "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = next(found for line in process.stderr if (found := _LISTENING.search(line)))
            yield process.pid, int(found[1])
        finally:
            process.terminate()
            process.stderr.close()
            process.wait(10)


async def _call(port: int, request: bytes, *, calls: int, rate: float) -> tuple[float, Counter[int]]:
    statuses: Counter[int] = Counter()
    left = calls
    began = time.monotonic()

    async def caller(number: int) -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number
        while left > 0:
            left -= 1
            if rate:
                await asyncio.sleep(max(0.0, began + turn / rate - time.monotonic()))
                turn += CONNECTIONS
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            statuses[int(head.split(b" ", 2)[1])] += 1
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(caller(number) for number in range(CONNECTIONS)))
    return time.monotonic() - began, statuses


def _rollouts(resyncctl: Sequence[str]) -> int:
    """Wait for the rollout of the hook, and a little longer for a second one that should not come."""
    deadline = time.monotonic() + 60
    seen = 0
    while time.monotonic() < deadline and not seen:
        time.sleep(0.5)
        listing = subprocess.run(
            [*resyncctl, "--json", "rollout", "list"], check=True, capture_output=True, text=True, timeout=30
        )
        seen = len(json.loads(listing.stdout))
    time.sleep(3)
    listing = subprocess.run(
        [*resyncctl, "--json", "rollout", "list"], check=True, capture_output=True, text=True, timeout=30
    )
    return len(json.loads(listing.stdout))


def _resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(f"{storm(int(sys.argv[1]), rate=float(sys.argv[2]))}\n")
