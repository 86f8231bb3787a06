"""A UDP socket that PJSIP sends and receives with, and its queue of ICMP errors, which PJSIP does not read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from resyncctl.errors import TransportError
from resyncctl.sip.grammar import MAX_MESSAGE
from resyncctl.sip.uas import Address
from resyncctl.transport.pjsip_stack import Stack
from resyncctl.transport.udp import _EXTENDED_ERROR, _MSG_ERRQUEUE, _RECVERR, _bound, family_of


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
            self._socket = _bound(bound)
        except OSError as error:
            raise TransportError(
                f"cannot open UDP port {bound[1]} on {bound[0]}: {error.strerror}; choose another --local-address, or port 0"
                " for any free port"
            ) from error
        self._level = _RECVERR[family_of(bound[0])]
        self.local: Address = (published, int(self._socket.getsockname()[1]))
        handle = os.dup(self._socket.fileno())  # PJSIP closes its own; ours is for the queue of errors
        try:
            self.transport = stack.attach_udp(handle, self.local)
        except TransportError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Stop receiving and close the socket."""
        self._stack.close_udp(self.transport)
        self._socket.close()

    def failures(self) -> Iterator[Failure]:
        """Empty the queue of errors: it wakes PJSIP up again and again as long as there is one."""
        while sys.platform == "linux":
            try:
                quoted, ancillary, _, to = self._socket.recvmsg(MAX_MESSAGE, 512, _MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, content in ancillary:
                if (level, kind) == self._level and len(content) >= _EXTENDED_ERROR.size:
                    yield Failure(quoted, to[:2], _EXTENDED_ERROR.unpack_from(content)[0])
