"""What the endpoint needs of a network: links that carry datagrams, real (`udp`) or in memory (`memory`)."""

from __future__ import annotations

from typing import Protocol

from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address


class Receiver(Protocol):
    """Who gets what arrives at a link. Both methods are called from the event loop and must not block."""

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take one datagram."""

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """Take a delivery failure; `quoted` is what the error repeats of the datagram, perhaps nothing."""


class Link(Protocol):
    """A bound datagram socket."""

    @property
    def local(self) -> Address:
        """The address and port that it is bound to."""

    def send(self, data: bytes, destination: Address) -> None:
        """Hand over a datagram; raise OSError when the system refuses it. A full buffer counts as a lost datagram."""

    def close(self) -> None:
        """Stop receiving; idempotent."""


class Network(Protocol):
    """Where links are opened."""

    def open(self, local: Address, receiver: Receiver) -> Link:
        """Bind a link (port 0 = any); raise TransportError when that is impossible."""

    def open_towards(self, destination: Address, port: int, receiver: Receiver) -> Link:
        """Bind a link to every address of the family; its `local` is the address that `destination` sees it at."""

    def source_for(self, destination: Address) -> str:
        """Return the local address that a datagram to `destination` leaves from; raise TransportError without a route."""
