"""UDP sockets on asyncio, IPv4 and IPv6, with ICMP errors read from the socket's error queue (Linux).

The socket is our own, read through `loop.add_reader`: asyncio's datagram transport hides the error queue, and with it
which datagram an ICMP message is about. Measured, it is also not slower than uvloop's transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import struct
import sys
from typing import Final

from resyncctl.errors import TransportError
from resyncctl.sip.grammar import MAX_MESSAGE
from resyncctl.sip.uas import Address
from resyncctl.transport.link import Receiver, ending_of

_READS_PER_WAKE_UP: Final = 64
"""Datagrams read before other work of the loop gets its turn."""
_BUFFER: Final = 4 * 1024 * 1024
"""Bytes asked for the socket's buffers: a thousand requests in flight may be answered within a millisecond."""

MSG_ERRQUEUE: Final = 0x2000  # linux/socket.h
RECVERR: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6RECVERR (linux/in.h, linux/in6.h): queue ICMP errors with the datagram that caused them."""
EXTENDED_ERROR: Final = struct.Struct("=IBBBxII")  # struct sock_extended_err, linux/errqueue.h
_LINUX: Final = sys.platform == "linux"
_TRANSIENT: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.EINTR})


def family_of(address: str) -> socket.AddressFamily:
    """Return AF_INET6 for an address with a colon, else AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_of_other_family(local: str, destination: Address) -> bool:
    """Say whether what is sent from `local` ('' = any) cannot reach a destination: it is of the other IP version."""
    return bool(local) and family_of(local) is not family_of(destination[0])


def check_family(local: str, destination: Address) -> None:
    """Raise TransportError when what is sent from `local` cannot reach a destination."""
    if is_of_other_family(local, destination):
        raise TransportError(f"--local-address {local} cannot reach {destination[0]}: it is of the other IP version")


class UdpLink:
    """One bound UDP socket. Raises TransportError when it cannot be bound."""

    def __init__(self, local: Address, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._recverr = RECVERR[family_of(local[0])]
        try:
            self._socket = bound_socket(local)
        except OSError as error:
            raise TransportError(
                f"cannot open UDP port {local[1]} on {local[0]}: {error.strerror}; choose another --local-address, or port 0"
                " for any free port"
            ) from error
        name = self._socket.getsockname()
        self.local: Address = (str(name[0]), int(name[1]))
        self._closed = False
        # uvloop forgets a reader whose socket has an error pending, as ours has after each ICMP message. It watches an
        # epoll that watches the socket instead: that one is only ever readable. Measured: 2 % of a bare echo.
        self._watched: socket.socket | select.epoll = self._socket
        if _LINUX:
            self._watched = select.epoll()
            self._watched.register(self._socket, select.EPOLLIN)
        self._loop.add_reader(self._watched, self._readable)

    def send(self, data: bytes, destination: Address) -> None:
        """Send one datagram; see `Link.send`."""
        try:
            self._socket.sendto(data, destination)
        except OSError as error:
            if error.errno in _TRANSIENT:
                return  # lost on the way out; Timer E sends it again
            # Linux reports an ICMP error of an earlier datagram here, once, and sends nothing: try again. The error itself
            # is in the error queue, and `_readable` will find it there.
            try:
                self._socket.sendto(data, destination)
            except OSError as again:
                if again.errno not in _TRANSIENT:
                    raise

    def close(self) -> None:
        """Stop receiving and close the socket."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._watched)
            self._watched.close()
            self._socket.close()

    def _readable(self) -> None:
        receive, deliver = self._socket.recvfrom, self._receiver.datagram_received
        for _ in range(_READS_PER_WAKE_UP):
            try:
                data, source = receive(MAX_MESSAGE)
            except OSError as error:
                if error.errno in _TRANSIENT:
                    self._read_errors()
                    return
                self._read_errors()
                continue
            deliver(data, source[:2])
            if self._closed:
                return

    def _read_errors(self) -> None:
        """Read the error queue; it holds nothing but ICMP errors and is nearly always empty."""
        if not _LINUX:
            return
        for _ in range(_READS_PER_WAKE_UP):
            try:
                quoted, ancillary, _, destination = self._socket.recvmsg(MAX_MESSAGE, 512, MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, content in ancillary:
                if (level, kind) == self._recverr and len(content) >= EXTENDED_ERROR.size:
                    number = EXTENDED_ERROR.unpack_from(content)[0]
                    self._receiver.delivery_failed(
                        quoted, destination[:2], ending_of(number), f"ICMP: {os.strerror(number)}"
                    )


def bound_socket(local: Address) -> socket.socket:
    """Open, set up and bind a socket; raise OSError when that is impossible."""
    family = family_of(local[0])
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            if _LINUX:  # beyond net.core.rmem_max, where we may
                with contextlib.suppress(OSError):
                    force = 33 if option == socket.SO_RCVBUF else 32  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
                    opened.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
        if _LINUX:
            opened.setsockopt(*RECVERR[family], 1)
        opened.bind(local)
    except OSError:
        opened.close()
        raise
    return opened
