"""SIP URIs."""

from __future__ import annotations

import pytest

from resyncctl.errors import SipParseError
from resyncctl.sip.uri import Uri, parse_hostport


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("sip:pbx.example.com", Uri("sip", None, None, "pbx.example.com", None)),
        ("sip:1001@192.0.2.9:5062", Uri("sip", "1001", None, "192.0.2.9", 5062)),
        ("SIPS:a:secret@h", Uri("SIPS", "a", "secret", "h", None)),
        ("sip:a:@h", Uri("sip", "a", "", "h", None)),
        ("sip:1001@[2001:db8::9]", Uri("sip", "1001", None, "[2001:db8::9]", None)),
        ("sip:[::1]:5060;lr", Uri("sip", None, None, "[::1]", 5060, (("lr", None),))),
        (
            "sip:a@h;transport=tcp;ob?X=y&Z=",
            Uri("sip", "a", None, "h", None, (("transport", "tcp"), ("ob", None)), (("X", "y"), ("Z", ""))),
        ),
        ("sip:a;b?c/d@h", Uri("sip", "a;b?c/d", None, "h", None)),
        ("sip:%40%C3%A9@h", Uri("sip", "%40%C3%A9", None, "h", None)),
        ("sip:1001@PBX_1.local", Uri("sip", "1001", None, "PBX_1.local", None)),
        ("sip:a@h;maddr=[::1]", Uri("sip", "a", None, "h", None, (("maddr", "[::1]"),))),
    ],
)
def test_uri_is_read_and_written_as_it_was(text: str, uri: Uri) -> None:
    assert Uri.parse(text) == uri
    assert str(uri) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a sip: or sips: URI"),
        ("1001@pbx", "not a sip: or sips: URI"),
        ("tel:+15551234", "not a sip: or sips: URI"),
        ("sip", "not a sip: or sips: URI"),
        (" sip:a@h", "not a sip: or sips: URI"),
        ("sip:", "not a host name"),
        ("sip:a@", "not a host name"),
        ("sip:@h", "an empty user part"),
        ("sip::p@h", "an empty user part"),
        ("sip:a b@h", "the character ' ' in the user part"),
        ("sip:é@h", "the character 'é' in the user part"),
        ("sip:a%4@h", "a bad %-escape in the user part"),
        ("sip:a%@h", "a bad %-escape in the user part"),
        ("sip:a%4g@h", "a bad %-escape in the user part"),
        ("sip:a:b:c@h", "the character ':' in the password"),
        ("sip:a@b@h", "not a host name"),
        ("sip:a@h\r\nX: y", "not a host name"),
        ("sip:a\r\n@h", "the character '\\\\r' in the user part"),
        ("sip:a@h>", "not a host name"),
        ("sip:a@h:", "not a port"),
        ("sip:a@h:0", "not a port"),
        ("sip:a@h:65536", "not a port"),
        ("sip:a@h:+1", "not a port"),
        ("sip:a@h:\u0661", "not a port"),
        ("sip:a@h:5060 ", "not a port"),
        ("sip:a@2001:db8::9", "not a port"),
        ("sip:a@[::1", "without ']'"),
        ("sip:a@[::1]x", "unexpected text after an IPv6 reference"),
        ("sip:a@[::g]", "not an IPv6 address"),
        ("sip:a@[192.0.2.1]", "not an IPv6 address"),
        ("sip:a@[fe80::1%eth0]", "with a zone"),
        ("sip:a@[fe80::1%\r\nX: y]", "with a zone"),
        ("sip:a@h;", "an empty parameter"),
        ("sip:a@h;;lr", "an empty parameter"),
        ("sip:a@h;=x", "an empty parameter"),
        ("sip:a@h;x=", "with '=' but no value"),
        ("sip:a@h;x=a b", "the character ' ' in the parameter"),
        ("sip:a@h;x=a\r\nY: z", "in the parameter"),
        ("sip:a@h?", "an empty header"),
        ("sip:a@h?x", "a header without '='"),
        ("sip:a@h?x=<y>", "the character '<' in the header"),
    ],
)
def test_malformed_uri_is_refused_and_says_why(text: str, words: str) -> None:
    with pytest.raises(SipParseError, match=words.replace("?", r"\?").replace("(", r"\(")):
        Uri.parse(text)


def test_questions_about_a_uri() -> None:
    uri = Uri.parse("SIPS:1001:pw@[2001:DB8::9]:5061;Transport=TCP")
    assert uri.secure
    assert uri.transport == "tcp"
    assert uri.address == "2001:DB8::9"
    assert uri.aor == "1001@[2001:db8::9]"
    plain = Uri.parse("sip:PBX.example.com")
    assert not plain.secure
    assert plain.transport == ""
    assert plain.address == "PBX.example.com"
    assert plain.aor == "pbx.example.com"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h", ("h", None)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[::1]:65535", ("[::1]", 65_535)),
        ("h:05060", ("h", 5060)),
    ],
)
def test_host_and_port_are_read(text: str, found: tuple[str, int | None]) -> None:
    assert parse_hostport(text) == found
