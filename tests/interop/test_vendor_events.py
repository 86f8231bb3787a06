"""What each make of phone is sent, as SIPp received it: Event, Content-Type and body of the vendor catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from resyncctl.vendors import Catalogue, Intent
from tests.interop.command_line import PhoneRow, Resyncctl
from tests.peers.message import TracedMessage
from tests.peers.sipp import SippPhone, answers

pytestmark = pytest.mark.needs("sipp")

CALL_ID = "00c164f2-1a2b0003-5e3e0d4c-6f0a1b2c@10.0.0.17"
USER_AGENTS = {
    "yealink": "Yealink SIP-T46U 108.86.0.20",
    "snom": "snomD862/10.1.226.13",
    "grandstream": "Grandstream GRP2615 1.0.13.122",
    "cisco_spa": "Cisco/SPA504G-7.5.2",
    "polycom": "PolycomVVX-VVX_450-UA/6.4.2.1234",
    "fanvil": "Fanvil X5U 2.12.15",
    "cisco_enterprise": "Cisco-CP7821/10.3.1",
    "alcatel_iptouch": "Alcatel IP Touch 4068/2.01.20",
    "": "Some Phone 1.0",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a phone has to receive."""

    event: str
    subscription_state: str = "terminated"
    content_type: str | None = None
    body: str = ""


RESYNC = {
    "yealink": Wanted("check-sync;reboot=false"),
    "snom": Wanted("check-sync;reboot=false"),
    "grandstream": Wanted("resync"),
    "cisco_spa": Wanted("resync"),
    "polycom": Wanted("check-sync"),
    "fanvil": Wanted("check-sync"),
    "cisco_enterprise": Wanted(
        "service-control",
        "active",
        "text/plain",
        "action=restart\n"
        f"RegisterCallId={{{CALL_ID}}}\n"
        "ConfigVersionStamp={0000000000000000}\n"
        "DialplanVersionStamp={0000000000000000}\n"
        "SoftkeyVersionStamp={0000000000000000}",
    ),
    "": Wanted("check-sync"),
}
REBOOT = {
    "yealink": Wanted("check-sync;reboot=true"),
    "snom": Wanted("check-sync;reboot=true"),
    "grandstream": Wanted("check-sync;reboot=true"),
    "cisco_spa": Wanted("reboot_now"),
    "polycom": Wanted("check-sync"),
    "fanvil": Wanted("check-sync;reboot=true"),
    "cisco_enterprise": Wanted(
        "service-control", "active", "text/plain", f"action=reset\r\nRegisterCallId={{{CALL_ID}}}\r\n"
    ),
    "": Wanted("check-sync;reboot=true"),
}


@pytest.fixture
def phone() -> Iterator[SippPhone]:
    """One SIPp that plays every phone; the user of the Request-URI says which."""
    with SippPhone(answers(200)) as started:
        yield started


def user_of(vendor: str) -> str:
    return vendor or "unknown"


def fleet(phone: SippPhone) -> list[PhoneRow]:
    """Return one line for each User-Agent; only the Cisco needs the Call-ID of its registration."""
    return [
        {
            "contact": phone.uri(user_of(vendor)),
            "user_agent": user_agent,
            "call_id": CALL_ID if vendor == "cisco_enterprise" else "",
        }
        for vendor, user_agent in USER_AGENTS.items()
    ]


def by_user(phone: SippPhone) -> dict[str, TracedMessage]:
    """Return what each user received; nobody may have received more than one."""
    received = phone.received()
    found = {message.start_line.partition("sip:")[2].partition("@")[0]: message for message in received}
    assert len(found) == len(received)
    return found


def check(message: TracedMessage, wanted: Wanted) -> None:
    """Compare a received NOTIFY with what was wanted; its Content-Length tells CRLF from LF, which the log does not."""
    assert message.headers("Event") == [wanted.event]
    assert message.headers("Subscription-State") == [wanted.subscription_state]
    assert message.header("Content-Type") == wanted.content_type
    assert message.headers("Content-Length") == [str(len(wanted.body.encode()))]
    assert message.body.rstrip("\n") == wanted.body.replace("\r\n", "\n").rstrip("\n")


@pytest.mark.parametrize(("action", "wanted"), [("resync", RESYNC), ("reboot", REBOOT)])
def test_each_make_receives_the_event_of_its_manual(
    phone: SippPhone, resyncctl: Resyncctl, action: str, wanted: dict[str, Wanted]
) -> None:
    rollout = resyncctl.run(fleet(phone), "--action", action, "--yes")
    received = by_user(phone)

    assert set(received) == {user_of(vendor) for vendor in wanted}
    for vendor, expected in wanted.items():
        check(received[user_of(vendor)], expected)
        row = rollout.row(phone.uri(user_of(vendor)))
        assert (row.vendor, row.verdict) == (vendor, ("accepted", 200, "OK"))
    skipped = rollout.row(phone.uri("alcatel_iptouch"))
    assert skipped.verdict == ("skipped", 0, "vendor takes no NOTIFY for this")
    assert (skipped.attempts, skipped.sent_at) == (0, "")
    assert rollout.exit_status == 0  # skipped by rule
    assert rollout.counts() == {"accepted": 8, "skipped": 1}
    assert rollout.counts("skipped_reasons") == {"vendor takes no NOTIFY for this": 1}


