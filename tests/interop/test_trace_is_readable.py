"""Wireshark's dissectors, sngrep and Kamailio's capture server read a trace: files, and copies to a Homer collector."""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from resyncctl.sip.hop import Transport
from resyncctl.sip.uas import Address
from resyncctl.transport import trace_pcap
from resyncctl.transport.trace import Tracer
from resyncctl.transport.trace_hep import HepTrace
from resyncctl.transport.trace_pcap import PcapTrace
from tests.peers.ports import free_port, free_udp_port, udp_port_is_open
from tests.peers.process import REPOSITORY, ServerProcess
from tests.peers.tshark import READ_WITHIN
from tests.peers.waiting import wait_until

AT = 1_760_000_000_123_456
"""Microseconds since the Unix epoch, of the first message."""


class Exchange(NamedTuple):
    """A NOTIFY and its answer."""

    transport: Transport
    local: Address
    remote: Address
    body: bytes = b""

    @property
    def request(self) -> bytes:
        """The NOTIFY, with as many bytes as its addresses and its body make: odd and even numbers."""
        host = f"[{self.local[0]}]" if ":" in self.local[0] else self.local[0]
        head = (
            f"NOTIFY sip:100@phones.example:{self.remote[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/{self.transport.upper()} {host}:{self.local[1]};rport;branch=z9hG4bK{self.name}\r\n"
            "Max-Forwards: 70\r\n"
            f"From: <sip:resync@{host}>;tag=a{self.name}\r\n"
            "To: <sip:100@phones.example>\r\n"
            f"Call-ID: {self.name}@{host}\r\n"
            "CSeq: 1 NOTIFY\r\n"
            f"Contact: <sip:resync@{host}:{self.local[1]}>\r\n"
            "Event: check-sync;reboot=true\r\n"
            "Subscription-State: terminated\r\n"
            "User-Agent: resyncctl\r\n"
        )
        kind = "Content-Type: text/plain\r\n" if self.body else ""
        return f"{head}{kind}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body

    @property
    def answer(self) -> bytes:
        """The 200 to it."""
        via, sender, to, call_id, cseq = (
            re.search(rb"^%b: .*?\r\n" % name, self.request, re.MULTILINE)[0]  # type: ignore[index]
            for name in (b"Via", b"From", b"To", b"Call-ID", b"CSeq")
        )
        to = to.replace(b"\r\n", b";tag=b\r\n")
        return b"SIP/2.0 200 OK\r\n" + via + sender + to + call_id + cseq + b"Content-Length: 0\r\n\r\n"

    @property
    def name(self) -> str:
        """What is different in every exchange."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:12]


US: Address = ("192.0.2.1", 5060)
EXCHANGES = (
    Exchange(Transport.UDP, US, ("192.0.2.7", 5060)),
    Exchange(Transport.UDP, US, ("192.0.2.7", 5060), b"action=restart"),
    Exchange(Transport.UDP, US, ("192.0.2.7", 49_152), b"action=restart\n"),
    Exchange(Transport.UDP, ("192.0.2.1", 40_000), ("192.0.2.8", 2_051)),
    Exchange(Transport.UDP, ("2001:db8::1", 5060), ("2001:db8::7", 5060), b"1"),
    Exchange(Transport.UDP, ("2001:db8::1", 40_000), ("2001:db8::7", 12_345)),
    Exchange(Transport.TCP, ("192.0.2.1", 40_001), ("192.0.2.9", 5060)),
    Exchange(Transport.TCP, ("192.0.2.1", 40_001), ("192.0.2.9", 5060), b"on the same connection"),
    Exchange(Transport.TCP, ("192.0.2.1", 40_001), ("192.0.2.9", 5060), b"and once more,"),
    Exchange(Transport.TCP, ("192.0.2.1", 40_002), ("192.0.2.10", 50_123)),
    Exchange(Transport.TCP, ("2001:db8::1", 40_003), ("2001:db8::9", 5060)),
    Exchange(Transport.TLS, ("192.0.2.1", 40_004), ("192.0.2.9", 5061)),
    Exchange(Transport.TLS, ("192.0.2.1", 40_004), ("192.0.2.9", 5061), b"on the same connection"),
    Exchange(Transport.TLS, ("192.0.2.1", 40_005), ("192.0.2.10", 50_124)),
    Exchange(Transport.TLS, ("192.0.2.1", 40_006), ("192.0.2.11", 443)),
    Exchange(Transport.TLS, ("2001:db8::1", 40_007), ("2001:db8::9", 5061), b"7"),
)
MESSAGES = [message for each in EXCHANGES for message in (each.request, each.answer)]


def trace(tracer: Tracer, exchanges: Sequence[Exchange] = EXCHANGES) -> None:
    """Trace exchanges, 1 ms after each other; the answers come after 1 ms too."""
    for number, each in enumerate(exchanges):
        for sent, data in ((True, each.request), (False, each.answer)):
            at_us = AT + number * 2_000 + (0 if sent else 1_000)
            tracer.message(data, transport=each.transport, local=each.local, remote=each.remote, sent=sent, at_us=at_us)


FIELDS = (
    "frame.time_epoch", "frame.protocols", "ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "ip.proto", "ipv6.nxt",
    "udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport", "udp.payload", "tcp.payload",
    "ip.checksum.status", "udp.checksum.status", "tcp.checksum.status",
    "tcp.seq", "tcp.ack", "tcp.analysis.flags", "tcp.analysis.lost_segment", "tcp.reassembled.length",
    "_ws.malformed", "_ws.expert.message", "sip.Method", "sip.Status-Code", "sip.Call-ID", "sip.response-request",
)  # fmt: skip
GOOD = "1"
"""What the dissectors say of a checksum that is right; 0 is a wrong one."""


def dissected(file: Path) -> list[dict[str, str]]:
    """Return what tshark finds in each packet of a file, checksums verified; a damaged file is an error."""
    command = ["tshark", "-r", str(file), "-n", "-T", "fields", "-E", "separator=/t"]
    for layer in ("ip", "udp", "tcp"):
        command += ["-o", f"{layer}.check_checksum:TRUE"]
    for field in FIELDS:
        command += ["-e", field]
    read = subprocess.run(command, capture_output=True, text=True, timeout=READ_WITHIN, check=False)
    assert read.returncode == 0, read.stderr
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in read.stdout.splitlines()]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture file of all exchanges."""
    made = tmp_path_factory.mktemp("trace") / "trace.pcap"
    with closing(PcapTrace(str(made))) as tracer:
        trace(tracer)
    return made


