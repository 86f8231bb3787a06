"""What the engine needs of a SIP user agent client; both SIP engines are one (`endpoint`, `pjsip`)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from resyncctl.sip.hop import Hop
from resyncctl.sip.uac import Outgoing
from resyncctl.sip.uas import Address
from resyncctl.transport.link import Refusal

Prepare = Callable[[Outgoing, Address, Hop], None]
"""Makes a request ready for a hop that it leaves for from a local address."""


class Agent(Protocol):
    """Sends requests and tells what became of each: the `on_result` of its constructor is called once for every request
    that `send` took, with a `sip.uac.Result`, from the event loop, and never within `send`."""

    def bind(self) -> None:
        """Open the sockets that a fixed local address needs; raise TransportError. Otherwise they are opened when needed."""

    def reach(self, hop: Hop, then: Callable[[Refusal | None], None], *, large: bool = False) -> bool:
        """Say whether a request to `hop` would leave at once, as over UDP it would unless it may be too `large` for that.

        If not, its connection is being made, and `then` is called once, later: with None when it stands, else with why not.
        Where a large request is to go over UDP after all, that counts as a connection that stands.
        """

    def send(self, request: Outgoing, key: Hashable) -> float:
        """Take a request and return the time, on the agent's clock. Its transaction starts now, or when there is a connection.

        Raises TransportError when there is no way to the destination from here; then no result follows.
        """

    def close(self) -> None:
        """End all connections; requests that are still waiting end without a result. Idempotent."""
