"""Desk phones played by SIPp: what they answer, what resyncctl makes of it, and when it asks again.

The times are SIPp's own: those of its message log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.interop.command_line import Resyncctl, Rollout
from tests.peers.digest import Credentials, digest_parameters, is_right
from tests.peers.message import TracedMessage, seconds_between
from tests.peers.ports import free_port
from tests.peers.redis_server import RedisServer
from tests.peers.sipp import (
    Scenario,
    SippPhone,
    answers,
    busy_then_ok,
    challenge_again,
    challenge_choice,
    challenge_expected,
    challenge_stale,
    challenge_verified,
    silent,
    trying_then_ok,
)

pytestmark = pytest.mark.needs("sipp")

ALICE = Credentials("alice", "wonderland")
TOLERANCE = 0.25
"""Seconds that a retransmission may be late on a busy machine; half of the shortest interval that it is used for."""


def aor(user: str) -> str:
    return f"sip:{user}@pbx.test"


# Final answers


def test_final_answers_become_states_with_the_phones_status(resyncctl: Resyncctl) -> None:
    kinds = {
        "ok": answers(200),
        "accepted": answers(202, "Accepted"),
        "moved": answers(302, "Moved Temporarily"),
        "stranger": answers(404, "Not Found"),
        "forbidden": answers(403, "Forbidden"),
        "gone": answers(480, "Temporarily Unavailable"),
        "no-event": answers(489, "Bad Event"),
        "broken": answers(500, "Server Internal Error"),
        "decline": answers(603, "Decline"),
    }
    with ExitStack() as stack:
        phones = {user: stack.enter_context(SippPhone(kind)) for user, kind in kinds.items()}
        rows = [{"aor": aor(user), "contact": phone.uri(user)} for user, phone in phones.items()]
        rollout = resyncctl.run(rows, "--attempts", "1")

        assert rollout.exit_status == 1
        assert {row.aor: row.verdict for row in rollout.rows} == {
            aor("ok"): ("accepted", 200, "OK"),
            aor("accepted"): ("accepted", 202, "Accepted"),
            aor("moved"): ("rejected", 302, "Moved Temporarily"),
            aor("stranger"): ("rejected", 404, "Not Found"),
            aor("forbidden"): ("rejected", 403, "Forbidden"),
            aor("gone"): ("unreachable", 480, "Temporarily Unavailable"),
            aor("no-event"): ("rejected", 489, "Bad Event"),
            aor("broken"): ("overloaded", 500, "Server Internal Error"),
            aor("decline"): ("rejected", 603, "Decline"),
        }
        assert rollout.counts() == {"accepted": 2, "overloaded": 1, "rejected": 5, "unreachable": 1}
        assert rollout.counts("responses") == {
            "200": 1, "202": 1, "302": 1, "403": 1, "404": 1, "480": 1, "489": 1, "500": 1, "603": 1,
        }  # fmt: skip
        assert [len(phone.received()) for phone in phones.values()] == [1] * 9


def test_what_arrives_at_a_phone_is_the_notify_of_rfc_6665(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        rollout = resyncctl.run([{"aor": aor("100"), "contact": phone.uri("100")}])
        [request] = phone.received()

    here = (request.header("Via") or "").removeprefix("SIP/2.0/UDP ").partition(";")[0]
    assert rollout.exit_status == 0
    assert request.start_line == f"NOTIFY {phone.uri('100')} SIP/2.0"
    assert request.headers("To") == [f"<{aor('100')}>"]
    assert (request.header("From") or "").startswith("<sip:resyncctl@127.0.0.1>;tag=")  # RFC 3261 table 1: no port
    assert request.headers("Contact") == [f"<sip:resyncctl@{here}>"]
    assert request.headers("Max-Forwards") == ["70"]
    assert request.headers("CSeq") == ["1 NOTIFY"]
    assert request.headers("Event") == ["check-sync"]
    assert request.headers("Subscription-State") == ["terminated"]
    assert request.headers("Content-Length") == ["0"]
    assert request.headers("Route") == []
    [via] = request.headers("Via")
    assert via.split(";")[1].startswith("branch=z9hG4bK")
    assert via.split(";")[2] == "rport"


CONTACTS = {
    "sip:200@{};transport=UDP": "sip:200@{};transport=UDP",
    '"Bob" <sip:b%20ob@{};ob>;q=0.5': "sip:b%20ob@{};ob",
    "sip:+49(30)123;phone-context=x.test@{};user=phone": "sip:+49(30)123;phone-context=x.test@{};user=phone",
    "sip:201@{}?Subject=x": "sip:201@{}",
    "sip:{}": "sip:{}",
    "sip:202@{};x=a/b;y=[::1]": "sip:202@{};x=a/b;y=[::1]",
}
"""Contacts as registrars print them, with the Request-URI that they make; {} is the phone's host and port."""


