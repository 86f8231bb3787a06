"""Which way a request takes: Request-URI, Route set and next hop, as RFC 3261 8.1.2, 12.2.1.1 and 16.12 have it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.engine.live import bare_address
from resyncctl.engine.routing import Way, asks_for_sips, is_loose, loose, way_to, why_not
from resyncctl.errors import InputError, SipParseError
from resyncctl.rollout.model import Reason
from resyncctl.sip.hop import Hop, NextHop, Transport
from resyncctl.sip.uri import Uri
from resyncctl.transport.resolver import direct_hop

UDP, TCP, TLS, WS, WSS = Transport
PHONE = "sip:100@192.0.2.7:5062"
EDGE = "<sip:192.0.2.1;lr>"


def way(contact: str = PHONE, *, path: str = "", received: str = "", proxy: str = "") -> Way:
    """Return the way to a phone, by default one without anything between."""
    return way_to(contact, path=path, received=received, proxy=proxy)


def hops(
    contact: str = PHONE, *, path: str = "", received: str = "", proxy: str = ""
) -> tuple[NextHop, Transport | None]:
    """Return where a request goes first, and over what."""
    found = way(contact, path=path, received=received, proxy=proxy).next_hop
    return found, found.chosen


# Straight to the contact


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ("sip:100@192.0.2.7", NextHop("192.0.2.7")),
        ("sip:100@192.0.2.7:5062", NextHop("192.0.2.7", 5062)),
        ("sip:100@192.0.2.7:5062;transport=udp", NextHop("192.0.2.7", 5062, UDP)),
        ("sip:100@192.0.2.7;transport=TCP", NextHop("192.0.2.7", None, TCP)),
        ("sip:100@192.0.2.7;transport=tls", NextHop("192.0.2.7", None, TLS, secure=True)),
        ("sips:100@192.0.2.7", NextHop("192.0.2.7", secure=True)),
        ("SIPS:100@192.0.2.7;transport=tcp", NextHop("192.0.2.7", None, TCP, secure=True)),
        ("sip:100@[2001:db8::7]:5062;transport=tcp", NextHop("2001:db8::7", 5062, TCP)),
        ("sip:100@phones.test", NextHop("phones.test")),
        ("sip:192.0.2.7:5062", NextHop("192.0.2.7", 5062)),
        ("sip:100@phones.test:5062;maddr=192.0.2.9", NextHop("192.0.2.9", 5062)),
        ("sip:100@phones.test;maddr=[2001:db8::9];transport=tcp", NextHop("2001:db8::9", None, TCP)),
        ("sip:100@192.0.2.7:5062;ob", NextHop("192.0.2.7", 5062)),
        ("sip:100@pbx.test;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", NextHop("pbx.test")),
    ],
)
def test_a_contact_alone_is_the_request_uri_as_it_is_and_says_where_to_go(contact: str, expected: NextHop) -> None:
    assert way(contact) == Way(contact, (), expected, through_proxy=False)


@pytest.mark.parametrize(
    ("contact", "request_uri"),
    [
        ("sip:100@192.0.2.7:5062?Priority=urgent", "sip:100@192.0.2.7:5062"),
        ("sip:100@192.0.2.7:5062;ob?Priority=urgent&Subject=x", "sip:100@192.0.2.7:5062;ob"),
        ("sip:which?one@192.0.2.7:5062", "sip:which?one@192.0.2.7:5062"),
        ("sip:which?one@192.0.2.7:5062;transport=tcp?Subject=what", "sip:which?one@192.0.2.7:5062;transport=tcp"),
        ("sip:192.0.2.7:5062?Subject=x", "sip:192.0.2.7:5062"),
    ],
)
def test_headers_of_a_uri_are_not_for_a_request_uri(contact: str, request_uri: str) -> None:
    found = way(contact)

    assert found.request_uri == request_uri
    assert found.next_hop[:2] == ("192.0.2.7", 5062)


# Behind a NAT


def test_a_received_uri_says_where_the_contact_is() -> None:
    hidden = "sip:100@10.0.0.7:5060;transport=tcp"

    assert way(hidden, received="sip:192.0.2.7:40123;transport=tcp") == Way(
        hidden, (), NextHop("192.0.2.7", 40123, TCP), through_proxy=False
    )
    assert hops("sip:100@10.0.0.7", received="sip:[2001:db8::7]:40123")[0] == NextHop("2001:db8::7", 40123)


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("192.0.2.7~40123~1", NextHop("192.0.2.7", 40123, UDP)),
        ("192.0.2.7~40123~2", NextHop("192.0.2.7", 40123, TCP)),
        ("192.0.2.7~40123~3", NextHop("192.0.2.7", 40123, TLS, secure=True)),
        ("[2001:db8::7]~40123~2", NextHop("2001:db8::7", 40123, TCP)),
        ("192.0.2.7~40123~5", NextHop("192.0.2.7", 40123, WS)),
        ("192.0.2.7~40123~6", NextHop("192.0.2.7", 40123, WSS, secure=True)),
    ],
)
def test_an_alias_says_where_the_contact_is_and_is_left_out_of_the_request_uri(alias: str, expected: NextHop) -> None:
    found = way(f"sip:100@10.0.0.7;transport=tcp;alias={alias};ob")

    assert found == Way("sip:100@10.0.0.7;transport=tcp;ob", (), expected, through_proxy=False)


@pytest.mark.parametrize("alias", ["boss", "192.0.2.7", "192.0.2.7~0~1", "192.0.2.7~40123~9", "192.0.2.7~40123", "~~"])
def test_an_alias_of_another_kind_is_a_parameter_like_any(alias: str) -> None:
    contact = f"sip:100@192.0.2.7:5062;alias={alias}"

    assert way(contact) == Way(contact, (), NextHop("192.0.2.7", 5062), through_proxy=False)


def test_an_alias_in_a_user_part_is_none() -> None:
    contact = "sip:100;alias=192.0.2.9~5060~2@192.0.2.7:5062"

    assert way(contact) == Way(contact, (), NextHop("192.0.2.7", 5062), through_proxy=False)


def test_a_sips_contact_behind_a_nat_is_reached_over_tls_or_not_at_all() -> None:
    hidden = "sips:100@10.0.0.7"

    assert hops(hidden, received="sip:192.0.2.7:40123") == (NextHop("192.0.2.7", 40123, secure=True), TLS)
    assert hops(f"{hidden};alias=192.0.2.7~40123~3")[1] is TLS
    assert why_not(way(hidden, received="sip:192.0.2.7:40123;transport=udp")) is Reason.TRANSPORT
    assert why_not(way(f"{hidden};alias=192.0.2.7~40123~1")) is Reason.TRANSPORT


def test_where_a_phone_was_seen_is_of_no_interest_on_the_way_through_a_proxy() -> None:
    contact = "sip:100@10.0.0.7;alias=192.0.2.7~40123~2"

    for found in (way(contact, path=EDGE, received="sip:192.0.2.9"), way(contact, proxy="sip:192.0.2.1;lr")):
        assert found == Way(contact, (EDGE,), NextHop("192.0.2.1"), through_proxy=True)


# Along a Path


@pytest.mark.parametrize(
    ("path", "routes", "expected"),
    [
        (EDGE, (EDGE,), NextHop("192.0.2.1")),
        ("sip:192.0.2.1;lr", (EDGE,), NextHop("192.0.2.1")),
        ("<sip:192.0.2.1;lr=on>;x=y", ("<sip:192.0.2.1;lr=on>;x=y",), NextHop("192.0.2.1")),
        (
            "<sip:192.0.2.1:5070;transport=tcp;lr>,<sip:[2001:db8::2];lr>",
            ("<sip:192.0.2.1:5070;transport=tcp;lr>", "<sip:[2001:db8::2];lr>"),
            NextHop("192.0.2.1", 5070, TCP),
        ),
        (
            "<sip:192.0.2.1;lr;received=sip:192.0.2.7:40123%3Btransport%3Dtls>",
            ("<sip:192.0.2.1;lr;received=sip:192.0.2.7:40123%3Btransport%3Dtls>",),
            NextHop("192.0.2.1"),
        ),
        ("<sips:edge.test;lr>", ("<sips:edge.test;lr>",), NextHop("edge.test", secure=True)),
        ("<sip:edge.test;lr;maddr=192.0.2.9>", ("<sip:edge.test;lr;maddr=192.0.2.9>",), NextHop("192.0.2.9")),
    ],
)
def test_a_path_of_loose_routers_is_the_route_set_unchanged(
    path: str, routes: tuple[str, ...], expected: NextHop
) -> None:
    assert way(path=path) == Way(PHONE, routes, expected, through_proxy=True)


def test_a_strict_router_is_the_request_uri_and_the_phone_the_last_route() -> None:
    alone = way(path="<sip:192.0.2.1:5070;transport=tcp>")
    first = way(path=f"<sip:192.0.2.1:5070?Subject=x>, {EDGE}, <sip:192.0.2.2>")

    assert alone == Way(
        "sip:192.0.2.1:5070;transport=tcp", (f"<{PHONE}>",), NextHop("192.0.2.1", 5070, TCP), through_proxy=True
    )
    assert first == Way(
        "sip:192.0.2.1:5070", (EDGE, "<sip:192.0.2.2>", f"<{PHONE}>"), NextHop("192.0.2.1", 5070), through_proxy=True
    )


def test_a_strict_router_behind_a_loose_one_is_a_route_like_any() -> None:
    assert way(path=f"{EDGE},<sip:192.0.2.2>").routes == (EDGE, "<sip:192.0.2.2>")


def test_a_path_that_is_none_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"^path: "):
        way(path="edge.test")


# Through an outbound proxy


@pytest.mark.parametrize(
    ("proxy", "route"),
    [
        ("sip:192.0.2.3", "<sip:192.0.2.3;lr>"),
        ("sip:192.0.2.3;lr", "<sip:192.0.2.3;lr>"),
        ("sip:192.0.2.3;LR=on;transport=tcp", "<sip:192.0.2.3;LR=on;transport=tcp>"),
        ("sip:192.0.2.3:5070;transport=tcp", "<sip:192.0.2.3:5070;transport=tcp;lr>"),
        ("sips:pbx.test", "<sips:pbx.test;lr>"),
        ("sip:192.0.2.3?Subject=x", "<sip:192.0.2.3;lr>"),
    ],
)
def test_an_outbound_proxy_is_the_topmost_route_of_a_loose_router(proxy: str, route: str) -> None:
    assert way(proxy=proxy).routes == (route,)
    assert way(proxy=proxy, path=EDGE).routes == (route, EDGE)
    assert is_loose(loose(proxy))


def test_an_outbound_proxy_is_the_next_hop_whatever_lies_behind_it() -> None:
    proxy = "sip:pbx.test;transport=tcp"
    behind = [
        "sip:100@10.0.0.7;transport=ws",
        "sips:100@phones.test",
        "sip:100@[2001:db8::7]",
        "sip:100@h;transport=sctp",
    ]

    for contact in behind:
        found = way(contact, proxy=proxy, path="<sip:192.0.2.9>")
        assert found == Way(
            contact, ("<sip:pbx.test;transport=tcp;lr>", "<sip:192.0.2.9>"), NextHop("pbx.test", None, TCP), True
        )
        assert why_not(found) is Reason.NONE


# What cannot be reached


@pytest.mark.parametrize("transport", ["ws", "wss", "WS"])
def test_a_websocket_phone_is_reached_through_a_proxy_only(transport: str) -> None:
    contact = f"sip:x9f2@k3a8.invalid;transport={transport}"

    assert why_not(way(contact)) is Reason.WEBSOCKET
    assert why_not(way(PHONE, received=f"sip:192.0.2.7:40123;transport={transport}")) is Reason.WEBSOCKET
    assert why_not(way(contact, path=EDGE)) is Reason.NONE
    assert why_not(way(contact, proxy="sip:192.0.2.3")) is Reason.NONE


@pytest.mark.parametrize("number", [5, 6])
def test_a_websocket_connection_that_a_proxy_has_seen_leads_nowhere_without_the_proxy(number: int) -> None:
    assert why_not(way(f"sip:x9f2@k3a8.invalid;alias=192.0.2.7~40123~{number}")) is Reason.WEBSOCKET


@pytest.mark.parametrize("path", ["<sip:192.0.2.1;transport=ws;lr>", "<sips:192.0.2.1;transport=udp;lr>"])
def test_a_proxy_over_what_we_do_not_speak_is_no_way(path: str) -> None:
    assert why_not(way(path=path)) is Reason.TRANSPORT


def test_a_sips_contact_on_udp_is_no_way() -> None:
    assert why_not(way("sips:100@192.0.2.7;transport=udp")) is Reason.TRANSPORT


@pytest.mark.parametrize("where", ["contact", "path", "received"])
def test_a_transport_that_we_have_never_heard_of_is_a_parse_error(where: str) -> None:
    uri = "sip:100@192.0.2.7;transport=sctp"

    with pytest.raises(SipParseError, match="unknown transport 'sctp'"):
        way_to(uri if where == "contact" else PHONE, path=f"<{uri};lr>" * (where == "path"), proxy="",
               received=uri * (where == "received"))  # fmt: skip


# Without a look-up


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ("sip:100@192.0.2.7", Hop(("192.0.2.7", 5060), UDP, "192.0.2.7")),
        ("sip:100@192.0.2.7:5062;transport=tcp", Hop(("192.0.2.7", 5062), TCP, "192.0.2.7")),
        ("sips:100@192.0.2.7", Hop(("192.0.2.7", 5061), TLS, "192.0.2.7")),
        ("sip:100@[2001:db8::7]", Hop(("2001:db8::7", 5060), UDP, "2001:db8::7")),
        ("sip:100@phones.test:5062", None),
        ("sip:100@192.0.2.7;transport=ws", None),
    ],
)
def test_a_numeric_host_needs_no_look_up(contact: str, expected: Hop | None) -> None:
    assert direct_hop(way(contact).next_hop) == expected


# What the message says of itself


@pytest.mark.parametrize(
    ("contact", "path", "proxy", "sips"),
    [
        ("sips:100@h", "", "", True),
        ("SIPS:100@h", "", "", True),
        ("sips:100@h", EDGE, "", True),
        (PHONE, "<sips:edge.test;lr>", "", True),
        (PHONE, '"the edge" <sips:edge.test;lr>', "", True),
        (PHONE, "", "sips:pbx.test", True),
        ("sips:100@h", "<sip:192.0.2.1>", "", True),
        (PHONE, f"{EDGE},<sips:edge.test;lr>", "", False),
        ("sip:100@h;transport=tls", "", "", False),
    ],
)
def test_our_contact_is_a_sips_uri_when_the_request_uri_or_the_topmost_route_is(
    contact: str, path: str, proxy: str, sips: bool
) -> None:
    assert asks_for_sips(way(contact, path=path, proxy=proxy)) is sips


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("sip:100@phones.test", "sip:100@phones.test"),
        ("sip:100@192.0.2.7:5062;transport=tcp;ob?Subject=x", "sip:100@192.0.2.7"),
        ("sips:100@[2001:db8::7]:5062", "sips:100@[2001:db8::7]"),
        ("sip:192.0.2.7:5062", "sip:192.0.2.7"),
        ("sip:which?one;x=y@phones.test", "sip:which?one;x=y@phones.test"),
    ],
)
def test_to_has_neither_port_nor_parameters(uri: str, bare: str) -> None:
    assert bare_address(uri) == bare


PARTS = st.sampled_from(
    [
        "sip:100@192.0.2.7", "sips:100@h.test:5061", "sip:1?2;3@[2001:db8::7]", ";transport=tcp", ";transport=ws",
        ";transport=sctp", ";lr", ";ob", ";maddr=192.0.2.9", ";alias=192.0.2.7~5062~2", ";alias=x", "?Subject=x", "&a=b",
    ]
)  # fmt: skip
URIS = st.lists(PARTS, min_size=1, max_size=5).map("".join)


@given(contact=URIS, path=URIS | st.just(""), received=URIS | st.just(""), proxy=URIS | st.just(""))
def test_every_way_can_be_written_into_a_message(contact: str, path: str, received: str, proxy: str) -> None:
    try:
        for uri in filter(None, (contact, path, received, proxy)):
            Uri.parse(uri)
        found = way(contact, path=path, received=received, proxy=proxy)
    except (InputError, SipParseError):
        return  # which a list or an option is refused for, or a phone skipped

    assert Uri.parse(found.request_uri).headers == ()
    assert all(Uri.parse(route.strip("<>")) for route in found.routes)
    assert found.through_proxy is bool(path or proxy)
    assert found.next_hop.host


@pytest.mark.parametrize(
    ("contact", "received", "expected"),
    [
        ("sip:1@10.0.0.1;transport=tcp", "sip:192.0.2.7:1024", NextHop("192.0.2.7", 1024, Transport.TCP)),
        ("sip:1@10.0.0.1", "sip:192.0.2.7:1024;transport=tcp", NextHop("192.0.2.7", 1024, Transport.TCP)),
        ("sip:1@10.0.0.1;transport=tls", "sip:192.0.2.7:1024", NextHop("192.0.2.7", 1024, Transport.TLS, secure=True)),
        ("sip:1@x.invalid;transport=ws", "sip:192.0.2.7:1024", NextHop("192.0.2.7", 1024, Transport.WS)),
        ("sip:1@x.invalid;transport=ws", "sip:192.0.2.7:1;transport=tcp", NextHop("192.0.2.7", 1, Transport.WS)),
    ],
)
def test_a_phone_is_where_it_was_seen_over_the_transport_of_its_contact(
    contact: str, received: str, expected: NextHop
) -> None:
    way = way_to(contact, path="", received=received, proxy="")
    assert way.next_hop == expected
    assert (why_not(way) is Reason.WEBSOCKET) is (";transport=ws" in contact)
