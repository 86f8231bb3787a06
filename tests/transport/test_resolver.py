"""Which addresses a URI leads to, and in which order, with a name server in memory and in virtual time."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resyncctl.errors import InputError
from resyncctl.sip.hop import Hop, NextHop, Transport
from resyncctl.transport import answers
from resyncctl.transport.addresses import ask_system
from resyncctl.transport.answers import NO_ANSWER, PATIENCE, Answer, Kind, Naptr, Record, Srv
from resyncctl.transport.resolver import BOTH, Resolver, numeric
from tests import virtual_time

A, AAAA, SRV, NAPTR = Kind
UDP, TCP, TLS = Transport.UDP, Transport.TCP, Transport.TLS
Records = Mapping[tuple[Kind, str], list[Record]]


class Zone:
    """A name server in memory: takes a tenth of a second for each answer and notes the questions."""

    def __init__(self, records: Records, *, ttl: float = 60, delay: float = 0.1) -> None:
        self.records = dict(records)
        self.ttl = ttl
        self.ttls: dict[tuple[Kind, str], float] = {}
        self.delay = delay
        self.silent: set[Kind] = set()
        """Questions that it drops."""
        self.failing: set[Kind] = set()
        """Questions that it answers with SERVFAIL."""
        self.asked: list[tuple[Kind, str]] = []
        self.hosts: dict[str, tuple[str, ...]] = {}
        """What the system knows besides."""
        self.hosts_asked: list[str] = []

    async def __call__(self, name: str, kind: Kind) -> Answer[Record]:
        self.asked.append((kind, name))
        await asyncio.sleep(PATIENCE if kind in self.silent else self.delay)
        if kind in self.silent | self.failing:
            return NO_ANSWER
        return Answer(tuple(self.records.get((kind, name), ())), self.ttls.get((kind, name), self.ttl))

    async def system(self, name: str) -> tuple[str, ...]:
        self.hosts_asked.append(name)
        await asyncio.sleep(0.01)
        return self.hosts.get(name, ())


def resolver(zone: Zone, *, families: frozenset[socket.AddressFamily] = BOTH, nameserver: str = "") -> Resolver:
    return Resolver(
        nameserver=nameserver,
        families=families,
        clock=asyncio.get_running_loop().time,
        rng=random.Random(7),
        query=zone,
        system=zone.system,
    )


def brief(hops: list[Hop]) -> list[str]:
    return [f"{hop.transport} {hop.address[0]} {hop.address[1]}" for hop in hops]


def found(zone: Zone, next_hop: NextHop, *, families: frozenset[socket.AddressFamily] = BOTH) -> list[str]:
    """Resolve once, in virtual time."""

    async def story() -> list[str]:
        hops = await resolver(zone, families=families).resolve(next_hop)
        assert all(hop.name == next_hop.host for hop in hops)
        return brief(hops)

    return virtual_time.run(story())


def provider() -> Zone:
    """A domain with everything: NAPTR for three transports, SRV for each, two servers."""
    return Zone({
        (NAPTR, "pbx.example"): [
            Naptr(20, 10, "s", "SIP+D2T", "", "_sip._tcp.pbx.example"),
            Naptr(10, 20, "S", "sip+d2u", "", "_sip._udp.pbx.example"),
            Naptr(10, 10, "s", "SIPS+D2T", "", "_sips._tcp.pbx.example"),
        ],
        (SRV, "_sips._tcp.pbx.example"): [Srv(1, 0, 5061, "one.example")],
        (SRV, "_sip._udp.pbx.example"): [Srv(2, 0, 5062, "two.example"), Srv(1, 0, 5060, "one.example")],
        (SRV, "_sip._tcp.pbx.example"): [Srv(1, 0, 5070, "two.example")],
        (A, "one.example"): ["192.0.2.1"],
        (A, "two.example"): ["192.0.2.2"],
        (A, "pbx.example"): ["192.0.2.80"],
    })  # fmt: skip


# Numeric hosts


@pytest.mark.parametrize(
    ("host", "is_numeric"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("2001:db8::1", True),
        ("::ffff:10.0.0.1", True),
        ("[::1]", False),
        ("10.0.0", False),
        ("10.0.0.256", False),
        ("pbx.example", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("10.0.0.1\0", False),
    ],
)
def test_numeric_hosts_are_told_from_names(host: str, is_numeric: bool) -> None:
    assert numeric(host) is is_numeric


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [
        (NextHop("192.0.2.7"), ["udp 192.0.2.7 5060"]),
        (NextHop("192.0.2.7", 5080), ["udp 192.0.2.7 5080"]),
        (NextHop("2001:db8::7"), ["udp 2001:db8::7 5060"]),
        (NextHop("192.0.2.7", None, TCP), ["tcp 192.0.2.7 5060"]),
        (NextHop("192.0.2.7", None, TLS), ["tls 192.0.2.7 5061"]),
        (NextHop("192.0.2.7", None, None, secure=True), ["tls 192.0.2.7 5061"]),
        (NextHop("192.0.2.7", 5080, TCP, secure=True), ["tls 192.0.2.7 5080"]),
        (NextHop("192.0.2.7", None, UDP, secure=True), []),
        (NextHop("192.0.2.7", 80, Transport.WS), []),
        (NextHop("192.0.2.7", 443, Transport.WSS, secure=True), []),
    ],
)
def test_a_numeric_host_is_its_own_address_and_nothing_is_asked(next_hop: NextHop, expected: list[str]) -> None:
    zone = provider()
    assert found(zone, next_hop) == expected
    assert zone.asked == []


@pytest.mark.parametrize(
    "next_hop",
    [
        NextHop("pbx.example", None, UDP, secure=True),
        NextHop("pbx.example", None, Transport.WS),
        NextHop("", 5060),
        NextHop(".."),
    ],
)
def test_what_cannot_be_reached_has_no_address_and_nothing_is_asked(next_hop: NextHop) -> None:
    zone = provider()
    assert found(zone, next_hop) == []
    assert zone.asked == []


# What is asked


def test_a_port_leaves_only_addresses_to_ask_for() -> None:
    zone = provider()
    assert found(zone, NextHop("pbx.example", 5080)) == ["udp 192.0.2.80 5080"]
    assert zone.asked == [(A, "pbx.example"), (AAAA, "pbx.example")]


def test_a_port_and_sips_are_tls_at_that_port() -> None:
    assert found(provider(), NextHop("pbx.example", 5080, TCP, secure=True)) == ["tls 192.0.2.80 5080"]


@pytest.mark.parametrize(
    ("next_hop", "name", "expected"),
    [
        (NextHop("pbx.example", None, UDP), "_sip._udp.pbx.example", ["udp 192.0.2.1 5060", "udp 192.0.2.2 5062"]),
        (NextHop("pbx.example", None, TCP), "_sip._tcp.pbx.example", ["tcp 192.0.2.2 5070"]),
        (NextHop("pbx.example", None, TLS), "_sips._tcp.pbx.example", ["tls 192.0.2.1 5061"]),
        (NextHop("pbx.example", None, TLS, secure=True), "_sips._tcp.pbx.example", ["tls 192.0.2.1 5061"]),
        (NextHop("pbx.example", None, TCP, secure=True), "_sips._tcp.pbx.example", ["tls 192.0.2.1 5061"]),
    ],
)
def test_a_transport_leaves_its_srv_record_to_ask_for(next_hop: NextHop, name: str, expected: list[str]) -> None:
    zone = provider()
    assert found(zone, next_hop) == expected
    assert [question for question in zone.asked if question[0] in {SRV, NAPTR}] == [(SRV, name)]


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [
        (NextHop("pbx.example", None, UDP), ["udp 192.0.2.80 5060"]),
        (NextHop("pbx.example", None, TCP), ["tcp 192.0.2.80 5060"]),
        (NextHop("pbx.example", None, TCP, secure=True), ["tls 192.0.2.80 5061"]),
        (NextHop("pbx.example"), ["udp 192.0.2.80 5060"]),
        (NextHop("pbx.example", None, None, secure=True), ["tls 192.0.2.80 5061"]),
    ],
)
def test_without_srv_the_name_itself_is_the_server_at_the_default_port(next_hop: NextHop, expected: list[str]) -> None:
    assert found(Zone({(A, "pbx.example"): ["192.0.2.80"]}), next_hop) == expected


def test_naptr_gives_the_transports_by_order_and_then_preference() -> None:
    assert found(provider(), NextHop("pbx.example")) == [
        "tls 192.0.2.1 5061",
        "udp 192.0.2.1 5060",
        "udp 192.0.2.2 5062",
        "tcp 192.0.2.2 5070",
    ]


def test_sips_follows_only_naptr_records_of_sips() -> None:
    zone = provider()
    assert found(zone, NextHop("pbx.example", None, None, secure=True)) == ["tls 192.0.2.1 5061"]
    assert (SRV, "_sip._udp.pbx.example") not in zone.asked


@pytest.mark.parametrize(
    "record",
    [
        Naptr(1, 1, "s", "SIP+D2W", "", "_sip._ws.pbx.example"),
        Naptr(1, 1, "s", "E2U+sip", "", "_sip._ws.pbx.example"),
        Naptr(1, 1, "u", "SIP+D2U", "!^.*$!sip:x@elsewhere.example!", ""),
        Naptr(1, 1, "s", "SIP+D2U", "!^.*$!elsewhere.example!", "elsewhere.example"),
        Naptr(1, 1, "s", "SIP+D2U", "", ""),
        Naptr(1, 1, "s", "SIP+D2U", "", "_sip._udp.gone.example"),
    ],
)
def test_a_naptr_record_that_leads_nowhere_is_passed_over(record: Naptr) -> None:
    zone = provider()
    zone.records[NAPTR, "pbx.example"] = [record]
    assert found(zone, NextHop("pbx.example")) == ["udp 192.0.2.1 5060", "udp 192.0.2.2 5062", "tcp 192.0.2.2 5070"]


def test_naptr_may_lead_to_another_domain_and_the_certificate_still_names_ours() -> None:
    zone = provider()
    zone.records[NAPTR, "hosted.example"] = [Naptr(1, 1, "s", "SIPS+D2T", "", "_sips._tcp.pbx.example")]
    assert found(zone, NextHop("Hosted.Example")) == ["tls 192.0.2.1 5061"]  # `found` compares the name


def test_without_naptr_a_sip_uri_goes_over_udp_then_tcp_and_never_over_tls() -> None:
    zone = provider()
    del zone.records[NAPTR, "pbx.example"]
    assert found(zone, NextHop("pbx.example")) == ["udp 192.0.2.1 5060", "udp 192.0.2.2 5062", "tcp 192.0.2.2 5070"]
    assert (SRV, "_sips._tcp.pbx.example") not in zone.asked


def test_a_service_that_is_not_available_does_not_fall_back_to_the_host() -> None:
    zone = Zone({(SRV, "_sip._udp.pbx.example"): [Srv(0, 0, 0, "")], (A, "pbx.example"): ["192.0.2.80"]})
    assert found(zone, NextHop("pbx.example")) == []
    zone.records[SRV, "_sip._tcp.pbx.example"] = [Srv(0, 0, 5060, "pbx.example")]
    assert found(zone, NextHop("pbx.example")) == ["tcp 192.0.2.80 5060"]


def test_an_srv_target_without_address_or_port_is_passed_over() -> None:
    zone = Zone({
        (SRV, "_sip._udp.pbx.example"): [
            Srv(1, 0, 5060, "gone.example"), Srv(2, 0, 0, "here.example"), Srv(3, 0, 5060, "here.example"),
        ],
        (A, "here.example"): ["192.0.2.1"],
    })  # fmt: skip
    assert found(zone, NextHop("pbx.example", None, UDP)) == ["udp 192.0.2.1 5060"]


def test_an_srv_target_that_is_an_address_is_used() -> None:
    zone = Zone({(SRV, "_sip._udp.pbx.example"): [Srv(1, 0, 5066, "192.0.2.9")]})
    assert found(zone, NextHop("pbx.example", None, UDP)) == ["udp 192.0.2.9 5066"]


# Families


def dual() -> Zone:
    return Zone({
        (SRV, "_sip._udp.pbx.example"): [Srv(1, 0, 5060, "one.example"), Srv(2, 0, 5060, "two.example")],
        (A, "one.example"): ["192.0.2.1"],
        (AAAA, "one.example"): ["2001:db8::1"],
        (AAAA, "two.example"): ["2001:db8::2"],
    })  # fmt: skip


def test_of_each_server_ipv4_is_tried_before_ipv6() -> None:
    assert found(dual(), NextHop("pbx.example", None, UDP)) == [
        "udp 192.0.2.1 5060",
        "udp 2001:db8::1 5060",
        "udp 2001:db8::2 5060",
    ]


def test_only_the_families_that_can_be_sent_to_are_asked_for() -> None:
    zone = dual()
    assert found(zone, NextHop("one.example", 5060), families=frozenset({socket.AF_INET})) == ["udp 192.0.2.1 5060"]
    assert found(zone, NextHop("one.example", 5060), families=frozenset({socket.AF_INET6})) == ["udp 2001:db8::1 5060"]
    assert zone.asked == [(A, "one.example"), (AAAA, "one.example")]


# The order


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 65535)), min_size=1, max_size=16), st.integers(0, 2**32))
def test_every_srv_target_is_tried_exactly_once_and_by_priority(servers: list[tuple[int, int]], seed: int) -> None:
    records = [Srv(priority, weight, 5060 + i, "one.example") for i, (priority, weight) in enumerate(servers)]
    zone = Zone({(SRV, "_sip._udp.pbx.example"): list(records), (A, "one.example"): ["192.0.2.1"]})

    async def story() -> None:
        names = Resolver(clock=asyncio.get_running_loop().time, rng=random.Random(seed), query=zone, system=zone.system)
        for _ in range(3):
            ports = [hop.address[1] for hop in await names.resolve(NextHop("pbx.example", None, UDP))]
            assert sorted(ports) == [record.port for record in records]
            assert [servers[port - 5060][0] for port in ports] == sorted(priority for priority, _ in servers)

    virtual_time.run(story())


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([60, 20, 10, 10], [0.6, 0.2, 0.1, 0.1]),
        ([1, 3], [0.25, 0.75]),
        ([0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]),
        ([9, 0], [0.9, 0.1]),  # 0 has "a very small chance", which RFC 2782 makes one in the sum and one
        ([65535, 0], [1.0, 0.0]),
    ],
)
def test_a_server_is_tried_first_as_often_as_its_weight_says(weights: list[int], shares: list[float]) -> None:
    zone = Zone({
        (SRV, "_sip._udp.pbx.example"): [Srv(1, weight, 5060 + i, "one.example") for i, weight in enumerate(weights)],
        (A, "one.example"): ["192.0.2.1"],
    })  # fmt: skip

    async def story() -> Counter[int]:
        names = resolver(zone)
        return Counter([(await names.resolve(NextHop("pbx.example", None, UDP)))[0].address[1] for _ in range(5000)])

    first = virtual_time.run(story())
    assert [first[5060 + i] / 5000 for i in range(len(weights))] == pytest.approx(shares, abs=0.03)
    assert len(zone.asked) == 5  # one SRV, and the addresses of the name and of its server: all draws are from memory


# Hops to avoid


def test_a_hop_that_failed_is_last_for_as_long_as_it_is_avoided() -> None:
    async def story() -> None:
        names = resolver(provider())
        first, second = NextHop("pbx.example", None, UDP), ["udp 192.0.2.2 5062", "udp 192.0.2.1 5060"]
        hops = await names.resolve(first)
        names.avoid(hops[0], seconds=30)
        assert brief(await names.resolve(first)) == second
        await asyncio.sleep(29)
        assert brief(await names.resolve(first)) == second
        await asyncio.sleep(2)
        assert await names.resolve(first) == hops

    virtual_time.run(story())


def test_when_all_have_failed_the_order_stays() -> None:
    async def story() -> None:
        names = resolver(provider())
        hops = await names.resolve(NextHop("pbx.example"))
        for hop in hops:
            names.avoid(hop, seconds=30)
        assert await names.resolve(NextHop("pbx.example")) == hops

    virtual_time.run(story())


def test_a_short_avoidance_does_not_shorten_a_long_one() -> None:
    async def story() -> None:
        names = resolver(provider())
        hops = await names.resolve(NextHop("pbx.example", None, UDP))
        names.avoid(hops[0], seconds=60)
        names.avoid(hops[0], seconds=1)
        await asyncio.sleep(30)
        assert (await names.resolve(NextHop("pbx.example", None, UDP)))[-1] == hops[0]

    virtual_time.run(story())


def test_phones_that_fail_one_after_the_other_fill_no_memory() -> None:
    async def story() -> None:
        names = resolver(Zone({}))
        for number in range(20_000):
            names.avoid(Hop(("192.0.2.1", number), UDP, "phone.example"), seconds=600)
            names.avoid(Hop(("192.0.2.1", number), UDP, "192.0.2.1"), seconds=600)
        assert len(names._avoided) == 10_000

    virtual_time.run(story())


# Memory


def test_an_answer_is_used_for_as_long_as_its_ttl_says() -> None:
    async def story() -> None:
        zone = Zone({(A, "pbx.example"): ["192.0.2.1"]}, ttl=120)
        names = resolver(zone)
        assert brief(await names.resolve(NextHop("pbx.example", 5060))) == ["udp 192.0.2.1 5060"]
        zone.records[A, "pbx.example"] = ["192.0.2.2"]
        await asyncio.sleep(119)
        assert brief(await names.resolve(NextHop("pbx.example", 5070))) == ["udp 192.0.2.1 5070"]
        await asyncio.sleep(2)
        assert brief(await names.resolve(NextHop("pbx.example", 5060))) == ["udp 192.0.2.2 5060"]
        assert zone.asked.count((A, "pbx.example")) == 2

    virtual_time.run(story())


def test_an_address_that_ends_is_asked_for_again_and_nothing_else() -> None:
    async def story() -> None:
        zone = provider()
        zone.ttls[A, "two.example"] = 10
        names = resolver(zone)
        assert brief(await names.resolve(NextHop("pbx.example", None, TCP))) == ["tcp 192.0.2.2 5070"]
        asked = len(zone.asked)
        zone.records[A, "two.example"] = ["192.0.2.22"]
        await asyncio.sleep(9)
        assert brief(await names.resolve(NextHop("pbx.example", None, TCP))) == ["tcp 192.0.2.2 5070"]
        await asyncio.sleep(2)
        assert brief(await names.resolve(NextHop("pbx.example", None, TCP))) == ["tcp 192.0.2.22 5070"]
        assert zone.asked[asked:] == [(A, "two.example"), (AAAA, "two.example")]

    virtual_time.run(story())


@pytest.mark.parametrize(("ttl", "used_for"), [(0, 1), (1_000_000, 86_400)])
def test_a_ttl_is_at_least_a_second_and_at_most_a_day(ttl: float, used_for: float) -> None:
    async def story() -> None:
        zone = Zone({(A, "pbx.example"): ["192.0.2.1"], (AAAA, "pbx.example"): ["2001:db8::1"]}, ttl=ttl)
        names = resolver(zone)
        await names.resolve(NextHop("pbx.example", 5060))
        await asyncio.sleep(used_for * 0.99)
        await names.resolve(NextHop("pbx.example", 5060))
        assert len(zone.asked) == 2
        await asyncio.sleep(used_for * 0.02)
        await names.resolve(NextHop("pbx.example", 5060))
        assert len(zone.asked) == 4

    virtual_time.run(story())


def test_a_record_that_was_absent_is_found_within_a_minute() -> None:
    async def story() -> None:
        zone = Zone({(A, "pbx.example"): ["192.0.2.80"]}, ttl=3600)
        names = resolver(zone)
        assert brief(await names.resolve(NextHop("pbx.example"))) == ["udp 192.0.2.80 5060"]
        zone.records[SRV, "_sip._udp.pbx.example"] = [Srv(1, 0, 5099, "pbx.example")]
        await asyncio.sleep(61)
        assert brief(await names.resolve(NextHop("pbx.example"))) == ["udp 192.0.2.80 5099"]

    virtual_time.run(story())


def test_letter_case_and_a_final_dot_make_no_other_name() -> None:
    async def story() -> None:
        zone = provider()
        names = resolver(zone)
        for host in ("PBX.example", "pbx.example.", "pbx.EXAMPLE"):
            hops = await names.resolve(NextHop(host))
            assert brief(hops)[0] == "tls 192.0.2.1 5061"
            assert hops[0].name == host
        assert len(zone.asked) == len(set(zone.asked))

    virtual_time.run(story())


def test_a_failure_is_remembered_for_five_seconds() -> None:
    async def story() -> None:
        zone = Zone({})
        names = resolver(zone)
        assert await names.resolve(NextHop("gone.example", 5060)) == []
        zone.records[A, "gone.example"] = ["192.0.2.1"]
        await asyncio.sleep(4.8)
        assert await names.resolve(NextHop("gone.example", 5060)) == []
        assert zone.asked == [(A, "gone.example"), (AAAA, "gone.example")]
        await asyncio.sleep(1)
        assert brief(await names.resolve(NextHop("gone.example", 5060))) == ["udp 192.0.2.1 5060"]

    virtual_time.run(story())


@pytest.mark.parametrize("port", [None, 5060])
def test_a_name_is_asked_for_once_however_many_phones_wait_for_it(port: int | None) -> None:
    async def story() -> None:
        zone = provider()
        names = resolver(zone)
        answers = await asyncio.gather(*(names.resolve(NextHop("pbx.example", port)) for _ in range(500)))
        assert all(answer == answers[0] for answer in answers)
        assert len(zone.asked) == len(set(zone.asked))

    virtual_time.run(story())


def test_phones_at_many_ports_of_one_name_share_one_answer() -> None:
    async def story() -> None:
        zone = provider()
        names = resolver(zone)
        for port in range(1, 1000):
            assert brief(await names.resolve(NextHop("pbx.example", port))) == [f"udp 192.0.2.80 {port}"]
        assert len(zone.asked) == 2

    virtual_time.run(story())


def test_one_that_stops_waiting_leaves_the_answer_to_the_others() -> None:
    async def story() -> None:
        zone = provider()
        names = resolver(zone)
        impatient = asyncio.create_task(names.resolve(NextHop("pbx.example")))
        patient = asyncio.create_task(names.resolve(NextHop("pbx.example")))
        await asyncio.sleep(0.15)
        impatient.cancel()
        assert len(await patient) == 4
        assert impatient.cancelled()
        assert len(zone.asked) == len(set(zone.asked))

    virtual_time.run(story())


def test_different_names_are_looked_up_side_by_side() -> None:
    async def story() -> None:
        names = resolver(Zone({(A, f"{i}.example"): ["192.0.2.1"] for i in range(100)}, delay=1))
        await asyncio.gather(*(names.resolve(NextHop(f"{i}.example", 5060)) for i in range(100)))
        assert asyncio.get_running_loop().time() == pytest.approx(1.0, abs=0.01)

    virtual_time.run(story())


@pytest.mark.parametrize("next_hop", [NextHop("pbx.example"), NextHop("pbx.example", 5060), NextHop("192.0.2.1")])
def test_a_known_name_is_resolved_without_waiting(next_hop: NextHop) -> None:
    async def story() -> None:
        names = resolver(provider())
        hops = await names.resolve(next_hop)
        answer = names.resolve(next_hop)
        with pytest.raises(StopIteration) as ended:
            answer.send(None)  # it never gives way to the event loop
        assert ended.value.value == hops

    virtual_time.run(story())


def test_names_without_end_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_MOST", 100)

    async def story() -> None:
        zone = Zone({(A, "pbx.example"): ["192.0.2.1"]}, ttl=3600)
        names = resolver(zone)
        for number in range(1000):
            await names.resolve(NextHop(f"{number}.example", 5060))
            await names.resolve(NextHop("pbx.example", 5060))
            assert len(names._addresses._known) <= 100
        assert zone.asked.count((A, "pbx.example")) == 1  # what is out of date goes first

    virtual_time.run(story())


# A name server that fails


@pytest.mark.parametrize("kinds", [{NAPTR}, {SRV}, {NAPTR, SRV}, {NAPTR, SRV, AAAA}])
def test_questions_that_are_refused_do_not_hide_the_address(kinds: set[Kind]) -> None:
    zone = Zone({(A, "pbx.example"): ["192.0.2.80"]})
    zone.failing = kinds
    assert found(zone, NextHop("pbx.example")) == ["udp 192.0.2.80 5060"]


@pytest.mark.parametrize("kinds", [{NAPTR}, {SRV}, {NAPTR, SRV}, {NAPTR, SRV, AAAA}])
def test_questions_that_are_dropped_do_not_hide_the_address(kinds: set[Kind]) -> None:
    zone = Zone({(A, "pbx.example"): ["192.0.2.80"]})
    zone.silent = kinds
    assert found(zone, NextHop("pbx.example")) == ["udp 192.0.2.80 5060"]


def test_an_srv_target_whose_address_does_not_come_does_not_hold_up_the_others() -> None:
    zone = dual()
    zone.silent = {A}
    assert found(zone, NextHop("pbx.example", None, UDP)) == ["udp 2001:db8::1 5060", "udp 2001:db8::2 5060"]


def test_an_srv_record_that_comes_late_is_used_five_seconds_later() -> None:
    async def story() -> None:
        zone = provider()
        zone.delay = 1.2
        names = resolver(zone)
        assert brief(await names.resolve(NextHop("pbx.example", None, UDP))) == ["udp 192.0.2.80 5060"]
        await asyncio.sleep(5.1)
        zone.delay = 0.1
        assert brief(await names.resolve(NextHop("pbx.example", None, UDP)))[0] == "udp 192.0.2.1 5060"
        assert zone.asked.count((SRV, "_sip._udp.pbx.example")) == 1

    virtual_time.run(story())


@pytest.mark.parametrize(
    "next_hop", [NextHop("pbx.example"), NextHop("pbx.example", 5060), NextHop("pbx.example", None, TLS)]
)
def test_a_name_server_that_says_nothing_is_given_up_after_three_seconds(next_hop: NextHop) -> None:
    async def story() -> None:
        zone = provider()
        zone.silent = set(Kind)
        names = resolver(zone, nameserver="192.0.2.53")
        assert await names.resolve(next_hop) == []
        assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=0.01)
        asked = len(zone.asked)
        await asyncio.sleep(4)
        assert await names.resolve(next_hop) == []
        assert len(zone.asked) == asked

    virtual_time.run(story())


# The system


@pytest.mark.parametrize("dns", ["knows nothing", "fails", "is silent"])
@pytest.mark.parametrize("next_hop", [NextHop("pbx.example"), NextHop("pbx.example", 5060)])
def test_a_host_that_the_dns_does_not_know_is_asked_of_the_system(dns: str, next_hop: NextHop) -> None:
    zone = Zone({})
    zone.silent = set(Kind) if dns == "is silent" else set()
    zone.failing = set(Kind) if dns == "fails" else set()
    zone.hosts["pbx.example"] = ("2001:db8::1", "192.0.2.1", "192.0.2.1")
    assert found(zone, next_hop) == ["udp 192.0.2.1 5060", "udp 2001:db8::1 5060"]
    assert zone.hosts_asked == ["pbx.example"]


def test_what_the_system_said_is_used_for_a_minute() -> None:
    async def story() -> None:
        zone = Zone({})
        zone.hosts["pbx.example"] = ("192.0.2.1",)
        names = resolver(zone)
        for _ in range(2):
            assert brief(await names.resolve(NextHop("pbx.example", 5060))) == ["udp 192.0.2.1 5060"]
            await asyncio.sleep(59)
        assert zone.hosts_asked == ["pbx.example"]
        await asyncio.sleep(2)
        await names.resolve(NextHop("pbx.example", 5060))
        assert zone.hosts_asked == ["pbx.example", "pbx.example"]

    virtual_time.run(story())


def test_addresses_of_a_name_without_a_dot_are_the_systems_business() -> None:
    zone = Zone({})
    zone.hosts["phone7"] = ("192.0.2.7",)
    assert found(zone, NextHop("phone7", 5060)) == ["udp 192.0.2.7 5060"]
    assert zone.asked == []


def test_with_a_name_server_of_ones_own_the_system_is_not_asked() -> None:
    async def story() -> None:
        zone = Zone({(A, "phone7"): ["192.0.2.7"]})
        zone.hosts["pbx.example"] = ("192.0.2.1",)
        names = resolver(zone, nameserver="192.0.2.53")
        assert await names.resolve(NextHop("pbx.example", 5060)) == []
        assert brief(await names.resolve(NextHop("phone7", 5060))) == ["udp 192.0.2.7 5060"]
        assert zone.hosts_asked == []

    virtual_time.run(story())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "phones.localhost"])
def test_localhost_is_this_machine_and_nothing_is_asked(host: str) -> None:
    zone = Zone({(A, "localhost"): ["192.0.2.66"]})
    assert found(zone, NextHop(host)) == ["udp 127.0.0.1 5060", "udp ::1 5060"]
    assert found(zone, NextHop(host, 5070), families=frozenset({socket.AF_INET6})) == ["udp ::1 5070"]
    assert zone.asked == []
    assert zone.hosts_asked == []


async def test_the_system_knows_localhost() -> None:
    assert set(await ask_system("localhost")) & {"127.0.0.1", "::1"}


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "a..b"])
async def test_the_system_has_no_address_for_what_cannot_be_a_name(name: str) -> None:
    assert await ask_system(name) == ()


# Options


@pytest.mark.parametrize(
    "nameserver", ["192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:5353", "[2001:db8::53]", "2001:db8::53"]
)
def test_a_nameserver_is_an_address_with_or_without_port(nameserver: str) -> None:
    Resolver(nameserver=nameserver)


@pytest.mark.parametrize(
    "nameserver",
    [
        "dns.example",
        "192.0.2.53:",
        "192.0.2.53:0",
        "192.0.2.53:65536",
        "192.0.2.53:dns",
        "[::1]53",
        "[::1]:",
        "[::1",
        " ",
        "::1]:53",
    ],
)
def test_a_nameserver_that_is_no_address_is_refused(nameserver: str) -> None:
    with pytest.raises(InputError, match="write IP, IP:PORT or"):
        Resolver(nameserver=nameserver)


def test_a_resolver_that_asks_nothing_does_not_import_dnspython() -> None:
    code = "import sys, resyncctl.transport.resolver as r; r.Resolver(); sys.exit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
