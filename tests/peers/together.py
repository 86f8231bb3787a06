"""Peers that do not need each other, started at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.peers.process import ServerProcess


def start_together(stack: ExitStack, peers: Sequence[ServerProcess]) -> None:
    """Start all of them, to be stopped with `stack`; raises the first PeerError when all have been tried."""
    for peer in peers:
        stack.callback(peer.stop)
    with ThreadPoolExecutor(len(peers)) as pool:
        started = [pool.submit(peer.start) for peer in peers]
    for one in started:
        one.result()
