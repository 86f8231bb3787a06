"""What every network does, real or in memory: open, send, receive, refuse, close. On asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass

import pytest
import uvloop

from resyncctl.errors import TransportError
from resyncctl.sip.uac import Ending
from resyncctl.transport.ip import IpNetwork
from resyncctl.transport.link import Network
from resyncctl.transport.memory import MemoryNetwork
from tests.transport.phones import Mailbox

ANY_PORT = ("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class World:
    """A kind of network on a kind of event loop."""

    network: Callable[[], Network]
    loop: Callable[[], asyncio.AbstractEventLoop]

    def play(self, story: Callable[[Network], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(10):
                await story(self.network())

        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(bounded())


@pytest.fixture(
    params=[
        pytest.param(World(IpNetwork, asyncio.SelectorEventLoop), id="udp-asyncio"),
        pytest.param(World(IpNetwork, uvloop.new_event_loop), id="udp-uvloop"),
        pytest.param(World(lambda: MemoryNetwork(rng=random.Random(1)), asyncio.SelectorEventLoop), id="memory"),
    ]
)
def world(request: pytest.FixtureRequest) -> World:
    chosen = request.param
    assert isinstance(chosen, World)
    return chosen


def closed_port(network: Network, host: str = "127.0.0.1") -> tuple[str, int]:
    """Return an address at which nobody listens any more."""
    link = network.open((host, 0), Mailbox())
    link.close()
    return link.local


def test_port_zero_gives_a_free_port(world: World) -> None:
    async def story(network: Network) -> None:
        with closing(network.open(ANY_PORT, Mailbox())) as one, closing(network.open(ANY_PORT, Mailbox())) as other:
            assert one.local[0] == "127.0.0.1"
            assert 0 < one.local[1] < 65_536
            assert one.local != other.local

    world.play(story)


def test_a_named_port_is_the_one_that_is_opened(world: World) -> None:
    async def story(network: Network) -> None:
        wanted = closed_port(network)
        with closing(network.open(wanted, Mailbox())) as link:
            assert link.local == wanted

    world.play(story)


def test_a_port_in_use_is_an_error_that_names_it_and_what_to_do(world: World) -> None:
    async def story(network: Network) -> None:
        with closing(network.open(ANY_PORT, Mailbox())) as link:
            with pytest.raises(TransportError) as caught:
                network.open(link.local, Mailbox())
            assert f"port {link.local[1]} on 127.0.0.1: Address already in use; choose" in str(caught.value)
            assert caught.value.exit_status == 4

    world.play(story)


def test_a_free_port_is_found_beside_named_ones(world: World) -> None:
    async def story(network: Network) -> None:
        with closing(network.open(ANY_PORT, Mailbox())) as first:
            following = (first.local[0], first.local[1] + 1)
            try:
                second = network.open(following, Mailbox())
            except TransportError:
                pytest.skip("another process has the next port")
            with closing(second), closing(network.open(ANY_PORT, Mailbox())) as third:
                assert len({first.local, second.local, third.local}) == 3

    world.play(story)


def test_a_datagram_arrives_as_it_was_sent_with_its_source(world: World) -> None:
    async def story(network: Network) -> None:
        mailbox = Mailbox()
        with closing(network.open(ANY_PORT, mailbox)) as there, closing(network.open(ANY_PORT, Mailbox())) as here:
            for data in (b"NOTIFY", b"", bytes(range(256)) * 40):
                here.send(data, there.local)
            await mailbox.until(datagrams=3)
            assert sorted(mailbox.datagrams) == sorted(
                [(b"NOTIFY", here.local), (b"", here.local), (bytes(range(256)) * 40, here.local)]
            )

    world.play(story)


def test_more_datagrams_than_one_wake_up_reads_all_arrive(world: World) -> None:
    async def story(network: Network) -> None:
        mailbox = Mailbox()
        with closing(network.open(ANY_PORT, mailbox)) as there, closing(network.open(ANY_PORT, Mailbox())) as here:
            for number in range(300):
                here.send(b"%d" % number, there.local)
            await mailbox.until(datagrams=300)
            assert {data for data, _ in mailbox.datagrams} == {b"%d" % number for number in range(300)}

    world.play(story)


def test_a_closed_port_refuses_and_quotes_the_datagram(world: World) -> None:
    async def story(network: Network) -> None:
        mailbox = Mailbox()
        nobody = closed_port(network)
        with closing(network.open(ANY_PORT, mailbox)) as link:
            link.send(b"is anybody there", nobody)
            await mailbox.until(failures=1)
            [failure] = mailbox.failures
            assert failure.quoted == b"is anybody there"
            assert failure.destination == nobody
            assert failure.ending is Ending.REFUSED
            assert failure.detail == "ICMP: Connection refused"

    world.play(story)


def test_a_link_still_receives_after_refusals(world: World) -> None:
    async def story(network: Network) -> None:
        mailbox = Mailbox()
        nobody = closed_port(network)
        with closing(network.open(ANY_PORT, mailbox)) as link, closing(network.open(ANY_PORT, Mailbox())) as other:
            for rounds in (1, 2, 3):
                link.send(b"refused", nobody)
                await mailbox.until(failures=rounds)
                other.send(b"hello", link.local)
                await mailbox.until(datagrams=rounds)

    world.play(story)


def test_every_refusal_is_told_and_none_stops_what_is_sent_to_others(world: World) -> None:
    async def story(network: Network) -> None:
        here, there = Mailbox(), Mailbox()
        nobody = closed_port(network)
        with closing(network.open(ANY_PORT, here)) as link, closing(network.open(ANY_PORT, there)) as other:
            for number in range(100):
                link.send(b"refused %d" % number, nobody)
                link.send(b"accepted %d" % number, other.local)
            await here.until(failures=100)
            await there.until(datagrams=100)
            assert {failure.quoted for failure in here.failures} == {b"refused %d" % number for number in range(100)}

    world.play(story)


def test_a_failure_is_never_told_while_sending(world: World) -> None:
    async def story(network: Network) -> None:
        mailbox = Mailbox()
        nobody = closed_port(network)
        with closing(network.open(ANY_PORT, mailbox)) as link:
            for _ in range(5):
                link.send(b"refused", nobody)
                assert mailbox.failures == []
            await mailbox.until(failures=5)

    world.play(story)


def test_a_closed_link_receives_nothing_and_sends_nothing(world: World) -> None:
    async def story(network: Network) -> None:
        mailbox = Mailbox()
        link = network.open(ANY_PORT, mailbox)
        with closing(network.open(ANY_PORT, Mailbox())) as other:
            other.send(b"too late", link.local)
            link.close()
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                link.send(b"too late", other.local)
            assert caught.value.errno == errno.EBADF
            await asyncio.sleep(0.02)
            assert mailbox.datagrams == []

    world.play(story)


def test_closing_twice_closes_nobody_else(world: World) -> None:
    async def story(network: Network) -> None:
        mailbox = Mailbox()
        first = network.open(ANY_PORT, Mailbox())
        first.close()
        with closing(network.open(first.local, mailbox)) as second:
            first.close()
            with closing(network.open(ANY_PORT, Mailbox())) as other:
                other.send(b"hello", second.local)
                await mailbox.until(datagrams=1)

    world.play(story)


def test_loopback_is_reached_from_loopback(world: World) -> None:
    async def story(network: Network) -> None:
        assert network.source_for(("127.0.0.1", 5060)) == "127.0.0.1"

    world.play(story)


def test_ipv6_carries_and_refuses_as_ipv4_does(world: World, ipv6: str) -> None:
    async def story(network: Network) -> None:
        here, there = Mailbox(), Mailbox()
        nobody = closed_port(network, ipv6)
        with closing(network.open((ipv6, 0), here)) as link, closing(network.open((ipv6, 0), there)) as other:
            assert link.local[0] == "::1"
            link.send(b"hello", other.local)
            await there.until(datagrams=1)
            assert there.datagrams == [(b"hello", link.local)]
            link.send(b"refused", nobody)
            await here.until(failures=1)
            assert here.failures[0].ending is Ending.REFUSED
            assert here.failures[0].destination == nobody
            assert network.source_for(nobody) == "::1"

    world.play(story)


def test_both_families_have_the_same_port_to_themselves(world: World, ipv6: str) -> None:
    async def story(network: Network) -> None:
        with closing(network.open(ANY_PORT, Mailbox())) as four:
            try:
                six = network.open((ipv6, four.local[1]), Mailbox())
            except TransportError:
                pytest.skip("another process has that port on IPv6")
            with closing(six):
                assert six.local == ("::1", four.local[1])

    world.play(story)
