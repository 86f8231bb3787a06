"""PJSIP 2.15.1 (pjsua2) as a desk phone, in a process of its own: `with PjsipPhone("300", registrar=…) as phone`.

What we saw:

- pjsua2 has no hook for a NOTIFY outside a subscription. PJSUA answers `Event: message-summary` with 200 and calls
  `Account.onMwiInfo`; **every other event, check-sync included, is dropped without any answer** ("was dropped/unhandled
  by any modules"): neither 481 nor 489 nor 405, the sender runs into its timeout. `Account.onSendRequest` is about
  answers to requests that we send.
- An application in C registers a `pjsip_module` for what nobody else handles. The wheel exports PJSIP's C functions, so
  we do just that through ctypes; the answer then comes from PJSIP's own UAS transaction (a retransmission gets the
  same answer and does not reach the module again). `answer=None` leaves PJSIP as it is.
- Received requests are taken from PJSIP's log, which has every message, answered or not.
- Over TCP and TLS it registers with RFC 5626's `reg-id` and `+sip.instance`; PJSIP makes the same instance for every
  phone of a machine (so that they would be one device), therefore each gets one of its own here. On IPv4 the Contact
  has the port that its connection comes from, on IPv6 the one that it listens on, or what `contact` says.
- `sips`: it registers `<sips:…;transport=TLS;ob>`. It answers requests for a sip: and for a sips: URI alike, whichever it
  has registered, and on TLS a `sips:` Request-URI needs no `transport`.
- It does not answer the keep-alive CRLF CRLF (RFC 5626 4.4.1 has a server answer it).
- The wheel has OpenSSL 1.0.2: TLS 1.2 is its newest. With `ca` it checks names and dates too. When registering fails it
  says 503, the certificate's trouble only in its log.
- The wheel is built without IPv6 for accounts (`ipv6Use` ends the process), but with IPv6 transports, which do all it takes.
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
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.peers.certificates import Certificate
from tests.peers.phone_process import PhoneProcess, end_with_standard_input, tell
from tests.peers.plain_client import Address, Transport, host_port

if TYPE_CHECKING:
    import pjsua2

TlsVersion = Literal["1.0", "1.1", "1.2"]
TLS_PROTOCOLS: dict[TlsVersion, int] = {"1.0": 1 << 2, "1.1": 1 << 3, "1.2": 1 << 4}
"""`enum pj_ssl_sock_proto` of pj/ssl_sock.h."""
APPLICATION_PRIORITY = 64
"""PJSIP_MOD_PRIORITY_APPLICATION; ours is larger, so PJSUA's own modules come first."""

_RECEIVED = re.compile(r"RX \d+ bytes Request msg .*? from \w+ (?P<source>\S+):\n(?P<text>.*?)\n--end msg--", re.DOTALL)


class PjsipPhone(PhoneProcess):
    """The phone as tests see it."""

    def __init__(
        self,
        user: str,
        *,
        registrar: Address | None = None,
        password: str = "",
        answer: int | None = 200,
        transport: Transport = "udp",
        host: str | None = None,
        tls: Certificate | None = None,
        ca: Path | None = None,
        contact: str | None = None,
        sips: bool = False,
        tls_version: TlsVersion = "1.2",
    ) -> None:
        """Prepare the phone; `answer` is the status for an out-of-dialog NOTIFY, None for PJSIP's own silence.

        It listens on `transport` and registers over it. `tls`: what it shows to a client that connects (and to a
        registrar that asks). `ca`: what it verifies the registrar with, None not to. `contact`: a URI to register
        instead of its own, as a phone behind a NAT does. `sips`: its URIs are sips: URIs.
        `tls_version`: the only one that it speaks.
        """
        super().__init__(
            "pjsip", __name__, user, registrar=registrar, password=password, transport=transport, host=host
        )
        self._answer = answer
        self._tls = tls
        self._ca = ca
        self._contact = contact
        self._sips = sips
        self._tls_version = tls_version

    @property
    def uri(self) -> str:
        """The address of the phone itself, where it listens."""
        return f"sips:{self.user}@{host_port(self.address)}" if self._sips else super().uri

    def arguments(self) -> Sequence[str]:
        """Return the answer that the phone shall give, and how it is connected."""
        arguments = ["--host", self.host, "--transport", self.transport, *["--sips"] * self._sips]
        arguments += ["--tls-version", self._tls_version]
        arguments += [] if self._answer is None else ["--answer", str(self._answer)]
        arguments += [] if self._contact is None else ["--contact", self._contact]
        arguments += [] if self._ca is None else ["--ca", str(self._ca)]
        arguments += [] if self._tls is None else ["--certificate", *map(str, self._tls)]
        return arguments


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


