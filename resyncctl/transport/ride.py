"""A request on its way over a connection."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resyncctl.sip.hop import Hop

if TYPE_CHECKING:
    from resyncctl.sip.digest import Credentials
    from resyncctl.sip.uac import Outgoing
    from resyncctl.transport.flow import Flow


@dataclass(slots=True, eq=False)
class Ride:
    """Stands for a request in the SIP core, which does not know connections; `rides` has those that have begun, by message.

    `large`: it goes over TCP for its size alone, and over UDP where that is not spoken (RFC 3261 18.1.1).
    """

    request: Outgoing
    key: Hashable
    hop: Hop
    rides: dict[bytes, Ride]
    large: bool = False
    flow: Flow | None = None
    """The connection that it was sent over last."""
    message: bytes = b""
    """As the core wrote it last; b'' as long as its transaction has not begun."""
    written: bool = False
    """False while `message` waits for a connection."""

    @property
    def method(self) -> str:
        """See `sip.uac.Outgoing`, as for what follows."""
        return self.request.method

    @property
    def request_uri(self) -> str:
        return self.request.request_uri

    @property
    def destination(self) -> Hop:
        return self.hop

    @property
    def credentials(self) -> Credentials | None:
        return self.request.credentials

    @property
    def body(self) -> bytes:
        return self.request.body

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        """Write the message, the first one or one that answers a challenge."""
        if self.message:
            self.rides.pop(self.message, None)
        self.message = self.request.render(token=token, branch=branch, cseq=cseq, extra=extra)
        self.rides[self.message] = self
        return self.message
