"""PJSIP itself: transactions and transports. There is one for the process, and whoever uses it polls it.

This is PJSIP's C interface (the wheel exports it), not the one of pjsua2: there `Account.sendRequest` cannot send to another
address than the Request-URI's, has credentials for 8 accounts at most, no answer to a challenge, and no IPv6 in this build.
Callbacks from C take note and do nothing else, so that no code of ours runs inside PJSIP, and none of its locks is held.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading
from collections.abc import Callable
from ctypes import byref
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol
from weakref import WeakSet

from resyncctl.errors import SipError, SipParseError, TransportError
from resyncctl.sip.hop import Hop
from resyncctl.sip.message import Request, parse
from resyncctl.sip.uas import answer
from resyncctl.transport.pjsip import layout as pj
from resyncctl.transport.pjsip.layout import Int, Pointer, pointer_at, text_of, write
from resyncctl.transport.pjsip.library import Library, load
from resyncctl.transport.pjsip.message import read_request, tx_data
from resyncctl.transport.pjsip.transports import Transports, kind_of

_POOLED: Final = 16 * 1024 * 1024
"""Bytes of memory that PJSIP keeps for what comes next."""
_ROUNDS: Final = 100
"""Rounds of one `poll`; in one, ten timers expire and up to fifty datagrams of each socket are read."""
_FORGOTTEN_AT_ONCE: Final = 1
"""Milliseconds of Timer K: an answer that comes again finds no transaction and is dropped, which is what Timer K is for."""
_TRANSPORT: Final = 1
"""PJSIP_TPSELECTOR_TRANSPORT."""
_PRIORITY: Final = 65
"""PJSIP_MOD_PRIORITY_APPLICATION, and one more: for what no other module of PJSIP takes."""


class User(Protocol):
    """Who has connections of PJSIP."""

    def make_room(self) -> bool:
        """End an idle connection; False when there is none."""


class How(Enum):
    """How a transaction ended."""

    ANSWERED = auto()
    TIMED_OUT = auto()
    FAILED = auto()


class Work(Enum):
    """What a poll has found to do."""

    NONE = auto()
    SOME = auto()
    MORE = auto()
    """And there is more that is due."""


class Ended(NamedTuple):
    """The end of a transaction: the final response's code and, unless it is a 2xx, its text; or what failed."""

    how: How
    status: int = 0
    text: bytes = b""
    error: int = 0
    """A pj_status_t; 0 when PJSIP does not say why a retransmission failed."""


