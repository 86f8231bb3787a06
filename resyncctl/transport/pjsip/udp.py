"""UDP sockets that PJSIP sends and receives with, and their queues of ICMP errors, which PJSIP does not read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from resyncctl.errors import TransportError
from resyncctl.sip.grammar import MAX_MESSAGE
from resyncctl.sip.uas import Address
from resyncctl.transport.ip import IpNetwork
from resyncctl.transport.pjsip.stack import Stack
from resyncctl.transport.udp import EXTENDED_ERROR, MSG_ERRQUEUE, RECVERR, bound_socket, check_family, family_of


class Failure(NamedTuple):
    """An ICMP error: what it quotes of a datagram, where that went, and the errno."""

    quoted: bytes
    destination: Address
    number: int


class PjsipPort:
    """One bound UDP socket. Raises TransportError when it cannot be bound."""

    def __init__(self, stack: Stack, bound: Address, published: str) -> None:
        """Bind a socket (port 0 = any); `published` is the address that phones see it at."""
        self._stack = stack
        try:
            self._socket = bound_socket(bound)
        except OSError as error:
            raise TransportError(
                f"cannot open UDP port {bound[1]} on {bound[0]}: {error.strerror}; choose another --local-address, or port 0"
                " for any free port"
            ) from error
        self._level = RECVERR[family_of(bound[0])]
        self.local: Address = (published, int(self._socket.getsockname()[1]))
        handle = os.dup(self._socket.fileno())  # PJSIP closes its own; ours is for the queue of errors
        try:
            self.transport = stack.transports.attach_udp(handle, self.local)
        except TransportError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Stop receiving and close the socket."""
        self._stack.transports.close_udp(self.transport)
        self._socket.close()

    def failures(self) -> Iterator[Failure]:
        """Empty the queue of errors: it wakes PJSIP up again and again as long as there is one."""
        while sys.platform == "linux":
            try:
                quoted, ancillary, _, to = self._socket.recvmsg(MAX_MESSAGE, 512, MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, content in ancillary:
                if (level, kind) == self._level and len(content) >= EXTENDED_ERROR.size:
                    yield Failure(quoted, to[:2], EXTENDED_ERROR.unpack_from(content)[0])


class PjsipPorts:
    """The UDP sockets of one agent, one for each IP version, opened when first needed; and what leads where.

    `local` is the address to send from ('' = any) and the port (0 = any).
    """

    def __init__(self, stack: Stack, local: Address, on_open: Callable[[PjsipPort], None]) -> None:
        self._stack = stack
        self._local = local
        self._on_open = on_open
        self._network = IpNetwork()
        self._ports: dict[bool, PjsipPort] = {}

    def towards(self, destination: Address) -> PjsipPort:
        """Return the socket for a destination; raise TransportError when there is no way to it."""
        six = ":" in destination[0]
        port = self._ports.get(six)
        if port is None:
            check_family(self._local[0], destination)
            host, number = self._local
            bound = (host or ("::" if six else "0.0.0.0"), number)
            port = self._ports[six] = PjsipPort(self._stack, bound, self.source_for(destination))
            self._on_open(port)
        return port

    def source_for(self, destination: Address) -> str:
        """Return the address of ours that leads to a destination; raise TransportError."""
        return self._local[0] or self._network.source_for(destination)

    def failures(self) -> Iterator[Failure]:
        """Empty all queues of errors."""
        for port in list(self._ports.values()):
            yield from port.failures()

    def close(self) -> None:
        """Close all sockets."""
        for port in self._ports.values():
            port.close()
        self._ports.clear()
