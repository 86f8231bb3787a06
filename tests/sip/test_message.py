"""Messages: start lines, header fields, folding, bodies."""

from __future__ import annotations

import pytest

from resyncctl.errors import SipError, SipParseError
from resyncctl.sip.headers import CSeq, NameAddr, Via
from resyncctl.sip.message import KeepAlive, Message, Request, Response, check_request, header, parse

OPTIONS = (
    b"OPTIONS sip:a@h SIP/2.0\r\n"
    b"v: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1, SIP/2.0/TCP [2001:db8::1]\r\n"
    b"V:SIP/2.0/UDP c\r\n"
    b'f: "A"\r\n'
    b"\t<sip:a@h>\r\n"
    b"   ;tag=1\r\n"
    b"t : <sip:b@h>\r\n"
    b"i: x@y\r\n"
    b"CSeq: 2 OPTIONS\r\n"
    b"X-odd:\r\n"
    b"l: 3\r\n"
    b"\r\n"
    b"abc"
)


def request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def response(data: bytes) -> Response:
    message = parse(data)
    assert isinstance(message, Response)
    return message


def test_request_is_read_with_compact_names_and_folds() -> None:
    message = request(OPTIONS)
    assert (message.method, message.uri, message.body, message.raw) == ("OPTIONS", "sip:a@h", b"abc", OPTIONS)
    assert message.headers == (
        ("Via", "SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1, SIP/2.0/TCP [2001:db8::1]"),
        ("Via", "SIP/2.0/UDP c"),
        ("From", '"A" <sip:a@h> ;tag=1'),
        ("To", "<sip:b@h>"),
        ("Call-ID", "x@y"),
        ("CSeq", "2 OPTIONS"),
        ("X-odd", ""),
        ("Content-Length", "3"),
    )
    assert message.vias == [
        Via("UDP", "192.0.2.1", 5070, (("branch", "z9hG4bK1"),)),
        Via("TCP", "[2001:db8::1]", None, ()),
        Via("UDP", "c", None, ()),
    ]
    assert message.top_via == message.vias[0]
    assert message.from_ == NameAddr('"A"', "sip:a@h", (("tag", "1"),))
    assert message.to == NameAddr("", "sip:b@h")
    assert message.call_id == "x@y"
    assert message.cseq == CSeq(2, "OPTIONS")
    check_request(message)


def test_request_is_written_with_full_names() -> None:
    assert bytes(request(OPTIONS)).startswith(
        b"OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1, SIP/2.0/TCP [2001:db8::1]\r\n"
    )
    assert bytes(request(OPTIONS)).endswith(b"CSeq: 2 OPTIONS\r\nX-odd: \r\nContent-Length: 3\r\n\r\nabc")


def test_response_is_read_and_written() -> None:
    message = response(b"SIP/2.0 486 Busy  Here \r\nZ: y\r\n\r\n")
    assert message == Response((("Z", "y"),), status=486, reason="Busy  Here ")
    assert bytes(message) == b"SIP/2.0 486 Busy  Here \r\nZ: y\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"SIP/2.0 200 OK", 200, "OK"),
        (b"sip/2.0 200 OK", 200, "OK"),
        (b"SIP/2.0 200 ", 200, ""),
        (b"SIP/2.0 200", 200, ""),
        (b"SIP/2.0 699 caf\xc3\xa9", 699, "caf\xe9"),
        (b"SIP/2.0 100 \xff", 100, "\udcff"),
    ],
)
def test_status_line_is_read(line: bytes, status: int, reason: str) -> None:
    message = response(line + b"\r\nX: y\r\n\r\n")
    assert (message.status, message.reason) == (status, reason)


