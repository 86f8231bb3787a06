"""PJSIP 2.15.1 (pjsua2) as a desk phone, in a process of its own: `with PjsipPhone("300", registrar=…) as phone`.

What we saw:

- pjsua2 has no hook for a NOTIFY outside a subscription. PJSUA answers `Event: message-summary` with 200 and calls
  `Account.onMwiInfo`; **every other event, check-sync included, is dropped without any answer** ("was dropped/unhandled
  by any modules"): neither 481 nor 489 nor 405, the sender runs into its timeout. `Account.onSendRequest` is about
  answers to requests that we send.
- An application in C registers a `pjsip_module` for what nobody else handles. The wheel exports PJSIP's C functions, so
  we do just that through ctypes; the answer then comes from PJSIP's own UAS transaction (a retransmission gets the
  same answer and does not reach the module again). `answer=None` leaves PJSIP as it is.
- Received requests are taken from PJSIP's log, which has every datagram, answered or not.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence

from tests.peers.phone_process import PhoneProcess, end_with_standard_input, tell

APPLICATION_PRIORITY = 64
"""PJSIP_MOD_PRIORITY_APPLICATION; ours is larger, so PJSUA's own modules come first."""

_RECEIVED = re.compile(r"RX \d+ bytes Request msg .*? from \w+ (?P<source>\S+):\n(?P<text>.*?)\n--end msg--", re.DOTALL)


class PjsipPhone(PhoneProcess):
    """The phone as tests see it."""

    def __init__(
        self, user: str, *, registrar: tuple[str, int] | None = None, password: str = "", answer: int | None = 200
    ) -> None:
        """Prepare the phone; `answer` is the status for an out-of-dialog NOTIFY, None for PJSIP's own silence."""
        super().__init__("pjsip", __name__, user, registrar=registrar, password=password)
        self._answer = answer

    def arguments(self) -> Sequence[str]:
        """Return the answer that the phone shall give."""
        return () if self._answer is None else ("--answer", str(self._answer))


class _PjString(ctypes.Structure):
    _fields_ = (("ptr", ctypes.c_char_p), ("slen", ctypes.c_ssize_t))


_OnRequest = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class _PjsipModule(ctypes.Structure):
    """`struct pjsip_module` of pjsip/sip_module.h, PJSIP 2.15.1."""

    _fields_ = (
        ("prev", ctypes.c_void_p),
        ("next", ctypes.c_void_p),
        ("name", _PjString),
        ("id", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("load", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("unload", ctypes.c_void_p),
        ("on_rx_request", _OnRequest),
        ("on_rx_response", ctypes.c_void_p),
        ("on_tx_request", ctypes.c_void_p),
        ("on_tx_response", ctypes.c_void_p),
        ("on_tsx_state", ctypes.c_void_p),
    )


class _Answerer:
    """A PJSIP module that answers every NOTIFY which no other module takes."""

    def __init__(self, library: ctypes.CDLL, status: int) -> None:
        self._library = library
        self._status = status
        for name, result, arguments in (
            ("pjsua_get_pjsip_endpt", ctypes.c_void_p, ()),
            ("pjsip_rx_data_get_info", ctypes.c_char_p, (ctypes.c_void_p,)),
            ("pjsip_endpt_register_module", ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
            ("pjsip_endpt_respond", ctypes.c_int, (ctypes.c_void_p,) * 3 + (ctypes.c_int,) + (ctypes.c_void_p,) * 4),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        name_text = b"mod-answer-notify"
        self._module = _PjsipModule(
            name=_PjString(name_text, len(name_text)),
            id=-1,
            priority=APPLICATION_PRIORITY + 1,
            on_rx_request=_OnRequest(self._on_request),
        )

    def register(self) -> None:
        status = self._library.pjsip_endpt_register_module(
            self._library.pjsua_get_pjsip_endpt(), ctypes.byref(self._module)
        )
        if status != 0:
            raise RuntimeError(f"pjsip_endpt_register_module returned {status}")

    def _on_request(self, request: int) -> int:
        info: bytes = self._library.pjsip_rx_data_get_info(request)
        if not info.startswith(b"Request msg NOTIFY/"):
            return 0
        endpoint = self._library.pjsua_get_pjsip_endpt()
        self._library.pjsip_endpt_respond(
            endpoint, ctypes.byref(self._module), request, self._status, None, None, None, None
        )
        return 1


def run(user: str, port: int, registrar: str | None, password: str, answer: int | None) -> None:
    """Be the phone until a signal ends the process."""
    import pjsua2  # noqa: PLC0415  loads C code, which the tests' own process must not

    class Log(pjsua2.LogWriter):  # type: ignore[misc]  # pjsua2 has no types
        """Takes the received requests from PJSIP's log and passes the rest on to stderr."""

        def write(self, entry: pjsua2.LogEntry) -> None:
            text = str(entry.msg)
            sys.stderr.write(text.rstrip() + "\n")
            if found := _RECEIVED.search(text):
                tell(event="request", text=found["text"], source=found["source"], time=time.time())

    class Phone(pjsua2.Account):  # type: ignore[misc]  # pjsua2 has no types
        """One line."""

        def onRegState(self, state: pjsua2.OnRegStateParam) -> None:  # noqa: N802  name of pjsua2
            tell(event="registered", status=int(state.code))

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # libDestroy waits a second for nothing
    log = Log()
    endpoint = pjsua2.Endpoint()
    endpoint.libCreate()
    configuration = pjsua2.EpConfig()
    configuration.uaConfig.threadCnt = 0
    configuration.uaConfig.mainThreadOnly = True
    configuration.uaConfig.userAgent = "PJSIP phone under test"
    configuration.logConfig.level = 4
    configuration.logConfig.consoleLevel = 4
    configuration.logConfig.writer = log
    endpoint.libInit(configuration)
    if answer is not None:
        answerer = _Answerer(ctypes.CDLL(pjsua2.pjsua2._pjsua2.__file__), answer)
        answerer.register()
    transport = pjsua2.TransportConfig()
    transport.port = port
    transport.boundAddress = "127.0.0.1"
    endpoint.transportCreate(pjsua2.PJSIP_TRANSPORT_UDP, transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    account = pjsua2.AccountConfig()
    account.idUri = f"sip:{user}@{registrar or f'127.0.0.1:{port}'}"
    if registrar is not None:
        account.regConfig.registrarUri = f"sip:{registrar}"
        account.regConfig.timeoutSec = 300
        account.sipConfig.authCreds.append(pjsua2.AuthCredInfo("digest", "*", user, 0, password))
    phone = Phone()
    phone.create(account)
    tell(event="listening")
    while True:  # until SIGTERM, or until standard input ends
        endpoint.libHandleEvents(100)


def main() -> None:
    """Read the arguments and be the phone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--registrar", help="host:port")
    parser.add_argument("--password", default="")
    parser.add_argument("--answer", type=int)
    given = parser.parse_args()
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    run(given.user, given.port, given.registrar, given.password, given.answer)


if __name__ == "__main__":
    main()
