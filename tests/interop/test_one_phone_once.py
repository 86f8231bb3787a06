"""Which lines of a phone list are one phone (design 3.5), who is asked again by `rollout retry`, and both IP versions."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl
from tests.peers.digest import Credentials
from tests.peers.message import TracedMessage
from tests.peers.ports import free_port
from tests.peers.sipp import SippPhone, answers, busy_then_ok, challenge_verified, silent

pytestmark = pytest.mark.needs("sipp")

INSTANCE = "<urn:uuid:00000000-0000-1000-8000-00085D1A2B3C>"


def users(received: list[TracedMessage]) -> list[str]:
    """Return the users of the Request-URIs, sorted."""
    return sorted(message.start_line.partition("sip:")[2].partition("@")[0] for message in received)


# One device


def six_lines(phone: SippPhone, **identity: str) -> list[PhoneRow]:
    return [{"aor": f"sip:10{line}@pbx.test", "contact": phone.uri(f"10{line}"), **identity} for line in range(6)]


def test_six_lines_with_one_mac_get_one_notify(resyncctl: Resyncctl) -> None:
    spellings = [
        "00085d1a2b3c",
        "00:08:5D:1A:2B:3C",
        "00-08-5d-1a-2b-3c",
        "0008.5d1a.2b3c",
        "00085D1A2B3C",
        "00085d1a2b3c",
    ]
    with SippPhone(answers(200)) as phone:
        rows = [{**row, "mac": mac} for row, mac in zip(six_lines(phone), spellings, strict=True)]
        rollout = resyncctl.run(rows)

        assert users(phone.received()) == ["100"]
        assert rollout.report["targets"] == 1
        assert rollout.counts() == {"accepted": 1}
        assert "bindings that are further lines of a target: 5" in rollout.told


def test_six_lines_with_one_instance_get_one_notify(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        rollout = resyncctl.run(six_lines(phone, instance=INSTANCE))

        assert users(phone.received()) == ["100"]
        assert rollout.counts() == {"accepted": 1}


def test_all_contacts_gives_every_line_its_notify(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        rows = six_lines(phone, mac="00085d1a2b3c", instance=INSTANCE)
        rollout = resyncctl.run(rows, "--all-contacts")

        assert users(phone.received()) == ["100", "101", "102", "103", "104", "105"]
        assert rollout.counts() == {"accepted": 6}


def test_lines_of_unknown_device_are_never_merged(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        rollout = resyncctl.run(six_lines(phone, mac="00:00:00:00:00:00"))

        assert rollout.counts() == {"accepted": 6}
        assert len(phone.received()) == 6


def test_instance_joins_lines_whose_mac_is_known_only_once(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        first, second, third, *_ = six_lines(phone)
        rows = [
            {**first, "mac": "00085d1a2b3c"},
            {**second, "instance": INSTANCE.lower()},
            {**third, "mac": "00085d1a2b3c", "instance": INSTANCE},
        ]
        rollout = resyncctl.run(rows)

        assert users(phone.received()) == ["100"]
        assert rollout.counts() == {"accepted": 1}


def test_row_that_is_there_twice_is_sent_once(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        row = {"aor": "sip:100@pbx.test", "contact": phone.uri("100")}
        rollout = resyncctl.run([row, row])

        assert len(phone.received()) == 1
        assert rollout.counts() == {"accepted": 1}
        assert "rows that repeat an earlier row: 1" in rollout.told


# Both IP versions


def test_phones_of_both_ip_versions_are_reached_in_one_rollout(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as four, SippPhone(answers(200), host="::1") as six:
        rows = [{"aor": "sip:104@pbx.test", "contact": four.uri("104")}]
        rows += [{"aor": "sip:106@pbx.test", "contact": six.uri("106")}, {"contact": f"{six.uri('107')};transport=udp"}]
        rollout = resyncctl.run(rows)
        [to_four] = four.received()
        to_six, to_seven = sorted(six.received(), key=lambda message: message.start_line)

        assert (rollout.exit_status, rollout.counts()) == (0, {"accepted": 3})
        assert (to_four.header("Via") or "").startswith("SIP/2.0/UDP 127.0.0.1:")
        assert (to_six.header("Via") or "").startswith("SIP/2.0/UDP [::1]:")
        assert (to_six.header("Contact") or "").startswith("<sip:resyncctl@[::1]:")
        assert (to_six.header("From") or "").startswith("<sip:resyncctl@[::1]>;tag=")
        assert to_six.start_line == f"NOTIFY sip:106@[::1]:{six.port} SIP/2.0"
        assert to_six.headers("To") == ["<sip:106@pbx.test>"]
        assert to_seven.start_line == f"NOTIFY sip:107@[::1]:{six.port};transport=udp SIP/2.0"


def test_silent_and_absent_ipv6_phones_are_unreachable_in_their_own_words(resyncctl: Resyncctl) -> None:
    absent = f"sip:100@[::1]:{free_port('::1')}"
    with SippPhone(silent(), host="::1") as phone:
        rows = [{"contact": phone.uri()}, {"contact": absent}]
        rollout = resyncctl.run(rows, "--attempts", "1", "--timeout", "1200ms")

        assert rollout.row(phone.uri()).verdict == ("unreachable", 0, "no answer (Timer F)")
        assert rollout.row(absent).verdict == ("unreachable", 0, "refused: nothing listens at that port")
        assert len(phone.received()) == 2


def test_local_address_of_one_ip_version_leaves_phones_of_the_other_unreachable(resyncctl: Resyncctl) -> None:
    local = free_port()
    with SippPhone(answers(200)) as four, SippPhone(answers(200), host="::1") as six:
        rows = [{"contact": four.uri()}, {"contact": six.uri()}]
        rollout = resyncctl.run(rows, "--local-address", f"127.0.0.1:{local}", "--attempts", "1")

        assert rollout.row(four.uri()).verdict == ("accepted", 200, "OK")
        assert rollout.row(six.uri()).verdict == ("unreachable", 0, "host unreachable")
        assert (four.received()[0].header("Via") or "").startswith(f"SIP/2.0/UDP 127.0.0.1:{local};")
        assert six.received() == []


# Retrying what failed


def test_retry_sends_only_to_phones_that_failed(resyncctl: Resyncctl) -> None:
    port = free_port()
    back = f"sip:102@127.0.0.1:{port}"
    with (
        SippPhone(answers(200)) as good,
        SippPhone(answers(404, "Not Found")) as stranger,
        SippPhone(busy_then_ok(refusals=1, retry_after=0)) as busy,
    ):
        rows: list[PhoneRow] = [
            {"contact": good.uri("100")},
            {"contact": stranger.uri("101")},
            {"contact": back},
            {"contact": busy.uri("103")},
            {"contact": good.uri("104"), "vendor": "zultys"},
        ]
        first = resyncctl.run(rows, "--attempts", "1")
        with SippPhone(answers(200), port=port) as phone:  # it was down and is up now
            second = resyncctl.retry(first.id)

            assert len(phone.received()) == 1
        third = resyncctl.retry(second.id)

        assert first.states() == Counter(accepted=1, rejected=1, unreachable=1, overloaded=1, skipped=1)
        assert {row.contact: (row.state, row.status) for row in second.rows} == {
            stranger.uri("101"): ("rejected", 404),
            back: ("accepted", 200),
            busy.uri("103"): ("accepted", 200),
        }
        assert (second.id, second.report["parent"], second.exit_status) == (f"{first.id}-r1", first.id, 1)
        assert [row.contact for row in third.rows] == [stranger.uri("101")]
        assert [len(phone.received()) for phone in (good, stranger, busy)] == [1, 3, 2]


def test_retry_of_one_state_leaves_the_others_alone(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(404, "Not Found")) as stranger, SippPhone(answers(503, "Service Unavailable")) as busy:
        first = resyncctl.run([{"contact": stranger.uri()}, {"contact": busy.uri()}], "--attempts", "1")
        second = resyncctl.retry(first.id, "--state", "overloaded")

        assert [row.contact for row in second.rows] == [busy.uri()]
        assert [len(phone.received()) for phone in (stranger, busy)] == [1, 2]


def test_retry_sends_the_same_event_and_body(resyncctl: Resyncctl) -> None:
    with SippPhone(busy_then_ok(refusals=1, retry_after=0)) as phone:
        row = {"contact": phone.uri(), "vendor": "cisco_enterprise", "call_id": "a84b4c76e66710@10.0.0.17"}
        first = resyncctl.run([row], "--attempts", "1")
        second = resyncctl.retry(first.id)
        before, after = phone.received()

        assert second.counts() == {"accepted": 1}
        assert after.headers("Event") == ["service-control"]
        assert after.headers("Subscription-State") == ["active"]
        assert after.body == before.body
        assert after.header("Call-ID") != before.header("Call-ID")


def test_retry_knows_the_credentials_of_the_phone_list(resyncctl: Resyncctl) -> None:
    port = free_port()
    contact = f"sip:alice@127.0.0.1:{port}"
    first = resyncctl.run(
        [{"contact": contact, "auth_username": "alice", "auth_password": "wonderland"}], "--attempts", "1"
    )
    with SippPhone(challenge_verified(Credentials("alice", "wonderland")), port=port) as phone:
        second = resyncctl.retry(first.id)

        assert first.rows[0].verdict == ("unreachable", 0, "refused: nothing listens at that port")
        assert second.rows[0].verdict == ("accepted", 200, "OK")
        assert len(phone.received()) == 2


def test_retry_when_nothing_failed_sends_nothing(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        first = resyncctl.run([{"contact": phone.uri()}])
        refused = resyncctl.call("rollout", "retry", first.id)

        assert refused.returncode == 2
        assert "nothing to retry" in refused.stderr
        assert len(phone.received()) == 1
