"""Show every message that PJSIP sends or has read, as it is on the wire; for a trace."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref

from resyncctl.sip.uas import Address
from resyncctl.transport.pjsip import layout as pj
from resyncctl.transport.pjsip.layout import Pointer, pointer_at, text_of
from resyncctl.transport.pjsip.library import Library

_PRIORITY = 7
"""Before all other modules for what is received, and after PJSIP has written what is sent (PJSIP_MOD_PRIORITY_TRANSPORT_LAYER
is 8)."""

Watcher = Callable[[bytes, Address, bool], None]
"""Takes a message, the address of the other end, and whether it is sent. It must neither wait nor raise."""


class Wire:
    """What goes over the transports that are watched. It costs nothing as long as none has been."""

    def __init__(self, library: Library, endpoint: Pointer) -> None:
        self._library = library
        self._endpoint = endpoint
        self._watchers: dict[int, Watcher] = {}
        self._name = b"mod-resyncctl-trace"
        self._received = pj.OnMessage(self._show_received)
        self._sent = pj.OnMessage(self._show_sent)
        received, sent = ctypes.cast(self._received, Pointer), ctypes.cast(self._sent, Pointer)
        self._module = pj.Module(
            name=text_of(self._name),
            id=-1,
            priority=_PRIORITY,
            on_rx_request=received,
            on_rx_response=received,
            on_tx_request=sent,
            on_tx_response=sent,
        )

    def watch(self, transport: int, watcher: Watcher) -> None:
        """Show what goes over a transport from now on."""
        if self._module.id < 0:
            self._library.register_module(self._endpoint, byref(self._module))
        self._watchers[transport] = watcher

    def forget(self, transport: int) -> None:
        """Show no more of it."""
        self._watchers.pop(transport, None)

    def _show_received(self, rx: int) -> int:
        watcher = self._watchers.get(pointer_at(rx + pj.RX_TRANSPORT))
        if watcher is not None:
            watcher(pj.received(rx), pj.address_at(rx + pj.RX_SOURCE), False)
        return 0

    def _show_sent(self, tx: int) -> int:
        watcher = self._watchers.get(pointer_at(tx + pj.TX_TRANSPORT))
        if watcher is not None:
            start = pointer_at(tx + pj.TX_BUFFER)
            data = ctypes.string_at(start, pointer_at(tx + pj.TX_BUFFER + 8) - start)
            watcher(data, pj.address_at(tx + pj.TX_DESTINATION), True)
        return 0
