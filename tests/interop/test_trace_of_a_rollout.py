"""`--trace` of a rollout over UDP, TCP and TLS to real peers: tshark reads the file, a collector gets the same packets."""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl, Rollout
from tests.interop.test_trace_is_readable import GOOD, dissected
from tests.peers.certificates import Certificates
from tests.peers.digest import Credentials
from tests.peers.kamailio import Kamailio, why_no_tls
from tests.peers.message import SipText
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.plain_client import host_port
from tests.peers.sipp import SippPhone, answers, challenge_verified, silent, trying_then_ok
from tests.peers.together import start_together

pytestmark = pytest.mark.needs("kamailio", "pjsua2", "sipp", "openssl", "tshark")

ALICE = Credentials("alice", "wonderland")
TIMES = ("--attempts", "1", "--timer-t1", "200ms", "--timeout", "1s")
COPIES = 3
"""Datagrams to a silent phone with these times: at once, after 0.2 s and 0.6 s."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A message of a trace, with the addresses that it says."""

    source: str
    destination: str
    over: str
    message: SipText


@dataclass(frozen=True, slots=True)
class Traced:
    """A rollout and what its trace has kept: in the file, as tshark dissects it, and at the collector."""

    rollout: Rollout
    sipps: Mapping[str, SippPhone]
    pjsips: Mapping[str, PjsipPhone]
    proxy: Kamailio
    dissected: list[dict[str, str]]
    collected: list[Packet]

    @property
    def packets(self) -> list[Packet]:
        """The packets of the file."""
        return [packet_of(fields) for fields in self.dissected]


def packet_of(fields: Mapping[str, str]) -> Packet:
    """Return a packet that tshark has dissected."""
    layer = "udp" if fields["udp.srcport"] else "tcp"
    version = "ipv6" if fields["ipv6.src"] else "ip"
    source, destination = (
        host_port((fields[f"{version}.{end}"], int(fields[f"{layer}.{end}port"]))) for end in ("src", "dst")
    )
    return Packet(source, destination, layer, SipText(bytes.fromhex(fields[f"{layer}.payload"]).decode()))


def collected_packet(data: bytes) -> Packet:
    """Return the message of a HEP packet (HEP3 Network Protocol Specification, rev. 37)."""
    name, length = struct.unpack_from(">4sH", data)
    assert (name, length) == (b"HEP3", len(data))
    chunks, at = {}, 6
    while at < len(data):
        vendor, kind, size = struct.unpack_from(">HHH", data, at)
        assert vendor == 0
        chunks[kind] = data[at + 6 : at + size]
        at += size
    family, first = (socket.AF_INET6, 5) if chunks[1] == b"\x0a" else (socket.AF_INET, 3)
    ends = [
        host_port((socket.inet_ntop(family, chunks[first + end]), int.from_bytes(chunks[7 + end]))) for end in (0, 1)
    ]
    return Packet(ends[0], ends[1], "udp" if chunks[2] == b"\x11" else "tcp", SipText(chunks[15].decode()))


def collect(collector: socket.socket) -> list[Packet]:
    """Return what a collector has got."""
    collector.setblocking(False)
    packets = []
    while True:
        try:
            packets.append(collected_packet(collector.recv(65_535)))
        except BlockingIOError:
            return packets


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    if (reason := why_no_tls()) is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    certificates = Certificates(tmp_path_factory.getbasetemp() / "certificates")
    sipps = {
        "plain": SippPhone(answers(404, "Not Found")),
        "alice": SippPhone(challenge_verified(ALICE)),
        "mute": SippPhone(silent()),
        "slow": SippPhone(trying_then_ok(pause=0.1), transport="tcp"),
        "six": SippPhone(answers(200), host="::1", transport="tcp"),
    }
    pjsips = {
        "pj-udp": PjsipPhone("pj-udp"),
        "pj-tcp": PjsipPhone("pj-tcp", transport="tcp"),
        "pj-tls": PjsipPhone("pj-tls", transport="tls", tls=certificates.right),
        "pj-tls6": PjsipPhone("pj-tls6", transport="tls", tls=certificates.right, host="::1"),
    }
    proxy = Kamailio(tls=certificates.right)
    file = tmp_path_factory.mktemp("trace") / "trace.pcap"
    with ExitStack() as stack:
        collector = stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        collector.bind(("127.0.0.1", 0))
        start_together(stack, [*sipps.values(), *pjsips.values(), proxy])
        rows: list[PhoneRow] = [{"contact": phone.uri(name)} for name, phone in sipps.items()]
        rows += [{"contact": phone.uri} for phone in pjsips.values()]
        rows[1] = {**rows[1], "auth_username": ALICE.username, "auth_password": ALICE.password}
        rows.append({"contact": sipps["plain"].uri("routed"), "path": proxy.listener("tls").route})
        where = ("--trace", str(file), "--trace", f"hep:127.0.0.1:{collector.getsockname()[1]}")
        resyncctl = Resyncctl(tmp_path_factory.mktemp("traced"))
        rollout = resyncctl.run(rows, *where, "--tls-ca", str(certificates.ca), *TIMES)
        yield Traced(rollout, sipps, pjsips, proxy, dissected(file), collect(collector))


