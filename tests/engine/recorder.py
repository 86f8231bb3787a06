"""Phones in a process of their own that write down every request they receive, and answer by the name of the user.

`with Recorder() as phones: …` starts the process; `phones.requests()` reads what came so far, with the kernel's time.
What a phone does stands before the dot of its user part, `ok.17` or `once503.2`:

    ok          200                                silent      no answer
    cCODE       always CODE                        onceCODE    CODE to the first transaction, 200 to others
    lateMS      200 after MS milliseconds          lossy       200, but every datagram is lost with LOSS, either way
    after503    503 with Retry-After: 1 to the first transaction, 200 to others
"""

from __future__ import annotations

import heapq
import random
import re
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from tests.peers.process import REPOSITORY, ServerProcess

SO_TIMESTAMPNS: Final = 35  # linux/socket.h
LOSS: Final = 0.2
_RULE: Final = re.compile(r"([a-z]+)(\d*)\.")
_COPIED: Final = ("via:", "from:", "call-id:", "cseq:")


class Received(NamedTuple):
    """One datagram at a phone. `at` is the kernel's receive time, seconds since 1970."""

    at: float
    user: str
    call_id: str
    cseq: str
    branch: str
    event: str


class Recorder(ServerProcess):
    """The phones of a test: one UDP socket on loopback for any number of users."""

    def __init__(self) -> None:
        super().__init__("phones")
        self._port = 0

    def command(self) -> list[str]:
        """Return the command."""
        return [sys.executable, "-m", "tests.engine.recorder", str(self.directory / "requests.log")]

    def environment(self) -> dict[str, str]:
        """Let the program find this package."""
        return {"PYTHONPATH": str(REPOSITORY)}

    def wait_until_ready(self) -> None:
        """Block until the socket is open."""
        self.wait_until(lambda: self.log().startswith("port ") and self.log().endswith("\n"), "listening", within=10)
        self._port = int(self.log().split()[1])

    def contact(self, user: str) -> str:
        """Return the Contact URI of a user."""
        return f"sip:{user}@127.0.0.1:{self._port}"

    def phone_list(self, path: Path, users: Iterable[str], *, rows: str = "") -> Path:
        """Write a CSV file of these users; `rows` follow literally."""
        lines = [f"sip:{user}@pbx.example,{self.contact(user)}" for user in users]
        path.write_text("\n".join(["aor,contact", *lines]) + "\n" + rows, encoding="utf-8")
        return path

    def datagrams(self, among: Iterable[str] = ()) -> list[Received]:
        """Return what has been received so far, retransmissions included, of the given users only (none given = all)."""
        whole = self.read("requests.log").rpartition("\n")[0]
        wanted = set(among)
        found = []
        for line in whole.splitlines():
            at, user, call_id, cseq, branch, event = line.split("\t")
            if not wanted or user in wanted:
                found.append(Received(int(at) / 1e9, user, call_id, cseq, branch, event))
        return found

    def requests(self, among: Iterable[str] = ()) -> list[Received]:
        """Return the transactions so far: of each branch the datagram that came first."""
        first: dict[str, Received] = {}
        for one in self.datagrams(among):
            first.setdefault(one.branch, one)
        return list(first.values())

    def times(self, among: Iterable[str] = ()) -> Counter[str]:
        """Return how many transactions reached each user."""
        return Counter(one.user for one in self.requests(among))


def most_in_a_second(times: Iterable[float], *, jitter: float = 0.0) -> int:
    """Return the most events in any window of one second less `jitter`, the error of the measurement at its two ends."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0 - jitter:
            first += 1
        most = max(most, last - first + 1)
    return most


class _Phones:
    """The program."""

    def __init__(self, path: str) -> None:
        self._log = Path(path).open("a", encoding="utf-8")  # noqa: SIM115  (open as long as the process)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind(("127.0.0.1", 0))
        self._seen: dict[str, str] = {}
        self._rng = random.Random(20)
        self._later: list[tuple[float, int, bytes, tuple[str, int]]] = []
        sys.stdout.write(f"port {self._socket.getsockname()[1]}\n")
        sys.stdout.flush()

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            wait = self._later[0][0] - time.monotonic() if self._later else 1.0
            self._socket.settimeout(max(0.0005, wait))
            try:
                self._receive()
                self._socket.settimeout(0)
                while True:
                    self._receive()
            except (TimeoutError, BlockingIOError):
                self._log.flush()
            while self._later and self._later[0][0] <= time.monotonic():
                _, _, reply, peer = heapq.heappop(self._later)
                self._socket.sendto(reply, peer)

    def _receive(self) -> None:
        data, ancillary, _, peer = self._socket.recvmsg(65536, 128)
        seconds, nanoseconds = struct.unpack("ll", ancillary[0][2])
        text = data.decode()
        user = text.partition(" ")[2].partition("@")[0].removeprefix("sip:")
        rule, number = _RULE.match(user).groups() if _RULE.match(user) else ("ok", "")  # type: ignore[union-attr]
        if rule == "lossy" and self._rng.random() < LOSS:
            return
        lines = text.partition("\r\n\r\n")[0].split("\r\n")[1:]
        header = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        branch = header["via"].partition(";branch=")[2].partition(";")[0]
        row = (seconds * 10**9 + nanoseconds, user, header["call-id"], header["cseq"], branch, header["event"])
        self._log.write("\t".join(map(str, row)) + "\n")
        first = self._seen.setdefault(user, branch) == branch
        status, more = self._answer(rule, number, first=first)
        if status is None or (rule == "lossy" and self._rng.random() < LOSS):
            return
        copied = [line for line in lines if line.lower().startswith(_COPIED)]
        reply = [f"SIP/2.0 {status} Any", *copied, f"To: {header['to']};tag=phone", *more, "Content-Length: 0", "", ""]
        encoded = "\r\n".join(reply).encode()
        if rule == "late":
            heapq.heappush(self._later, (time.monotonic() + int(number) / 1000, len(self._seen), encoded, peer))
        else:
            self._socket.sendto(encoded, peer)

    @staticmethod
    def _answer(rule: str, number: str, *, first: bool) -> tuple[int | None, list[str]]:
        match rule:
            case "silent":
                return None, []
            case "c":
                return int(number), []
            case "once" if first:
                return int(number), []
            case "after" if first:
                return 503, ["Retry-After: 1"]
        return 200, []


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _Phones(sys.argv[1]).serve()