class Stack:
    """The one PJSIP of the process; get it with `stack`. All calls are from the thread that the first open user is in."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._users: WeakSet[User] = WeakSet()
        self._thread = threading.get_ident()
        self._threads: list[ctypes.Array[ctypes.c_char]] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Callable[[Ended], None]] = {}
        self._timers = (0, 0, 0)
        self._zero = (ctypes.c_long * 2)(0, 0)
        self._count = pj.Unsigned()
        self._on_end = pj.OnEnd(self._note_end)
        self._on_request = pj.OnMessage(self._answer)
        self._pools = ctypes.create_string_buffer(4096)  # pj_caching_pool, and more
        self._endpoint = Pointer()
        self._start()
        self.transports = Transports(library, self._endpoint)

    def _start(self) -> None:
        library = self._library
        library.set_log_level(0)
        self._check(library.init())
        self._check(library.init_utilities())
        library.init_pools(self._pools, None, _POOLED)
        self._check(library.create_endpoint(self._pools, b"resyncctl", byref(self._endpoint)))
        for switch in (pj.SETTING_TCP_SWITCH, pj.SETTING_TLS_SWITCH):  # the hop says what a request goes over
            library.settings[switch] = 1
        library.settings[pj.SETTING_ALIAS] = 0
        self._check(library.init_transactions(self._endpoint))
        name = b"mod-resyncctl"
        self._module = pj.Module(
            name=text_of(name),
            id=-1,
            priority=_PRIORITY,
            on_rx_request=ctypes.cast(self._on_request, Pointer),
        )
        self._check(library.register_module(self._endpoint, byref(self._module)))

    def enter(self, user: User) -> None:
        """Take a user in; raise TransportError when there are some in another thread."""
        here = threading.get_ident()
        if self._users and self._thread != here:
            raise TransportError(
                "--engine pjsua2: PJSIP is one for a process, and another thread of this one sends with it; run a process for"
                " each, or use --engine asyncio"
            )
        self._thread = here
        if not self._library.is_registered():
            description = ctypes.create_string_buffer(1024)  # pj_thread_desc
            self._check(self._library.register_thread(b"resyncctl", description, byref(Pointer())))
            self._threads.append(description)  # PJSIP uses it as long as the thread lives
        self._users.add(user)

    def leave(self, user: User) -> None:
        """Take note that a user has closed all that it had open."""
        self._users.discard(user)

    def make_room(self) -> None:
        """Let one of the users end a connection that it does not need: all of them share PJSIP's sockets."""
        for user in list(self._users):
            if user.make_room():
                return

    def poll(self) -> Work:
        """Let PJSIP do what is due, without waiting for more."""
        handle, endpoint, zero, count = self._library.handle_events, self._endpoint, self._zero, self._count
        for number in range(_ROUNDS):
            handle(endpoint, zero, byref(count))
            if not count.value:
                return Work.SOME if number else Work.NONE
        return Work.MORE

    def explain(self, error: int) -> str:
        """Return PJSIP's text for a pj_status_t."""
        return self._library.explain(error)

    def use_timers(self, *, t1: float, t2: float, timeout: float) -> None:
        """Set the timers of the next requests, in seconds. T1 and T2 hold for retransmissions of earlier ones too."""
        timers = (_milliseconds(t1), _milliseconds(t2), _milliseconds(timeout))
        if timers != self._timers:
            self._timers = timers
            self._library.set_timers(timers[0], timers[1], _FORGOTTEN_AT_ONCE, timers[2])

    def send(self, data: bytes, request_uri: str, hop: Hop, transport: int, on_end: Callable[[Ended], None]) -> int:
        """Send a request over a transport that stands; return its number, by which it is withdrawn.

        `on_end` is called in `poll`, perhaps in here, and must do nothing but take note. Raises SipError when PJSIP cannot
        read the message, TransportError when it does not take it.
        """
        library = self._library
        address = pj.pack_address(hop.address)
        tx = tx_data(library, self._endpoint)
        try:
            pool = pointer_at(tx + pj.TX_POOL)
            write(tx + pj.TX_MESSAGE, read_request(library, pool, data, request_uri))
        except SipError:
            library.drop_tx_data(tx)
            raise
        record = pj.ADDRESSES.pack(1, kind_of(hop), 0, 0, address, len(address))
        ctypes.memmove(tx + pj.TX_ADDRESSES, record, len(record))
        library.select_transport(tx, byref(pj.Selector(_TRANSPORT, 0, transport)))
        number = next(self._numbers)
        self._waiting[number] = on_end
        error = library.send_request(self._endpoint, tx, -1, number, self._on_end)
        if error and self._waiting.pop(number, None) is not None:  # otherwise its end has been noted
            raise TransportError(self.explain(error))
        return number

    def withdraw(self, number: int, method: str, branch: str) -> None:
        """End a request without a word, if it has not ended."""
        if self._waiting.pop(number, None) is None:
            return
        key = f"c${method}${branch}".encode()  # create_tsx_key_3261 of sip_transaction.c
        transaction = self._library.find_transaction(byref(text_of(key)), 0)
        if transaction:
            self._library.terminate(transaction, 487)

    def _note_end(self, number: int, event: int) -> None:
        on_end = self._waiting.pop(number, None)
        if on_end is None:
            return
        cause, transaction, kind = pj.EVENT.unpack(ctypes.string_at(event, pj.EVENT.size))
        status = Int.from_address(transaction + pj.TRANSACTION_STATUS).value
        if kind == pj.EVENT_RECEIVED:
            on_end(Ended(How.ANSWERED, status, b"" if status < 300 else pj.received(cause)))
        elif kind == pj.EVENT_TIMER:
            on_end(Ended(How.TIMED_OUT))
        else:
            on_end(Ended(How.FAILED, error=Int.from_address(transaction + pj.TRANSACTION_ERROR).value))

    def _answer(self, rx: int) -> int:
        """Answer a request that reaches us as the other engine does, PJSIP writing the response."""
        source = pj.address_at(rx + pj.RX_SOURCE)
        try:
            request = parse(pj.received(rx))
        except SipParseError:
            return 1
        reply = answer(request, source=source) if isinstance(request, Request) else None
        if reply is not None:
            self._library.respond(self._endpoint, rx, int(reply[8:11]), None, None, None)
        return 1

    def _check(self, error: int) -> None:
        if error:
            raise TransportError(f"PJSIP does not start: {self.explain(error)}")


@functools.cache
def stack() -> Stack:
    """Return the one PJSIP of this process; it is started when it is first asked for. Raises TransportError."""
    return Stack(load())


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