def test_the_rollout_had_one_phone_of_each_kind(traced: Traced) -> None:
    assert traced.rollout.counts() == {"accepted": 7, "rejected": 2, "unreachable": 1}
    assert "trace" not in traced.rollout.told


def test_tshark_finds_every_request_and_every_answer_and_nothing_malformed(traced: Traced) -> None:
    kinds = Counter(fields["sip.Method"] or fields["sip.Status-Code"] for fields in traced.dissected)

    assert kinds == {"NOTIFY": 9 + 1 + COPIES, "200": 7, "404": 2, "401": 1, "100": 1}
    for fields in traced.dissected:
        assert fields["_ws.malformed"] == "", fields
        assert fields["_ws.expert.message"] == "", fields
        assert fields["ip.checksum.status"] == ("" if fields["ipv6.src"] else GOOD), fields
        assert (fields["udp.checksum.status"] or fields["tcp.checksum.status"]) == GOOD, fields
    assert {fields["tcp.analysis.flags"] for fields in traced.dissected} == {""}


def test_every_request_of_the_trace_is_what_a_phone_has_received(traced: Traced) -> None:
    received = [request for phone in traced.sipps.values() for request in phone.received()]
    received += [request for phone in traced.pjsips.values() for request in phone.received()]
    heard = Counter((request.header("Call-ID"), request.header("CSeq")) for request in received)
    sent = [packet.message for packet in traced.packets if packet.message.method == "NOTIFY"]

    assert Counter((request.header("Call-ID"), request.header("CSeq")) for request in sent) == heard
    texts = {request.header("Call-ID"): request.text.replace("\r\n", "\n").strip() for request in sent}
    for phone in traced.pjsips.values():
        [request] = phone.received()
        assert texts[request.header("Call-ID")] == request.text.replace("\r\n", "\n").strip()


def test_addresses_are_those_that_the_peers_saw_also_over_tls(traced: Traced) -> None:
    for phone in traced.pjsips.values():
        [seen] = phone.received()
        request, answer = (
            packet for packet in traced.packets if packet.message.header("Call-ID") == seen.header("Call-ID")
        )
        assert (request.source, request.destination) == (seen.source, host_port(phone.address))
        assert (answer.source, answer.destination) == (host_port(phone.address), seen.source)
        assert request.over == answer.over == ("udp" if phone.transport == "udp" else "tcp")
        assert (request.message.method, answer.message.status) == ("NOTIFY", 200)
    for name, sipp in traced.sipps.items():
        to = {packet.destination for packet in traced.packets if f"sip:{name}@" in packet.message.start_line}
        assert to == {host_port(sipp.address)}
    routed = [packet.destination for packet in traced.packets if "sip:routed@" in packet.message.start_line]
    assert routed == [host_port(traced.proxy.listener("tls").address)]


def test_a_collector_gets_the_same_packets(traced: Traced) -> None:
    assert traced.collected == traced.packets


def test_a_trace_of_the_configuration_is_written_too(resyncctl: Resyncctl, tmp_path: Path) -> None:
    file, settings = tmp_path / "standing.pcap", tmp_path / "resyncctl.toml"
    settings.write_text(f'trace = ["{file}"]\n')
    with SippPhone(answers(200), transport="tcp") as phone:
        phones = resyncctl.write_phones([{"contact": phone.uri()}])
        done = resyncctl.call("--config", str(settings), "run", str(phones), "--now", *TIMES)

    assert done.returncode == 0, done.stderr
    assert [fields["sip.Method"] or fields["sip.Status-Code"] for fields in dissected(file)] == ["NOTIFY", "200"]