@pytest.mark.parametrize(
    "line",
    [
        b"SIP/2.0",
        b"SIP/2.0 ",
        b"SIP/2.0 20 OK",
        b"SIP/2.0 2000 OK",
        b"SIP/2.0  200 OK",
        b"SIP/2.0 099 OK",
        b"SIP/2.0 700 OK",
        b"SIP/2.0 2x0 OK",
        b"SIP/2.0 \xd9\xa1\xd9\xa1\xd9\xa1 OK",
        b"SIP/2.1 200 OK",
        b"SIP/2.0\t200 OK",
        b"SIP/2.0 200 O\rK",
        b"SIP/2.0 200 O\nK",
        b"SIP/2.0 200 O\0K",
    ],
)
def test_malformed_status_line_is_refused(line: bytes) -> None:
    with pytest.raises(SipParseError):
        parse(line + b"\r\nX: y\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"OPTIONS",
        b"OPTIONS sip:a@h",
        b"OPTIONS sip:a@h SIP/2.0 ",
        b"OPTIONS  sip:a@h SIP/2.0",
        b"OPTIONS sip:a@h SIP/1.0",
        b"OPTIONS sip:a@h HTTP/1.1",
        b"OPTIONS <sip:a@h> SIP/2.0",
        b'OPTIONS sip:"a"@h SIP/2.0',
        b"OPTIONS sip:a\x00@h SIP/2.0",
        b"OPTIONS sip:\xff@h SIP/2.0",
        b"OPTI@NS sip:a@h SIP/2.0",
        b"OPTIONS\tsip:a@h\tSIP/2.0",
        b" OPTIONS sip:a@h SIP/2.0",
    ],
)
def test_malformed_request_line_is_refused(line: bytes) -> None:
    with pytest.raises(SipParseError):
        parse(line + b"\r\nX: y\r\n\r\n")


def test_unknown_method_and_scheme_are_read() -> None:
    message = request(b"x-PING! urn:service:sos SIP/2.0\r\nX: y\r\n\r\n")
    assert (message.method, message.uri) == ("x-PING!", "urn:service:sos")


@pytest.mark.parametrize("data", [b"\r\n", b"\r\n\r\n", b"\r\n" * 1000])
def test_datagram_of_crlf_is_a_keep_alive(data: bytes) -> None:
    assert parse(data) == KeepAlive()


def test_crlf_in_front_of_a_message_is_skipped() -> None:
    assert parse(b"\r\n\r\n" + OPTIONS) == parse(OPTIONS)


@pytest.mark.parametrize(
    "data", [b"", b"\r", b"\n", b"\r\n\r", b"\0\0\0\0", b"\r\n\r\n ", b"OPTIONS sip:a@h SIP/2.0\r\n"]
)
def test_datagram_that_is_neither_message_nor_keep_alive_is_refused(data: bytes) -> None:
    with pytest.raises(SipParseError):
        parse(data)


def test_error_says_at_which_byte() -> None:
    with pytest.raises(SipParseError, match=r"no empty line behind the headers \(at byte 27\)") as caught:
        parse(b"OPTIONS sip:a@h SIP/2.0\r\nX:")
    assert caught.value.position == 27


@pytest.mark.parametrize(
    "line",
    [b"X", b": y", b" X: y", b"X Y: z", b"X\xff: y", b"X: a\rb", b"X: a\nb", b"X: a\r\n\r b", b"X\n: y", b"X: y\r\nz"],
)
def test_malformed_header_is_refused(line: bytes) -> None:
    with pytest.raises(SipParseError):
        parse(b"OPTIONS sip:a@h SIP/2.0\r\n" + line + b"\r\n\r\n")


def test_bytes_that_are_no_utf_8_survive() -> None:
    data = b"OPTIONS sip:a@h SIP/2.0\r\nSubject: caf\xe9 \x01\x00\r\n\r\n"
    assert bytes(request(data)) == data


