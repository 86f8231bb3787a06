"""Messages as copies to a Homer collector, in version 3 of its encapsulation (HEP), over UDP.

Format: "HEP3 Network Protocol Specification", rev. 37, of the sipcapture project, which Kamailio, OpenSIPS, FreeSWITCH and
Asterisk send too. A collector that is slow, gone or never there costs a system call for each message and nothing else.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from resyncctl.errors import InputError, TransportError
from resyncctl.sip.hop import Transport
from resyncctl.sip.uas import Address

PORT: Final = 9060
"""Where Homer listens."""
CAPTURE_ID: Final = 3265
"""What the collector knows us by, unless told: after the RFC that NOTIFY comes from."""
_PREFIX: Final = "hep:"
_PLACE: Final = re.compile(r"(?:(\d{1,10})@)?(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+))(?::(\d{1,5}))?", re.ASCII)
_HEAD: Final = struct.Struct(">4sH")
_CHUNK: Final = struct.Struct(">HHH")
_IPV4: Final = 2
_IPV6: Final = 10
"""AF_INET and AF_INET6 as Linux numbers them, on whatever system."""
_PROTOCOLS: Final = {Transport.UDP: 17, Transport.TCP: 6}
_TLS: Final = 22
"""No protocol number says TLS. Kamailio sends this one, and Homer's web page shows it as TLS."""
_SIP: Final = 1


class Collector(NamedTuple):
    """A collector's address. `capture_id` is None when the URL names none."""

    host: str
    port: int = PORT
    capture_id: int | None = None


def is_collector(where: str) -> bool:
    """Tell a collector's URL from the name of a file."""
    return where[: len(_PREFIX)].lower() == _PREFIX


def parse_collector(url: str) -> Collector:
    """Read `hep:[CAPTURE_ID@]HOST[:PORT]`, also with `//` before the host; raise InputError for anything else."""
    matched = _PLACE.fullmatch(url[len(_PREFIX) :].removeprefix("//").removesuffix("/")) if is_collector(url) else None
    number, port = (int(matched[1] or -1), int(matched[4] or PORT)) if matched else (-1, 0)
    if matched is None or not 0 < port <= 0xFFFF or number > 0xFFFFFFFF:
        raise InputError(
            f"--trace {url[:80]}: not the URL of a Homer collector; write hep:HOST, hep:HOST:PORT or"
            " hep:CAPTURE_ID@HOST:PORT, an IPv6 address in brackets"
        )
    return Collector(matched[2] or matched[3], port, None if number < 0 else number)


class HepTrace:
    """Sends copies of messages to a collector."""

    def __init__(self, url: str, *, capture_id: int = CAPTURE_ID, tell: Callable[[str], None] | None = None) -> None:
        """Resolve the collector's name, once, and open a socket: raises InputError for a bad URL, TransportError without a way.

        `capture_id` is for a URL that names none. `tell` gets a sentence when the collector's machine first says that
        nobody listens, and one at the end when copies were lost.
        """
        collector = parse_collector(url)
        self.url = url
        self.lost = 0
        """Copies that are known not to have arrived."""
        self._capture_id = capture_id if collector.capture_id is None else collector.capture_id
        self._tell = tell
        self._refused = False
        self._closed = False
        self._socket = _connected(url, collector)

    def message(
        self, data: bytes, *, transport: Transport, local: Address, remote: Address, sent: bool, at_us: int
    ) -> None:
        """Send a copy of one message; see `trace.Tracer.message`. Measured: 5 to 6 µs for 600 bytes."""
        source, target = (local, remote) if sent else (remote, local)
        protocol = _PROTOCOLS.get(transport, _TLS)
        try:
            packet = encapsulate(data, protocol, source, target, at_us=at_us, capture_id=self._capture_id)
        except (OSError, struct.error):  # an address of another IP version or of none, a message too large
            self.lost += 1
            return
        for _ in range(2):
            try:
                self._socket.send(packet)
            except ConnectionRefusedError:  # the answer to an earlier copy; this one was not sent and is tried again
                self._refuse()
            except OSError:
                break
            else:
                return
        self.lost += 1

    def close(self) -> None:
        """Close the socket, and tell if copies were lost; idempotent."""
        if not self._closed:
            self._closed = True
            self._socket.close()
            if self.lost:
                self._say(f"the trace at {self.url} is not complete; messages missing: {self.lost}")

    discard = close

    def _refuse(self) -> None:
        self.lost += 1
        if not self._refused:
            self._refused = True
            self._say(f"no collector listens at {self.url}. The rollout goes on, and copies are still sent there")

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(text)


def _connected(url: str, collector: Collector) -> socket.socket:
    """Return a socket that sends to the first address of the collector that there is a way to; raise TransportError."""
    last: OSError | None = None
    try:
        found = socket.getaddrinfo(collector.host, collector.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise TransportError(
            f"--trace {url}: {collector.host} cannot be resolved ({error}); write a name that this machine knows, or an address"
        ) from error
    for family, kind, protocol, _, address in found:
        opened = None
        try:
            opened = socket.socket(family, kind, protocol)
            opened.setblocking(False)
            opened.connect(address)
        except OSError as error:
            last = error
            if opened is not None:
                opened.close()
        else:
            return opened
    raise TransportError(f"--trace {url}: there is no way to {collector.host} from this machine ({last})") from last


def encapsulate(data: bytes, protocol: int, source: Address, target: Address, *, at_us: int, capture_id: int) -> bytes:
    """Return a HEP packet; raise OSError for what is no address or of two IP versions, struct.error for too many bytes.

    `protocol` is that of IP, `at_us` microseconds since the Unix epoch.
    """
    six = ":" in source[0]
    family = socket.AF_INET6 if six else socket.AF_INET
    seconds, micros = divmod(at_us, 1_000_000)
    chunks = b"".join(
        (
            _chunk(1, (_IPV6 if six else _IPV4).to_bytes()),
            _chunk(2, protocol.to_bytes()),
            _chunk(5 if six else 3, socket.inet_pton(family, source[0].partition("%")[0])),
            _chunk(6 if six else 4, socket.inet_pton(family, target[0].partition("%")[0])),
            _chunk(7, struct.pack(">H", source[1])),
            _chunk(8, struct.pack(">H", target[1])),
            _chunk(9, struct.pack(">I", seconds)),
            _chunk(10, struct.pack(">I", micros)),
            _chunk(11, _SIP.to_bytes()),
            _chunk(12, struct.pack(">I", capture_id)),
            _chunk(15, data),
        )
    )
    return _HEAD.pack(b"HEP3", _HEAD.size + len(chunks)) + chunks


def _chunk(kind: int, content: bytes) -> bytes:
    """Return a chunk; vendor 0 is for the kinds of the specification itself."""
    return _CHUNK.pack(0, kind, _CHUNK.size + len(content)) + content