def test_registered_contact_becomes_the_request_uri_unchanged(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        here = f"127.0.0.1:{phone.port}"
        rows = [{"contact": contact.format(here)} for contact in CONTACTS]
        rollout = resyncctl.run(rows, "--from", "sip:provisioning@pbx.test")

        assert rollout.counts() == {"accepted": 6}
        assert sorted(message.start_line.split(" ")[1] for message in phone.received()) == sorted(
            uri.format(here) for uri in CONTACTS.values()
        )
        froms = {(message.header("From") or "").partition(";tag=")[0] for message in phone.received()}
        assert froms == {"<sip:provisioning@pbx.test>"}


def test_scheme_of_a_contact_is_read_without_regard_to_case(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as phone:
        rollout = resyncctl.run([{"contact": phone.uri().replace("sip:", "SIP:")}])

        assert rollout.counts() == {"accepted": 1}  # RFC 3261 19.1.4


def test_phone_that_nothing_was_sent_to_has_no_sent_at(resyncctl: Resyncctl) -> None:
    other_family = {"contact": f"sip:100@[::1]:{free_port('::1')}"}
    rollout = resyncctl.run([other_family], "--local-address", "127.0.0.1", "--attempts", "1")

    assert rollout.rows[0].state == "unreachable"
    assert rollout.rows[0].sent_at == ""


def test_two_thousand_phones_are_asked_once_each_at_a_thousand_a_second(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200), linger=0.5) as phone:
        rows = [{"aor": aor(str(user)), "contact": phone.uri(str(user))} for user in range(2000)]
        rollout = resyncctl.run(rows, "--rate", "1000", "--batch-size", "500")
        phone.finish(within=5.0)
        call_ids = {message.header("Call-ID") for message in phone.received()}
        request_uris = {message.start_line for message in phone.received()}

        assert (rollout.exit_status, rollout.counts()) == (0, {"accepted": 2000})
        assert (len(call_ids), len(request_uris), phone.counts().calls) == (2000, 2000, 2000)
        assert rollout.report["sending_seconds"] == pytest.approx(2.0, abs=0.5)


def test_phone_that_is_switched_off_is_told_by_icmp_before_any_timer(resyncctl: Resyncctl) -> None:
    contact = f"sip:100@127.0.0.1:{free_port()}"

    rollout = resyncctl.run([{"contact": contact}], "--attempts", "1", within=10.0)

    assert rollout.row(contact).verdict == ("unreachable", 0, "refused: nothing listens at that port")


@pytest.mark.needs("redis-server")
def test_outcomes_are_kept_in_a_redis_server_of_ones_own(tmp_path: Path) -> None:
    with RedisServer() as redis, SippPhone(answers(200)) as phone:
        rows = [{"contact": phone.uri(str(user))} for user in range(100, 120)]
        rollout = Resyncctl(tmp_path / "sender", redis_url=redis.url).run(rows)
        elsewhere = Resyncctl(tmp_path / "reader", redis_url=redis.url).results(rollout.id)

        assert (rollout.exit_status, rollout.counts()) == (0, {"accepted": 20})
        assert elsewhere == rollout.rows
        assert len(phone.received()) == 20
        assert not (tmp_path / "sender" / "data").exists()


# Digest authentication


@dataclass(frozen=True, slots=True)
class Challenged:
    """One phone that challenges, and what resyncctl knows of it."""

    scenario: Callable[[str], Scenario]
    """Made of the contact URI, which is the digest URI."""
    password: str | None
    verdict: tuple[str, int]
    requests: int


RIGHT, WRONG = "wonderland", "looking-glass"
CHALLENGED = {
    "verified-401": Challenged(lambda _: challenge_verified(ALICE), RIGHT, ("accepted", 200), 2),
    "md5-401": Challenged(lambda uri: challenge_expected(ALICE, uri, status=401), RIGHT, ("accepted", 200), 2),
    "md5-407": Challenged(lambda uri: challenge_expected(ALICE, uri), RIGHT, ("accepted", 200), 2),
    "sha-401": Challenged(
        lambda uri: challenge_expected(ALICE, uri, status=401, algorithm="SHA-256"), RIGHT, ("accepted", 200), 2
    ),
    "sha-407": Challenged(lambda uri: challenge_expected(ALICE, uri, algorithm="SHA-256"), RIGHT, ("accepted", 200), 2),
    "strict-401": Challenged(lambda uri: challenge_again(ALICE, uri), RIGHT, ("accepted", 200), 2),
    "strict-407": Challenged(lambda uri: challenge_again(ALICE, uri, status=407), RIGHT, ("accepted", 200), 2),
    "stale-401": Challenged(lambda uri: challenge_stale(ALICE, uri), RIGHT, ("accepted", 200), 3),
    "choice-401": Challenged(lambda uri: challenge_choice(ALICE, uri), RIGHT, ("accepted", 200), 2),
    "wrong-401": Challenged(lambda uri: challenge_again(ALICE, uri), WRONG, ("unauthorized", 401), 2),
    "wrong-407": Challenged(lambda uri: challenge_again(ALICE, uri, status=407), WRONG, ("unauthorized", 407), 2),
    "wrong-403": Challenged(lambda _: challenge_verified(ALICE), WRONG, ("rejected", 403), 2),
    "none-401": Challenged(lambda uri: challenge_again(ALICE, uri), None, ("unauthorized", 401), 1),
    "none-407": Challenged(lambda uri: challenge_again(ALICE, uri, status=407), None, ("unauthorized", 407), 1),
}


@dataclass(frozen=True, slots=True)
class Answered:
    """A rollout to phones that challenge, and what each of them received."""

    rollout: Rollout
    received: dict[str, list[TracedMessage]]


@pytest.fixture(scope="module")
def challenged(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    """One rollout to every phone of CHALLENGED."""
    with ExitStack() as stack:
        phones: dict[str, SippPhone] = {}
        rows = []
        for user, kind in CHALLENGED.items():
            port = free_port()
            contact = f"sip:alice@127.0.0.1:{port}"
            phones[user] = stack.enter_context(SippPhone(kind.scenario(contact), port=port))
            known = {} if kind.password is None else {"auth_username": "alice", "auth_password": kind.password}
            rows.append({"aor": aor(user), "contact": contact, **known})
        rollout = Resyncctl(tmp_path_factory.mktemp("challenged")).run(rows)
        return Answered(rollout, {user: phone.received() for user, phone in phones.items()})


@pytest.mark.parametrize("user", list(CHALLENGED))
def test_challenge_is_answered_once_with_the_credentials_of_the_phone_list(user: str, challenged: Answered) -> None:
    row = challenged.rollout.row(aor(user))
    expected = CHALLENGED[user]

    assert (row.state, row.status) == expected.verdict
    assert row.attempts == 1
    assert len(challenged.received[user]) == expected.requests


def test_authenticated_request_keeps_its_call_id_and_from_tag_and_counts_cseq_up(challenged: Answered) -> None:
    first, second = challenged.received["verified-401"]

    assert [message.header("CSeq") for message in (first, second)] == ["1 NOTIFY", "2 NOTIFY"]
    assert first.header("Call-ID") == second.header("Call-ID")
    assert first.header("From") == second.header("From")
    assert first.header("Via") != second.header("Via")
    assert second.headers("Event") == ["check-sync"]
    sent = digest_parameters(second.header("Authorization") or "")
    assert (sent["qop"], sent["nc"], sent["algorithm"], sent["opaque"]) == ("auth", "00000001", "MD5", "b3BhcXVl")
    assert is_right(second.header("Authorization") or "", ALICE)


def test_407_is_answered_in_proxy_authorization_only(challenged: Answered) -> None:
    _, second = challenged.received["sha-407"]

    assert second.headers("Authorization") == []
    assert digest_parameters(second.header("Proxy-Authorization") or "")["algorithm"] == "SHA-256"


@pytest.mark.parametrize("status", [401, 407])
def test_reason_tells_a_wrong_password_from_no_credentials(status: int, challenged: Answered) -> None:
    none = challenged.rollout.row(aor(f"none-{status}")).reason
    wrong = challenged.rollout.row(aor(f"wrong-{status}")).reason

    assert "no credentials" in none
    assert "refused" in wrong


def test_passwords_are_neither_told_nor_logged(challenged: Answered) -> None:
    assert RIGHT not in challenged.rollout.told
    assert WRONG not in challenged.rollout.told


# Timers


@dataclass(frozen=True, slots=True)
class Slow:
    """A rollout to one phone that takes its time, and what that phone saw."""

    rollout: Rollout
    received: list[TracedMessage]
    answered: list[TracedMessage]

    @property
    def gaps(self) -> list[float]:
        """Seconds between the requests that the phone received."""
        return seconds_between(self.received)


SlowRollout = Callable[[str], Slow]


@pytest.fixture(scope="module", autouse=True)
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowRollout]:
    """Start every rollout of this file that waits for timers, all at once, before the first test.

    The tests that ask for one of them by name stand at the end of the file, when most of the waiting is over.
    """
    kinds: dict[str, tuple[Scenario, tuple[str, ...]]] = {
        "silence": (silent(), ("--timeout", "12s", "--attempts", "1")),
        "short T1": (silent(), ("--timeout", "3s", "--timer-t1", "100ms", "--attempts", "1")),
        "two attempts": (silent(), ("--timeout", "800ms", "--attempts", "2", "--retry-delay", "1s")),
        "trying": (trying_then_ok(pause=5.0), ()),
        "trying for ever": (answers(100, "Trying"), ("--timeout", "6s", "--attempts", "1")),
        "busy": (busy_then_ok(retry_after=3), ("--retry-delay", "200ms")),
        "busy without end": (busy_then_ok(refusals=9, retry_after=1), ("--retry-delay", "200ms", "--attempts", "2")),
    }

    def observe(name: str, number: int) -> Slow:
        scenario, options = kinds[name]
        with SippPhone(scenario) as phone:
            command = Resyncctl(tmp_path_factory.mktemp("slow") / str(number))
            rollout = command.run([{"contact": phone.uri()}], *options)
            return Slow(rollout, phone.received(), phone.sent())

    with ThreadPoolExecutor(len(kinds)) as pool:
        started: dict[str, Future[Slow]] = {
            name: pool.submit(observe, name, number) for number, name in enumerate(kinds)
        }
        yield lambda name: started[name].result(60.0)


def test_silent_phone_gets_retransmissions_on_the_schedule_of_timer_e_until_timer_f(slow: SlowRollout) -> None:
    seen = slow("silence")
    [row] = seen.rollout.rows

    assert seen.gaps == pytest.approx([0.5, 1.0, 2.0, 4.0, 4.0], abs=TOLERANCE)
    assert len({message.text for message in seen.received}) == 1
    assert row.verdict == ("unreachable", 0, "no answer (Timer F)")
    assert (row.attempts, row.answered_at, row.rtt_ms) == (1, "", 0.0)
    assert seen.rollout.exit_status == 1
    assert seen.rollout.report["sending_seconds"] == pytest.approx(12.0, abs=TOLERANCE)


def test_timer_t1_option_shortens_the_first_interval(slow: SlowRollout) -> None:
    assert slow("short T1").gaps == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.09)


