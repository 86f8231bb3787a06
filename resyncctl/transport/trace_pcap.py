"""A capture file of the messages that were sent and received, as Wireshark, tshark and sngrep open it.

Every message becomes an IP packet with its real addresses and ports. The link type is 101, which is IP without a link layer:
an Ethernet header would have to be invented.

- UDP: one datagram.
- TCP: a segment of the connection between the two addresses, with sequence and acknowledgement numbers that follow each
  other in both directions. A message is one segment, as long as an IP packet can carry it: so does a capture look on a
  machine whose network card does the segmenting, and nothing has to be reassembled.
- TLS: the decrypted text, as segments of the TCP connection that it passed in encrypted. Wireshark's TLS dissector, which
  has port 5061, leaves alone what begins with four printable characters, as no TLS record does, and the SIP dissector
  takes it; sngrep looks for SIP in all TCP.

What was never seen here is written as zero or as a usual value: TTL 64, no fragments, a full window, no handshake.
Formats: draft-ietf-opsawg-pcap 4 and 5, RFC 791 3.1, RFC 8200 3, RFC 768, RFC 9293 3.1; checksums as in RFC 1071.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from resyncctl.errors import InputError
from resyncctl.sip.hop import Transport
from resyncctl.sip.uas import Address

_FILE: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101)
"""The head of the file: timestamps in microseconds, version 2.4, UTC, longest packet, link type."""
_RECORD: Final = struct.Struct("<IIII")
_IPV4: Final = struct.Struct(">BBHHHBBH")
_IPV6: Final = struct.Struct(">IHBB")
_UDP: Final = struct.Struct(">HHHH")
_TCP: Final = struct.Struct(">HHIIBBHHH")
_PSEUDO: Final = struct.Struct(">II")
_TTL: Final = 64
_WHOLE: Final = 0x4000
"""Do not fragment; the identification may be zero then (RFC 6864 4.1)."""
_LARGEST_DATAGRAM: Final = 65_507
"""65,535 without the headers of IPv4 and UDP."""
_LARGEST_SEGMENT: Final = 65_495
"""65,535 without the headers of IPv4 and TCP."""
_ACK: Final = 0x10
_PSH: Final = 0x08
_SEQUENCES: Final = 0xFFFFFFFF
FLOWS: Final = 10_000
"""Connections whose sequence numbers are remembered; a forgotten one goes on with a gap. About 300 bytes each."""


class PcapTrace:
    """Writes a capture file, record by record: killing the process at any time leaves a whole file."""

    def __init__(self, path: str, *, tell: Callable[[str], None] | None = None) -> None:
        """Make the file, which only its owner may read: it may hold names and digest answers. Raises InputError.

        A capture of ours that exists is continued, also by several processes at once; another file is not touched. A named
        pipe or a device is written to: Wireshark reads a pipe live.
        `tell` gets a sentence, once, when the trace ends early or is not complete.
        """
        self.path = path
        self.lost = 0
        """Messages that are not in the file."""
        self._tell = tell
        self._file, headless, self._made = _open(path)
        self._flows: dict[tuple[Address, Address], list[int]] = {}
        """By local and remote address: the sequence number of the next byte that is sent, and that is received."""
        fault = _append(self._file, _FILE) if headless else None
        if fault is not None:
            self.discard()
            raise _refusal(path, fault) from fault

    def message(
        self, data: bytes, *, transport: Transport, local: Address, remote: Address, sent: bool, at_us: int
    ) -> None:
        """Write one message; see `trace.Tracer.message`. Measured: 6 to 9 µs for 600 bytes."""
        source, target = (local, remote) if sent else (remote, local)
        try:
            if transport is Transport.UDP:
                record = _record(_datagram(source, target, data), at_us)
            else:
                numbers = self._numbers(local, remote, sent=sent, length=len(data), at_us=at_us)
                record = b"".join(_record(packet, at_us) for packet in _segments(source, target, data, numbers))
        except (OSError, ValueError, struct.error):  # an address of another IP version or of none, a datagram too large
            self.lost += 1
            return
        self._write(record)

    def close(self) -> None:
        """Close the file, and tell if it lacks messages; idempotent."""
        if self._file >= 0:
            self._release()
            if self.lost:
                self._say(f"the trace {self.path} is not complete; messages missing: {self.lost}")

    def discard(self) -> None:
        """Close the file and remove it, if it is one that we made."""
        if self._file >= 0:
            self._release()
            if self._made:
                with contextlib.suppress(OSError):
                    Path(self.path).unlink()

    def _numbers(self, local: Address, remote: Address, *, sent: bool, length: int, at_us: int) -> tuple[int, int]:
        """Return the sequence and acknowledgement number of a message and count its bytes.

        A connection begins with numbers by the clock, 250,000 in a second (RFC 9293 3.4.1): one that was forgotten goes on
        behind what it has used, and is not taken for retransmissions.
        """
        flow = self._flows.get((local, remote))
        if flow is None:
            if len(self._flows) >= FLOWS:
                del self._flows[next(iter(self._flows))]
            flow = self._flows[local, remote] = [at_us // 4 & _SEQUENCES] * 2
        way = 0 if sent else 1
        number = flow[way]
        flow[way] = (number + length) & _SEQUENCES
        return number, flow[1 - way]

    def _write(self, record: bytes) -> None:
        """Write whole records, or nothing of them; a file that takes no more ends the trace."""
        if self._file < 0:
            self.lost += 1
            return
        fault = _append(self._file, record)
        if fault is None:
            return
        if isinstance(fault, BlockingIOError):  # a pipe that is not read fast enough
            self.lost += 1
        else:
            self._end(fault.strerror or str(fault))

    def _end(self, reason: str) -> None:
        self.lost += 1
        self._release()
        self._say(f"the trace {self.path} ends here: {reason}. The rollout goes on without it")

    def _release(self) -> None:
        closing, self._file = self._file, -1
        with contextlib.suppress(OSError):  # of a network file system: what was written before is lost
            os.close(closing)

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(text)


def _open(path: str) -> tuple[int, bool, bool]:
    """Open the file; say whether it needs a head, and whether it was made. Raises InputError."""
    try:
        try:
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600), True, True
        except FileExistsError:
            pass
        if not Path(path).is_file():
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK), True, False  # without it a pipe could stop the rollout
        with Path(path).open("rb") as there:
            head = there.read(len(_FILE))
        if head and head != _FILE:
            raise InputError(f"--trace {path}: the file exists and is no capture of ours; name another one")
        return os.open(path, os.O_WRONLY | os.O_APPEND), not head, False
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


def _refusal(path: str, error: OSError | ValueError) -> InputError:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else "a NUL in the name"
    if isinstance(error, OSError) and error.errno == errno.ENXIO:
        return InputError(f"--trace {path}: nobody reads this pipe; start what shall read it first")
    return InputError(f"--trace {path}: {reason}; name a file that can be made, or hep:HOST for a Homer collector")


def _append(file: int, content: bytes) -> OSError | None:
    """Write all of it or nothing, in one go; return what went wrong, None for nothing."""
    try:
        written = os.write(file, content)
    except OSError as error:
        return error
    if written == len(content):
        return None
    with contextlib.suppress(OSError):  # a device cannot be cut
        os.ftruncate(file, os.fstat(file).st_size - written)
    return OSError(errno.ENOSPC, "no room for a whole packet")


def _record(packet: bytes, at_us: int) -> bytes:
    return _RECORD.pack(*divmod(at_us, 1_000_000), len(packet), len(packet)) + packet


def _datagram(source: Address, target: Address, data: bytes) -> bytes:
    """Return an IP packet with a UDP datagram; raise ValueError when it is too large for one."""
    if len(data) > _LARGEST_DATAGRAM:
        raise ValueError("too large for a UDP datagram")
    addresses = _addresses(source, target)
    length = _UDP.size + len(data)
    head = _UDP.pack(source[1], target[1], length, 0)
    checksum = _checksum(b"".join((addresses, _PSEUDO.pack(length, socket.IPPROTO_UDP), head, data))) or 0xFFFF
    return b"".join((_ip(addresses, socket.IPPROTO_UDP, length), head[:6], checksum.to_bytes(2), data))


def _segments(source: Address, target: Address, data: bytes, numbers: tuple[int, int]) -> Iterator[bytes]:
    """Yield IP packets with the TCP segments of one message, the last one with PSH."""
    addresses = _addresses(source, target)
    number, acknowledged = numbers
    for start in range(0, len(data), _LARGEST_SEGMENT):
        part = data[start : start + _LARGEST_SEGMENT]
        flags = _ACK | _PSH if start + len(part) == len(data) else _ACK
        sequence = (number + start) & _SEQUENCES
        head = _TCP.pack(source[1], target[1], sequence, acknowledged, 5 << 4, flags, 0xFFFF, 0, 0)
        length = len(head) + len(part)
        checksum = _checksum(b"".join((addresses, _PSEUDO.pack(length, socket.IPPROTO_TCP), head, part)))
        yield b"".join((_ip(addresses, socket.IPPROTO_TCP, length), head[:16], checksum.to_bytes(2), head[18:], part))


def _addresses(source: Address, target: Address) -> bytes:
    """Return both addresses as in an IP header; raise OSError for what is no address, or of two IP versions."""
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    return socket.inet_pton(family, source[0].partition("%")[0]) + socket.inet_pton(family, target[0].partition("%")[0])


def _ip(addresses: bytes, protocol: int, length: int) -> bytes:
    """Return the IP header in front of `length` bytes."""
    if len(addresses) == 32:
        return _IPV6.pack(6 << 28, length, protocol, _TTL) + addresses
    head = _IPV4.pack(0x45, 0, 20 + length, 0, _WHOLE, _TTL, protocol, 0)
    return b"".join((head[:10], _checksum(head + addresses).to_bytes(2), addresses))


def _checksum(words: bytes) -> int:
    """Return the checksum of RFC 1071: the remainder by 65,535 is the sum in ones' complement."""
    return -int.from_bytes(words + b"\0" if len(words) & 1 else words) % 0xFFFF
