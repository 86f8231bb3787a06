"""A fleet against a registrar and proxy that nobody here wrote."""

from __future__ import annotations

import asyncio

import pytest

from resyncctl.sim.behaviour import Behaviour
from resyncctl.sim.fleet import Fleet
from resyncctl.sim.port import Registrar
from resyncctl.sim.roster import SimulatedPhone
from resyncctl.sip.digest import Algorithm
from resyncctl.sip.uri import Uri
from resyncctl.transport.ip import IpNetwork
from resyncctl.vendors import Catalogue
from tests.peers.kamailio import Kamailio
from tests.peers.waiting import wait_until_async

from .counterparts import Client

pytestmark = pytest.mark.needs("kamailio")


async def test_phones_register_with_digest_are_notified_through_the_proxy_and_come_back_after_a_reboot() -> None:
    users = ["1000", "1001", "1002"]
    phones = [SimulatedPhone(user, "phones.test", username=user, password="open-sesame") for user in users]
    with Kamailio(authenticate_register=True, algorithm="SHA-256") as kamailio:
        fleet = Fleet(
            IpNetwork(),
            phones,
            Behaviour(challenge=401, algorithm=Algorithm.SHA_256, boot_time=(0.2, 0.2)),
            catalogue=Catalogue.load(),
            listen=("127.0.0.1", 0),
            sockets=0,
            registrar=Registrar(Uri.parse(f"sip:127.0.0.1:{kamailio.port}"), kamailio.address, at_start=True),
        )
        fleet.open()
        client = Client(IpNetwork())
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.run())
            await wait_until_async(lambda: fleet.stats.registrations == 3, "three registrations", within=5)
            bound = {binding.aor: binding.address for binding in await asyncio.to_thread(kamailio.contacts)}
            assert [bound[user] for user in users] == [row["contact"] for row in fleet.rows()]
            row = {**next(fleet.rows()), "contact": kamailio.aor("1000"), "aor": kamailio.aor("1000")}
            result = await client.send(row, "check-sync;reboot=true")
            assert result.status == 200
            await wait_until_async(lambda: fleet.stats.registrations == 4, "registering after a boot", within=5)
            fleet.close()
        client.endpoint.close()
    assert (fleet.stats.reboots, dict(fleet.stats.answers)) == (1, {401: 1, 200: 1})