def test_second_attempt_is_a_request_of_its_own_after_the_retry_delay(slow: SlowRollout) -> None:
    seen = slow("two attempts")
    [row] = seen.rollout.rows
    first, again, second, _ = seen.received

    assert row.verdict == ("unreachable", 0, "no answer (Timer F)")
    assert row.attempts == 2
    assert first.text == again.text
    assert second.header("Call-ID") != first.header("Call-ID")
    assert second.header("Via") != first.header("Via")
    assert seen.gaps[0] == pytest.approx(0.5, abs=TOLERANCE)
    assert 0.3 + 1.0 - TOLERANCE < seen.gaps[1] < 0.3 + 1.5 + TOLERANCE  # the rest of Timer F, 1 s, up to half of it
    assert seen.rollout.report["retries"] == 1


def test_provisional_response_slows_retransmission_to_t2(slow: SlowRollout) -> None:
    seen = slow("trying")
    [row] = seen.rollout.rows

    assert row.verdict == ("accepted", 200, "OK")
    assert row.attempts == 1
    assert seen.gaps == pytest.approx([0.5, 4.0], abs=TOLERANCE)  # Timer E was running for T1 when the 100 came
    assert [message.status for message in seen.answered] == [100, 100, 100, 200]
    assert row.rtt_ms == pytest.approx(5000, abs=1000 * TOLERANCE)


