"""Wireshark's dissector reads a small rollout on loopback: whatever resyncctl sends is well-formed SIP."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl, Rollout
from tests.peers.digest import Credentials
from tests.peers.kamailio import Kamailio
from tests.peers.sipp import SippPhone, answers, challenge_verified, silent, trying_then_ok
from tests.peers.tshark import Capture, why_not

pytestmark = pytest.mark.needs("tshark", "sipp", "kamailio")

ALICE = Credentials("alice", "wonderland")
OURS = 'sip.Method == "NOTIFY" and sip.User-Agent contains "resyncctl"'


@dataclass(frozen=True, slots=True)
class Seen:
    """A rollout and everything that passed over loopback meanwhile."""

    rollout: Rollout
    capture: Capture


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """One rollout to phones of every kind: plain, slow, silent, challenging, with a body, on IPv6, behind a proxy."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        edge = stack.enter_context(Kamailio())
        plain, slow, mute, strict, six = (
            stack.enter_context(phone)
            for phone in (
                SippPhone(answers(200)),
                SippPhone(trying_then_ok(pause=0.2)),
                SippPhone(silent()),
                SippPhone(challenge_verified(ALICE)),
                SippPhone(answers(404, "Not Found"), host="::1"),
            )
        )
        ports = [peer.port for peer in (edge, plain, slow, mute, strict, six)]
        capture = stack.enter_context(Capture(ports))
        rows: list[PhoneRow] = [
            {"aor": "sip:100@phones.test", "contact": plain.uri("100"), "user_agent": "snomD862/10.1.226.13"},
            {"contact": plain.uri("101"), "vendor": "cisco_enterprise", "call_id": "a84b4c76e66710@10.0.0.17"},
            {"contact": slow.uri("102")},
            {"contact": mute.uri("103")},
            {"contact": strict.uri("alice"), "auth_username": "alice", "auth_password": ALICE.password},
            {"contact": six.uri("105")},
            {"contact": plain.uri("106"), "path": edge.route},
        ]
        command = Resyncctl(tmp_path_factory.mktemp("seen"))
        rollout = command.run(rows, "--attempts", "1", "--timeout", "1200ms")
        capture.complete()
        yield Seen(rollout, capture)


def test_the_rollout_that_was_captured_had_one_phone_of_each_kind(seen: Seen) -> None:
    assert seen.rollout.counts() == {"accepted": 5, "rejected": 1, "unreachable": 1}
    assert seen.rollout.counts("responses") == {"200": 5, "404": 1}


def test_nothing_is_malformed_and_the_dissector_has_no_complaint_about_us(seen: Seen) -> None:
    assert seen.capture.fields("frame.number", "_ws.malformed", where="_ws.malformed") == []
    complaints = seen.capture.fields("_ws.expert.message", where=f"({OURS}) and _ws.expert.severity >= 0x600000")
    assert complaints == []


def test_every_datagram_is_sip(seen: Seen) -> None:
    assert seen.capture.fields("frame.number", where="not sip") == []
    kinds = Counter(seen.capture.fields("sip.Method", "sip.Status-Code"))
    assert kinds == {
        ("NOTIFY", ""): 10,  # 7 phones, one of them twice (retransmission), one twice (digest), one also by the proxy
        ("", "100"): 1,
        ("", "200"): 6,  # one of them twice, from the phone and from the proxy
        ("", "401"): 1,
        ("", "404"): 1,
    }


def test_every_notify_of_ours_asks_for_rport_with_a_branch_of_rfc_3261(seen: Seen) -> None:
    fields = seen.capture.fields("sip.Via.branch", "sip.CSeq.method", "sip.CSeq.seq", "sip.Max-Forwards", where=OURS)
    with_rport = seen.capture.fields("frame.number", where=f"({OURS}) and sip.Via.rport")

    assert len(with_rport) == len(fields) == 10
    for branches, method, sequence, forwards in fields:
        assert all(re.fullmatch(r"z9hG4bK[0-9A-Za-z.\-]+", branch) for branch in branches.split(","))
        assert method == "NOTIFY"
        assert sequence in {"1", "2"}
        assert forwards in {"70", "69"}


def test_retransmission_is_recognised_and_nothing_else_is_taken_for_one(seen: Seen) -> None:
    resent = seen.capture.fields("sip.r-uri.user", where=f"({OURS}) and sip.resend == 1")

    assert resent == [("103",)]


def test_branches_and_call_ids_are_unique_to_their_requests(seen: Seen) -> None:
    first = f'({OURS}) and sip.resend == 0 and not sip.Via contains "received"'
    requests = seen.capture.fields("sip.Via.branch", "sip.Call-ID", where=first)

    assert len({branch for branch, _ in requests}) == len(requests) == 8
    assert len({call_id for _, call_id in requests}) == 7  # the digest answer stays in its call


def test_ipv6_request_is_dissected_like_the_others(seen: Seen) -> None:
    [(host, user, event)] = seen.capture.fields(
        "sip.r-uri.host", "sip.r-uri.user", "sip.Event", where=f"ipv6 and {OURS}"
    )

    assert (host, user, event) == ("[::1]", "105", "check-sync")


def test_body_has_the_length_that_the_header_says_byte_for_byte(seen: Seen) -> None:
    where = f'({OURS}) and sip.Content-Type == "text/plain"'
    [(event, length, datagram)] = seen.capture.fields("sip.Event", "sip.Content-Length", "udp.payload", where=where)
    head, _, body = bytes.fromhex(datagram).partition(b"\r\n\r\n")

    assert event == "service-control"
    assert body == (
        b"action=restart\nRegisterCallId={a84b4c76e66710@10.0.0.17}\nConfigVersionStamp={0000000000000000}\n"
        b"DialplanVersionStamp={0000000000000000}\nSoftkeyVersionStamp={0000000000000000}"
    )
    assert len(body) == int(length)
    assert b"\n" not in head.replace(b"\r\n", b"")
