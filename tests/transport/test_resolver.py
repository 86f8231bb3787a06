"""Names become addresses; answers are remembered, failures too, and a name is asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from resyncctl.transport.resolver import Resolver, numeric
from tests import virtual_time


class Names:
    """A name server in memory: takes a second for each answer and counts the questions."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = dict(addresses)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> str | None:
        self.asked.append(name)
        await asyncio.sleep(1)
        return self.addresses.get(name)


def resolver(names: Names) -> Resolver:
    return Resolver(look_up=names, clock=asyncio.get_running_loop().time)


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


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
async def test_a_numeric_host_is_its_own_address(host: str) -> None:
    assert await Resolver().resolve(host, 5061) == (host, 5061)


async def test_localhost_is_found_by_the_system() -> None:
    address = await Resolver().resolve("localhost", 5060)
    assert address in {("127.0.0.1", 5060), ("::1", 5060)}


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "", "..", "a..b"])
async def test_what_cannot_be_a_name_has_no_address(host: str) -> None:
    assert await Resolver().resolve(host, 5060) is None


def test_an_answer_is_used_for_a_minute() -> None:
    async def story() -> None:
        names = Names({"pbx.example": "192.0.2.1"})
        found = resolver(names)
        assert await found.resolve("pbx.example", 5060) == ("192.0.2.1", 5060)
        names.addresses["pbx.example"] = "192.0.2.2"
        await asyncio.sleep(59)
        assert await found.resolve("pbx.example", 5070) == ("192.0.2.1", 5070)
        await asyncio.sleep(2)
        assert await found.resolve("pbx.example", 5060) == ("192.0.2.2", 5060)
        assert names.asked == ["pbx.example", "pbx.example"]

    virtual_time.run(story())


def test_letter_case_and_a_final_dot_make_no_other_name() -> None:
    async def story() -> None:
        names = Names({"pbx.example": "192.0.2.1"})
        found = resolver(names)
        for host in ("PBX.example", "pbx.example.", "pbx.EXAMPLE"):
            assert await found.resolve(host, 5060) == ("192.0.2.1", 5060)
        assert names.asked == ["pbx.example"]

    virtual_time.run(story())


def test_a_failure_is_remembered_for_five_seconds() -> None:
    async def story() -> None:
        names = Names({})
        found = resolver(names)
        assert await found.resolve("gone.example", 5060) is None
        names.addresses["gone.example"] = "192.0.2.1"
        await asyncio.sleep(4)
        assert await found.resolve("gone.example", 5060) is None
        assert names.asked == ["gone.example"]
        await asyncio.sleep(2)
        assert await found.resolve("gone.example", 5060) == ("192.0.2.1", 5060)

    virtual_time.run(story())


def test_a_name_is_asked_for_once_however_many_phones_wait_for_it() -> None:
    async def story() -> None:
        names = Names({"pbx.example": "192.0.2.1"})
        found = resolver(names)
        answers = await asyncio.gather(*(found.resolve("pbx.example", port) for port in range(1, 501)))
        assert answers == [("192.0.2.1", port) for port in range(1, 501)]
        assert names.asked == ["pbx.example"]

    virtual_time.run(story())


def test_one_that_stops_waiting_leaves_the_answer_to_the_others() -> None:
    async def story() -> None:
        names = Names({"pbx.example": "192.0.2.1"})
        found = resolver(names)
        impatient = asyncio.create_task(found.resolve("pbx.example", 5060))
        patient = asyncio.create_task(found.resolve("pbx.example", 5060))
        await asyncio.sleep(0.5)
        impatient.cancel()
        assert await patient == ("192.0.2.1", 5060)
        assert impatient.cancelled()
        assert names.asked == ["pbx.example"]

    virtual_time.run(story())


def test_different_names_are_looked_up_side_by_side() -> None:
    async def story() -> None:
        names = Names({"a.example": "192.0.2.1", "b.example": "192.0.2.2"})
        found = resolver(names)
        answers = tuple(await asyncio.gather(found.resolve("a.example", 1), found.resolve("b.example", 2)))
        assert answers == (("192.0.2.1", 1), ("192.0.2.2", 2))
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)

    virtual_time.run(story())
