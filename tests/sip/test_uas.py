"""Answers to requests: what is copied, what is stamped, where they go."""

from __future__ import annotations

import pytest

from resyncctl.errors import SipError, SipParseError
from resyncctl.sip.message import Request, Response, parse
from resyncctl.sip.uas import REASONS, Address, answer, reply, reply_address

SOURCE: Address = ("192.0.2.77", 40_077)
OPTIONS = (
    b"OPTIONS sip:resyncctl@192.0.2.1 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bK7\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:pbx@192.0.2.77>;tag=f\r\n"
    b"To: <sip:resyncctl@192.0.2.1>\r\n"
    b"Call-ID: c@192.0.2.77\r\n"
    b"CSeq: 7 OPTIONS\r\n"
    b"\r\n"
)


def request(data: bytes = OPTIONS, *, via: str = "", to: str = "") -> Request:
    if via:
        data = data.replace(b"SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bK7", via.encode())
    if to:
        data = data.replace(b"<sip:resyncctl@192.0.2.1>", to.encode())
    message = parse(data)
    assert isinstance(message, Request)
    return message


def answered(data: bytes) -> Response:
    octets = answer(request(data), source=SOURCE)
    assert octets is not None
    message = parse(octets)
    assert isinstance(message, Response)
    return message


def test_answer_is_exactly_these_octets() -> None:
    assert answer(request(), source=SOURCE) == (
        b"SIP/2.0 200 OK\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bK7\r\n"
        b"From: <sip:pbx@192.0.2.77>;tag=f\r\n"
        b"To: <sip:resyncctl@192.0.2.1>;tag=3a1a8ce609a230ba\r\n"
        b"Call-ID: c@192.0.2.77\r\n"
        b"CSeq: 7 OPTIONS\r\n"
        b"Allow: OPTIONS\r\n"
        b"Content-Length: 0\r\n"
        b"\r\n"
    )


def test_retransmitted_request_gets_the_same_answer_and_another_request_another_tag() -> None:
    first = reply(request(), 200, source=SOURCE)
    assert first == reply(request(), 200, source=SOURCE)
    assert first.to.tag == reply(request(), 404, source=("192.0.2.78", 1)).to.tag
    assert first.to.tag != reply(request(OPTIONS.replace(b"c@192", b"d@192")), 200, source=SOURCE).to.tag


@pytest.mark.parametrize(
    ("to", "written"),
    [
        ("<sip:a@h>;tag=x", "<sip:a@h>;tag=x"),
        ("<sip:a@h> ; TAG = x", "<sip:a@h> ; TAG = x"),
        ("sip:a@h", "sip:a@h;tag=T"),
        ("<sip:a@h;tag=x>", "<sip:a@h;tag=x>;tag=T"),
        ('"a;tag=x" <sip:a@h>', '"a;tag=x" <sip:a@h>;tag=T'),
        ('"a <sip:a@h>', '"a <sip:a@h>'),
    ],
)
def test_to_gets_a_tag_when_it_can_be_read_and_has_none(to: str, written: str) -> None:
    response = reply(request(to=to), 404, source=SOURCE)
    own = response.require("To").rpartition(";tag=")[2]
    assert response.require("To") == written.replace("=T", f"={own}")


def test_provisional_100_has_no_tag() -> None:
    """RFC 3261 8.2.6.2."""
    assert reply(request(), 100, source=SOURCE).to.tag == ""
    assert reply(request(), 180, source=SOURCE).to.tag != ""


@pytest.mark.parametrize(
    ("via", "source", "stamped"),
    [
        ("SIP/2.0/UDP 192.0.2.77;branch=b", SOURCE, "SIP/2.0/UDP 192.0.2.77;branch=b"),
        ("SIP/2.0/UDP 10.0.0.7;branch=b", SOURCE, "SIP/2.0/UDP 10.0.0.7;branch=b;received=192.0.2.77"),
        ("SIP/2.0/UDP pbx.example.com", SOURCE, "SIP/2.0/UDP pbx.example.com;received=192.0.2.77"),
        (
            "SIP/2.0/UDP 192.0.2.77;rport;branch=b",
            SOURCE,
            "SIP/2.0/UDP 192.0.2.77;rport=40077;branch=b;received=192.0.2.77",
        ),
        ("SIP/2.0/UDP h;RPORT;received=1.2.3.4", SOURCE, "SIP/2.0/UDP h;RPORT=40077;received=192.0.2.77"),
        ("SIP/2.0/UDP h;rport=9;Received=1.2.3.4", SOURCE, "SIP/2.0/UDP h;rport=40077;received=192.0.2.77"),
        ("SIP/2.0/UDP 192.0.2.77;received=1.2.3.4", SOURCE, "SIP/2.0/UDP 192.0.2.77"),
        ("SIP/2.0/UDP [2001:db8::7]:5060", ("2001:db8::7", 5060), "SIP/2.0/UDP [2001:db8::7]:5060"),
        (
            "SIP/2.0/UDP [2001:db8::7];rport",
            ("2001:db8::8", 1),
            "SIP/2.0/UDP [2001:db8::7];rport=1;received=2001:db8::8",
        ),
    ],
)
def test_top_via_says_where_the_request_came_from(via: str, source: Address, stamped: str) -> None:
    """RFC 3261 18.2.1, RFC 3581 4."""
    assert reply(request(via=via), 200, source=source).get("Via") == stamped


