"""Proxies behind names, as RFC 3263 finds them: Kamailio twice, SIPp and what is not there, in the zone of a real dnsmasq."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.recorder import Recorder, most_in_a_second
from tests.interop.command_line import PhoneRow, Resyncctl
from tests.interop.test_trace_is_readable import dissected
from tests.peers.certificates import NAME, Certificates
from tests.peers.dns_server import DnsServer, host, naptr, srv
from tests.peers.kamailio import Kamailio, why_no_tls
from tests.peers.message import TracedMessage
from tests.peers.plain_client import Transport
from tests.peers.ports import free_port
from tests.peers.sipp import SippPhone, answers, busy_then_ok, silent
from tests.peers.together import start_together

pytestmark = pytest.mark.needs("kamailio", "sipp", "dnsmasq", "openssl")

ACCEPTED = ("accepted", 200, "OK")
HERE = host("here.test", "127.0.0.1")
"""The target of every SRV record."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if (reason := why_no_tls()) is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return Certificates(tmp_path_factory.getbasetemp() / "certificates")


def user_of(request: TracedMessage) -> str:
    """Return the user of a Request-URI."""
    return request.start_line.partition("sip:")[2].partition("@")[0]


def came_through(request: TracedMessage) -> tuple[str, int]:
    """Return over what we have sent a request, and the port of the proxy that relayed it."""
    relayed, ours = request.headers("Via")
    return ours.partition(" ")[0].removeprefix("SIP/2.0/"), int(relayed.partition(";")[0].rpartition(":")[2])


# NAPTR, SRV and weights


def test_naptr_and_srv_lead_to_two_proxies_by_their_weights(resyncctl: Resyncctl, certificates: Certificates) -> None:
    known = ["weighted.test", NAME, "misnamed.test"]
    one, other = (Kamailio(names=known, tls=certificates.right) for _ in range(2))
    phone = SippPhone(answers(200))
    zone = [
        HERE,
        naptr("weighted.test", "_sip._udp.weighted.test", service="SIP+D2U", order=20),
        naptr("weighted.test", "_sip._tcp.weighted.test", service="SIP+D2T", order=10),
        srv("_sip._udp.weighted.test", "here.test", one.port),
        srv("_sip._tcp.weighted.test", "here.test", one.port, weight=20),
        srv("_sip._tcp.weighted.test", "here.test", other.port, weight=10),
        srv(f"_sips._tcp.{NAME}", "here.test", one.listener("tls").port),
        srv("_sips._tcp.misnamed.test", "here.test", one.listener("tls").port),
    ]
    with ExitStack() as stack:
        names = DnsServer(*zone)
        start_together(stack, [one, other, phone, names])
        rows: list[PhoneRow] = [
            {"contact": phone.uri(f"w{number}"), "path": "<sip:weighted.test;lr>"} for number in range(90)
        ]
        rows += [{"contact": phone.uri(name), "path": f"<sips:{name};lr>"} for name in (NAME, "misnamed.test")]
        rollout = resyncctl.run(
            rows, "--nameserver", names.address, "--tls-ca", str(certificates.ca), "--rate", "0", "--attempts", "1"
        )
        received = {user_of(request): request for request in phone.received()}
        secure = received.pop(NAME)
        ways = Counter(came_through(request) for request in received.values())

        assert rollout.row(phone.uri("misnamed.test")).reason == "TLS: the certificate is for another name"
        assert rollout.states() == {"accepted": 91, "unreachable": 1}
        assert set(ways) == {("TCP", one.port), ("TCP", other.port)}
        assert 40 <= ways["TCP", one.port] <= 80  # 60 of 90, and four standard deviations
        assert secure.headers("Via")[1].startswith("SIP/2.0/TLS ")
        assert secure.header("Contact") is not None
        assert (secure.header("Contact") or "").startswith("<sips:resyncctl@")
        assert all(number == 1 for number in Counter(names.questions()).values())
        assert ("NAPTR", "weighted.test") in names.questions()
        assert ("SRV", "_sip._udp.weighted.test") in names.questions()


# The first proxy fails


