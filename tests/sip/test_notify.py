"""The octets of a NOTIFY, and what cannot get into it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resyncctl.errors import SipError
from resyncctl.sip.message import Request, check_request, parse
from resyncctl.sip.notify import NotifyTemplate, Sender, fields, require_event

SENDER = Sender("sip:resyncctl@pbx.example.com", "sip:resyncctl@192.0.2.1:5060", "resyncctl/0.1.0")
NASTY = ["\r\nEvil: x", "\nEvil: x", "\r", "\x00", "\x1b[2J", "\x7f", "\ud800"]


def render(template: NotifyTemplate, *, extra: str = "") -> bytes:
    return template.render(
        request_uri="sip:1001@192.0.2.9:5062;line=1",
        to_uri="sip:1001@pbx.example.com",
        via="SIP/2.0/UDP 192.0.2.1:5060",
        token="0123456789abcdef",
        branch="z9hG4bK0123456789abcdef1",
        extra=extra,
    )


def names(data: bytes) -> list[str]:
    message = parse(data)
    assert isinstance(message, Request)
    return [name for name, _ in message.headers]


def test_notify_is_exactly_these_octets() -> None:
    assert render(NotifyTemplate(SENDER, "check-sync;reboot=true")) == (
        b"NOTIFY sip:1001@192.0.2.9:5062;line=1 SIP/2.0\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK0123456789abcdef1;rport\r\n"
        b"Max-Forwards: 70\r\n"
        b"From: <sip:resyncctl@pbx.example.com>;tag=0123456789abcdef\r\n"
        b"To: <sip:1001@pbx.example.com>\r\n"
        b"Call-ID: 0123456789abcdef@resyncctl\r\n"
        b"CSeq: 1 NOTIFY\r\n"
        b"Contact: <sip:resyncctl@192.0.2.1:5060>\r\n"
        b"Event: check-sync;reboot=true\r\n"
        b"Subscription-State: terminated\r\n"
        b"User-Agent: resyncctl/0.1.0\r\n"
        b"Content-Length: 0\r\n"
        b"\r\n"
    )


def test_notify_with_vendor_headers_body_and_route_is_exactly_these_octets() -> None:
    template = NotifyTemplate(
        SENDER,
        "ACTION-URI",
        headers=(("subscription-state", "active"), ("X-Vendor", "caf\xe9")),
        content_type="message/sipfrag",
        body="key=\xe9\r\n",
    )
    data = template.render(
        request_uri="sip:1001@[2001:db8::9]",
        to_uri="sip:1001@[2001:db8::9]",
        via="SIP/2.0/UDP [2001:db8::1]:5060",
        token="t",
        branch="z9hG4bKt2",
        cseq=2,
        extra=fields(("Route", "<sip:192.0.2.3;lr>")),
    )
    assert data == (
        b"NOTIFY sip:1001@[2001:db8::9] SIP/2.0\r\n"
        b"Via: SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bKt2;rport\r\n"
        b"Max-Forwards: 70\r\n"
        b"From: <sip:resyncctl@pbx.example.com>;tag=t\r\n"
        b"To: <sip:1001@[2001:db8::9]>\r\n"
        b"Call-ID: t@resyncctl\r\n"
        b"CSeq: 2 NOTIFY\r\n"
        b"Route: <sip:192.0.2.3;lr>\r\n"
        b"Contact: <sip:resyncctl@192.0.2.1:5060>\r\n"
        b"Event: ACTION-URI\r\n"
        b"Subscription-State: active\r\n"
        b"User-Agent: resyncctl/0.1.0\r\n"
        b"X-Vendor: caf\xc3\xa9\r\n"
        b"Content-Type: message/sipfrag\r\n"
        b"Content-Length: 8\r\n"
        b"\r\n"
        b"key=\xc3\xa9\r\n"
    )


def test_notify_is_a_request_that_our_own_parser_accepts() -> None:
    message = parse(render(NotifyTemplate(SENDER, "check-sync", content_type="text/plain", body="\xe9" * 10)))
    assert isinstance(message, Request)
    check_request(message)
    assert message.body == b"\xc3\xa9" * 10
    assert message.get("Content-Length") == "20"
    assert message.from_.tag == "0123456789abcdef"
    assert message.to.tag == ""


@pytest.mark.parametrize("name", ["Subscription-State", "SUBSCRIPTION-STATE", "subscription-state"])
def test_subscription_state_of_a_vendor_replaces_ours_in_any_case(name: str) -> None:
    data = render(NotifyTemplate(SENDER, "check-sync", headers=((name, "active;expires=0"),)))
    assert names(data).count("Subscription-State") == 1
    assert b"\r\nSubscription-State: active;expires=0\r\n" in data


def test_user_agent_of_a_vendor_replaces_ours_and_the_last_of_two_equal_headers_counts() -> None:
    headers = (("user-agent", "PBX"), ("X-A", "1"), ("x-a", "2"))
    data = render(NotifyTemplate(SENDER, "check-sync", headers=headers))
    assert b"\r\nUser-Agent: PBX\r\nX-A: 2\r\n" in data
    assert b"resyncctl/0.1.0" not in data


@pytest.mark.parametrize(
    "name",
    [
        "Via", "from", "TO", "Call-ID", "cseq", "Max-Forwards", "Content-Length", "Route", "event", "Contact", "content-type",
        "Authorization", "proxy-authorization", "v", "f", "t", "I", "l", "o", "m", "C",
    ],
)  # fmt: skip
def test_header_that_the_sender_writes_cannot_be_set(name: str) -> None:
    with pytest.raises(SipError, match=f"the header {name} is written by the sender"):
        NotifyTemplate(SENDER, "check-sync", headers=((name, "x"),))


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_that_would_end_a_header_gets_through(nasty: str) -> None:
    bad = f"x{nasty}"
    attempts: list[Callable[[], object]] = [
        lambda: NotifyTemplate(SENDER, f"check-sync{nasty}"),
        lambda: NotifyTemplate(SENDER, f"check-sync;reboot={bad}"),
        lambda: NotifyTemplate(SENDER, "check-sync", headers=(("X-A", bad),)),
        lambda: NotifyTemplate(SENDER, "check-sync", headers=((f"X-{nasty}", "y"),)),
        lambda: NotifyTemplate(SENDER, "check-sync", headers=(("Subscription-State", bad),)),
        lambda: NotifyTemplate(SENDER, "check-sync", content_type=f"text/{bad}", body="y"),
        lambda: NotifyTemplate(Sender(f"sip:{bad}@h", "sip:c@h", "u"), "check-sync"),
        lambda: NotifyTemplate(Sender(f"sip:a@h{nasty}", "sip:c@h", "u"), "check-sync"),
        lambda: NotifyTemplate(Sender(f"sip:a@[fe80::1%{bad}]", "sip:c@h", "u"), "check-sync"),
        lambda: NotifyTemplate(Sender("sip:a@h", f"sip:c@h;x={bad}", "u"), "check-sync"),
        lambda: NotifyTemplate(Sender("sip:a@h", "sip:c@h", bad), "check-sync"),
        lambda: fields(("Route", bad)),
        lambda: fields((f"Route{nasty}", "y")),
    ]
    for attempt in attempts:
        with pytest.raises(SipError):
            attempt()


@pytest.mark.parametrize("uri", ["", "resyncctl", "tel:+1555", "<sip:a@h>", "sip:a@h>;tag=x"])
def test_from_and_contact_are_sip_uris(uri: str) -> None:
    with pytest.raises(SipError):
        NotifyTemplate(Sender(uri, "sip:c@h", "u"), "check-sync")
    with pytest.raises(SipError):
        NotifyTemplate(Sender("sip:a@h", uri, "u"), "check-sync")


@pytest.mark.parametrize(
    "event", ["check-sync", "check-sync;reboot=true", "check-sync ;reboot", "ua-profile.x", "ACTION-URI"]
)
def test_event_value_is_kept_as_written(event: str) -> None:
    assert require_event(event) == event


@pytest.mark.parametrize(
    "event", ["", ";reboot=true", "check sync", "check/sync", "check-sync;r=\xe9", "check-sync\x00"]
)
def test_event_that_is_no_token_is_refused(event: str) -> None:
    with pytest.raises(SipError, match="not an Event value"):
        require_event(event)


def test_body_needs_a_type_and_a_type_without_body_is_left_out() -> None:
    with pytest.raises(SipError, match="a body needs a Content-Type"):
        NotifyTemplate(SENDER, "check-sync", body="x")
    assert "Content-Type" not in names(render(NotifyTemplate(SENDER, "check-sync", content_type="text/plain")))


def test_body_that_utf_8_cannot_carry_is_refused() -> None:
    with pytest.raises(SipError, match="the body holds a lone surrogate"):
        NotifyTemplate(SENDER, "check-sync", content_type="text/plain", body="\ud800")


def test_header_lines_that_quote_a_peer_go_out_as_they_came() -> None:
    realm = b"caf\xe9".decode("utf-8", "surrogateescape")
    data = render(NotifyTemplate(SENDER, "check-sync"), extra=fields(("Authorization", f'Digest realm="{realm}"')))
    assert b'\r\nAuthorization: Digest realm="caf\xe9"\r\n' in data
