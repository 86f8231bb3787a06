"""NOTIFY and REGISTER written by hand, sent from a plain UDP socket: no product code takes part.

There is no retransmission and no transaction here: loopback loses nothing, and a peer that stays silent is meant to.
"""

from __future__ import annotations

import secrets
import socket
from types import TracebackType
from typing import Self

from tests.peers.digest import Credentials, answer_challenge
from tests.peers.message import SipText

ANSWER_WITHIN = 3.0
"""Seconds that we wait for a datagram unless told otherwise."""

Address = tuple[str, int]


def host_port(address: Address) -> str:
    """Write an address as SIP does: `127.0.0.1:5060`, `[::1]:5060`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class PlainClient:
    """A UDP socket on a loopback address, with what is needed to write requests by hand."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        bound = self._socket.getsockname()
        self.address: Address = (bound[0], bound[1])

    def compose(
        self,
        method: str,
        uri: str,
        *,
        call_id: str | None = None,
        cseq: int = 1,
        to: str | None = None,
        extra: tuple[str, ...] = (),
    ) -> str:
        """Return a request outside any dialog; `to` is a URI, by default the Request-URI; `extra` whole header lines."""
        here = host_port(self.address)
        to_uri = uri if to is None else to
        from_uri = to_uri if method == "REGISTER" else f"sip:resyncctl@{here}"
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{secrets.token_hex(8)};rport",
            "Max-Forwards: 70",
            f"From: <{from_uri}>;tag={secrets.token_hex(4)}",
            f"To: <{to_uri}>",
            f"Call-ID: {call_id or secrets.token_hex(8)}",
            f"CSeq: {cseq} {method}",
            *extra,
            "Content-Length: 0",
        ]
        return "\r\n".join(lines) + "\r\n\r\n"

    def notify(
        self,
        uri: str,
        *,
        call_id: str | None = None,
        cseq: int = 1,
        event: str = "check-sync",
        to: str | None = None,
        extra: tuple[str, ...] = (),
    ) -> str:
        """Return a NOTIFY `Event: check-sync` as resyncctl sends it, outside any dialog or subscription."""
        own = (
            f"Contact: <sip:resyncctl@{host_port(self.address)}>",
            f"Event: {event}",
            "Subscription-State: terminated",
        )
        return self.compose("NOTIFY", uri, call_id=call_id, cseq=cseq, to=to, extra=(*own, *extra))

    def send(self, text: str, destination: Address) -> None:
        """Send one datagram."""
        self._socket.sendto(text.encode(), destination)

    def receive(self, *, within: float = ANSWER_WITHIN) -> SipText:
        """Return the next datagram; raise TimeoutError after `within` seconds."""
        self._socket.settimeout(within)
        return SipText(self._socket.recv(65_535).decode())

    def exchange(self, text: str, destination: Address, *, within: float = ANSWER_WITHIN) -> SipText:
        """Send a request and return the next datagram."""
        self.send(text, destination)
        return self.receive(within=within)

    def register(
        self, uri: str, destination: Address, *, credentials: Credentials | None = None, extra: tuple[str, ...] = ()
    ) -> SipText:
        """Register the address of record `uri`, answering one 401 if there are credentials; return the last answer."""
        call_id = secrets.token_hex(8)
        registrar = "sip:" + uri.partition("@")[2]
        first = self.compose("REGISTER", registrar, to=uri, call_id=call_id, extra=extra)
        answer = self.exchange(first, destination)
        if answer.status != 401 or credentials is None:
            return answer
        authorization = answer_challenge(
            answer.header("WWW-Authenticate") or "", credentials, method="REGISTER", uri=registrar
        )
        second = self.compose(
            "REGISTER", registrar, to=uri, call_id=call_id, cseq=2, extra=(*extra, f"Authorization: {authorization}")
        )
        return self.exchange(second, destination)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
