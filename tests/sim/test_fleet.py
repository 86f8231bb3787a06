"""A fleet on real sockets: what the phones answer to our own endpoint."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Literal

import pytest

from resyncctl.errors import InputError, TransportError
from resyncctl.sim.behaviour import Behaviour, parse_answers
from resyncctl.sim.fleet import Fleet
from resyncctl.sim.roster import SimulatedPhone, make_phones
from resyncctl.sip.digest import Algorithm, Credentials, authorize, parse_challenge
from resyncctl.sip.notify import fields
from resyncctl.sip.uac import Ending
from resyncctl.transport.ip import IpNetwork
from resyncctl.vendors import Catalogue

from .counterparts import Bare, Client, address_of, notify

CATALOGUE = Catalogue.load()
PHONES = make_phones(100, domain="pbx.test", seed=1, catalogue=CATALOGUE)

MakeFleet = Callable[..., Fleet]


@pytest.fixture
async def make_fleet() -> AsyncIterator[MakeFleet]:
    """Return a function that opens a fleet; all are closed in the end."""
    fleets: list[Fleet] = []

    def make(
        behaviour: Behaviour | None = None, *, phones: list[SimulatedPhone] | None = None, sockets: int = 1
    ) -> Fleet:
        fleet = Fleet(
            IpNetwork(),
            PHONES if phones is None else phones,
            Behaviour() if behaviour is None else behaviour,
            catalogue=CATALOGUE,
            listen=("127.0.0.1", 0),
            sockets=sockets,
        )
        fleets.append(fleet)
        fleet.open()
        return fleet

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client(IpNetwork(), timeout=0.4)
    yield client
    client.endpoint.close()


@pytest.fixture
async def bare() -> AsyncIterator[Bare]:
    bare = Bare(IpNetwork())
    yield bare
    bare.link.close()


@pytest.mark.parametrize(("sockets", "ports"), [(1, 1), (3, 3), (0, 100), (500, 100)])
async def test_every_phone_of_the_list_answers(make_fleet: MakeFleet, client: Client, sockets: int, ports: int) -> None:
    fleet = make_fleet(sockets=sockets)
    rows = list(fleet.rows())
    results = await asyncio.gather(*(client.send(row) for row in rows))
    assert len({address_of(row) for row in rows}) == ports
    assert {(result.ending, result.status) for result in results} == {(Ending.ANSWERED, 200)}
    assert (fleet.stats.requests, fleet.stats.answers, fleet.stats.strays) == (100, Counter({200: 100}), 0)
    assert all([heard.event for heard in every] == ["check-sync"] for _, every in fleet.heard())


async def test_answers_come_in_their_shares_from_the_same_phones_for_a_seed(
    make_fleet: MakeFleet, client: Client
) -> None:
    answers = parse_answers("200:90%,404:5%,silent:5%")

    async def statuses(seed: int) -> list[int]:
        fleet = make_fleet(Behaviour(answers=answers, seed=seed))
        return [result.status for result in await asyncio.gather(*(client.send(row) for row in fleet.rows()))]

    first, again, other = await asyncio.gather(statuses(3), statuses(3), statuses(4))
    assert Counter(first) == Counter({200: 90, 404: 5, 0: 5})
    assert first == again
    assert first != other
    assert Counter(other) == Counter(first)


@pytest.mark.parametrize("challenge", [401, 407])
@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.SHA_256])
async def test_a_challenging_phone_lets_its_own_password_in_and_no_other(
    make_fleet: MakeFleet, client: Client, challenge: Literal[401, 407], algorithm: Algorithm
) -> None:
    fleet = make_fleet(Behaviour(challenge=challenge, algorithm=algorithm))
    right, wrong, none = list(fleet.rows())[:3]
    assert (await client.send(right)).status == 200
    assert (await client.send(wrong, password=right["auth_password"])).status == 403
    refused = await client.send(none, password="")
    assert (refused.ending, refused.status) == (Ending.NO_CREDENTIALS, challenge)
    assert fleet.stats.answers == Counter({challenge: 3, 200: 1, 403: 1})
    assert [[heard.status for heard in every] for _, every in fleet.heard()][:3] == [
        [challenge, 200],
        [challenge, 403],
        [challenge],
    ]


async def test_a_phone_without_a_user_name_does_not_challenge(make_fleet: MakeFleet, client: Client) -> None:
    fleet = make_fleet(Behaviour(challenge=401), phones=[SimulatedPhone("1000", "pbx.test")])
    assert (await client.send(next(fleet.rows()))).status == 200


@pytest.mark.parametrize(
    ("call_id", "uri", "username", "status", "stale"),
    [
        ("same", "", "", 200, False),
        ("other", "", "", 401, True),
        ("same", "sip:somebody@else", "", 403, False),
        ("same", "", "2000", 403, False),
    ],
)
async def test_credentials_are_judged_in_every_part(
    make_fleet: MakeFleet, bare: Bare, *, call_id: str, uri: str, username: str, status: int, stale: bool
) -> None:
    row = next(make_fleet(Behaviour(challenge=401)).rows())
    refused = await bare.ask(notify(row, "check-sync", branch="same"), address_of(row))
    challenge = parse_challenge(refused.require("WWW-Authenticate"), proxy=False)
    assert challenge is not None
    line = authorize(
        challenge,
        Credentials(username or row["auth_username"], row["auth_password"]),
        method="NOTIFY",
        uri=uri or row["contact"],
        cnonce="c",
    )
    answer = await bare.ask(notify(row, "check-sync", branch=call_id, cseq=2, extra=fields(line)), address_of(row))
    assert answer.status == status
    again = answer.get("WWW-Authenticate")
    assert again is None or (c := parse_challenge(again, proxy=False)) is None or c.stale is stale


async def test_malformed_credentials_are_a_bad_request(make_fleet: MakeFleet, bare: Bare) -> None:
    row = next(make_fleet(Behaviour(challenge=401)).rows())
    broken = fields(("Authorization", 'Digest username="x'))
    answer = await bare.ask(notify(row, "check-sync", branch="b", extra=broken), address_of(row))
    assert answer.status == 400


async def test_a_phone_is_overloaded_for_its_first_requests(make_fleet: MakeFleet, client: Client) -> None:
    fleet = make_fleet(Behaviour(overloaded=2, retry_after=7))
    one, other = list(fleet.rows())[:2]
    results = [await client.send(one) for _ in range(3)]
    assert [(result.status, result.retry_after) for result in results] == [(503, 7), (503, 7), (200, -1)]
    assert (await client.send(other)).status == 503


@pytest.mark.parametrize(
    ("old", "new", "status", "named"),
    [
        ("check-sync", "presence", 489, "Allow-Events"),
        ("Event: check-sync\r\n", "", 489, "Allow-Events"),
        ("NOTIFY", "OPTIONS", 200, "Allow"),
        ("NOTIFY", "INVITE", 405, "Allow"),
        ("NOTIFY sip:1000@", "NOTIFY sip:9999@", 404, "To"),
        ("NOTIFY sip:1000@", "NOTIFY tel:1000@", 404, "To"),
        ("CSeq: 1 NOTIFY", "CSeq: 1 INFO", 400, "To"),
        ("check-sync", "Check-Sync;reboot=false", 200, "To"),
    ],
)
async def test_requests_get_the_answer_of_a_phone(
    make_fleet: MakeFleet, bare: Bare, old: str, new: str, status: int, named: str
) -> None:
    row = next(make_fleet().rows())
    request = notify(row, "check-sync", branch="b").replace(old.encode(), new.encode())
    answer = await bare.ask(request, address_of(row))
    assert answer.status == status
    assert answer.get(named)


async def test_what_is_not_sip_is_counted_and_an_ack_is_ignored(make_fleet: MakeFleet, bare: Bare) -> None:
    fleet = make_fleet()
    row = next(fleet.rows())
    request = notify(row, "check-sync", branch="b")
    for data in (b"\r\n\r\n", b"nonsense", b"SIP/2.0 nonsense", request.replace(b"NOTIFY", b"ACK")):
        bare.link.send(data, address_of(row))
    assert (await bare.ask(request, address_of(row))).status == 200
    assert (len(bare.answers), fleet.stats.strays, fleet.stats.requests) == (1, 1, 1)


async def test_two_phones_of_one_extension_get_contacts_of_their_own(make_fleet: MakeFleet, client: Client) -> None:
    fleet = make_fleet(phones=[SimulatedPhone("1000", "a.test"), SimulatedPhone("1000", "b.test")])
    one, other = fleet.rows()
    assert one["contact"] != other["contact"]
    await client.send(other)
    assert [len(heard) for _, heard in fleet.heard()] == [0, 1]


async def test_ipv6_phones_are_reached(client: Client) -> None:
    fleet = Fleet(IpNetwork(), PHONES[:1], Behaviour(), catalogue=CATALOGUE, listen=("::1", 0))
    try:
        fleet.open()
    except TransportError:
        pytest.skip("this machine has no IPv6 loopback address")
    sender = Client(IpNetwork(), timeout=0.4)
    sender.endpoint._local = ("::1", 0)
    row = next(fleet.rows())
    assert row["contact"].startswith("sip:1000@[::1]:")
    assert (await sender.send(row)).status == 200
    sender.endpoint.close()
    fleet.close()


async def test_ports_that_are_taken_leave_nothing_open(make_fleet: MakeFleet) -> None:
    host, taken = address_of(next(make_fleet().rows()))
    fleet = Fleet(IpNetwork(), PHONES, Behaviour(), catalogue=CATALOGUE, listen=(host, taken - 1), sockets=2)
    with pytest.raises(TransportError, match="cannot open 2 sockets for phones"):
        fleet.open()
    free = Fleet(IpNetwork(), PHONES, Behaviour(), catalogue=CATALOGUE, listen=(host, taken - 1))
    free.open()
    free.close()


@pytest.mark.parametrize(("host", "phones"), [("0.0.0.0", PHONES), ("::", PHONES), ("127.0.0.1", [])])
async def test_a_fleet_that_nobody_can_reach_is_refused(host: str, phones: list[SimulatedPhone]) -> None:
    with pytest.raises(InputError):
        Fleet(IpNetwork(), phones, Behaviour(), catalogue=CATALOGUE, listen=(host, 0))


async def test_run_stays_until_close(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(fleet.run())
        await asyncio.sleep(0)
        assert not task.done()
        fleet.close()
        fleet.close()
