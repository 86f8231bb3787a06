"""Targets whose connection is still being made when their time has come.

What is sent late all at once would be faster than the rate. So a connection is asked for when the intent is written, and a
target that has none by the time of its slot gives that up and asks for another one when the connection stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from resyncctl.engine.live import NOWHERE, Live
from resyncctl.sip.hop import Transport
from resyncctl.transport.agent import Agent
from resyncctl.transport.link import Refusal

PATIENCE: Final = 3
"""Connections that a target waits for until it is sent come what may: there are peers that take every connection and close it
at once, as a TLS server does that wants a certificate of ours, and the attempt has to end."""


class Connecting:
    """Keeps targets until `on_decided` gets them back: with None when their connection stands, else with why it does not."""

    def __init__(self, agent: Agent, *, on_decided: Callable[[Live, Refusal | None], None]) -> None:
        self._agent = agent
        self._on_decided = on_decided
        self._lives: set[Live] = set()
        self._times: dict[Live, int] = {}
        """How often the connection of a target has come to stand, and was gone by its slot or may yet be."""

    def __len__(self) -> int:
        return len(self._lives)

    def begin(self, lives: Iterable[Live]) -> None:
        """Let the connections be made that these targets will need."""
        for live in lives:
            if (live.large or live.destination[1] is not Transport.UDP) and live.destination is not NOWHERE:
                self._agent.reach(live.destination, _ignore, large=live.large)

    def holds(self, live: Live) -> bool:
        """Say whether a target has no connection yet; then it is kept here."""
        if (live.destination[1] is Transport.UDP and not live.large) or live.destination is NOWHERE:
            return False
        then = partial(self._decided, live)
        if self._times.get(live, 0) >= PATIENCE or self._agent.reach(live.destination, then, large=live.large):
            self._times.pop(live, None)
            return False
        self._lives.add(live)
        return True

    def clear(self) -> None:
        """Forget all of them: they are given back."""
        self._lives.clear()
        self._times.clear()

    def _decided(self, live: Live, refusal: Refusal | None) -> None:
        if live in self._lives:
            self._lives.remove(live)
            if refusal is None:
                self._times[live] = self._times.get(live, 0) + 1
            else:
                self._times.pop(live, None)
            self._on_decided(live, refusal)


def _ignore(_: Refusal | None) -> None:
    """Nobody waits for it."""
