"""What a trace writes, refuses and survives; what other programs read in it is in tests/interop."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import InputError, TransportError
from resyncctl.sip.hop import Transport
from resyncctl.sip.uas import Address
from resyncctl.transport import trace_pcap
from resyncctl.transport.trace import Tracer, open_trace
from resyncctl.transport.trace_hep import Collector, HepTrace, encapsulate, parse_collector
from resyncctl.transport.trace_pcap import PcapTrace
from tests.peers.ports import free_udp_port

NOTIFY = b"NOTIFY sip:100@192.0.2.7 SIP/2.0\r\nCall-ID: 1@192.0.2.1\r\nContent-Length: 0\r\n\r\n"
OK = b"SIP/2.0 200 OK\r\nCall-ID: 1@192.0.2.1\r\nContent-Length: 0\r\n\r\n"
US: Address = ("192.0.2.1", 5060)
PHONE: Address = ("192.0.2.7", 5062)
US6: Address = ("2001:db8::1", 5060)
PHONE6: Address = ("2001:db8::7", 5062)
AT = 1_760_000_000_123_456
"""2025-10-09 08:53:20.123456 UTC, in microseconds."""


class Packet(NamedTuple):
    """A record of a capture file, read here without any of the code that wrote it."""

    at_us: int
    source: Address
    target: Address
    payload: bytes
    sequence: int = 0
    acknowledged: int = 0
    flags: int = 0
    """The last three: of TCP."""


def packets(path: Path) -> list[Packet]:
    """Read a file of whole records; anything else is an error."""
    content = path.read_bytes()
    assert content[:24] == bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 65000000")
    found, at = [], 24
    while at < len(content):
        seconds, micros, kept, length = struct.unpack_from("<IIII", content, at)
        assert kept == length
        assert at + 16 + kept <= len(content), "a record is cut short"
        found.append(_packet(seconds * 1_000_000 + micros, content[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def _packet(at_us: int, packet: bytes) -> Packet:
    if packet[0] >> 4 == 6:
        protocol, ends, rest = packet[6], packet[8:40], packet[40:]
        assert struct.unpack_from(">H", packet, 4) == (len(rest),)
        source, target = socket.inet_ntop(socket.AF_INET6, ends[:16]), socket.inet_ntop(socket.AF_INET6, ends[16:])
    else:
        protocol, ends, rest = packet[9], packet[12:20], packet[20:]
        assert struct.unpack_from(">H", packet, 2) == (len(packet),)
        source, target = socket.inet_ntoa(ends[:4]), socket.inet_ntoa(ends[4:])
    from_port, to_port = struct.unpack_from(">HH", rest)
    if protocol == 17:
        return Packet(at_us, (source, from_port), (target, to_port), rest[8:])
    assert protocol == 6
    sequence, acknowledged, _, flags = struct.unpack_from(">IIBB", rest, 4)
    return Packet(at_us, (source, from_port), (target, to_port), rest[20:], sequence, acknowledged, flags)


def tell_notify(
    tracer: Tracer,
    data: bytes = NOTIFY,
    *,
    transport: Transport = Transport.UDP,
    local: Address = US,
    remote: Address = PHONE,
) -> None:
    """Trace a message that we sent."""
    tracer.message(data, transport=transport, local=local, remote=remote, sent=True, at_us=AT)


def tell_ok(
    tracer: Tracer,
    data: bytes = OK,
    *,
    transport: Transport = Transport.UDP,
    local: Address = US,
    remote: Address = PHONE,
) -> None:
    """Trace a message that we got, 0.1 s later."""
    tracer.message(data, transport=transport, local=local, remote=remote, sent=False, at_us=AT + 100_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a capture file may be made."""
    return tmp_path / "trace.pcap"


