"""A trace: a copy of every SIP message that is sent or received, into capture files and to Homer collectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from resyncctl.errors import InputError
from resyncctl.sip.hop import Transport
from resyncctl.sip.uas import Address
from resyncctl.transport.trace_hep import HepTrace, is_collector, parse_collector
from resyncctl.transport.trace_pcap import PcapTrace


class Tracer(Protocol):
    """Where copies of messages go."""

    def message(
        self, data: bytes, *, transport: Transport, local: Address, remote: Address, sent: bool, at_us: int
    ) -> None:
        """Take a copy of one whole message, with TLS its decrypted text; `at_us` is in microseconds since the Unix epoch.

        It does not wait and never raises: a rollout does not fail because of its trace.
        """

    def close(self) -> None:
        """Finish; idempotent. Messages that come later are lost."""


def open_trace(where: Sequence[str], *, tell: Callable[[str], None] | None = None) -> Tracer | None:
    """Open a trace to all these places, None for none: `hep:HOST` is a Homer collector, anything else names a file.

    Raises InputError for what cannot be used, TransportError when there is no way to a collector; then nothing is left
    behind. Names are resolved here, which may take seconds. `tell` gets a sentence for the log when a trace ends early or
    is not complete, at most two for each place.
    """
    for place in where:
        if is_collector(place):
            parse_collector(place)
        elif "://" in place:
            raise InputError(f"--trace {place[:80]}: neither a file nor a Homer collector, which is hep:HOST[:PORT]")
    opened: list[PcapTrace | HepTrace] = []
    with ExitStack() as undo:
        for place in where:
            tracer = HepTrace(place, tell=tell) if is_collector(place) else PcapTrace(place, tell=tell)
            undo.callback(tracer.discard)
            opened.append(tracer)
        undo.pop_all()
    return opened[0] if len(opened) == 1 else _Several(opened) if opened else None


class _Several:
    """A trace to several places."""

    def __init__(self, tracers: Sequence[Tracer]) -> None:
        self._tracers = tuple(tracers)

    def message(
        self, data: bytes, *, transport: Transport, local: Address, remote: Address, sent: bool, at_us: int
    ) -> None:
        for tracer in self._tracers:
            tracer.message(data, transport=transport, local=local, remote=remote, sent=sent, at_us=at_us)

    def close(self) -> None:
        for tracer in self._tracers:
            tracer.close()
