"""How hosts and places may be written: the settings take what those who use them take, and refuse what they refuse."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from resyncctl.config.addresses import checked_collector, checked_domain, checked_nameserver, is_capture_file
from resyncctl.errors import InputError
from resyncctl.sip.uri import Uri
from resyncctl.transport.resolver import Resolver
from resyncctl.transport.trace_hep import is_collector, parse_collector


def taken(check: Callable[[str], object], text: str) -> bool:
    """Tell whether a check lets a text pass."""
    with contextlib.suppress(ValueError, InputError):
        check(text)
        return True
    return False


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("", True),
        ("192.0.2.53", True),
        ("192.0.2.53:5353", True),
        ("2001:db8::53", True),
        ("[2001:db8::53]", True),
        ("[2001:db8::53]:5353", True),
        ("localhost", False),
        ("dns.example.com:53", False),
        ("192.0.2.53:", False),
        ("192.0.2.53:65536", False),
        ("192.0.2", False),
        ("192.0.2.256", False),
        ("[192.0.2.53", False),
        ("udp://192.0.2.53", False),
        (" 192.0.2.53", False),
        ("[2001:db8::53]5353", False),
    ],
)
def test_a_name_server_is_taken_when_the_resolver_takes_it(text: str, good: bool) -> None:
    assert taken(checked_nameserver, text) is good
    assert taken(lambda server: Resolver(nameserver=server), text) is good


@pytest.mark.parametrize(
    ("place", "good"),
    [
        ("hep:homer", True),
        ("HEP:homer.example.com:9060", True),
        ("hep://192.0.2.9:9060/", True),
        ("hep:7@[2001:db8::9]:9060", True),
        ("hep:", False),
        ("hep:homer:0", False),
        ("hep:homer:65536", False),
        ("hep:me@homer", False),
        ("hep:2001:db8::9", False),
        ("hep:homer/path", False),
        ("hep:ho mer", False),
        ("http://homer", False),
    ],
)
def test_a_collector_is_taken_when_the_trace_takes_it(place: str, good: bool) -> None:
    assert not is_capture_file(place)
    assert taken(checked_collector, place) is good
    assert taken(parse_collector, place) is good


@pytest.mark.parametrize("place", ["t.pcap", "/var/t.pcap", "./hep:t", "http", "hep"])
def test_any_other_place_is_a_file(place: str) -> None:
    assert is_capture_file(place)
    assert not is_collector(place)


@pytest.mark.parametrize(
    "text", ["pbx.example.com", "PBX", "192.0.2.1", "2001:db8::1", "[2001:db8::1]", "a_b", "a" * 253]
)
def test_a_domain_makes_a_uri(text: str) -> None:
    domain = checked_domain(text)
    assert Uri.parse(f"sip:resyncctl@{domain}").host == domain


@pytest.mark.parametrize(
    "text",
    ["sip:pbx", "me@pbx", "pbx:5060", "[::1]:5060", "pbx;x", "p bx", "pbx\r\nX: y", ".", "-", "é", "a" * 254, "[::1", "::x"],
)  # fmt: skip
def test_what_makes_no_uri_is_no_domain(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host name or an IP address"):
        checked_domain(text)