@contextmanager
def room_for(octets: int) -> Iterator[None]:
    """Let no file grow beyond that many bytes; nothing else may write meanwhile, the report of the tests included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Capture files.


def test_messages_go_both_ways_between_the_addresses_that_they_had(file: Path) -> None:
    with closing(PcapTrace(str(file))) as trace:
        tell_notify(trace)
        tell_ok(trace)
        tell_notify(trace, local=US6, remote=("fe80::7%lo", 5062))

    assert packets(file) == [
        Packet(AT, US, PHONE, NOTIFY),
        Packet(AT + 100_000, PHONE, US, OK),
        Packet(AT, US6, ("fe80::7", 5062), NOTIFY),
    ]


def test_every_message_is_in_the_file_at_once_and_whole(file: Path) -> None:
    trace = PcapTrace(str(file))
    assert packets(file) == []
    for number in range(1, 4):
        tell_notify(trace, transport=Transport.TCP)
        assert len(packets(file)) == number
    trace.close()


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
def test_sequence_numbers_of_a_connection_follow_each_other(file: Path, transport: Transport) -> None:
    with closing(PcapTrace(str(file))) as trace:
        for _ in range(2):
            tell_notify(trace, transport=transport)
            tell_ok(trace, transport=transport)

    first, answer, second, last = packets(file)
    start = AT // 4 % 2**32
    assert (first.sequence, first.acknowledged) == (start, start)
    assert (answer.sequence, answer.acknowledged) == (start, start + len(NOTIFY))
    assert (second.sequence, second.acknowledged) == (start + len(NOTIFY), start + len(OK))
    assert (last.sequence, last.acknowledged) == (start + len(OK), start + 2 * len(NOTIFY))
    assert [each.payload for each in (first, answer, second, last)] == [NOTIFY, OK, NOTIFY, OK]
    assert {each.flags for each in (first, answer, second, last)} == {0x18}  # PSH, ACK


def test_sequence_numbers_start_again_at_zero_after_the_last_one(file: Path) -> None:
    beginning = (2**32 - 10) * 4
    with closing(PcapTrace(str(file))) as trace:
        for sent in (True, False):
            trace.message(NOTIFY, transport=Transport.TCP, local=US, remote=PHONE, sent=sent, at_us=beginning)

    out, back = packets(file)
    assert (out.sequence, back.acknowledged) == (2**32 - 10, len(NOTIFY) - 10)


def test_connections_have_numbers_of_their_own(file: Path) -> None:
    with closing(PcapTrace(str(file))) as trace:
        tell_notify(trace, transport=Transport.TCP)
        tell_notify(trace, transport=Transport.TCP, remote=("192.0.2.8", 5060))
        tell_notify(trace, transport=Transport.TCP, local=("192.0.2.1", 5061))

    assert {each.sequence for each in packets(file)} == {AT // 4 % 2**32}


def test_a_forgotten_connection_goes_on_behind_what_it_has_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_pcap, "FLOWS", 1)
    with closing(PcapTrace(str(file))) as trace:
        tell_notify(trace, transport=Transport.TCP)
        tell_notify(trace, transport=Transport.TCP, remote=("192.0.2.8", 5060))
        trace.message(NOTIFY, transport=Transport.TCP, local=US, remote=PHONE, sent=True, at_us=AT + 1_000_000)
        assert len(trace._flows) == 1

    first, _, again = packets(file)
    assert again.sequence == first.sequence + 250_000


def test_a_message_too_long_for_an_ip_packet_is_two_segments(file: Path) -> None:
    long = NOTIFY + b"x" * 66_000
    with closing(PcapTrace(str(file))) as trace:
        tell_notify(trace, long, transport=Transport.TCP)
        tell_notify(trace, long, transport=Transport.TCP, local=US6, remote=PHONE6)

    one, two, *others = packets(file)
    assert one.payload + two.payload == long
    assert (one.flags, two.flags) == (0x10, 0x18)  # ACK, then PSH and ACK
    assert two.sequence == one.sequence + len(one.payload)
    assert b"".join(each.payload for each in others) == long


def test_checksum_of_the_example_in_rfc_1071() -> None:
    assert trace_pcap._checksum(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0xFFFF - 0xDDF2
    assert trace_pcap._checksum(bytes.fromhex("0001 f203 f4f5 f6")) == 0xFFFF - 0xDCFB
    assert trace_pcap._checksum(bytes.fromhex("ffff 0000")) == 0


def test_a_checksum_of_zero_is_sent_as_ones_by_udp_and_as_it_is_by_tcp(file: Path) -> None:
    """In RFC 768 a checksum of zero says that there is none."""
    carry = {transport: _checksum_of(transport, b"\0\0", file.with_suffix(f".{transport}")) for transport in Transport}

    assert _checksum_of(Transport.UDP, carry[Transport.UDP], file.with_suffix(".zero")) == b"\xff\xff"
    assert _checksum_of(Transport.TCP, carry[Transport.TCP], file) == b"\0\0"


def _checksum_of(transport: Transport, data: bytes, file: Path) -> bytes:
    with closing(PcapTrace(str(file))) as trace:
        tell_notify(trace, data, transport=transport)
    at = 24 + 16 + 20 + (6 if transport is Transport.UDP else 16)
    return file.read_bytes()[at : at + 2]


def test_only_the_owner_can_read_a_trace(file: Path) -> None:
    PcapTrace(str(file)).close()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_no_capture_is_refused_and_left_alone(file: Path) -> None:
    file.write_bytes(b"of last week")

    with pytest.raises(InputError) as caught:
        PcapTrace(str(file))

    assert str(caught.value) == f"--trace {file}: the file exists and is no capture of ours; name another one"
    assert file.read_bytes() == b"of last week"


def test_a_capture_that_exists_is_continued_also_by_two_at_once(file: Path) -> None:
    with closing(PcapTrace(str(file))) as first:
        tell_ok(first)
        with closing(PcapTrace(str(file))) as second:
            tell_ok(second)
            tell_ok(first)
    PcapTrace(str(file)).close()

    assert len(packets(file)) == 3


def test_a_capture_that_exists_is_not_removed_when_the_trace_is_given_up(file: Path) -> None:
    PcapTrace(str(file)).close()

    PcapTrace(str(file)).discard()

    assert file.exists()


def test_an_empty_file_of_somebody_else_is_not_removed_when_another_place_cannot_be_used(file: Path) -> None:
    file.touch()

    with pytest.raises(InputError):
        open_trace([str(file), str(file.parent / "missing" / "trace.pcap")])

    assert file.exists()


def test_an_empty_file_becomes_a_capture(file: Path) -> None:
    file.touch()

    with closing(PcapTrace(str(file))) as trace:
        tell_ok(trace)

    assert len(packets(file)) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/trace.pcap", "No such file or directory"),
        (".", "Is a directory"),
        ("", "Is a directory"),
        ("x" * 300, "File name too long"),
        ("a\0b", "a NUL in the name"),
    ],
)
def test_a_file_that_cannot_be_made_is_an_error_at_once(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        PcapTrace(f"{tmp_path}/{name}")

    assert str(caught.value) == (
        f"--trace {tmp_path}/{name}: {reason}; name a file that can be made, or hep:HOST for a Homer collector"
    )


def test_a_full_disk_is_an_error_at_once() -> None:
    with pytest.raises(InputError, match=r"^--trace /dev/full: No space left on device; "):
        PcapTrace("/dev/full")


@pytest.mark.parametrize(("room", "reason"), [(0, "File too large"), (10, "no room for a whole packet")])
def test_a_file_that_cannot_even_be_begun_is_not_left_behind(file: Path, room: int, reason: str) -> None:
    with room_for(room), pytest.raises(InputError, match=reason):
        PcapTrace(str(file))
    assert not file.exists()


def test_a_disk_that_fills_up_ends_the_trace_after_the_last_whole_packet(file: Path) -> None:
    with closing(PcapTrace(str(file))) as trace:
        tell_notify(trace)
        with room_for(file.stat().st_size + 100):
            tell_ok(trace)
            tell_ok(trace)

    assert packets(file) == [Packet(AT, US, PHONE, NOTIFY)]
    assert trace.lost == 2


def test_the_end_of_a_trace_is_told_once(file: Path) -> None:
    said: list[str] = []
    trace = PcapTrace(str(file), tell=said.append)
    tell_notify(trace)
    with Path("/dev/full").open("wb") as nowhere:
        os.dup2(nowhere.fileno(), trace._file)
    for _ in range(3):
        tell_ok(trace)
    trace.close()

    assert said == [f"the trace {file} ends here: No space left on device. The rollout goes on without it"]
    assert trace.lost == 3


@pytest.mark.parametrize(
    ("data", "transport", "local", "remote"),
    [
        (b"x" * 65_508, Transport.UDP, US, PHONE),
        (NOTIFY, Transport.UDP, US, PHONE6),
        (NOTIFY, Transport.TLS, US6, PHONE),
        (NOTIFY, Transport.TCP, ("phone.example", 5060), PHONE),
        (NOTIFY, Transport.TCP, US, ("192.0.2.7", 65_536)),
    ],
    ids=["too large for UDP", "IPv4 to IPv6", "IPv6 to IPv4", "no address", "no port"],
)
def test_what_no_packet_can_carry_is_counted_and_told_at_the_end(
    file: Path, data: bytes, transport: Transport, local: Address, remote: Address
) -> None:
    said: list[str] = []
    trace = PcapTrace(str(file), tell=said.append)
    tell_notify(trace, data, transport=transport, local=local, remote=remote)
    tell_notify(trace)
    trace.close()
    trace.close()

    assert packets(file) == [Packet(AT, US, PHONE, NOTIFY)]
    assert said == [f"the trace {file} is not complete; messages missing: 1"]


def test_messages_after_the_end_are_lost_without_an_error(file: Path) -> None:
    trace = PcapTrace(str(file))
    trace.close()
    tell_notify(trace)

    assert packets(file) == []
    assert trace.lost == 1


def test_a_pipe_is_read_live(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with closing(PcapTrace(str(pipe))) as trace:
        tell_notify(trace)
        read = os.read(reader, 65_536)
    os.close(reader)

    assert len(read) == 24 + 16 + 28 + len(NOTIFY)
    assert read.endswith(NOTIFY)


def test_a_pipe_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(InputError, match=r"pipe: nobody reads this pipe; start what shall read it first$"):
        PcapTrace(str(pipe))


def test_a_slow_reader_of_a_pipe_misses_whole_packets_and_stops_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    said: list[str] = []
    with closing(PcapTrace(str(pipe), tell=said.append)) as trace:
        for _ in range(2_000):
            tell_notify(trace)
        read = _all_that_waits_in(reader)
        tell_ok(trace)
        read += _all_that_waits_in(reader)
    os.close(reader)
    copy = tmp_path / "copy.pcap"
    copy.write_bytes(read)

    written = packets(copy)
    assert written[-1].payload == OK
    assert 0 < trace.lost == 2_001 - len(written)
    assert said == [f"the trace {pipe} is not complete; messages missing: {trace.lost}"]


def _all_that_waits_in(reader: int) -> bytes:
    read = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(reader, 65_536):
            read += part
    return read


def test_a_reader_that_leaves_ends_the_trace(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    said: list[str] = []
    with closing(PcapTrace(str(pipe), tell=said.append)) as trace:
        os.close(reader)
        tell_notify(trace)

    assert said == [f"the trace {pipe} ends here: Broken pipe. The rollout goes on without it"]


# Homer collectors.


def test_example_of_the_specification_byte_for_byte() -> None:
    """HEP3 Network Protocol Specification, rev. 37, "Example HEP3 packet"."""
    packet = encapsulate(
        b"INVITE sip:bob",
        17,
        ("212.202.0.1", 12010),
        ("82.116.0.211", 5060),
        at_us=1_313_440_459_120_000,
        capture_id=228,
    )

    assert packet == bytes.fromhex(
        "48455033 0071"
        " 0000 0001 0007 02"
        " 0000 0002 0007 11"
        " 0000 0003 000a d4ca0001"
        " 0000 0004 000a 527400d3"
        " 0000 0007 0008 2eea"
        " 0000 0008 0008 13c4"
        " 0000 0009 000a 4e4982cb"
        " 0000 000a 000a 0001d4c0"
        " 0000 000b 0007 01"
        " 0000 000c 000a 000000e4"
        " 0000 000f 0014 494e56495445207369703a626f62"
    )


def test_ipv6_has_chunks_of_its_own() -> None:
    packet = encapsulate(NOTIFY, 6, US6, PHONE6, at_us=AT, capture_id=1)

    assert packet[6:13] == bytes.fromhex("0000 0001 0007 0a")
    assert packet[20:42] == bytes.fromhex("0000 0005 0016 20010db8 00000000 00000000 00000001")
    assert packet[42:64] == bytes.fromhex("0000 0006 0016 20010db8 00000000 00000000 00000007")


@pytest.fixture
def homer() -> Iterator[socket.socket]:
    """A socket in the place of a collector."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(5.0)
        yield collector