class Given(argparse.Namespace):
    """The arguments of the phone's process; see `main`."""

    user: str
    port: int
    host: str
    transport: Transport
    registrar: str | None
    password: str
    answer: int | None
    contact: str | None
    ca: str | None
    certificate: list[str] | None
    sips: bool
    tls_version: TlsVersion


def run(given: Given) -> None:
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
    if given.answer is not None:
        answerer = _Answerer(ctypes.CDLL(pjsua2.pjsua2._pjsua2.__file__), given.answer)
        answerer.register()
    kind = f"PJSIP_TRANSPORT_{given.transport.upper()}{'6' if ':' in given.host else ''}"
    transport = endpoint.transportCreate(getattr(pjsua2, kind), transport_of(given))
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    account = account_of(given)
    if ":" in given.host:
        account.sipConfig.transportId = transport  # the wheel refuses ipv6Use
    phone = Phone()
    phone.create(account)
    tell(event="listening")
    while True:  # until SIGTERM, or until standard input ends
        endpoint.libHandleEvents(100)


def transport_of(given: Given) -> pjsua2.TransportConfig:
    """Return what it listens on, which is also what it connects with."""
    import pjsua2  # noqa: PLC0415  see run

    transport = pjsua2.TransportConfig()
    transport.port = given.port
    transport.boundAddress = given.host
    transport.tlsConfig.proto = TLS_PROTOCOLS[given.tls_version]
    if given.certificate is not None:
        transport.tlsConfig.certFile, transport.tlsConfig.privKeyFile = given.certificate
    if given.ca is not None:
        transport.tlsConfig.CaListFile = given.ca
        transport.tlsConfig.verifyServer = True
    return transport


def account_of(given: Given) -> pjsua2.AccountConfig:
    """Return its line."""
    import pjsua2  # noqa: PLC0415  see run

    account = pjsua2.AccountConfig()
    scheme = "sips" if given.sips else "sip"
    account.idUri = f"{scheme}:{given.user}@{given.registrar or host_port((given.host, given.port))}"
    if given.registrar is not None:
        parameter = "" if given.sips or given.transport == "udp" else f";transport={given.transport}"
        account.regConfig.registrarUri = f"{scheme}:{given.registrar}{parameter}"
        account.regConfig.timeoutSec = 300
        account.sipConfig.authCreds.append(pjsua2.AuthCredInfo("digest", "*", given.user, 0, given.password))
    if given.contact is not None:
        account.sipConfig.contactForced = f"<{given.contact}>"
    if given.contact is not None or ":" in given.host:
        account.natConfig.contactRewriteUse = 0  # it would put its own address back; on IPv6 it aborts the process
    account.natConfig.sipOutboundInstanceId = f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, account.idUri)}>"
    return account


def main() -> None:
    """Read the arguments and be the phone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--transport", choices=("udp", "tcp", "tls"), required=True)
    parser.add_argument("--registrar", help="host:port")
    parser.add_argument("--password", default="")
    parser.add_argument("--answer", type=int)
    parser.add_argument("--contact", help="a URI")
    parser.add_argument("--ca", help="a PEM file")
    parser.add_argument("--certificate", nargs=2, help="two PEM files: certificate and key")
    parser.add_argument("--sips", action="store_true")
    parser.add_argument("--tls-version", choices=("1.0", "1.1", "1.2"), default="1.2")
    given = parser.parse_args(namespace=Given())
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    run(given)


if __name__ == "__main__":
    main()
