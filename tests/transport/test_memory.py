"""The weather of the network in memory: loss, duplication, delay, resets, and the same again for the same seed."""

from __future__ import annotations

import asyncio
import random

import pytest

from resyncctl.transport.memory import MemoryNetwork, Weather
from tests import virtual_time
from tests.transport.phones import Mailbox

HERE, THERE = ("10.0.0.1", 5060), ("10.0.0.2", 5060)


class Diary(Mailbox):
    """A mailbox that also notes the time of each arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        super().datagram_received(data, source)
        self.times.append(round(asyncio.get_running_loop().time(), 6))


def carry(weather: Weather, count: int, *, seed: int = 1) -> tuple[Diary, Diary, int]:
    """Send so many datagrams through the weather; return the mailboxes of both sides and what was handed over."""

    async def story() -> tuple[Diary, Diary, int]:
        network = MemoryNetwork(rng=random.Random(seed), weather=weather)
        here, there = Diary(), Diary()
        link = network.open(HERE, here)
        network.open(THERE, there)
        for number in range(count):
            link.send(b"%d" % number, THERE)
        await asyncio.sleep(60)
        return here, there, network.sent

    return virtual_time.run(story())


def test_in_fair_weather_everything_arrives_once() -> None:
    here, there, sent = carry(Weather(), 100)
    assert sent == 100
    assert sorted(int(data) for data, _ in there.datagrams) == list(range(100))
    assert {source for _, source in there.datagrams} == {HERE}
    assert here.failures == []


@pytest.mark.parametrize(("loss", "arrived"), [(0.0, 1000), (1.0, 0)])
def test_loss_is_a_share(loss: float, arrived: int) -> None:
    _, there, sent = carry(Weather(loss=loss), 1000)
    assert (len(there.datagrams), sent) == (arrived, 1000)


def test_a_fifth_of_loss_loses_about_a_fifth() -> None:
    _, there, _ = carry(Weather(loss=0.2), 1000)
    assert 760 < len(there.datagrams) < 840


def test_duplicates_arrive_twice() -> None:
    _, there, _ = carry(Weather(duplication=1.0), 50)
    assert sorted(int(data) for data, _ in there.datagrams) == sorted([*range(50), *range(50)])


def test_resets_come_back_as_refusals_and_do_not_arrive() -> None:
    here, there, _ = carry(Weather(resets=0.5), 1000)
    assert 440 < len(here.failures) < 560
    assert len(there.datagrams) == 1000 - len(here.failures)


def test_delay_and_jitter_say_when_a_datagram_arrives() -> None:
    _, punctual, _ = carry(Weather(delay=1.5), 10)
    assert punctual.times == [1.5] * 10
    _, scattered, _ = carry(Weather(delay=1.5, jitter=2.0), 1000)
    assert min(scattered.times) >= 1.5
    assert max(scattered.times) < 3.5
    assert [int(data) for data, _ in scattered.datagrams] != list(range(1000))  # they overtake each other


def test_the_same_seed_gives_the_same_weather() -> None:
    storm = Weather(loss=0.3, duplication=0.3, resets=0.1, delay=0.1, jitter=5.0)
    one, other, third = (carry(storm, 200, seed=seed) for seed in (7, 7, 8))
    assert one[1].datagrams == other[1].datagrams
    assert one[1].times == other[1].times
    assert one[0].failures == other[0].failures
    assert one[1].datagrams != third[1].datagrams


def test_a_link_closed_on_the_way_gets_nothing_any_more() -> None:
    async def story() -> None:
        network = MemoryNetwork(rng=random.Random(1), weather=Weather(delay=1.0))
        here, there = Mailbox(), Mailbox()
        link, other = network.open(HERE, here), network.open(THERE, there)
        link.send(b"hello", THERE)
        other.close()
        await asyncio.sleep(2)
        assert there.datagrams == []
        assert len(here.failures) == 1
        link.send(b"refused, but nobody is left to hear it", THERE)
        link.close()
        await asyncio.sleep(2)
        assert len(here.failures) == 1

    virtual_time.run(story())


def test_the_weather_can_change() -> None:
    async def story() -> None:
        network = MemoryNetwork(rng=random.Random(1), weather=Weather(loss=1.0))
        there = Mailbox()
        link = network.open(HERE, Mailbox())
        network.open(THERE, there)
        link.send(b"lost", THERE)
        network.weather = Weather()
        link.send(b"kept", THERE)
        await asyncio.sleep(1)
        assert there.datagrams == [(b"kept", HERE)]

    virtual_time.run(story())