@pytest.mark.parametrize(("transport", "number"), [("udp", 17), ("tcp", 6), ("tls", 22)])
def test_collector_is_told_the_transport(homer: socket.socket, transport: str, number: int) -> None:
    with closing(HepTrace(f"hep:127.0.0.1:{homer.getsockname()[1]}")) as trace:
        tell_notify(trace, transport=Transport(transport))
        tell_ok(trace, transport=Transport(transport))

    assert homer.recv(65_535) == encapsulate(NOTIFY, number, US, PHONE, at_us=AT, capture_id=3265)
    assert homer.recv(65_535) == encapsulate(OK, number, PHONE, US, at_us=AT + 100_000, capture_id=3265)


def test_capture_id_of_the_url_comes_first(homer: socket.socket) -> None:
    with closing(HepTrace(f"hep:7@127.0.0.1:{homer.getsockname()[1]}", capture_id=8)) as trace:
        tell_notify(trace)

    assert homer.recv(65_535) == encapsulate(NOTIFY, 17, US, PHONE, at_us=AT, capture_id=7)


def test_sending_a_copy_does_not_wait(homer: socket.socket) -> None:
    with closing(HepTrace(f"hep:127.0.0.1:{homer.getsockname()[1]}")) as trace:
        assert not trace._socket.getblocking()


