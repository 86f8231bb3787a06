"""What holds for any input: one exception, nothing lost, linear time, limits, and one verdict of scanner and parser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resyncctl.errors import SipParseError
from resyncctl.sip.framing import Framer
from resyncctl.sip.grammar import (
    MAX_HEADERS,
    MAX_LINE,
    MAX_MESSAGE,
    MAX_PARAMETERS,
    format_parameters,
    parse_parameters,
)
from resyncctl.sip.headers import CSeq, NameAddr, Via, parse_retry_after, split_values
from resyncctl.sip.message import KeepAlive, Message, Request, Response, check_request, parse, scan_response
from resyncctl.sip.uas import answer, reply
from resyncctl.sip.uri import MAX_URI, Uri

NOTIFY: Final = (
    b"NOTIFY sip:1001@192.0.2.9:5060 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc1;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:resyncctl@192.0.2.1>;tag=abc\r\n"
    b'To: "Desk 1" <sip:1001@pbx.example.com>\r\n'
    b"Call-ID: abc@resyncctl\r\n"
    b"CSeq: 1 NOTIFY\r\n"
    b"Event: check-sync;reboot=true\r\n"
    b"Content-Length: 0\r\n"
    b"\r\n"
)
SOURCE: Final = ("192.0.2.1", 5060)

_T = TypeVar("_T")

PIECES: Final = [
    b"SIP/2.0 200 OK\r\n", b"NOTIFY sip:a@b SIP/2.0\r\n", b"Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n", b"CSeq: 1 NOTIFY\r\n",
    b"Content-Length: 3\r\n", b"v: ", b"l: 0\r\n", b"From: ", b"To: ", b"i: x\r\n", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ",
    b"\t", b'"', b"\\", b"<", b">", b";", b"=", b",", b":", b"@", b"?", b"%41", b"[::1]", b"[::1%\r\n]", b"sip:", b"tag=1",
    b"\x00", b"\xff", b"\xc3\xa9", b"require: ", b"99999999999",
]  # fmt: skip
NEARLY_SIP: Final = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=24).map(b"".join)
ANY_BYTES: Final = st.binary(max_size=200) | NEARLY_SIP


def mutated(octets: bytes) -> st.SearchStrategy[bytes]:
    """Valid octets with a piece cut out, doubled or replaced."""
    place = st.integers(0, len(octets))
    return st.builds(
        lambda start, end, piece: octets[: min(start, end)] + piece + octets[max(start, end) :],
        place,
        place,
        st.sampled_from(PIECES) | st.binary(max_size=6),
    )


def notify() -> Request:
    message = parse(NOTIFY)
    assert isinstance(message, Request)
    return message


# One exception


def refusal(read: Callable[[_T], object], value: _T) -> str:
    """Return the words of the documented error, '' when there is none; any other error goes through."""
    try:
        read(value)
    except SipParseError as error:
        return str(error)
    return ""


def read_all(data: bytes) -> None:
    """Read a datagram with everything that reads datagrams."""
    message = parse(data)
    if isinstance(message, KeepAlive):
        return
    for read in (
        lambda: message.vias,
        lambda: message.top_via,
        lambda: message.cseq,
        lambda: message.from_,
        lambda: message.to,
        lambda: message.call_id,
        lambda: check_request(message) if isinstance(message, Request) else None,
        lambda: reply(message, 200, source=SOURCE) if isinstance(message, Request) else None,
        lambda: parse_retry_after(message.get("Retry-After") or ""),
    ):
        try:
            read()
        except SipParseError:
            continue
    if isinstance(message, Request):
        answer(message, source=SOURCE)


@given(ANY_BYTES | mutated(NOTIFY) | mutated(bytes(reply(notify(), 200, source=SOURCE))))
@example(b"\r\n")
@example(b"")
def test_any_bytes_are_a_message_or_the_documented_error(data: bytes) -> None:
    scan_response(data)
    refusal(read_all, data)


@given(st.lists(ANY_BYTES | mutated(NOTIFY), max_size=5))
def test_any_stream_gives_octets_or_the_documented_error(chunks: list[bytes]) -> None:
    framer = Framer()
    seen = b""
    try:
        for chunk in chunks:
            seen += b"".join(framer.feed(chunk))
    except SipParseError:
        return
    assert b"".join(chunks).startswith(seen)


TEXTS: Final = st.text(max_size=40) | NEARLY_SIP.map(lambda data: data.decode("utf-8", "surrogateescape"))


READERS: Final[list[Callable[[str], object]]] = [
    Uri.parse, NameAddr.parse, Via.parse, CSeq.parse, parse_parameters, split_values, parse_retry_after,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS, ids=lambda read: str(read.__qualname__))
@given(text=TEXTS)
def test_any_text_is_a_value_or_the_documented_error(read: Callable[[str], object], text: str) -> None:
    refusal(read, text)


# Nothing is lost

TOKENS: Final = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=8)
QUOTED: Final = st.text('ab ;,<>@\\"\té\udcff', max_size=8).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
PARAMETERS: Final = st.lists(st.tuples(TOKENS, st.none() | TOKENS | QUOTED), max_size=4).map(tuple)
USERS: Final = st.text("abcXYZ019-_.!~*'()&=+$,;?/", min_size=1, max_size=8) | st.just("%00%e9")
HOSTS: Final = st.sampled_from(["example.com", "192.0.2.9", "[2001:db8::9]", "[::ffff:192.0.2.9]", "PBX_1"])
PORTS: Final = st.none() | st.integers(1, 65_535)
URI_WORDS: Final = st.text("abcXYZ019-_.!~*'()[]/:&+$", min_size=1, max_size=6)
URI_HEADER_WORDS: Final = st.text("abcXYZ019-_.!~*'()[]/?:+$", min_size=1, max_size=6)
URIS: Final = st.builds(
    lambda scheme, login, host, port, parameters, headers: Uri(
        scheme, login[0], login[1], host, port, tuple(parameters), tuple(headers)
    ),
    st.sampled_from(["sip", "sips", "SIP"]),
    st.just((None, None)) | st.tuples(USERS, st.none() | st.text("aZ09-_.!~*'()&=+$,", max_size=6)),
    HOSTS,
    PORTS,
    st.lists(st.tuples(URI_WORDS, st.none() | URI_WORDS), max_size=3),
    st.lists(st.tuples(URI_HEADER_WORDS, st.just("") | URI_HEADER_WORDS), max_size=3),
)


@given(URIS)
def test_written_uri_reads_as_itself(uri: Uri) -> None:
    assert Uri.parse(str(uri)) == uri


@given(TEXTS.map(lambda text: f"sip:{text}"))
def test_uri_that_is_accepted_reads_as_itself_and_holds_no_control_character(text: str) -> None:
    try:
        uri = Uri.parse(text)
    except SipParseError:
        return
    assert Uri.parse(str(uri)) == uri
    assert str(uri).isascii()
    assert str(uri).isprintable()


@given(st.builds(Via, TOKENS, HOSTS, PORTS, PARAMETERS))
def test_written_via_reads_as_itself(via: Via) -> None:
    assert Via.parse(str(via)) == via


@given(st.builds(NameAddr, st.just("") | TOKENS | QUOTED, URIS.map(str), PARAMETERS))
def test_written_address_reads_as_itself(address: NameAddr) -> None:
    assert NameAddr.parse(str(address)) == address


@given(PARAMETERS)
def test_written_parameters_read_as_themselves(parameters: tuple[tuple[str, str | None], ...]) -> None:
    assert parse_parameters(format_parameters(parameters)) == parameters


VALUES: Final = st.text('aé\x01\x00\udcff \t;,"<', max_size=12).map(lambda text: text.strip(" \t"))
FIELDS: Final = st.lists(st.tuples(TOKENS.map(lambda name: f"X{name}"), VALUES), max_size=6).map(tuple)


@given(FIELDS, st.binary(max_size=20), TOKENS)
def test_written_request_reads_as_itself(fields: tuple[tuple[str, str], ...], body: bytes, method: str) -> None:
    message = Request(fields, body, method=method, uri="sip:a@b")
    assert parse(bytes(message)) == message


@given(FIELDS, st.binary(max_size=20), st.integers(100, 699), VALUES)
def test_written_response_reads_as_itself(
    fields: tuple[tuple[str, str], ...], body: bytes, status: int, reason: str
) -> None:
    message = Response(fields, body, status=status, reason=reason.replace("\0", ""))
    assert parse(bytes(message)) == message


@given(mutated(NOTIFY) | NEARLY_SIP)
def test_whatever_is_read_is_read_the_same_after_writing(data: bytes) -> None:
    try:
        message = parse(data)
    except SipParseError:
        return
    if isinstance(message, Message):
        assert isinstance(message, Request | Response)
        assert parse(bytes(message)) == message


# Streams

FRAMED: Final = st.builds(
    lambda body, name: b"MESSAGE sip:a@b SIP/2.0\r\n%s%d\r\nSubject: x\r\n l: 7\r\n\r\n%s" % (name, len(body), body),
    st.binary(max_size=30) | st.just(b"\r\n\r\nSIP/2.0 200 OK\r\nl: 5\r\n\r\n"),
    st.sampled_from([b"Content-Length: ", b"l:", b"L : ", b"CONTENT-LENGTH\t:", b"l:\r\n ", b"l:\r\n\t"]),
)
"""Messages of a stream; the folded `l: 7` belongs to the Subject."""


@given(st.lists(st.tuples(FRAMED, st.integers(0, 3)), max_size=4), st.data())
def test_stream_split_anywhere_gives_the_same_messages(parts: list[tuple[bytes, int]], data: st.DataObject) -> None:
    stream = b"".join(message + b"\r\n" * pings for message, pings in parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    framer = Framer()
    found = [
        each
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for each in framer.feed(stream[start:end])
    ]
    assert [each for each in found if each.strip(b"\r\n")] == [message for message, _ in parts]
    assert b"".join(found) == stream


# The scanner and the parser agree


def folded_via(data: bytes) -> bytes:
    return data.replace(b";branch=", b"\r\n ;branch=", 1)


def second_via_in_the_line(data: bytes) -> bytes:
    return data.replace(b"\r\nFrom:", b",SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKother\r\nFrom:", 1)


def second_via_folded(data: bytes) -> bytes:
    return data.replace(b"\r\nFrom:", b"\r\n , SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKother\r\nFrom:", 1)


def second_via_below(data: bytes) -> bytes:
    return data.replace(b"\r\nFrom:", b"\r\nVia: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKother\r\nFrom:", 1)


def quoted_via_parameter(data: bytes) -> bytes:
    return data.replace(b";branch=", b';x=";branch=z9hG4bKevil";branch=', 1)


def quoted_via_parameter_behind(data: bytes) -> bytes:
    return data.replace(b"\r\nFrom:", b';x="a;b,c"\r\nFrom:', 1)


def spaced_via(data: bytes) -> bytes:
    return data.replace(b";branch=z9hG4bKabc1", b";branch=z9hG4bKabc1 \t", 1)


def spaces_around_equals(data: bytes) -> bytes:
    return data.replace(b";branch=", b" ; branch = ", 1)


def upper_branch(data: bytes) -> bytes:
    return data.replace(b";branch=", b";BRANCH=", 1)


def via_last(data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    return b"\r\n".join([lines[0], *lines[2:-2], lines[1], b"", b""])


def cseq_first(data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    cseq = next(line for line in lines if line.lower().startswith(b"cseq"))
    lines.remove(cseq)
    return b"\r\n".join([lines[0], cseq, *lines[1:]])


def folded_cseq(data: bytes) -> bytes:
    return data.replace(b"CSeq: 1 NOTIFY", b"CSeq: 1\r\n\tNOTIFY", 1)


def spaced_cseq(data: bytes) -> bytes:
    return data.replace(b"CSeq: 1 NOTIFY", b"CSeq:   1 NOTIFY\t ", 1)


def lower_cseq(data: bytes) -> bytes:
    return data.replace(b"CSeq: ", b"cseq : ", 1)


def compact(data: bytes) -> bytes:
    for long, short in (
        (b"Via:", b"v:"),
        (b"From:", b"f:"),
        (b"To:", b"t:"),
        (b"Call-ID:", b"i:"),
        (b"Content-Length:", b"l:"),
    ):
        data = data.replace(long, short)
    return data


def header_that_quotes_cseq(data: bytes) -> bytes:
    return data.replace(b"\r\nFrom:", b"\r\nSubject: x\r\n CSeq: 9 INVITE\r\nFrom:", 1)


def body_with_cseq(data: bytes) -> bytes:
    return data.replace(b"Content-Length: 0\r\n\r\n", b"Content-Length: 18\r\n\r\n\r\nCSeq: 9 INVITE\r\n", 1)


def crlf_in_front(data: bytes) -> bytes:
    return b"\r\n\r\n" + data


def no_reason(data: bytes) -> bytes:
    return data.replace(b" OK\r\n", b" \r\n", 1)


def no_reason_and_no_space(data: bytes) -> bytes:
    return data.replace(b" OK\r\n", b"\r\n", 1)


SPELLINGS: Final = [
    folded_via, second_via_in_the_line, second_via_folded, second_via_below, quoted_via_parameter, quoted_via_parameter_behind,
    spaced_via, spaces_around_equals, upper_branch, via_last, cseq_first, folded_cseq, spaced_cseq, lower_cseq, compact,
    header_that_quotes_cseq, body_with_cseq, crlf_in_front, no_reason, no_reason_and_no_space,
]  # fmt: skip
"""Other ways to write the same response."""


def parsed(data: bytes) -> tuple[int, bytes, bytes]:
    message = parse(data)
    assert isinstance(message, Response)
    branch, cseq = (
        text.encode("utf-8", "surrogateescape") for text in (message.top_via.branch, message.require("CSeq"))
    )
    return message.status, branch, cseq


def test_plain_response_is_scanned() -> None:
    assert scan_response(bytes(reply(notify(), 200, source=SOURCE))) == (200, b"z9hG4bKabc1", b"1 NOTIFY")


@pytest.mark.parametrize("spell", SPELLINGS, ids=lambda spell: str(spell.__name__))
def test_response_in_other_spelling_is_the_same_response(spell: Callable[[bytes], bytes]) -> None:
    data = spell(bytes(reply(notify(), 200, source=SOURCE)))
    message = parse(data)
    assert isinstance(message, Response)
    assert (message.status, message.top_via.branch, str(message.cseq)) == (200, "z9hG4bKabc1", "1 NOTIFY")
    assert scan_response(data) in {None, (200, b"z9hG4bKabc1", b"1 NOTIFY")}


@given(st.integers(100, 699), st.lists(st.sampled_from(SPELLINGS), unique=True, max_size=5))
def test_scanner_never_disagrees_with_the_parser(status: int, spellings: list[Callable[[bytes], bytes]]) -> None:
    data = bytes(reply(notify(), status, source=SOURCE))
    for spell in spellings:
        data = spell(data)
    try:
        expected = parsed(data)
    except SipParseError:
        return  # some spellings spoil each other
    assert scan_response(data) in {None, expected}


@given(mutated(bytes(reply(notify(), 200, source=SOURCE))))
def test_scanner_never_disagrees_with_the_parser_on_what_the_parser_accepts(data: bytes) -> None:
    try:
        expected = parsed(data)
    except (SipParseError, AssertionError):
        return
    scanned = scan_response(data)
    assert scanned is None or scanned == expected or data.lower().count(b"branch") > 1


# Time and limits

HEAD: Final = b"NOTIFY sip:a@b SIP/2.0\r\n"
HOSTILE: Final = [
    b'"', b";", b",", b"<", b">", b"\\", b'\\"', b"\r\n ", b"\r\n\t\r\n ", b"%", b"%41", b'"<', b'";"', b"=;", b"\r\n", b"\r",
    b"\n", b"a:\r\n", b"\r\na:b", b"v:", b"@", b"[", b"&a=", b" ", b"\xff", b"(", b"\x00", b"\r\nVia: SIP/2.0/UDP h;branch=x",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("start", [b"", b"From: ", b"Via: ", b'To: "', b"Via: SIP/2.0/UDP h;branch=x;y="])
def test_largest_hostile_datagram_is_read_in_linear_time(unit: bytes, start: bytes) -> None:
    head = HEAD + start
    data = head + unit * ((MAX_MESSAGE - len(head) - 4) // len(unit)) + b"\r\n\r\n"
    began = time.process_time()
    scan_response(data)
    assert len(refusal(read_all, data)) < 400
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "unit", ['"', ";", ",", "<", ">", "\\", '\\"', "%", "%41", '"<', ":", "[", "&a=b", ";a=b", "@", " "]
)
@pytest.mark.parametrize("read", READERS, ids=lambda read: str(read.__qualname__))
def test_largest_hostile_text_is_read_in_linear_time(read: Callable[[str], object], unit: str) -> None:
    for start in ("", "sip:", "sip:a@b;", '"', "<", "<sip:", "SIP/2.0/UDP ", "SIP/2.0/UDP [", ";a=", "1 "):
        text = start + unit * (MAX_MESSAGE // len(unit))
        began = time.process_time()
        assert len(refusal(read, text)) < 400
        assert time.process_time() - began < 0.5


def test_stream_that_trickles_in_is_read_in_linear_time() -> None:
    head = b"NOTIFY sip:a@b SIP/2.0\r\n" + b"X: y\r\n" * 5000 + b"l: 20000\r\n\r\n"
    data = head + b"x" * 20_000
    framer = Framer()
    began = time.process_time()
    found = [each for position in range(len(data)) for each in framer.feed(data[position : position + 1])]
    assert found == [data]
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("just", "above", "words"),
    [
        (b"x" * (MAX_MESSAGE - len(HEAD) - 2), b"x" * (MAX_MESSAGE - len(HEAD) - 1), "more than 65535 bytes"),
        (b"X: y\r\n" * MAX_HEADERS, b"X: y\r\n" * (MAX_HEADERS + 1), "more than 256 headers"),
        (b"X:" + b"y" * (MAX_LINE - 2) + b"\r\n", b"X:" + b"y" * (MAX_LINE - 1) + b"\r\n", "more than 16384 bytes"),
        (b"X:a" + b"\r\n b" * 1022 + b"\r\n", b"X:a" + b"\r\n b" * 1024 + b"\r\n", "more than 1024 lines"),
    ],
    ids=["MAX_MESSAGE", "MAX_HEADERS", "MAX_LINE", "lines"],
)
def test_message_limits_hold_exactly(just: bytes, above: bytes, words: str) -> None:
    body = just.startswith(b"x")
    assert isinstance(parse(HEAD + b"\r\n" + just if body else HEAD + just + b"\r\n"), Request)
    with pytest.raises(SipParseError, match=words):
        parse(HEAD + b"\r\n" + above if body else HEAD + above + b"\r\n")


def test_value_limits_hold_exactly() -> None:
    assert len(parse_parameters(";a" * MAX_PARAMETERS)) == 64
    assert len(parse_parameters(';a="' + ";" * 80 + '"')) == 1
    assert len(split_values(",".join("a" * MAX_PARAMETERS))) == 64
    assert len(split_values(",".join(["<a>"] * MAX_PARAMETERS))) == 64
    assert len(Uri.parse("sip:h" + ";a" * MAX_PARAMETERS).parameters) == 64
    assert len(str(Uri.parse("sip:" + "h" * (MAX_URI - 4)))) == 2048
    for read, text, words in (
        (parse_parameters, ";a" * 65, "more than 64 values"),
        (parse_parameters, ";a" * 64 + ';b=""', "more than 64 values"),
        (split_values, ",".join("a" * 65), "more than 64 values"),
        (split_values, ",".join(["<a>"] * 65), "more than 64 values"),
        (Uri.parse, "sip:h" + ";a" * 65, "more than 64 parameters"),
        (Uri.parse, "sip:h?" + "&".join(["a=b"] * 65), "more than 64 headers"),
        (Uri.parse, "sip:" + "h" * 2045, "more than 2048 characters"),
    ):
        with pytest.raises(SipParseError, match=words):
            read(text)


def test_stream_limits_hold_exactly() -> None:
    def message(body: int) -> bytes:
        return b"MESSAGE sip:a@b SIP/2.0\r\nl: %d\r\n\r\n" % body

    head = len(message(60_000))
    largest = message(MAX_MESSAGE - head) + b"x" * (MAX_MESSAGE - head)
    assert Framer().feed(largest) == [largest]
    with pytest.raises(SipParseError, match="a message of 65536 bytes in a stream"):
        Framer().feed(message(MAX_MESSAGE - head + 1))
    framer = Framer()
    assert framer.feed(b"x" * MAX_MESSAGE) == []
    with pytest.raises(SipParseError, match="more than 65535 bytes in a stream"):
        framer.feed(b"x")
