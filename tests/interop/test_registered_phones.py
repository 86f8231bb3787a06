"""baresip, PJSIP and aiosip, each really registered at Kamailio: our NOTIFY reaches them and their answer comes back.

What each answers is its own habit (tests/peers says which); here it counts that we report exactly that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl, Rollout
from tests.peers.aiosip_phone import AiosipPhone
from tests.peers.baresip import BaresipPhone
from tests.peers.kamailio import Kamailio
from tests.peers.message import TracedMessage
from tests.peers.pjsip_phone import PjsipPhone

pytestmark = pytest.mark.needs("kamailio", "baresip", "pjsua2", "aiosip")

ANSWERS = {
    "baresip": ("rejected", 481, "Call/Transaction Does Not Exist"),
    "pjsip": ("accepted", 200, "OK"),
    "aiosip": ("accepted", 200, "OK"),
}
USER_AGENTS = {
    "baresip v1.0.0 (x86_64/linux)",
    "PJSIP phone under test",
    f"Python/{'.'.join(map(str, sys.version_info[:3]))} aiosip/0.1.0",
}
USERS = {"baresip": "200", "pjsip": "300", "aiosip": "400"}


@dataclass(frozen=True, slots=True)
class Office:
    """Three phones of different make at one registrar."""

    registrar: Kamailio
    baresip: BaresipPhone
    pjsip: PjsipPhone
    aiosip: AiosipPhone

    def received(self) -> dict[str, list[TracedMessage]]:
        """Return the NOTIFYs of each phone."""
        everything = {
            "baresip": self.baresip.received(),
            "pjsip": self.pjsip.received(),
            "aiosip": self.aiosip.received(),
        }
        return {name: [one for one in messages if one.method == "NOTIFY"] for name, messages in everything.items()}

    def exported(self) -> list[PhoneRow]:
        """Return the registrar's location table as a phone list."""
        return [
            {
                "aor": f"sip:{binding.aor}@phones.test",
                "contact": binding.address,
                "user_agent": binding.user_agent or "",
            }
            for binding in self.registrar.contacts()
        ]


@pytest.fixture
def office() -> Iterator[Office]:
    with (
        Kamailio(authenticate_register=True, qop=False) as registrar,  # aiosip cannot answer qop
        BaresipPhone(USERS["baresip"], registrar=registrar.address, password=registrar.password) as baresip,
        PjsipPhone(USERS["pjsip"], registrar=registrar.address, password=registrar.password) as pjsip,
        AiosipPhone(USERS["aiosip"], registrar=registrar.address, password=registrar.password) as aiosip,
    ):
        yield Office(registrar, baresip, pjsip, aiosip)


def verdicts(rollout: Rollout) -> dict[str, tuple[str, int, str]]:
    """Return what we report of each phone."""
    return {name: rollout.row(f"sip:{user}@phones.test").verdict for name, user in USERS.items()}


def test_registered_phones_get_one_notify_each_through_the_proxy(office: Office, resyncctl: Resyncctl) -> None:
    rows = [{"aor": f"sip:{user}@phones.test"} for user in USERS.values()]
    rollout = resyncctl.run(rows, "--outbound-proxy", f"sip:127.0.0.1:{office.registrar.port}")

    assert verdicts(rollout) == ANSWERS
    assert rollout.counts("responses") == {"200": 2, "481": 1}
    for name, requests in office.received().items():
        [request] = requests
        assert request.source == f"127.0.0.1:{office.registrar.port}"
        check_what_arrived(request, to=f"sip:{USERS[name]}@phones.test", max_forwards=69)


def test_registered_phones_get_one_notify_each_at_their_contacts(office: Office, resyncctl: Resyncctl) -> None:
    rows = office.exported()
    rollout = resyncctl.run(rows)
    contacts = {row["aor"]: row["contact"] for row in rows}

    assert verdicts(rollout) == ANSWERS
    assert {row["user_agent"] for row in rows} == USER_AGENTS
    assert {row.vendor for row in rollout.rows} == {""}  # the catalogue knows none of them
    assert rollout.report["notices"] == ["3 phones of unknown vendor: the generic event is sent"]
    assert contacts["sip:300@phones.test"] == f"{office.pjsip.uri};ob"
    for name, requests in office.received().items():
        [request] = requests
        to = f"sip:{USERS[name]}@phones.test"
        assert request.start_line == f"NOTIFY {contacts[to]} SIP/2.0"  # with its parameters, as registered
        check_what_arrived(request, to=to, max_forwards=70)


def check_what_arrived(request: TracedMessage, *, to: str, max_forwards: int) -> None:
    """Assert what every phone has to find in our NOTIFY, whatever lies between us."""
    ours = request.headers("Via")[-1]
    here = ours.removeprefix("SIP/2.0/UDP ").partition(";")[0]
    assert request.headers("Event") == ["check-sync"]
    assert request.headers("Subscription-State") == ["terminated"]
    assert request.headers("Max-Forwards") == [str(max_forwards)]
    assert request.headers("Contact") == [f"<sip:resyncctl@{here}>"]
    assert request.headers("To") == [f"<{to}>"]
    assert request.headers("CSeq") == ["1 NOTIFY"]
    assert len(request.headers("Call-ID")) == 1
    assert len(request.headers("From")) == 1
    assert ";branch=z9hG4bK" in ours
    assert [part.partition("=")[0] for part in ours.split(";")].count("rport") == 1


def test_phone_whose_stack_drops_check_sync_is_unreachable_and_not_accepted(resyncctl: Resyncctl) -> None:
    with PjsipPhone("300", answer=None) as phone:
        rollout = resyncctl.run([{"contact": phone.uri}], "--timeout", "1200ms", "--attempts", "1")

        assert rollout.rows[0].verdict == ("unreachable", 0, "no answer (Timer F)")
        assert [request.header("Event") for request in phone.received()] == ["check-sync"] * 2


def test_baresip_finds_event_and_subscription_state_in_every_event_that_we_send(
    office: Office, resyncctl: Resyncctl
) -> None:
    contact = office.registrar.wait_for_contact(USERS["baresip"]).address
    rows = [
        {"contact": contact, "vendor": vendor, "call_id": "x@y"} for vendor in ("snom", "cisco_spa", "cisco_enterprise")
    ]
    rollout = resyncctl.run([{**row, "aor": f"sip:{number}@phones.test"} for number, row in enumerate(rows)])

    assert {row.verdict for row in rollout.rows} == {ANSWERS["baresip"]}  # neither 400 nor 489
    assert sorted(request.header("Event") or "" for request in office.received()["baresip"]) == [
        "check-sync;reboot=false",
        "resync",
        "service-control",
    ]
