"""tshark (Wireshark's dissectors) reading what passes over loopback: `with Capture([port]) as capture`.

What we saw of tshark 4.0: it says "Capture started" before packets are really captured, and prints the captured ones
about once a second. Therefore datagrams to a port of their own, which nobody listens on, mark the start and the end.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Sequence

from tests.peers.ports import free_port
from tests.peers.process import ServerProcess

_START, _END = b"start", b"the end"
READ_WITHIN = 30.0
"""Seconds that dissecting a file may take."""


def why_not() -> str | None:
    """Say why this user cannot capture on loopback; None when that is possible.

    Listing link types opens the interface, which listing interfaces does not.
    """
    command = ["tshark", "-i", "lo", "-L"]
    opened = subprocess.run(command, capture_output=True, text=True, timeout=READ_WITHIN, check=False)
    if opened.returncode == 0:
        return None
    said = [line for line in opened.stderr.splitlines() if line.startswith("tshark: ")]
    return said[0] if said else f"tshark cannot open lo (status {opened.returncode})"


class Capture(ServerProcess):
    """A running capture of the UDP datagrams from and to some ports, on both IP versions."""

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__("tshark")
        self._ports = tuple(ports)
        self._marker = free_port()

    def command(self) -> list[str]:
        """Return the command, which ends by itself after 10 minutes."""
        wanted = " or ".join(f"udp port {port}" for port in (*self._ports, self._marker))
        command = ["tshark", "-i", "lo", "-f", wanted, "-w", str(self.directory / "lo.pcapng"), "-P", "-l", "-n"]
        return [*command, "-a", "duration:600"]

    def wait_until_ready(self) -> None:
        """Block until a datagram of ours has been captured."""
        self.wait_until(lambda: self._marked(_START), "capturing", within=15.0)

    def complete(self) -> None:
        """Block until everything sent before this call has been captured, and end the capture."""
        self.wait_until(lambda: self._marked(_END), "capturing the last datagram", within=15.0)
        self.send_signal(signal.SIGINT)
        self.wait_until(lambda: not self.running, "ending", within=10.0)

    def _marked(self, text: bytes) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(text, ("127.0.0.1", self._marker))
        return f" {self._marker} Len={len(text)}" in self.log()

    def fields(self, *names: str, where: str = "") -> list[tuple[str, ...]]:
        """Return these fields of every captured SIP datagram that the display filter `where` takes, after `complete()`.

        A field that occurs more than once has its values joined by commas; an absent one is "".
        """
        file = str(self.directory / "lo.pcapng")
        command = [
            "tshark",
            "-r",
            file,
            "-n",
            "-Y",
            f"udp.port != {self._marker}" + (f" and ({where})" if where else ""),
        ]
        for port in self._ports:
            command += ["-d", f"udp.port=={port},sip"]
        command += ["-T", "fields", "-E", "separator=/t"]
        for name in names:
            command += ["-e", name]
        read = subprocess.run(command, capture_output=True, text=True, timeout=READ_WITHIN, check=True)
        return [tuple(line.split("\t")) for line in read.stdout.splitlines()]
