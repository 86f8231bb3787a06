"""Header names, and the values that the controller acts on."""

from __future__ import annotations

import pytest

from resyncctl.errors import SipParseError
from resyncctl.sip.headers import COMPACT, CSeq, NameAddr, Via, canonical, parse_retry_after, split_values


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("v", "Via"),
        ("V", "Via"),
        ("call-id", "Call-ID"),
        ("I", "Call-ID"),
        ("CSEQ", "CSeq"),
        ("www-authenticate", "WWW-Authenticate"),
        ("o", "Event"),
        ("X-Odd-Name", "X-Odd-Name"),
        ("z", "z"),
    ],
)
def test_header_name_has_one_spelling(name: str, usual: str) -> None:
    assert canonical(name) == usual


def test_compact_names_are_those_of_the_registry() -> None:
    assert "".join(COMPACT) == "abcdefijklmnorstuvxy"


@pytest.mark.parametrize(
    ("text", "via"),
    [
        ("SIP/2.0/UDP h", Via("UDP", "h", None, ())),
        (
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport",
            Via("UDP", "192.0.2.1", 5060, (("branch", "z9hG4bKa"), ("rport", None))),
        ),
        (" sip / 2.0 / TLS\t[2001:db8::1] : 5061 ; Branch = x ", Via("TLS", "[2001:db8::1]", 5061, (("Branch", "x"),))),
        ("SIP/2.0/UNKNOWN h;received=2001:db8::1", Via("UNKNOWN", "h", None, (("received", "2001:db8::1"),))),
        ('SIP/2.0/UDP h;x="a;b,c"', Via("UDP", "h", None, (("x", '"a;b,c"'),))),
    ],
)
def test_via_is_read(text: str, via: Via) -> None:
    assert Via.parse(text) == via


def test_branch_is_found_by_any_case() -> None:
    assert Via.parse("SIP/2.0/UDP h;BRANCH=x").branch == "x"
    assert Via.parse("SIP/2.0/UDP h").branch == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0 h",
        "SIP/3.0/UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP/x h",
        "SIP/2.0/U@P h",
        "SIP/2.0/UDP h:x",
        "SIP/2.0/UDP exa mple.com",
        "SIP/2.0/UDP 192.0.2.1 5060",
        "SIP/2.0/UDP h;;branch=x",
        "SIP/2.0/UDP h;branch=",
        "SIP/2.0/UDP [::1",
    ],
)
def test_malformed_via_is_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        Via.parse(text)


def test_cseq_is_read_through_its_spaces_and_zeros() -> None:
    assert CSeq.parse(" 0007 \t NOTIFY ") == CSeq(7, "NOTIFY")
    assert str(CSeq(7, "NOTIFY")) == "7 NOTIFY"


@pytest.mark.parametrize(
    "text", ["", "1", "NOTIFY", "1 NOTIFY x", "-1 NOTIFY", "1NOTIFY", "2147483648 NOTIFY", "1 NOT@"]
)
def test_malformed_cseq_is_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        CSeq.parse(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("sip:a@h", NameAddr("", "sip:a@h")),
        ("sip:a@h;tag=1", NameAddr("", "sip:a@h", (("tag", "1"),))),
        ("<sip:a@h;lr>;tag=1", NameAddr("", "sip:a@h;lr", (("tag", "1"),))),
        ("Desk One <sip:a@h>", NameAddr("Desk One", "sip:a@h")),
        ('"Desk, \\"1\\" <x>"<sip:a@h>', NameAddr('"Desk, \\"1\\" <x>"', "sip:a@h")),
        ('"" <sip:a@h?x=y>', NameAddr('""', "sip:a@h?x=y")),
        (" <tel:+1555> ", NameAddr("", "tel:+1555")),
        ('sip:a@h;x="<y>"', NameAddr("", "sip:a@h", (("x", '"<y>"'),))),
        ('<sip:a@h>;+sip.instance="<urn:uuid:1>"', NameAddr("", "sip:a@h", (("+sip.instance", '"<urn:uuid:1>"'),))),
    ],
)
def test_address_is_read(text: str, address: NameAddr) -> None:
    assert NameAddr.parse(text) == address
    assert NameAddr.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<>",
        "<sip:a@h",
        "< sip:a@h>",
        "<sip:a@h >",
        "sip:a@h?x=y",
        "sip:a,b@h",
        "sip:a @h",
        '"Desk <sip:a@h>',
        '"Desk"',
        '"Desk" x <sip:a@h>',
        "Desk, One <sip:a@h>",
        "D\xe9sk <sip:a@h>",
        "<sip:a@h>x",
        "<sip:a@h>;",
        "<sip:a@h>;tag=",
        '<sip:a"@h>',
        "a;b <sip:a@h>",
    ],
)
def test_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        NameAddr.parse(text)


def test_tag_is_that_of_the_header_not_of_the_uri_or_the_name() -> None:
    assert NameAddr.parse("<sip:a@h>;TAG=x").tag == "x"
    assert NameAddr.parse('"a;tag=y" <sip:a@h;tag=z>').tag == ""


def test_values_split_at_commas_that_separate() -> None:
    assert split_values('"a,b" <sip:a,b@h> , <sip:c@h>;x="1,2",\t*') == ['"a,b" <sip:a,b@h>', '<sip:c@h>;x="1,2"', "*"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (" 120 ", 120), ("18000;duration=3600", 18_000), ("5 (in a meeting; or so);duration=1", 5)],
)
def test_retry_after_is_read_without_comment_and_parameters(text: str, seconds: int) -> None:
    assert parse_retry_after(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "(5)", ";5", "99999999999", "Fri, 01 Jan 2027 16:00:00 GMT"])
def test_malformed_retry_after_is_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_retry_after(text)
