"""Cut a byte stream into SIP messages by Content-Length (RFC 3261 18.3)."""

from __future__ import annotations

from typing import Final

from resyncctl.errors import SipParseError
from resyncctl.sip.grammar import MAX_MESSAGE, parse_integer

_LENGTH_NAMES: Final = (b"content-length", b"l")


class Framer:
    """Feed it chunks as they come, split anywhere; it returns the whole messages, and each run of CRLFs between them.

    Raises SipParseError when the stream cannot be followed any more (no Content-Length, a message above MAX_MESSAGE):
    the connection is to be closed then. Messages before that place are returned first; the next call raises, also with b"".
    """

    __slots__ = ("_buffer", "_end", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._end = 0
        """Bytes of the first message when its head is complete, else 0."""
        self._scanned = 0
        """Bytes in which no end of the head was found."""

    def feed(self, data: bytes) -> list[bytes]:
        """Add a chunk and return the messages that are complete now, oldest first."""
        self._buffer += data
        messages: list[bytes] = []
        try:
            while (end := self._end_of_first()) > 0:
                messages.append(bytes(self._buffer[:end]))
                del self._buffer[:end]
                self._end = self._scanned = 0
        except SipParseError:
            if not messages:
                raise
        if len(self._buffer) > MAX_MESSAGE and not messages:
            raise SipParseError(f"a message of more than {MAX_MESSAGE} bytes in a stream")
        return messages

    def _end_of_first(self) -> int:
        buffer = self._buffer
        blank = 0
        while buffer[blank : blank + 2] == b"\r\n":
            blank += 2
        if blank:
            return blank  # a keep-alive, or the separator before a message (RFC 5626 3.5.1)
        if not self._end:
            head = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
            if head < 0:
                self._scanned = len(buffer)
                return 0
            self._end = head + 4 + _content_length(bytes(buffer[:head]))
            if self._end > MAX_MESSAGE:
                raise SipParseError(f"a message of {self._end} bytes in a stream, at most {MAX_MESSAGE} are accepted")
        return self._end if len(buffer) >= self._end else 0


def _content_length(head: bytes) -> int:
    values = set()
    unfolded = head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    for line in unfolded.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and name.rstrip(b" \t").lower() in _LENGTH_NAMES:
            values.add(value.strip(b" \t").decode("latin-1"))
    if len(values) != 1:
        raise SipParseError("a message in a stream needs one Content-Length")
    return parse_integer(values.pop(), "Content-Length")
