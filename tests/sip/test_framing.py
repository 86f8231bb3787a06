"""Messages out of a byte stream."""

from __future__ import annotations

import pytest

from resyncctl.errors import SipParseError
from resyncctl.sip.framing import Framer

FIRST = b"MESSAGE sip:a@h SIP/2.0\r\nl: 6\r\n\r\n\r\n\r\nab"
SECOND = b"SIP/2.0 200 OK\r\nContent-Length : 0\r\n\r\n"


def test_messages_that_come_together_are_cut_apart() -> None:
    assert Framer().feed(FIRST + SECOND + FIRST) == [FIRST, SECOND, FIRST]


def test_message_that_comes_byte_by_byte_is_returned_with_its_last_byte() -> None:
    framer = Framer()
    for position in range(len(FIRST) - 1):
        assert framer.feed(FIRST[position : position + 1]) == []
    assert framer.feed(FIRST[-1:]) == [FIRST]
    assert framer.feed(SECOND[:-1]) == []
    assert framer.feed(SECOND[-1:]) == [SECOND]


def test_keep_alives_between_messages_are_handed_on() -> None:
    framer = Framer()
    assert framer.feed(b"\r\n\r\n" + FIRST + b"\r\n" + SECOND) == [b"\r\n\r\n", FIRST, b"\r\n", SECOND]
    assert framer.feed(b"\r") == []
    assert framer.feed(b"\n\r") == [b"\r\n"]
    assert framer.feed(b"\n") == [b"\r\n"]


@pytest.mark.parametrize(
    "head",
    [
        b"l: 2",
        b"L\t:\t2",
        b"Content-Length:\r\n 2",
        b"content-length: 02",
        b"l: 2\r\nContent-Length: 2",
        b"X: a\r\n l: 9\r\nl: 2",
    ],
)
def test_content_length_is_found_in_any_spelling(head: bytes) -> None:
    message = b"MESSAGE sip:a@h SIP/2.0\r\n" + head + b"\r\n\r\nab"
    assert Framer().feed(message + SECOND) == [message, SECOND]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"X: y", "needs one Content-Length"),
        (b"X: y\r\n l: 3", "needs one Content-Length"),
        (b"l: 2\r\nl: 3", "needs one Content-Length"),
        (b"l: -1", "Content-Length is not a number"),
        (b"l:", "Content-Length is not a number"),
        (b"l: \xb2", "Content-Length is not a number"),
        (b"l: 70000", "at most 65535 are accepted"),
    ],
)
def test_stream_that_cannot_be_followed_is_given_up(head: bytes, words: str) -> None:
    with pytest.raises(SipParseError, match=words):
        Framer().feed(b"MESSAGE sip:a@h SIP/2.0\r\n" + head + b"\r\n\r\nab")