def test_phone_that_only_ever_says_trying_is_unreachable_at_timer_f(slow: SlowRollout) -> None:
    seen = slow("trying for ever")
    [row] = seen.rollout.rows

    assert row.verdict == ("unreachable", 0, "no answer (Timer F)")
    assert seen.gaps == pytest.approx([0.5, 4.0], abs=TOLERANCE)
    assert seen.rollout.counts("responses") == {}


def test_busy_phone_is_asked_again_not_before_its_retry_after(slow: SlowRollout) -> None:
    seen = slow("busy")
    [row] = seen.rollout.rows

    assert [message.status for message in seen.answered] == [503, 200]
    assert row.verdict == ("accepted", 200, "OK")
    assert row.attempts == 2
    assert 3.0 <= seen.gaps[0] < 4.0
    assert seen.received[0].header("Call-ID") != seen.received[1].header("Call-ID")
    assert seen.rollout.exit_status == 0
    assert seen.rollout.counts() == {"accepted": 1}
    assert seen.rollout.report["retries"] == 1


def test_phone_that_stays_busy_is_overloaded_after_its_last_attempt(slow: SlowRollout) -> None:
    seen = slow("busy without end")
    [row] = seen.rollout.rows

    assert row.verdict == ("overloaded", 503, "Service Unavailable")
    assert row.attempts == 2
    assert len(seen.received) == 2
    assert seen.gaps[0] >= 1.0


def test_sent_at_and_answered_at_are_the_times_that_the_phone_saw(slow: SlowRollout) -> None:
    seen = slow("trying")
    [row] = seen.rollout.rows
    arrived, answered = seen.received[0].traced_time, seen.answered[-1].traced_time

    assert arrived is not None
    assert answered is not None
    assert (arrived - row.sent_time).total_seconds() == pytest.approx(0.0, abs=TOLERANCE)
    told = datetime.fromisoformat(row.answered_at)
    assert (told - answered).total_seconds() == pytest.approx(0.0, abs=TOLERANCE)