@pytest.mark.parametrize(
    ("url", "collector"),
    [
        ("hep:homer.example", Collector("homer.example", 9060)),
        ("HEP://homer.example/", Collector("homer.example", 9060)),
        ("hep:192.0.2.9:9061", Collector("192.0.2.9", 9061)),
        ("hep://[2001:db8::9]:1", Collector("2001:db8::9", 1)),
        ("hep:[::1]", Collector("::1", 9060)),
        ("hep:2001@homer", Collector("homer", 9060, 2001)),
        ("hep://0@homer:65535", Collector("homer", 65535, 0)),
    ],
)
def test_url_of_a_collector(url: str, collector: Collector) -> None:
    assert parse_collector(url) == collector


@pytest.mark.parametrize(
    "url",
    [
        "hep:",
        "hep://",
        "hep:homer:",
        "hep:homer:0",
        "hep:homer:65536",
        "hep:homer:90a",
        "hep:2001:db8::9",
        "hep:[2001:db8::9",
        "hep:[]",
        "hep:me@homer",
        "hep:4294967296@homer",
        "hep:homer/path",
        "hep:homer?id=1",
        "hep: homer",
        "hep:homer\n",
        "heps:homer",
        "homer:9060",
        "",
    ],
)
def test_a_bad_url_of_a_collector_names_the_option_and_the_form(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_collector(url)

    assert str(caught.value) == (
        f"--trace {url}: not the URL of a Homer collector; write hep:HOST, hep:HOST:PORT or"
        " hep:CAPTURE_ID@HOST:PORT, an IPv6 address in brackets"
    )


@given(st.text(alphabet="hep:/@[].0159af-é\n", max_size=30))
def test_no_url_is_more_than_refused(rest: str) -> None:
    try:
        collector = parse_collector("hep:" + rest)
    except InputError:
        return
    assert collector.host
    assert 0 < collector.port < 65_536


def test_a_name_that_does_not_resolve_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(
        TransportError, match=r"^--trace hep:homer: homer cannot be resolved \(.*Name or service not known\);"
    ):
        HepTrace("hep:homer")


def test_an_address_without_a_way_to_it_is_an_error_at_once() -> None:
    with pytest.raises(
        TransportError, match=r"^--trace hep:255\.255\.255\.255: there is no way to 255\.255\.255\.255 "
    ):
        HepTrace("hep:255.255.255.255")


def test_a_collector_that_is_not_there_is_told_once_and_costs_nothing() -> None:
    said: list[str] = []
    url = f"hep:127.0.0.1:{free_udp_port()}"
    trace = HepTrace(url, tell=said.append)
    for _ in range(10):
        tell_notify(trace)
    lost = trace.lost
    trace.close()
    trace.close()
    tell_notify(trace)

    assert 0 < lost <= 10
    assert said == [
        f"no collector listens at {url}. The rollout goes on, and copies are still sent there",
        f"the trace at {url} is not complete; messages missing: {lost}",
    ]


def test_a_collector_that_starts_late_gets_what_is_sent_from_then_on() -> None:
    port = free_udp_port()
    with closing(HepTrace(f"hep:127.0.0.1:{port}")) as trace:
        tell_notify(trace)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.bind(("127.0.0.1", port))
            late.settimeout(5.0)
            tell_ok(trace)

            assert late.recv(65_535).endswith(OK)
        assert trace.lost == 1


@pytest.mark.parametrize(
    ("data", "local"),
    [(b"x" * 65_420, US), (b"x" * 66_000, US), (NOTIFY, US6), (NOTIFY, ("phone.example", 5060))],
    ids=["too large for UDP", "too large for HEP", "IPv6 to IPv4", "no address"],
)
def test_what_a_collector_cannot_be_sent_is_counted(homer: socket.socket, data: bytes, local: Address) -> None:
    with closing(HepTrace(f"hep:127.0.0.1:{homer.getsockname()[1]}")) as trace:
        tell_notify(trace, data, local=local)
        tell_ok(trace)

        assert homer.recv(65_535).endswith(OK)
        assert trace.lost == 1


# What the option says.


def test_no_place_is_no_trace() -> None:
    assert open_trace([]) is None


def test_a_trace_to_several_places_is_complete_in_each(tmp_path: Path, homer: socket.socket) -> None:
    one, two = tmp_path / "one.pcap", tmp_path / "two.pcap"
    trace = open_trace([str(one), f"hep:127.0.0.1:{homer.getsockname()[1]}", str(two)])
    assert trace is not None
    tell_notify(trace)
    trace.close()

    assert packets(one) == packets(two) == [Packet(AT, US, PHONE, NOTIFY)]
    assert homer.recv(65_535).endswith(NOTIFY)


@pytest.mark.parametrize("bad", ["hep:homer:0", "{}/missing/two.pcap", "hep:255.255.255.255"])
def test_a_place_that_cannot_be_used_leaves_nothing_behind(tmp_path: Path, bad: str) -> None:
    with pytest.raises((InputError, TransportError), match=r"^--trace "):
        open_trace([str(tmp_path / "one.pcap"), bad.format(tmp_path)])

    assert list(tmp_path.iterdir()) == []


def test_a_url_of_another_kind_is_not_taken_for_a_file() -> None:
    with pytest.raises(InputError) as caught:
        open_trace(["http://homer.example:9060"])

    assert str(caught.value) == (
        "--trace http://homer.example:9060: neither a file nor a Homer collector, which is hep:HOST[:PORT]"
    )


def test_what_goes_wrong_with_any_place_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    file = str(tmp_path / "trace.pcap")
    trace = open_trace([file, f"hep:127.0.0.1:{free_udp_port()}"], tell=said.append)
    assert trace is not None
    tell_notify(trace, remote=PHONE6)
    trace.close()

    assert said[0] == f"the trace {file} is not complete; messages missing: 1"
    assert said[1].startswith("the trace at hep:127.0.0.1:")