FAULTS: Mapping[str, Transport] = {
    "refused-udp": "udp",
    "refused-tcp": "tcp",
    "busy-udp": "udp",
    "busy-tcp": "tcp",
    "pbx": "tls",
    "silent-udp": "udp",
    "silent-tcp": "tcp",
}
"""What is wrong with the first of two proxies, and over what it is spoken to. That of pbx.test has an expired certificate."""
EACH = 3
NO_ANSWER = ("unreachable", 0, "no answer (Timer F)")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two proxies under a name for each fault: the first has it, the second is the same Kamailio for all."""

    names: DnsServer
    second: Kamailio
    phone: SippPhone
    mute: Mapping[str, SippPhone]
    """The silent ones."""
    ca: Path

    def run(self, resyncctl: Resyncctl, *options: str) -> dict[str, set[tuple[str, int, str]]]:
        """Notify EACH phones behind each name, and one that reboots on a resync; return their verdicts by fault."""
        uris = {
            fault: f"<sip{'s' * (transport == 'tls')}:{fault}.test{';transport=tcp' * (transport == 'tcp')};lr>"
            for fault, transport in FAULTS.items()
        }
        rows: list[PhoneRow] = [
            {"aor": f"sip:{number}@{fault}.test", "contact": self.phone.uri(f"{fault}-{number}"), "path": uri}
            for fault, uri in uris.items()
            for number in range(EACH)
        ]
        aastra = {"user_agent": "Aastra 6865i/4.2.0.2023", "path": uris["silent-udp"]}
        rows.append({"aor": "sip:0@aastra.test", "contact": self.phone.uri("aastra-0"), **aastra})
        rollout = resyncctl.run(
            rows, "--nameserver", self.names.address, "--tls-ca", str(self.ca), "--timeout", "1s", "--yes", *options
        )
        assert {row.attempts for row in rollout.rows} == {1}
        verdicts: dict[str, set[tuple[str, int, str]]] = defaultdict(set)
        for row in rollout.rows:
            verdicts[row.aor.partition("@")[2].removesuffix(".test")].add(row.verdict)
        return dict(verdicts)


@pytest.fixture
def pairs(certificates: Certificates) -> Iterator[Pairs]:
    second = Kamailio(names=[f"{fault}.test" for fault in FAULTS], tls=certificates.right)
    expired = Kamailio(tls=certificates.expired)
    busy = {kind: SippPhone(busy_then_ok(refusals=100, retry_after=2), transport=kind) for kind in ("udp", "tcp")}
    mute = {kind: SippPhone(silent(), transport=kind) for kind in ("udp", "tcp")}
    phone = SippPhone(answers(200))
    first = {
        **dict.fromkeys(("refused-udp", "refused-tcp"), free_port()),
        **{f"busy-{kind}": peer.port for kind, peer in busy.items()},
        **{f"silent-{kind}": peer.port for kind, peer in mute.items()},
        "pbx": expired.listener("tls").port,
    }
    zone = [HERE]
    for fault, transport in FAULTS.items():
        service = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}[transport] + f".{fault}.test"
        zone.append(srv(service, "here.test", first[fault], priority=10))
        zone.append(srv(service, "here.test", second.listener(transport).port, priority=20))
    with ExitStack() as stack:
        names = DnsServer(*zone)
        start_together(stack, [second, expired, *busy.values(), *mute.values(), phone, names])
        yield Pairs(names, second, phone, mute, certificates.ca)


def test_a_resync_goes_to_the_second_proxy_within_the_same_attempt(pairs: Pairs, resyncctl: Resyncctl) -> None:
    verdicts = pairs.run(resyncctl)
    heard = Counter(user_of(request).rpartition("-")[0] for request in pairs.phone.received())

    assert verdicts == {**{fault: {ACCEPTED} for fault in FAULTS}, "aastra": {NO_ANSWER}}
    assert heard == dict.fromkeys(FAULTS, EACH)
    for kind, mute in pairs.mute.items():
        assert {user_of(request).rpartition("-")[0] for request in mute.received()} >= {f"silent-{kind}"}


def test_a_reboot_goes_to_the_second_proxy_only_when_the_first_cannot_have_passed_it_on(
    pairs: Pairs, resyncctl: Resyncctl
) -> None:
    verdicts = pairs.run(resyncctl, "--action", "reboot")
    heard = Counter(user_of(request).rpartition("-")[0] for request in pairs.phone.received())
    certain = [fault for fault in FAULTS if not fault.startswith("silent")]

    assert verdicts == {
        **{fault: {ACCEPTED} for fault in certain},
        **{fault: {NO_ANSWER} for fault in ("silent-udp", "silent-tcp", "aastra")},
    }
    assert heard == dict.fromkeys(certain, EACH)  # none of those that were not answered
    unanswered = [request for mute in pairs.mute.values() for request in mute.received()]
    assert len({request.header("Call-ID") for request in unanswered}) == 2 * EACH + 1


# A proxy dies in mid-rollout


PHONES = 200
RATE = 100
SLOW = "late700"
"""Every tenth phone answers after 0.7 s, so that some answers are on their way when the proxy dies."""
LOST = {"refused: nothing listens at that port", "connection lost before the answer"}
BY_CHANCE = 4
"""Phones that answer at once, and whose request or answer was all the same in the proxy when it died, at most."""


@dataclass(frozen=True, slots=True)
class Death:
    """A rollout half over UDP and half over TCP, whose proxy was killed after a quarter of it."""

    verdicts: Mapping[str, tuple[str, int, str]]
    attempts: set[int]
    calls: Mapping[str, set[str]]
    """Call-IDs that have reached each phone."""
    most: int
    """Requests that have left in any second, those to the dead proxy included."""
    wasted: int
    """Requests that have left for the proxy when it was dead, without retransmissions."""


def run_through_death(resyncctl: Resyncctl, tmp_path: Path, *options: str) -> Death:
    """Kill the first of two proxies while a rollout goes through it."""
    first, second = (Kamailio(names=["pbx.test"]) for _ in range(2))
    zone = [HERE]
    for service in ("_sip._udp.pbx.test", "_sip._tcp.pbx.test"):
        zone += [srv(service, "here.test", proxy.port, priority=10 * n) for n, proxy in enumerate((first, second), 1)]
    names, phones, trace = DnsServer(*zone), Recorder(), tmp_path / "trace.pcap"
    with ExitStack() as stack:
        start_together(stack, [first, second, names, phones])
        pool = stack.enter_context(ThreadPoolExecutor(1))
        rows: list[PhoneRow] = [
            {
                "contact": phones.contact(f"{SLOW if number % 20 < 2 else 'ok'}.{number}"),
                "path": f"<sip:pbx.test{';transport=tcp' * (number % 2)};lr>",
            }
            for number in range(PHONES)
        ]
        arguments = ("--nameserver", names.address, "--rate", str(RATE), "--trace", str(trace), "--timeout", "5s")
        running = pool.submit(resyncctl.run, rows, *arguments, *options, within=30.0)
        phones.wait_until(
            lambda: running.done() or len(phones.requests()) >= PHONES // 4, "receiving a quarter", within=15.0
        )
        killed_at = time.time()
        first.kill()
        rollout = running.result()
        calls: dict[str, set[str]] = defaultdict(set)
        for one in phones.requests():
            calls[one.user].add(one.call_id)
    sent: dict[str, tuple[float, str]] = {}
    for packet in dissected(trace):
        if packet["sip.Method"] == "NOTIFY":  # the first of its Call-ID; the others are retransmissions
            port = packet["udp.dstport"] or packet["tcp.dstport"]
            sent.setdefault(packet["sip.Call-ID"], (float(packet["frame.time_epoch"]), port))
    return Death(
        {row.contact.partition("sip:")[2].partition("@")[0]: row.verdict for row in rollout.rows},
        {row.attempts for row in rollout.rows},
        calls,
        most_in_a_second((at for at, _ in sent.values()), jitter=0.05),
        sum(1 for at, port in sent.values() if at > killed_at and port == str(first.port)),
    )


@pytest.mark.needs("tshark")
def test_a_resync_goes_on_through_the_other_proxy_when_one_dies(resyncctl: Resyncctl, tmp_path: Path) -> None:
    death = run_through_death(resyncctl, tmp_path)
    again = {user: calls for user, calls in death.calls.items() if len(calls) > 1}

    assert len(death.verdicts) == len(death.calls) == PHONES
    assert set(death.verdicts.values()) == {ACCEPTED}
    assert death.attempts == {1}
    assert any(user.startswith(SLOW) for user in again)  # its answer was lost with the proxy
    assert {len(calls) for calls in again.values()} == {2}
    assert sum(1 for user in again if not user.startswith(SLOW)) <= BY_CHANCE
    assert death.most <= RATE
    assert death.wasted <= RATE // 4  # what was on its way there already


@pytest.mark.needs("tshark", "pjsua2")
@pytest.mark.parametrize("engine", ["asyncio", "pjsua2"])
def test_a_reboot_reaches_no_phone_twice_when_a_proxy_dies(resyncctl: Resyncctl, tmp_path: Path, engine: str) -> None:
    death = run_through_death(resyncctl, tmp_path, "--action", "reboot", "--yes", "--engine", engine)
    lost = {user: verdict for user, verdict in death.verdicts.items() if verdict != ACCEPTED}

    assert {len(calls) for calls in death.calls.values()} == {1}
    assert death.verdicts.keys() - death.calls.keys() <= lost.keys()
    assert any(user.startswith(SLOW) for user in lost)  # it has the request, and its answer was lost with the proxy
    assert sum(1 for user in lost if not user.startswith(SLOW)) <= BY_CHANCE
    assert {state for state, _, _ in lost.values()} == {"unreachable"}
    assert {reason for _, _, reason in lost.values()} <= LOST
    assert len(death.verdicts) == PHONES
    assert death.attempts == {1}
    assert death.most <= RATE
    assert death.wasted <= RATE // 4
