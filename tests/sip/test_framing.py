"""Messages out of a byte stream."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resyncctl.errors import SipParseError
from resyncctl.sip.framing import Framer
from resyncctl.sip.grammar import MAX_MESSAGE

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


# Any stream

BODIES = st.binary(max_size=40) | st.sampled_from([b"\r\n", b"\r\n\r\n", SECOND, b"\r\nl: 7\r\n\r\n"])
"""Bodies that look like what is between messages, or like a message."""
MESSAGES = st.builds(
    lambda start, name, body: start + b"\r\nTo: <sip:a@h>\r\n" + name + b"%d\r\n\r\n" % len(body) + body,
    st.sampled_from([b"NOTIFY sip:a@h SIP/2.0", b"SIP/2.0 200 OK", b"\r", b"", b" \xff"]).filter(bool),
    st.sampled_from([b"l:", b"L :\t", b"Content-Length: ", b"content-length:\r\n ", b"CONTENT-LENGTH:00"]),
    BODIES,
)
LINE_ENDS = st.integers(0, 5).map(lambda count: b"\r\n" * count)


def feed(framer: Framer, stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    return [each for start, end in itertools.pairwise(edges) for each in framer.feed(stream[start:end])]


@given(st.lists(st.tuples(LINE_ENDS, MESSAGES), max_size=5), LINE_ENDS, st.lists(st.integers(0, 600), max_size=20))
def test_stream_cut_anywhere_gives_the_same_messages_and_the_line_ends_between(
    parts: list[tuple[bytes, bytes]], last: bytes, cuts: list[int]
) -> None:
    stream = b"".join(ends + message for ends, message in parts) + last
    for found in (feed(Framer(), stream, []), feed(Framer(), stream, cuts), feed(Framer(), stream, [*range(600)])):
        assert [each for each in found if each.strip(b"\r\n")] == [message for _, message in parts]
        assert b"".join(found) == stream
    whole = feed(Framer(), stream, [])
    assert [each for each in whole if not each.strip(b"\r\n")] == [e for e in (*(e for e, _ in parts), last) if e]


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"l: 3",
        b"l: 65000\r\n\r\n",
        b"Content-Length:",
        b":",
        b" ",
        b"x" * 30_000,
        b"9" * 5000,
    ]
)
"""What a stream may consist of when nobody means well."""


@given(st.lists(st.binary(max_size=60) | PIECES | MESSAGES, max_size=12))
@example([b"x\r\nl:" + b"9" * 10_000, b"\r\n\r\n"])
def test_any_bytes_give_octets_of_the_stream_or_the_documented_error_and_are_not_kept_beyond_the_limit(
    chunks: list[bytes],
) -> None:
    framer = Framer()
    found = b""
    for number, chunk in enumerate(chunks):
        try:
            found += b"".join(framer.feed(chunk))
        except SipParseError:
            for each in chunks[number:]:  # it is not taken up again in the midst of something
                with pytest.raises(SipParseError):
                    framer.feed(each)
            break
        assert len(framer._buffer) <= MAX_MESSAGE
        assert found + framer._buffer == b"".join(chunks[: number + 1])


def test_flood_of_line_ends_is_handed_on_and_not_kept() -> None:
    framer = Framer()
    for _ in range(100):
        assert framer.feed(b"\r\n" * 10_000) == [b"\r\n" * 10_000]
    assert len(framer._buffer) == 0


def test_messages_before_the_place_where_a_stream_cannot_be_followed_are_returned_first() -> None:
    framer = Framer()
    assert framer.feed(FIRST + SECOND + b"no length\r\n\r\n" + FIRST) == [FIRST, SECOND]
    for _ in range(2):
        with pytest.raises(SipParseError, match="needs one Content-Length"):
            framer.feed(b"")
