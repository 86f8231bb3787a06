"""A fleet in virtual time: delays, losses, retransmissions, reboots and registrations, to the instant."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from resyncctl.sim import fleet as fleet_module
from resyncctl.sim.behaviour import Behaviour, Share
from resyncctl.sim.fleet import HISTORY, Fleet
from resyncctl.sim.port import Registrar
from resyncctl.sim.roster import SimulatedPhone, make_phones
from resyncctl.sip.uac import Ending
from resyncctl.sip.uri import Uri
from resyncctl.transport.memory import MemoryNetwork
from resyncctl.vendors import Catalogue

from .counterparts import Bare, Client, TinyRegistrar, address_of, notify
from .virtual_time import run_virtually, virtual_now

CATALOGUE = Catalogue.load()
PHONES = make_phones(60, domain="pbx.test", seed=1, catalogue=CATALOGUE)
REBOOT = "check-sync;reboot=true"


def open_fleet(
    network: MemoryNetwork,
    behaviour: Behaviour,
    *,
    phones: list[SimulatedPhone] | None = None,
    sockets: int = 1,
    registrar: Registrar | None = None,
) -> Fleet:
    """Open a fleet on virtual time."""
    fleet = Fleet(
        network,
        PHONES[:1] if phones is None else phones,
        behaviour,
        catalogue=CATALOGUE,
        listen=("127.0.0.1", 5060),
        sockets=sockets,
        registrar=registrar,
        clock=virtual_now,
    )
    fleet.open()
    return fleet


def new_network() -> MemoryNetwork:
    return MemoryNetwork(rng=random.Random(1))


def registrar_of(tiny: TinyRegistrar, *, at_start: bool = False) -> Registrar:
    return Registrar(Uri.parse("sip:pbx.test"), tiny.link.local, at_start=at_start)


def test_the_final_answer_follows_the_provisional_one_after_the_delay() -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(delay=(2.0, 2.0), provisional=True))
        bare = Bare(network, clock=virtual_now)
        row = next(fleet.rows())
        bare.link.send(notify(row, "check-sync", branch="b"), address_of(row))
        await asyncio.sleep(10)
        assert [(at, answer.status) for at, answer in bare.answers] == [(0.0, 100), (2.0, 200)]
        assert ";tag=" not in (bare.answers[0][1].get("To") or "")

    run_virtually(main())


def test_delays_spread_over_their_range() -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(delay=(1.0, 3.0)), phones=PHONES)
        bare = Bare(network, clock=virtual_now)
        for row in fleet.rows():
            bare.link.send(notify(row, "check-sync", branch=row["mac"]), address_of(row))
        await asyncio.sleep(10)
        times = [at for at, _ in bare.answers]
        assert len(times) == 60
        assert 1.0 <= min(times) < 1.3
        assert 2.7 < max(times) <= 3.0

    run_virtually(main())


def test_a_retransmission_gets_the_same_answer_and_is_counted_once() -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(challenge=401))
        bare = Bare(network, clock=virtual_now)
        row = next(fleet.rows())
        for _ in range(3):
            bare.link.send(notify(row, "check-sync", branch="b"), address_of(row))
            await asyncio.sleep(4)
        assert bare.raw[0] == bare.raw[1] == bare.raw[2]
        assert (fleet.stats.requests, fleet.stats.retransmissions, fleet.stats.answers) == (1, 2, Counter({401: 1}))
        assert [len(heard) for _, heard in fleet.heard()] == [1]

    run_virtually(main())


@pytest.mark.parametrize(
    ("provisional", "expected"), [(False, [(2.0, 200)]), (True, [(0.0, 100), (0.5, 100), (2.0, 200)])]
)
def test_a_retransmission_before_the_answer_gets_what_was_said_so_far(
    *, provisional: bool, expected: list[tuple[float, int]]
) -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(delay=(2.0, 2.0), provisional=provisional))
        bare = Bare(network, clock=virtual_now)
        row = next(fleet.rows())
        for _ in range(2):
            bare.link.send(notify(row, "check-sync", branch="b"), address_of(row))
            await asyncio.sleep(0.5)
        await asyncio.sleep(10)
        assert [(at, answer.status) for at, answer in bare.answers] == expected

    run_virtually(main())


def test_a_silent_phone_hears_and_says_nothing() -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(answers=(Share(0, 1.0),), provisional=True))
        client = Client(network, timeout=32.0, clock=virtual_now)
        result = await client.send(next(fleet.rows()), REBOOT)
        assert (result.ending, round(result.ended_at, 6)) == (Ending.TIMEOUT, 32.0)
        assert (fleet.stats.requests, fleet.stats.retransmissions, fleet.stats.reboots) == (1, 10, 0)

    run_virtually(main())


def test_memory_of_transactions_and_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "_TRANSACTIONS", 10)

    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour())
        bare = Bare(network, clock=virtual_now)
        row = next(fleet.rows())
        for number in range(100):
            bare.link.send(notify(row, "check-sync", branch=f"b{number}"), address_of(row))
        await asyncio.sleep(1)
        assert fleet.stats.requests == 100
        assert len(fleet._recent) + len(fleet._older) <= 20
        assert [len(heard) for _, heard in fleet.heard()] == [HISTORY]

    run_virtually(main())


def test_loss_takes_its_share_and_retransmission_makes_up_for_it() -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(loss=0.3, seed=2), phones=PHONES)
        client = Client(network, timeout=32.0, clock=virtual_now)
        results = await asyncio.gather(*(client.send(row, "check-sync;reboot=false") for row in fleet.rows()))
        assert {result.status for result in results} == {200}
        assert (fleet.stats.requests, fleet.stats.answers) == (60, Counter({200: 60}))
        datagrams = 60 + client.endpoint.core.retransmissions
        heard = fleet.stats.requests + fleet.stats.retransmissions
        assert 0.2 < 1 - heard / datagrams < 0.4
        assert 0.2 < 1 - 60 / heard < 0.4
        assert fleet.stats.lost == datagrams - 60

    run_virtually(main())


@pytest.mark.parametrize("event", [REBOOT, "reboot_now", "reboot"])
def test_a_rebooting_phone_answers_and_is_then_silent_for_its_boot_time(event: str) -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(boot_time=(20.0, 20.0)))
        client = Client(network, timeout=2.0, clock=virtual_now)
        row = next(fleet.rows())
        assert (await client.send(row, event)).status == 200
        assert (await client.send(row)).ending is Ending.TIMEOUT
        await asyncio.sleep(20)
        assert (await client.send(row)).status == 200
        assert (fleet.stats.reboots, fleet.stats.requests, fleet.stats.unheard) == (1, 2, 3)

    run_virtually(main())


def test_a_share_of_the_phones_reboots_without_an_answer() -> None:
    async def main() -> None:
        network = new_network()
        behaviour = Behaviour(boot_time=(60.0, 90.0), mute_on_reboot=0.25)
        fleet = open_fleet(network, behaviour, phones=PHONES)
        client = Client(network, timeout=32.0, clock=virtual_now)
        rows = list(fleet.rows())
        results = await asyncio.gather(*(client.send(row, REBOOT) for row in rows))
        assert Counter(result.status for result in results) == Counter({200: 45, 0: 15})
        assert (fleet.stats.reboots, fleet.stats.answers) == (60, Counter({200: 45}))

    run_virtually(main())


def test_a_notify_that_is_retransmitted_into_the_next_boot_reboots_the_phone_again() -> None:
    """Phones forget transactions when they reboot: this is the danger of a Timer F longer than a boot."""

    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(boot_time=(10.0, 10.0), mute_on_reboot=1.0))
        client = Client(network, timeout=20.0, clock=virtual_now)
        assert (await client.send(next(fleet.rows()), REBOOT)).ending is Ending.TIMEOUT
        ((_, heard),) = fleet.heard()
        assert fleet.stats.reboots == 2
        assert [(round(one.at, 3), one.status) for one in heard] == [(0.0, 0), (11.5, 0)]
        assert heard[0].call_id == heard[1].call_id

    run_virtually(main())


def test_an_answer_that_was_due_after_the_phone_went_down_is_not_given() -> None:
    async def main() -> None:
        network = new_network()
        fleet = open_fleet(network, Behaviour(delay=(1.0, 1.0), boot_time=(9.0, 9.0)))
        bare = Bare(network, clock=virtual_now)
        row = next(fleet.rows())
        bare.link.send(notify(row, REBOOT, branch="a"), address_of(row))
        await asyncio.sleep(0.5)
        bare.link.send(notify(row, "check-sync", branch="b"), address_of(row))
        await asyncio.sleep(20)
        assert [(at, answer.call_id) for at, answer in bare.answers] == [(1.0, "a@resyncctl")]

    run_virtually(main())


@pytest.mark.parametrize("sockets", [1, 0])
def test_a_phone_registers_at_start_and_with_a_new_call_id_after_its_reboot(sockets: int) -> None:
    async def main() -> None:
        network = new_network()
        passwords = {phone.username: phone.password for phone in PHONES}
        tiny = TinyRegistrar(network, passwords=passwords, clock=virtual_now)
        fleet = open_fleet(
            network,
            Behaviour(boot_time=(20.0, 20.0)),
            phones=PHONES[:3],
            sockets=sockets,
            registrar=registrar_of(tiny, at_start=True),
        )
        running = asyncio.create_task(fleet.run())
        client = Client(network, clock=virtual_now)
        await asyncio.sleep(5)
        assert fleet.stats.registrations == 3
        row = list(fleet.rows())[1]
        assert (await client.send(row, REBOOT)).status == 200
        await asyncio.sleep(60)
        fleet.close()
        await running
        _, first, _, last = tiny.registered
        assert last[0] == pytest.approx(25.0)
        for _, request in (first, last):
            assert request.uri == "sip:pbx.test"
            assert (request.get("Expires"), request.to.uri) == ("3600", "sip:1001@pbx.test")
            assert request.get("Contact") == f'<{row["contact"]}>;+sip.instance="<{row["instance"]}>"'
            assert request.get("User-Agent") == row["user_agent"]
        assert first[1].call_id != last[1].call_id
        assert fleet.stats.registrations == 4

    run_virtually(main())


def test_a_phone_that_does_not_register_at_start_does_so_after_a_reboot() -> None:
    async def main() -> None:
        network = new_network()
        tiny = TinyRegistrar(network, clock=virtual_now)
        fleet = open_fleet(network, Behaviour(boot_time=(1.0, 1.0)), registrar=registrar_of(tiny))
        running = asyncio.create_task(fleet.run())
        client = Client(network, clock=virtual_now)
        await client.send(next(fleet.rows()), REBOOT)
        await asyncio.sleep(5)
        fleet.close()
        await running
        assert [at for at, _ in tiny.registered] == [1.0]

    run_virtually(main())


@pytest.mark.parametrize("gone", [False, True])
def test_a_registration_that_failed_is_tried_again(*, gone: bool) -> None:
    async def main() -> None:
        network = new_network()
        tiny = TinyRegistrar(network, failures=1, clock=virtual_now)
        registrar = registrar_of(tiny, at_start=True)
        if gone:
            tiny.link.close()
        fleet = open_fleet(network, Behaviour(), registrar=registrar)
        running = asyncio.create_task(fleet.run())
        await asyncio.sleep(45)
        fleet.close()
        await running
        assert (fleet.stats.failed_registrations, fleet.stats.registrations) == ((2, 0) if gone else (1, 1))

    run_virtually(main())


def test_nothing_happens_after_close() -> None:
    async def main() -> None:
        network = new_network()
        tiny = TinyRegistrar(network, clock=virtual_now)
        fleet = open_fleet(network, Behaviour(delay=(1.0, 1.0)), registrar=registrar_of(tiny, at_start=True))
        bare = Bare(network, clock=virtual_now)
        row = next(fleet.rows())
        bare.link.send(notify(row, REBOOT, branch="a"), address_of(row))
        await asyncio.sleep(0.5)
        fleet.close()
        await asyncio.sleep(100)
        assert (bare.answers, tiny.registered, fleet.stats.reboots) == ([], [], 0)

    run_virtually(main())
