"""PJSIP's transports: UDP sockets that it is given, TCP and TLS connections that it makes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
from collections import deque
from collections.abc import Callable
from ctypes import byref
from pathlib import Path
from typing import Final, NamedTuple

from resyncctl.clock import monotonic
from resyncctl.errors import TransportError
from resyncctl.sip.hop import Hop
from resyncctl.sip.uas import Address
from resyncctl.transport.pjsip import layout as pj
from resyncctl.transport.pjsip.layout import Pointer, pointer_at, text_of, write_text
from resyncctl.transport.pjsip.library import Library
from resyncctl.transport.pjsip.message import copied, tx_data
from resyncctl.transport.pjsip.trace import Wire

SOCKETS: Final = 64
"""PJ_IOQUEUE_MAX_HANDLES: sockets that this PJSIP can have at once. It ends the process when it is asked for one more."""
CONNECTIONS: Final = 50
"""How many of them may be connections; an agent needs some for UDP, and one for each kind of connection."""
_FILES: Final = 1000
"""Open files of a process among which PJSIP's sockets have to be: select() knows 1024, and for more PJSIP ends the process."""
_COOLING: Final = 0.6
"""Seconds for which a socket that is closed still counts: PJ_IOQUEUE_KEY_FREE_DELAY is 0.5."""
_FACTORY: Final = 2
"""PJSIP_TPSELECTOR_LISTENER."""


TOO_MANY_FILES: Final = (
    f"--engine pjsua2: this process has more than {_FILES} files open, and PJSIP cannot have a socket beyond; use --engine"
    " asyncio"
)


class Change(NamedTuple):
    """A connection stands, or has ended. `faults` are the bits of what is wrong with the certificate."""

    connected: bool
    error: int
    """A pj_status_t."""
    faults: int