def test_cisco_without_the_call_id_of_its_registration_is_skipped(phone: SippPhone, resyncctl: Resyncctl) -> None:
    row = {"contact": phone.uri(), "user_agent": USER_AGENTS["cisco_enterprise"]}
    rollout = resyncctl.run([row])

    assert rollout.rows[0].verdict == (
        "skipped", 0, "needs the Call-ID of the registration (column call_id)",
    )  # fmt: skip
    assert rollout.exit_status == 0
    assert phone.received() == []


def test_two_ciscos_get_their_own_call_id_each(phone: SippPhone, resyncctl: Resyncctl) -> None:
    rows = [
        {"contact": phone.uri(user), "vendor": "cisco_enterprise", "call_id": f"{user}@10.0.0.{user}"}
        for user in ("17", "18")
    ]
    rollout = resyncctl.run(rows, "--action", "reboot", "--yes")
    received = by_user(phone)

    assert rollout.counts() == {"accepted": 2}
    for user in ("17", "18"):
        assert received[user].body.splitlines()[:2] == ["action=reset", f"RegisterCallId={{{user}@10.0.0.{user}}}"]


@pytest.mark.parametrize("intent", list(Intent))
def test_every_vendor_of_the_catalogue_can_be_sent_and_arrives_as_it_is_written(
    phone: SippPhone, resyncctl: Resyncctl, intent: Intent
) -> None:
    vendors = list(Catalogue.load())
    rows = [{"contact": phone.uri(one.id), "vendor": one.id, "call_id": CALL_ID} for one in vendors]
    rollout = resyncctl.run(rows, "--action", intent.value, "--yes", "--rate", "0")
    received = by_user(phone)

    for vendor in vendors:
        trigger = Catalogue.load().trigger(vendor, intent)
        if trigger is None:
            assert rollout.row(phone.uri(vendor.id)).state == "skipped"
            assert vendor.id not in received
            continue
        state = dict(trigger.headers).get("Subscription-State", "terminated")
        body = trigger.render_body(call_id=CALL_ID)
        check(received[vendor.id], Wanted(trigger.event, state, trigger.content_type, body))
        assert rollout.row(phone.uri(vendor.id)).state == "accepted"
    assert rollout.exit_status == 0


def test_resync_that_reboots_an_obihai_needs_yes(phone: SippPhone, resyncctl: Resyncctl) -> None:
    obihai = {"contact": phone.uri("obi"), "user_agent": "OBIHAI/OBi1020-5.0.0.3201"}
    path = resyncctl.write_phones([obihai, {"contact": phone.uri("other")}])
    refused = resyncctl.call("--json", "run", str(path), "--now")

    assert refused.returncode == 2
    assert json.loads(refused.stdout) == {"error": "this needs --yes (see the notes above); nothing was sent"}
    assert "1 phone will reboot although you asked for resync (Obihai" in refused.stderr
    assert phone.received() == []

    rollout = resyncctl.run([obihai, {"contact": phone.uri("other")}], "--yes")
    assert rollout.counts() == {"accepted": 2}
    assert {user: message.header("Event") for user, message in by_user(phone).items()} == {
        "obi": "resync",
        "other": "check-sync",
    }


def test_event_option_replaces_every_makes_own_event_and_body(phone: SippPhone, resyncctl: Resyncctl) -> None:
    rollout = resyncctl.run(fleet(phone), "--event", "check-sync;reboot=false")

    assert rollout.counts() == {"accepted": 9}  # the Alcatel too: the operator knows better
    for message in by_user(phone).values():
        check(message, Wanted("check-sync;reboot=false"))


def test_event_that_can_reset_a_phone_to_factory_settings_needs_yes(phone: SippPhone, resyncctl: Resyncctl) -> None:
    path = resyncctl.write_phones([{"contact": phone.uri(), "user_agent": USER_AGENTS["grandstream"]}])
    refused = resyncctl.call("run", str(path), "--now", "--event", "reset")

    assert refused.returncode == 2
    assert "the event 'reset' can reset 1 of these phones to factory settings" in refused.stderr
    assert phone.received() == []


def test_event_that_sip_cannot_carry_is_refused_before_anything_is_sent(phone: SippPhone, resyncctl: Resyncctl) -> None:
    path = resyncctl.write_phones([{"contact": phone.uri()}])
    refused = resyncctl.call("run", str(path), "--now", "--event", "check-sync\r\nContact: <sip:evil@192.0.2.1>")

    assert refused.returncode == 2
    assert "not an Event value" in refused.stderr
    assert phone.received() == []
