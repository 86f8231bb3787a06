"""A SIP message as a peer reports it, with just enough reading of it for assertions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class SipText:
    """The text of one SIP message; lines end in CRLF or LF, whichever the peer logged."""

    text: str

    @property
    def start_line(self) -> str:
        """The request line or the status line."""
        return self.text.split("\n", 1)[0].strip()

    @property
    def method(self) -> str:
        """The method of a request; "SIP/2.0" for a response."""
        return self.start_line.split(" ", 1)[0]

    @property
    def status(self) -> int | None:
        """The status code of a response, None for a request."""
        return int(self.start_line.split(" ", 2)[1]) if self.start_line.startswith("SIP/2.0 ") else None

    def headers(self, name: str) -> list[str]:
        """Return the values of all header fields of this name (the long form), in order."""
        head = self.text.replace("\r\n", "\n").split("\n\n", 1)[0]
        fields = (line.partition(":") for line in head.split("\n")[1:])
        return [value.strip() for field, _, value in fields if field.strip().lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the value of the first header field of this name, None when there is none."""
        return next(iter(self.headers(name)), None)

    @property
    def body(self) -> str:
        """What follows the blank line."""
        return self.text.replace("\r\n", "\n").partition("\n\n")[2]


@dataclass(frozen=True, slots=True)
class TracedMessage(SipText):
    """A message that a peer received or sent."""

    traced_time: datetime | None = None
    """When the peer logged it, in UTC; None when the peer logs no time."""
    source: str | None = None
    """`host:port` that it came from; None when the peer does not say."""


def seconds_between(messages: list[TracedMessage]) -> list[float]:
    """Return the seconds from each message to the next one; all must carry a time."""
    times = [message.traced_time.timestamp() for message in messages if message.traced_time is not None]
    assert len(times) == len(messages), "a message without a time cannot be measured"
    return [later - earlier for earlier, later in pairwise(times)]