class Transports:
    """All of them; a transport, or what makes connections (a factory), is known by its address in memory."""

    def __init__(self, library: Library, endpoint: Pointer) -> None:
        self._library = library
        self._endpoint = endpoint
        self.wire = Wire(library, endpoint)
        self._connections: dict[int, Callable[[Change], None]] = {}
        self._early: list[tuple[int, Change]] | None = None
        """What is told of a connection before it is known here which one it is."""
        self._open: set[int] = set()
        """Transports and factories that have a socket."""
        self._cooling: deque[float] = deque()
        """When those that are closed do not count any more."""
        manager = library.manager(endpoint)
        self._to_transactions = pj.OnState(library.state_callback(manager))
        self._on_state = pj.OnState(self._note_state)
        library.set_state_callback(manager, self._on_state)

    @property
    def room(self) -> bool:
        """True when there may be another connection."""
        return self._sockets() < CONNECTIONS

    @property
    def cooling(self) -> int:
        """How many sockets come free by themselves within a second."""
        return len(self._cooling)

    def attach_udp(self, handle: int, published: Address) -> int:
        """Take over a bound UDP socket; return the transport. Raises TransportError."""
        host = published[0].encode()
        self._require_socket()
        name, transport = pj.HostPort(text_of(host), published[1]), Pointer()
        kind = kind_of(Hop(published))
        error = self._library.attach_udp(self._endpoint, kind, handle, byref(name), 1, byref(transport))
        return self._made(error, transport, "a UDP socket")

    def close_udp(self, transport: int) -> None:
        """Close a UDP transport as soon as nothing uses it."""
        self.wire.forget(transport)
        self._library.shut_down(transport, 0)

    def start_tcp(self, host: str, published: str) -> int:
        """Return what makes TCP connections from a local address."""
        self._require_socket()
        settings, factory = pj.TcpSettings(), Pointer()
        address = pj.pack_address((host, 0))
        self._library.tcp_defaults(byref(settings), ctypes.c_ushort.from_buffer_copy(address).value)
        settings.bind = address
        name = published.encode()
        settings.published = pj.HostPort(text_of(name), 0)
        error = self._library.start_tcp(self._endpoint, byref(settings), byref(factory))
        return _deafened(self._made(error, factory, "TCP"))

    def start_tls(self, host: str, published: str, *, ca: str, path: str, cert: str, key: str, verify: bool) -> int:
        """Return what makes TLS connections from a local address; names of files, '' for none. TLS 1.2 and nothing else."""
        names = [name.encode() for name in (ca, path, cert, key, published)]
        self._require_socket()
        settings, factory = pj.TlsSettings(), Pointer()
        settings.ca_file, settings.ca_path, settings.certificate_file, settings.key_file, _ = map(text_of, names)
        settings.protocols = pj.TLS_1_2
        settings.verify_server = verify
        settings.ignore_quality_errors = settings.ignore_socket_option_errors = 1
        name = pj.HostPort(text_of(names[-1]), 0)
        address = pj.pack_address((host, 0))
        error = self._library.start_tls(self._endpoint, byref(settings), address, byref(name), 1, byref(factory))
        return _deafened(self._made(error, factory, "TLS"))

    def stop(self, factory: int) -> None:
        """Make no more connections with it."""
        pj.Destroy(pointer_at(factory + pj.FACTORY_DESTROY))(factory)
        self._closed(factory)

    def connect(self, factory: int, hop: Hop, on_change: Callable[[Change], None]) -> tuple[int, int]:
        """Begin a connection, for which there is room; return the transport and 0, or 0 and a pj_status_t.

        `on_change` tells of it; it is called while PJSIP is polled, perhaps in here, and must do nothing but take note.
        """
        if _too_many_files():
            return 0, pj.TOO_BIG
        address, transport = pj.pack_address(hop.address), Pointer()
        tx = tx_data(self._library, self._endpoint)
        name = (hop.name or hop.address[0]).encode()
        write_text(tx + pj.TX_NAME, copied(self._library, pointer_at(tx + pj.TX_POOL), name), len(name))
        choice = pj.Selector(_FACTORY, 1, factory)
        self._early = []
        error = self._library.acquire(
            self._endpoint, kind_of(hop), address, len(address), byref(choice), tx, byref(transport)
        )
        early, self._early = self._early, None
        self._library.drop_tx_data(tx)
        if error or transport.value is None:
            self._cooling.append(monotonic() + _COOLING)
            return 0, error
        self._open.add(transport.value)
        self._connections[transport.value] = on_change
        for known, change in early:
            if known == transport.value:
                on_change(change)
        return transport.value, 0

    def local_address(self, transport: int) -> Address:
        """Return the local address of a connection."""
        return pj.address_at(transport + pj.TRANSPORT_ADDRESS)

    def disconnect(self, transport: int) -> None:
        """End a connection, and forget it; its `on_change` is not called any more."""
        self._connections.pop(transport, None)
        self.wire.forget(transport)
        self._library.shut_down(transport, 1)
        self._library.release(transport)

    def faults(self, bits: int) -> str:
        """Return PJSIP's text for what is wrong with a certificate."""
        texts = (ctypes.c_char_p * 32)()
        count = pj.Unsigned(len(texts))
        self._library.verify_texts(bits, texts, byref(count))
        return "; ".join((text or b"").decode() for text in texts[: count.value])

    def _made(self, error: int, made: Pointer, what: str) -> int:
        if error or made.value is None:
            self._cooling.append(monotonic() + _COOLING)
            raise TransportError(f"PJSIP cannot open {what}: {self._library.explain(error)}")
        self._open.add(made.value)
        return made.value

    def _sockets(self) -> int:
        now = monotonic()
        while self._cooling and self._cooling[0] <= now:
            self._cooling.popleft()
        return len(self._open) + len(self._cooling)

    def _require_socket(self) -> None:
        if self._sockets() >= SOCKETS:
            raise TransportError(
                f"--engine pjsua2: this process has all the {SOCKETS} sockets that PJSIP can have; use --engine asyncio"
            )
        if _too_many_files():
            raise TransportError(TOO_MANY_FILES)

    def _closed(self, known: int) -> None:
        if known in self._open:
            self._open.discard(known)
            self._cooling.append(monotonic() + _COOLING)

    def _note_state(self, transport: int, state: int, information: int) -> None:
        self._to_transactions(transport, state, information)  # PJSIP's own, which this one has replaced
        if state == pj.DESTROYED:
            self._closed(transport)
        on_change = self._connections.get(transport)
        if state not in {pj.CONNECTED, pj.DISCONNECTED} or (on_change is None and self._early is None):
            return
        error, more = pj.STATE.unpack(ctypes.string_at(information, pj.STATE.size))
        faults = ctypes.c_uint32.from_address(pointer_at(more) + pj.TLS_VERIFIED).value if more else 0
        change = Change(state == pj.CONNECTED, error, faults)
        if on_change is not None:
            on_change(change)
        elif self._early is not None:
            self._early.append((transport, change))


def _deafened(factory: int) -> int:
    """Close the socket that PJSIP listens on, and cannot be told not to: who sends NOTIFYs need not be connected to.

    A socket that nothing arrives at takes its place.
    """
    address = pj.address_at(factory + pj.FACTORY_ADDRESS)
    for path in list(Path("/dev/fd").iterdir()):
        handle = int(path.name)
        with contextlib.suppress(OSError):  # closed meanwhile: the directory's own
            if not stat.S_ISSOCK(os.fstat(handle).st_mode):
                continue
            with socket.socket(fileno=os.dup(handle)) as found:
                if not _listens(found) or found.getsockname()[:2] != address:
                    continue
                with socket.socket(found.family, socket.SOCK_DGRAM) as silent:
                    os.dup2(silent.fileno(), handle, inheritable=False)
    return factory


def _too_many_files() -> bool:
    handle = os.open(os.devnull, os.O_RDONLY)  # gets the lowest number that is free, as the next socket does
    os.close(handle)
    return handle >= _FILES


def _listens(found: socket.socket) -> bool:
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def kind_of(hop: Hop) -> int:
    """Return a hop's pjsip_transport_type_e."""
    return pj.TRANSPORTS[hop.transport] + (pj.IPV6 if ":" in hop.address[0] else 0)