@pytest.mark.parametrize(
    ("lengths", "body"),
    [
        (b"", b"12345"),
        (b"l: 5\r\n", b"12345"),
        (b"Content-Length: 3\r\n", b"123"),
        (b"Content-Length:\r\n 3\r\n", b"123"),
        (b"l: 0\r\n", b""),
        (b"l: 3\r\nContent-Length: 3\r\n", b"123"),
        (b"X: l\r\n l: 9\r\n", b"12345"),
    ],
)
def test_content_length_cuts_the_body(lengths: bytes, body: bytes) -> None:
    assert request(b"OPTIONS sip:a@h SIP/2.0\r\n" + lengths + b"\r\n12345").body == body


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        (b"l: 6\r\n", "Content-Length is 6, but 5 bytes follow"),
        (b"l: 3\r\nl: 4\r\n", "two Content-Length headers that differ"),
        (b"l: -1\r\n", "Content-Length is not a number"),
        (b"l:\r\n", "Content-Length is not a number"),
        (b"l: 3, 3\r\n", "Content-Length is not a number"),
        (b"l: 99999999999999999999\r\n", "Content-Length is not a number"),
        (b"l: 4294967296\r\n", "Content-Length is larger than 2147483647"),
    ],
)
def test_content_length_that_cannot_be_is_refused(lengths: bytes, words: str) -> None:
    with pytest.raises(SipParseError, match=words):
        parse(b"OPTIONS sip:a@h SIP/2.0\r\n" + lengths + b"\r\n12345")


def test_header_is_found_by_any_case() -> None:
    message = Message((("X-A", "1"), ("x-a", "2"), ("B", "3")))
    assert message.get("x-A") == "1"
    assert list(message.all("X-a")) == ["1", "2"]
    assert message.get("C") is None
    assert message.require("b") == "3"
    with pytest.raises(SipParseError, match="more than one X-A header"):
        message.require("X-A")
    with pytest.raises(SipParseError, match="no C header"):
        message.require("C")


def test_message_without_via_has_no_top_via() -> None:
    assert Message(()).vias == []
    with pytest.raises(SipParseError, match="no Via header"):
        _ = Message(()).top_via


def test_what_was_received_does_not_count_in_comparisons_and_is_not_printed() -> None:
    assert request(OPTIONS) == Request(request(OPTIONS).headers, b"abc", method="OPTIONS", uri="sip:a@h")
    assert "raw" not in repr(request(OPTIONS))


def test_header_for_a_message_of_ours_is_checked() -> None:
    assert header("X-Reason", "caf\xe9\t1") == ("X-Reason", "caf\xe9\t1")
    for name in ("", "X Y", "X:", "X\r\n", "\xe9"):
        with pytest.raises(SipError, match="not a header name"):
            header(name, "y")
    for value in ("a\r\nEvil: x", "a\nb", "a\rb", "\0", "\x7f", "\ud800"):
        with pytest.raises(SipError, match="the header X holds"):
            header("X", value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"i: x@y\r\n", b"", "no Call-ID header"),
        (b"t : <sip:b@h>\r\n", b"", "no To header"),
        (b"CSeq: 2 OPTIONS\r\n", b"", "no CSeq header"),
        (b"CSeq: 2 OPTIONS", b"CSeq: 2 INVITE", "CSeq is for INVITE, the request is OPTIONS"),
        (b"CSeq: 2 OPTIONS", b"CSeq: 2 options", "CSeq is for options, the request is OPTIONS"),
        (b"i: x@y", b"i: x@y\r\nCall-ID: x@y", "more than one call-id header"),
        (b"X-odd:", b"Max-Forwards: 256", "Max-Forwards is larger than 255"),
        (b"X-odd:", b"Max-Forwards: 70, 70", "Max-Forwards is not a number"),
        (b"<sip:b@h>", b"<sip:b@h", "angle bracket that is not closed"),
        (b"V:SIP/2.0/UDP c", b"V:SIP/2.0/UDP", "without transport and sent-by"),
        (b"V:SIP/2.0/UDP c", b"V:", "not a SIP/2.0 Via"),
    ],
)
def test_request_that_cannot_be_answered_properly_is_refused(old: bytes, new: bytes, words: str) -> None:
    assert OPTIONS.count(old) == 1
    message = request(OPTIONS.replace(old, new))
    with pytest.raises(SipParseError, match=words):
        check_request(message)


def test_request_without_via_is_refused() -> None:
    message = request(OPTIONS)
    fields = tuple(pair for pair in message.headers if pair[0] != "Via")
    with pytest.raises(SipParseError, match="no Via header"):
        check_request(Request(fields, method="OPTIONS", uri="sip:a@h"))