def test_only_the_topmost_of_several_vias_is_stamped() -> None:
    both = "SIP/2.0/UDP p1;rport, SIP/2.0/TCP  p2 ;rport\r\nVia: SIP/2.0/UDP p3;received=1.2.3.4"
    assert list(reply(request(via=both), 200, source=SOURCE).all("Via")) == [
        "SIP/2.0/UDP p1;rport=40077;received=192.0.2.77",
        "SIP/2.0/TCP  p2 ;rport",
        "SIP/2.0/UDP p3;received=1.2.3.4",
    ]


@pytest.mark.parametrize(
    ("via", "address"),
    [
        ("SIP/2.0/UDP 192.0.2.77:5062;rport", ("192.0.2.77", 40_077)),
        ("SIP/2.0/UDP 192.0.2.77:5062;rport=nonsense", ("192.0.2.77", 40_077)),
        ("SIP/2.0/UDP 192.0.2.77:5062", ("192.0.2.77", 5062)),
        ("SIP/2.0/UDP 192.0.2.77", ("192.0.2.77", 5060)),
        ("SIP/2.0/UDP 10.0.0.7:5062", ("192.0.2.77", 5062)),
        ("SIP/2.0/UDP h:5062;maddr=198.51.100.1", ("192.0.2.77", 5062)),
    ],
)
def test_answer_goes_to_rport_or_to_the_port_of_the_via(via: str, address: Address) -> None:
    """RFC 3261 18.2.2, RFC 3581 4; the same by the request as by the response."""
    message = request(via=via)
    assert reply_address(message, source=SOURCE) == address
    assert reply_address(reply(message, 200, source=SOURCE), source=SOURCE) == address


def test_headers_are_added_and_checked() -> None:
    response = reply(request(), 405, source=SOURCE, headers=(("Allow", "NOTIFY"),))
    assert response.headers[-2:] == (("Allow", "NOTIFY"), ("Content-Length", "0"))
    with pytest.raises(SipError, match="the header Allow holds a control character"):
        reply(request(), 405, source=SOURCE, headers=(("Allow", "x\r\nEvil: y"),))


def test_reason_of_an_unknown_code_is_unknown() -> None:
    assert reply(request(), 489, source=SOURCE).reason == "Bad Event"
    assert reply(request(), 699, source=SOURCE).reason == "Unknown"
    assert list(REASONS) == sorted(REASONS)


def test_request_without_usable_via_has_no_reply() -> None:
    for via in (b"Via: SIP/2.0/UDP\r\n", b"Via: \r\n", b""):
        message = request(OPTIONS.replace(b"Via: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bK7\r\n", via))
        with pytest.raises(SipParseError):
            reply(message, 200, source=SOURCE)
        assert answer(message, source=SOURCE) is None


def test_absent_headers_are_not_invented() -> None:
    response = answered(b"OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n")
    assert [name for name, _ in response.headers] == ["Via", "Content-Length"]
    assert response.status == 400


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"", b"", 200),
        (b"OPTIONS", b"NOTIFY", 405),
        (b"OPTIONS", b"x-PING!", 405),
        (b"OPTIONS", b"CANCEL", 405),
        (b"CSeq: 7 OPTIONS", b"CSeq: 7 INVITE", 400),
        (b"Call-ID: c@192.0.2.77\r\n", b"", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: x", 400),
        (b"OPTIONS sip:", b"OPTIONS tel:", 416),
        (b"\r\n\r\n", b"\r\nRequire: 100rel\r\n\r\n", 420),
        (b"\r\n\r\n", b"\r\nRequire: \x01\r\n\r\n", 400),
        (b"\r\n\r\n", b'\r\nRequire: "\r\n\r\n', 400),
    ],
)
def test_request_is_judged_in_the_order_of_the_rfc(old: bytes, new: bytes, status: int) -> None:
    """RFC 3261 8.2.1 to 8.2.3."""
    assert answered(OPTIONS.replace(old, new)).status == status


def test_answer_names_the_methods_that_we_allow() -> None:
    assert answered(OPTIONS).get("Allow") == "OPTIONS"
    assert answered(OPTIONS.replace(b"OPTIONS", b"INVITE")).get("Allow") == "OPTIONS"


def test_ack_is_never_answered() -> None:
    """RFC 3261 17.1.1.3."""
    assert answer(request(OPTIONS.replace(b"OPTIONS", b"ACK")), source=SOURCE) is None
    assert answer(request(b"ACK sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n"), source=SOURCE) is None


def test_bytes_that_are_no_utf_8_come_back_as_they_came() -> None:
    octets = answer(request(OPTIONS.replace(b"c@192", b"\xff@192")), source=SOURCE)
    assert octets is not None
    assert b"\r\nCall-ID: \xff@192.0.2.77\r\n" in octets
