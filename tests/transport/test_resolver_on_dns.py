"""RFC 3263 against a real name server (dnsmasq), on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing

import pytest
import uvloop

from resyncctl.sip.hop import Hop, NextHop, Transport
from resyncctl.transport.resolver import Resolver
from tests.peers.dns_server import DnsServer, alias, host, naptr, no_service, srv

pytestmark = pytest.mark.needs("dnsmasq")
Run = Callable[[Coroutine[None, None, None]], None]

MANY = 40
ZONE = [
    # everything: TLS preferred, then UDP with two priorities
    naptr("pbx.test", "_sip._udp.pbx.test", service="SIP+D2U", order=20),
    naptr("pbx.test", "_sips._tcp.pbx.test", service="SIPS+D2T", order=10),
    srv("_sips._tcp.pbx.test", "one.test", 5061),
    srv("_sip._udp.pbx.test", "backup.test", 5072, priority=20),
    srv("_sip._udp.pbx.test", "one.test", 5071, priority=10),
    host("pbx.test", "192.0.2.80"),
    host("one.test", "192.0.2.1", "2001:db8::1"),
    host("backup.test", "192.0.2.2"),
    # SRV only, by weight
    srv("_sip._udp.weighted.test", "one.test", 5060, weight=30),
    srv("_sip._udp.weighted.test", "backup.test", 5060, weight=10),
    srv("_sip._tcp.weighted.test", "backup.test", 5060),
    no_service("_sip._udp.closed.test"),
    host("closed.test", "192.0.2.3"),
    # addresses only
    host("plain.test", "192.0.2.4"),
    host("plain.test", "192.0.2.5"),
    host("six.test", "2001:db8::6"),
    host("target.test", "192.0.2.7"),
    alias("alias.test", "target.test"),
    # an answer that no datagram of 512 bytes holds
    *(srv("_sip._udp.large.test", f"a-server-with-a-long-name-{i}.large.test", 5060, priority=i) for i in range(MANY)),
    *(host(f"a-server-with-a-long-name-{i}.large.test", f"192.0.2.{100 + i}") for i in range(MANY)),
    *(host(f"phone{i}.test", f"198.51.100.{i}") for i in range(200)),
    host("half.example", "192.0.2.9"),  # outside the zone: dnsmasq refuses all questions but this one
]


@pytest.fixture(scope="module")
def names() -> Iterator[DnsServer]:
    with DnsServer(*ZONE) as server:
        yield server


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def in_loop(story: Coroutine[None, None, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(story)

    return in_loop


def brief(hops: list[Hop]) -> list[str]:
    return [f"{hop.transport} {hop.address[0]} {hop.address[1]}" for hop in hops]


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [
        (
            NextHop("pbx.test"),
            [
                "tls 192.0.2.1 5061",
                "tls 2001:db8::1 5061",
                "udp 192.0.2.1 5071",
                "udp 2001:db8::1 5071",
                "udp 192.0.2.2 5072",
            ],
        ),
        (NextHop("pbx.test", secure=True), ["tls 192.0.2.1 5061", "tls 2001:db8::1 5061"]),
        (NextHop("pbx.test", None, Transport.TCP), ["tcp 192.0.2.80 5060"]),
        (NextHop("pbx.test", 5080), ["udp 192.0.2.80 5080"]),
        (NextHop("closed.test"), []),
        (NextHop("closed.test", 5060), ["udp 192.0.2.3 5060"]),
        (NextHop("plain.test"), ["udp 192.0.2.4 5060", "udp 192.0.2.5 5060"]),
        (NextHop("plain.test", secure=True), ["tls 192.0.2.4 5061", "tls 192.0.2.5 5061"]),
        (NextHop("six.test", 5070), ["udp 2001:db8::6 5070"]),
        (NextHop("alias.test", 5070), ["udp 192.0.2.7 5070"]),
        (NextHop("half.example"), ["udp 192.0.2.9 5060"]),
        (NextHop("nobody.test"), []),
        (NextHop("refused.example"), []),
        (NextHop("a..test", 5060), []),
        (NextHop("a" * 64 + ".test"), []),
        (NextHop("a b\\c.test", 5060), []),
    ],
)
def test_a_uri_leads_to_what_the_zone_says(names: DnsServer, run: Run, next_hop: NextHop, expected: list[str]) -> None:
    async def story() -> None:
        hops = await Resolver(nameserver=names.address).resolve(next_hop)
        assert brief(hops) == expected
        assert {hop.name for hop in hops} <= {next_hop.host}

    run(story())


def test_servers_of_one_priority_share_the_phones_by_weight(names: DnsServer, run: Run) -> None:
    async def story() -> None:
        resolver = Resolver(nameserver=names.address)
        draws = [brief(await resolver.resolve(NextHop("weighted.test"))) for _ in range(2000)]
        assert all(
            sorted(draw[:3]) == ["udp 192.0.2.1 5060", "udp 192.0.2.2 5060", "udp 2001:db8::1 5060"] for draw in draws
        )
        assert {draw[3] for draw in draws} == {"tcp 192.0.2.2 5060"}
        assert Counter(draw[0] for draw in draws)["udp 192.0.2.1 5060"] / 2000 == pytest.approx(0.75, abs=0.06)

    run(story())


def test_an_answer_too_large_for_a_datagram_comes_over_tcp(names: DnsServer, run: Run) -> None:
    async def story() -> None:
        hops = await Resolver(nameserver=names.address).resolve(NextHop("large.test", None, Transport.UDP))
        assert brief(hops) == [f"udp 192.0.2.{100 + i} 5060" for i in range(16)]

    run(story())


def test_many_names_at_once_are_all_found(names: DnsServer, run: Run) -> None:
    async def story() -> None:
        resolver = Resolver(nameserver=names.address)
        found = await asyncio.gather(*(resolver.resolve(NextHop(f"phone{i}.test", 5060)) for i in range(200)))
        assert [brief(hops) for hops in found] == [[f"udp 198.51.100.{i} 5060"] for i in range(200)]

    run(story())


def test_a_record_that_changes_is_seen_when_its_ttl_is_over() -> None:
    later = 0.0

    async def story(server: DnsServer) -> None:
        nonlocal later
        resolver = Resolver(
            nameserver=server.address, clock=lambda: time.monotonic() + later, families=frozenset({socket.AF_INET})
        )

        async def both() -> list[str]:
            found = await asyncio.gather(
                *(resolver.resolve(NextHop(name, 5060)) for name in ("long.test", "short.test"))
            )
            return [hop.address[0] for hops in found for hop in hops]

        assert await both() == ["192.0.2.1", "192.0.2.2"]
        await asyncio.to_thread(server.restart, host("long.test", "192.0.2.11"), host("short.test", "192.0.2.12"))
        assert await both() == ["192.0.2.1", "192.0.2.2"]
        later = 301.0
        assert await both() == ["192.0.2.1", "192.0.2.12"]
        later = 3001.0
        assert await both() == ["192.0.2.11", "192.0.2.12"]

    with DnsServer(host("long.test", "192.0.2.1", ttl=3000), host("short.test", "192.0.2.2", ttl=300)) as server:
        asyncio.run(story(server))


def test_a_name_is_asked_for_once() -> None:
    async def story(server: DnsServer) -> None:
        resolver = Resolver(nameserver=server.address)
        await asyncio.gather(*(resolver.resolve(NextHop("plain.test")) for _ in range(100)))

    with DnsServer(host("plain.test", "192.0.2.4")) as server:
        asyncio.run(story(server))
        assert sorted(server.questions()) == [
            ("A", "plain.test"),
            ("AAAA", "plain.test"),
            ("NAPTR", "plain.test"),
            ("SRV", "_sip._tcp.plain.test"),
            ("SRV", "_sip._udp.plain.test"),
        ]


def test_a_name_server_that_answers_nothing_costs_three_seconds() -> None:
    async def story(port: int) -> None:
        resolver = Resolver(nameserver=f"127.0.0.1:{port}")
        began = time.monotonic()
        many = [NextHop("pbx.test"), *(NextHop(f"phone{i}.test", 5060) for i in range(100))]
        assert await asyncio.gather(*map(resolver.resolve, many)) == [[]] * 101
        assert 2.5 < time.monotonic() - began < 4.0

    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.1", 0))
        uvloop.run(story(silent.getsockname()[1]))