@pytest.fixture(scope="module")
def seen(file: Path) -> list[dict[str, str]]:
    """What tshark finds in it."""
    return dissected(file)


@pytest.mark.needs("tshark")
def test_every_message_is_a_packet_of_sip_with_nothing_to_complain_about(seen: list[dict[str, str]]) -> None:
    assert len(seen) == len(MESSAGES)
    for packet in seen:
        assert packet["frame.protocols"].split(":")[:4:3] == ["raw", "sip"], packet
        assert packet["_ws.malformed"] == "", packet
        assert [packet["sip.Method"], packet["sip.Status-Code"]] in (["NOTIFY", ""], ["", "200"]), packet
        assert packet["_ws.expert.message"] == "", packet


@pytest.mark.needs("tshark")
def test_addresses_and_ports_are_those_of_the_connection_also_for_tls(seen: list[dict[str, str]]) -> None:
    for number, packet in enumerate(seen):
        each = EXCHANGES[number // 2]
        layer, protocol = ("udp", "17") if each.transport is Transport.UDP else ("tcp", "6")
        source, target = (each.local, each.remote) if number % 2 == 0 else (each.remote, each.local)
        version = "ipv6" if ":" in source[0] else "ip"
        assert (packet[f"{version}.src"], packet[f"{version}.dst"]) == (source[0], target[0])
        assert packet["ipv6.nxt" if version == "ipv6" else "ip.proto"] == protocol
        assert (packet[f"{layer}.srcport"], packet[f"{layer}.dstport"]) == (str(source[1]), str(target[1]))


@pytest.mark.needs("tshark")
def test_text_and_time_are_those_of_the_messages(seen: list[dict[str, str]]) -> None:
    assert [bytes.fromhex(packet["udp.payload"] or packet["tcp.payload"]) for packet in seen] == MESSAGES
    times = [packet["frame.time_epoch"] for packet in seen]
    assert times[:3] == ["1760000000.123456000", "1760000000.124456000", "1760000000.125456000"]


@pytest.mark.needs("tshark")
def test_no_checksum_is_wrong(seen: list[dict[str, str]]) -> None:
    assert {len(message) % 2 for message in MESSAGES} == {0, 1}
    for packet in seen:
        assert packet["ip.checksum.status"] == ("" if packet["ipv6.src"] else GOOD), packet
        assert (packet["udp.checksum.status"] or packet["tcp.checksum.status"]) == GOOD, packet


@pytest.mark.needs("tshark")
def test_bytes_of_a_connection_are_numbered_without_gaps_and_acknowledged(seen: list[dict[str, str]]) -> None:
    connection = [packet for packet in seen if "40001" in (packet["tcp.srcport"], packet["tcp.dstport"])]
    ours, theirs = 1, 1
    for packet in connection:
        sent = packet["tcp.srcport"] == "40001"
        assert (int(packet["tcp.seq"]), int(packet["tcp.ack"])) == ((ours, theirs) if sent else (theirs, ours))
        length = len(packet["tcp.payload"]) // 2
        ours, theirs = (ours + length, theirs) if sent else (ours, theirs + length)
    assert len(connection) == 6
    assert {packet["tcp.analysis.flags"] for packet in seen} == {""}


@pytest.mark.needs("tshark")
def test_answers_are_found_to_belong_to_their_requests(seen: list[dict[str, str]]) -> None:
    pairs = [(request, answer) for request, answer in itertools.pairwise(seen) if request["sip.Method"]]
    datagrams = [number for number, (request, _) in enumerate(pairs) if request["udp.srcport"]]

    assert [pairs[number][1]["sip.response-request"] for number in datagrams] == [str(2 * at + 1) for at in datagrams]
    assert all(request["sip.Call-ID"] == answer["sip.Call-ID"] for request, answer in pairs)


@pytest.mark.needs("tshark")
def test_a_message_in_two_segments_is_put_together(tmp_path: Path) -> None:
    long = Exchange(Transport.TLS, ("192.0.2.1", 40_000), ("192.0.2.9", 5061), b"x" * 65_000 + b"\n" * 90)
    assert 65_495 < len(long.request) < 65_535
    file = tmp_path / "trace.pcap"
    with closing(PcapTrace(str(file))) as tracer:
        trace(tracer, [long, EXCHANGES[-1]])

    first, second, *others = dissected(file)
    assert (first["sip.Method"], second["sip.Method"]) == ("", "NOTIFY")
    assert second["tcp.reassembled.length"] == str(len(long.request))
    assert [packet["sip.Method"] + packet["sip.Status-Code"] for packet in others] == ["200", "NOTIFY", "200"]
    assert {packet["tcp.checksum.status"] for packet in (first, second, *others)} == {GOOD}


@pytest.mark.needs("tshark")
def test_a_connection_that_was_forgotten_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_pcap, "FLOWS", 2)
    streams = [each for each in EXCHANGES if each.transport is not Transport.UDP]
    file = tmp_path / "trace.pcap"
    with closing(PcapTrace(str(file))) as tracer:
        trace(tracer, streams * 3)

    packets = dissected(file)
    assert [packet["sip.Method"] + packet["sip.Status-Code"] for packet in packets] == ["NOTIFY", "200"] * 3 * len(
        streams
    )
    assert any(packet["tcp.analysis.lost_segment"] for packet in packets)
    assert {packet["_ws.malformed"] for packet in packets} == {""}


