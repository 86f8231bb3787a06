"""Whether both ends of a connection are still there: the CRLF keep-alive of RFC 5626, at the end that has connected."""

from __future__ import annotations

from typing import Final

PING: Final = b"\r\n\r\n"
PONG: Final = b"\r\n"
"""RFC 5626 3.5.1."""
_NEVER: Final = float("inf")


class Pulse:
    """When to ping, and what a CRLF from the peer means. Times are seconds on the clock that `now` comes from.

    A peer that has never answered a ping owes no answer: many phones and proxies have none.
    """

    def __init__(self, *, interval: float, patience: float, now: float) -> None:
        """Ping every `interval`; who has answered a ping before has `patience` for each further answer."""
        self._interval = interval
        self._patience = patience
        self._ping_at = now + interval
        self._pinged_at = -_NEVER
        """When the ping was sent that has no answer yet."""
        self._pong_by = _NEVER
        self._answers = False
        self._half = False
        """A CRLF has come that may be the first half of a ping."""
        self._volunteers = False
        """A CRLF has come unasked: one after a ping of ours may be no answer either."""

    @property
    def due_at(self) -> float:
        """When to ask again whether to ping, or whether the peer is gone."""
        return min(self._ping_at, self._pong_by)

    def is_gone(self, *, now: float) -> bool:
        """Say whether the peer owes an answer for too long (RFC 5626 4.4.1)."""
        return now >= self._pong_by

    def wants_ping(self, *, now: float) -> bool:
        """Say whether to send a ping now; it counts as sent then."""
        if now < self._ping_at:
            return False
        self._ping_at = now + self._interval
        self._pinged_at = now
        if self._answers and not self._volunteers:
            self._pong_by = min(self._pong_by, now + self._patience)
        return True

    def hear(self) -> None:
        """Take note that something has come, whatever it is."""
        self._pong_by = _NEVER

    def hear_message(self) -> None:
        """Take note of a message: a CRLF before it was only a separator (RFC 3261 7.5)."""
        self._half = False

    def hear_line_ends(self, count: int, *, now: float) -> int:
        """Take a run of CRLFs and return how many pongs to send for the pings in it.

        One alone is the answer to a ping of ours that waits for it, else half a ping: a stream may be cut anywhere.
        """
        if count % 2 and now - self._pinged_at <= self._patience:
            self._answers = True
            self._pinged_at = -_NEVER
            count -= 1
        elif count % 2:
            self._volunteers = True
        count += self._half
        self._half = count % 2 == 1
        return count // 2