ENDLESS = """
import sys
from tests.interop.test_trace_is_readable import PcapTrace, trace
tracer = PcapTrace(sys.argv[1])
while True:
    trace(tracer)
"""


@pytest.mark.needs("tshark")
def test_a_killed_process_leaves_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "trace.pcap"
    command = [sys.executable, "-c", ENDLESS, str(file)]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        try:
            wait_until(lambda: file.exists() and file.stat().st_size > 300_000, "writing a trace", within=15.0)
        finally:
            process.kill()

    packets = dissected(file)
    assert len(packets) > 300
    assert {packet["frame.protocols"].split(":")[3] for packet in packets} == {"sip"}


@pytest.mark.needs("sngrep")
def test_sngrep_finds_every_message_in_a_file(file: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.pcap"
    command = ["sngrep", "-F", "-N", "-I", str(file), "-O", str(found)]
    read = subprocess.run(command, capture_output=True, text=True, timeout=READ_WITHIN, check=True)

    assert read.stdout.endswith(f"Dialog count: {len(EXCHANGES)}\n")
    assert found.read_bytes()[24:] == file.read_bytes()[24:]  # it writes what it has taken for SIP


class Sngrep(ServerProcess):
    """sngrep as a collector, which writes the SIP that it gets into `got.pcap`, as IPv4 and UDP whatever it was."""

    def __init__(self) -> None:
        super().__init__("sngrep")
        self.port = free_udp_port()
        self.got = self.directory / "got.pcap"

    def command(self) -> list[str]:
        """Return the command."""
        return ["sngrep", "-F", "-N", "-q", "-L", f"udp:127.0.0.1:{self.port}", "-O", str(self.got)]

    def wait_until_ready(self) -> None:
        """Block until its port is open and it writes."""
        self.wait_until(lambda: udp_port_is_open(self.port) and self.got.exists(), "listening")


@pytest.mark.needs("sngrep")
def test_sngrep_takes_every_message_that_is_sent_to_a_collector() -> None:
    with Sngrep() as sngrep, closing(HepTrace(f"hep:127.0.0.1:{sngrep.port}")) as tracer:
        trace(tracer)
        sngrep.wait_until(
            lambda: all(message in sngrep.got.read_bytes() for message in MESSAGES), "getting every message"
        )
        assert tracer.lost == 0


CAPTURE_SERVER = """#!KAMAILIO
debug=2
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "db_text.so"
loadmodule "sipcapture.so"
modparam("sipcapture", "db_url", DB)
modparam("sipcapture", "hep_capture_on", 1)
modparam("sipcapture", "nonsip_hook", HOOK)
request_route { xlog("L_NOTICE", "sip $proto $si $sp $rm $ci\\n"); drop; }
onreply_route { xlog("L_NOTICE", "sip $proto $si $sp $rs $ci\\n"); drop; }
event_route[sipcapture:request] {
    xlog("L_NOTICE", "hep $hep(version) $hep(0x001) $hep(0x002) $hep(0x003)$hep(0x005) $hep(0x007)"
        " $hep(0x004)$hep(0x006) $hep(0x008) $hep(0x009) $hep(0x00a) $hep(0x00b) $hep(0x00c) $(hep(0x00f){s.md5})\\n");
    drop;
}
"""


class CaptureServer(ServerProcess):
    """Kamailio's sipcapture module, a Homer collector: logs the chunks of each packet, or the SIP message in it."""

    def __init__(self, *, chunks: bool) -> None:
        super().__init__("kamailio")
        self.port = free_port()
        self._chunks = chunks

    def command(self) -> list[str]:
        """Write the configuration and an empty database, and return the command."""
        here = str(self.directory)
        configuration = CAPTURE_SERVER.replace("DB", f'"text://{here}"').replace("HOOK", str(int(self._chunks)))
        (self.directory / "capture.cfg").write_text(configuration, encoding="ascii")
        command = ["kamailio", "-f", f"{here}/capture.cfg", "-DD", "-E", "-a", "no", "-m", "32", "-M", "8"]
        return [*command, "-Y", here, "-w", here, "-P", f"{here}/kamailio.pid", "-l", f"udp:127.0.0.1:{self.port}"]

    def wait_until_ready(self) -> None:
        """Block until its port is open and its children run."""
        self.wait_until(
            lambda: udp_port_is_open(self.port) and "using database" in self.log(), "listening", within=10.0
        )

    def wait_for(self, count: int) -> list[list[str]]:
        """Block until that many messages were logged and return the words of each."""
        self.wait_until(lambda: len(self._messages()) >= count, f"getting {count} messages")
        return self._messages()

    def _messages(self) -> list[list[str]]:
        return [line.split() for line in re.findall(r"<script>: (.*)", self.log())]


class Copy(NamedTuple):
    """A message as it was traced; `micros` is its microsecond of the second."""

    exchange: Exchange
    source: Address
    target: Address
    text: bytes
    micros: int


def copies() -> Iterator[Copy]:
    """Return what `trace` has traced, message by message."""
    for number, each in enumerate(EXCHANGES):
        yield Copy(each, each.local, each.remote, each.request, 123_456 + number * 2_000)
        yield Copy(each, each.remote, each.local, each.answer, 124_456 + number * 2_000)


@pytest.mark.needs("kamailio")
def test_kamailio_as_a_collector_reads_every_chunk() -> None:
    with CaptureServer(chunks=True) as server, closing(HepTrace(f"hep:2001@127.0.0.1:{server.port}")) as tracer:
        trace(tracer)
        logged = server.wait_for(len(MESSAGES))

    protocols = {Transport.UDP: "17", Transport.TCP: "6", Transport.TLS: "22"}
    assert logged == [
        [
            "hep", "3", "10" if ":" in copy.source[0] else "2", protocols[copy.exchange.transport],
            copy.source[0], str(copy.source[1]), copy.target[0], str(copy.target[1]),
            "1760000000", str(copy.micros), "1", "2001", hashlib.md5(copy.text, usedforsecurity=False).hexdigest(),
        ]
        for copy in copies()
    ]  # fmt: skip


@pytest.mark.needs("kamailio")
def test_kamailio_as_a_collector_finds_the_sip_message_and_where_it_came_from() -> None:
    with CaptureServer(chunks=False) as server, closing(HepTrace(f"hep:127.0.0.1:{server.port}")) as tracer:
        trace(tracer)
        logged = server.wait_for(len(MESSAGES))

    for words, copy in zip(logged, copies(), strict=True):
        call_id = copy.text.partition(b"Call-ID: ")[2].partition(b"\r\n")[0].decode()
        what = "200" if copy.text.startswith(b"SIP/2.0") else "NOTIFY"
        assert words[2:] == [copy.source[0], str(copy.source[1]), what, call_id]
        if copy.exchange.transport is not Transport.TLS:  # it does not read the number for TLS that it sends itself
            assert words[:2] == ["sip", copy.exchange.transport]
