"""SIPp 3.6.1 as a phone: one process serves any number of calls from one scenario of `scenarios/`.

What we saw of this SIPp, and what it means for a test:

- It answers to the address that the *first* datagram of a call came from, whatever Via says; it adds neither
  `received` nor a value to `rport`. One Call-ID is one call.
- A retransmission is recognised when the whole message is equal, and answered with what was sent for it. A call that
  has ended answers nothing; therefore calls stay for `linger` seconds, Timer J of RFC 3261 17.2.2.
- `verifyauth` knows MD5 only and reads the Authorization field only, never Proxy-Authorization; it does not compare
  the nonce with the one of the challenge (our scenario does).
- Over TCP it serves any number of connections and answers on the one that a request came on; it does not answer the
  keep-alive CRLF CRLF. A call fails when its connection is closed before it has ended. Debian's SIPp has no TLS, and its
  action `closecon` ends the process of a server.
- Its message log carries a time with microseconds but no source address.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tests.peers.digest import Credentials, DigestInput, digest_response
from tests.peers.message import TracedMessage
from tests.peers.plain_client import host_port
from tests.peers.ports import free_port, udp_port_is_open
from tests.peers.process import ServerProcess

SCENARIOS = Path(__file__).with_name("scenarios")
NONCE = "5c2f9a61e0b84d37"
REALM = "phone.test"
OK = "SIP/2.0 200 OK"
LONGEST_LIFE = 1800
"""Seconds after which SIPp ends by itself, in case that the tests were killed."""

_TRACE = re.compile(
    r"^-{20,} (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)\n"
    r"\w+ message (?P<direction>received|sent) [\[(]\d+[\])]? ?bytes\)? ?:\n\n",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file of `scenarios/` (without .xml) with the values of its keys and of its global numbers."""

    file: str
    keys: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    status_line: str = OK
    """What replaces `SIP/2.0 200 OK`; SIPp accepts no key in a status line."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """Other text of the file that is replaced, where SIPp accepts no key either."""


def answers(status: int = 200, reason: str = "OK") -> Scenario:
    """Give every NOTIFY this final answer."""
    return Scenario("answer", status_line=f"SIP/2.0 {status} {reason}")


def trying_then_ok(*, pause: float = 1.5) -> Scenario:
    """Answer 100 at once and 200 after `pause` seconds."""
    return Scenario("trying_then_ok", numbers={"delay": round(pause * 1000)})


def busy_then_ok(*, refusals: int = 1, retry_after: int = 2) -> Scenario:
    """Answer 503 with Retry-After (seconds) to the first `refusals` requests of the process, 200 to all others."""
    return Scenario("busy_then_ok", {"retry_after": str(retry_after)}, {"refusals": refusals})


def silent() -> Scenario:
    """Receive and never answer."""
    return Scenario("silent")


def challenge_verified(credentials: Credentials, *, realm: str = REALM, algorithm: str = "MD5") -> Scenario:
    """Challenge with 401 and qop="auth"; SIPp's verifyauth judges: 200 when right, 403 when wrong.

    With `algorithm="SHA-256"` this SIPp refuses every answer (403): it can only verify MD5.
    """
    keys = {"username": credentials.username, "password": credentials.password}
    return Scenario("challenge_verified", {**keys, "realm": realm, "nonce": NONCE, "algorithm": algorithm})


def challenge_expected(
    credentials: Credentials,
    uri: str,
    *,
    status: Literal[401, 407] = 407,
    realm: str = REALM,
    algorithm: str = "MD5",
) -> Scenario:
    """Challenge with 401 or 407 and without qop; 200 for the one right response, 403 for any other.

    `uri` is the digest URI that the client will use (its Request-URI). The right response is computed here with
    hashlib, because SIPp 3.6.1 can verify neither Proxy-Authorization nor SHA-256.
    """
    expected = digest_response(credentials, DigestInput(realm=realm, nonce=NONCE, uri=uri, algorithm=algorithm))
    keys = {"realm": realm, "nonce": NONCE, "algorithm": algorithm, "expected": expected}
    return Scenario(f"challenge_expected_{status}", keys)


def challenge_again(credentials: Credentials, uri: str, *, status: Literal[401, 407] = 401) -> Scenario:
    """Challenge (MD5, without qop) whatever lacks the one right response, wrong ones too; 200 for the right one.

    `uri` as for `challenge_expected`, where a wrong response is refused with 403 instead.
    """
    expected = digest_response(credentials, DigestInput(realm=REALM, nonce=NONCE, uri=uri))
    keys = {"realm": REALM, "nonce": NONCE, "algorithm": "MD5", "expected": expected}
    proxy = {
        "401 Unauthorized": "407 Proxy Authentication Required",
        "WWW-Authenticate:": "Proxy-Authenticate:",
        "Authorization:": "Proxy-Authorization:",
    }
    return Scenario("challenge_again", keys, instead=proxy if status == 407 else {})


def challenge_stale(credentials: Credentials, uri: str) -> Scenario:
    """Challenge (MD5, without qop), call the answer's nonce stale, and accept only the answer to the second nonce."""
    expected = digest_response(credentials, DigestInput(realm=REALM, nonce=NONCE, uri=uri))
    return Scenario("challenge_stale", {"realm": REALM, "nonce": NONCE, "expected": expected})


def challenge_choice(credentials: Credentials, uri: str) -> Scenario:
    """Offer an algorithm that nobody has, SHA-256 and MD5, in this order (RFC 8760 2.3); accept SHA-256 only."""
    scenario = challenge_expected(credentials, uri, status=401, algorithm="SHA-256")
    field_name, rest = "WWW-Authenticate: Digest ", 'realm="[realm]", nonce="[nonce]", algorithm='
    given = f'{rest}[algorithm], opaque="b3BhcXVl"'
    offered = [f"{rest}SHA-9000", given, f"{rest}MD5"]
    return replace(scenario, instead={field_name + given: "\n".join(field_name + one for one in offered)})


@dataclass(frozen=True, slots=True)
class SippCounts:
    """SIPp's own statistics, as of its last line (it writes one each second and at its end).

    A call is successful or failed only when it has ended, `linger` seconds after its last message.
    """

    calls: int
    successful: int
    failed: int
    retransmissions: int
    """Answers that SIPp sent again because a request came again."""
    unexpected: int


class SippPhone(ServerProcess):
    """SIPp as a UAS on a port of `host`: `with SippPhone(answers(200)) as phone`."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        linger: float = 32.0,
        trace: bool = True,
        transport: Literal["udp", "tcp"] = "udp",
    ) -> None:
        """Prepare SIPp for one scenario, on a free port unless one is given.

        `linger`: seconds that a call waits for more after its last message. `trace=False` writes no message log,
        for load: then only `counts()` works.
        """
        super().__init__("sipp")
        self.host = host
        self.port = free_port(host) if port is None else port
        self._scenario = scenario
        self._linger = linger
        self._trace = trace
        self._transport = transport

    @property
    def address(self) -> tuple[str, int]:
        """Where the phone listens."""
        return self.host, self.port

    def uri(self, user: str = "100") -> str:
        """Return a contact URI of this phone."""
        parameter = "" if self._transport == "udp" else f";transport={self._transport}"
        return f"sip:{user}@{host_port(self.address)}{parameter}"

    def wait_until_ready(self) -> None:
        """Block until its socket is open."""
        is_open = udp_port_is_open if self._transport == "udp" else _tcp_port_is_open
        self.wait_until(lambda: is_open(self.port), f"opening {self._transport} port {self.port}")

    def command(self) -> list[str]:
        """Write the scenario and return the command."""
        control, media = free_port(), free_port(self.host, adjacent=4)
        original = (SCENARIOS / f"{self._scenario.file}.xml").read_text(encoding="ascii")
        for text, replacement in {**self._scenario.instead, OK: self._scenario.status_line}.items():
            original = original.replace(text, replacement)
        scenario = self.directory / "scenario.xml"
        scenario.write_text(original, encoding="ascii")
        command = ["sipp", "-sf", str(scenario), "-t", "u1" if self._transport == "udp" else "t1"]
        command += ["-i", self.host, "-p", str(self.port), "-bind_local"]
        command += ["-ci", "127.0.0.1", "-cp", str(control), "-mi", self.host, "-mp", str(media)]
        command += ["-nostdin", "-default_behaviors", "none", "-recv_timeout", str(max(1, round(self._linger * 1000)))]
        command += ["-trace_stat", "-stf", "statistics.csv", "-fd", "1", "-trace_err", "-error_file", "errors.log"]
        command += ["-timeout", str(LONGEST_LIFE)]
        if self._trace:
            command += ["-trace_msg", "-message_file", "messages.log"]
        for name, value in self._scenario.keys.items():
            command += ["-key", name, value]
        for name, number in self._scenario.numbers.items():
            command += ["-set", name, str(number)]
        return command

    def received(self) -> list[TracedMessage]:
        """Return every request that arrived, retransmissions included, in order."""
        return self._messages("received")

    def sent(self) -> list[TracedMessage]:
        """Return every response that was sent, in order.

        SIPp logs an answer after it has sent it (a request before it answers): a client that has just received the
        last answer may not find it here yet. `wait_for_answers` does.
        """
        return self._messages("sent")

    def wait_for_answers(self, responses: int, *, within: float = 5.0) -> list[TracedMessage]:
        """Block until at least that many responses were sent, provisional ones included; return all."""
        self.wait_until(lambda: len(self.sent()) >= responses, f"sending {responses} responses", within=within)
        return self.sent()

    def answer_counts(self) -> Counter[int]:
        """Return how often each status code was sent, as far as `sent()` knows."""
        return Counter(message.status for message in self.sent() if message.status is not None)

    def wait_for(self, requests: int, *, within: float = 5.0) -> list[TracedMessage]:
        """Block until at least that many requests arrived, return all."""
        self.wait_until(lambda: len(self.received()) >= requests, f"receiving {requests} requests", within=within)
        return self.received()

    def counts(self) -> SippCounts:
        """Return SIPp's own statistics; up to one second old while it runs."""
        lines = [line.split(";") for line in self.read("statistics.csv").splitlines() if line.endswith(";")]
        if len(lines) < 2:
            return SippCounts(calls=0, successful=0, failed=0, retransmissions=0, unexpected=0)
        latest = dict(zip(lines[0], lines[-1], strict=True))
        return SippCounts(
            calls=int(latest["IncomingCall(C)"]),
            successful=int(latest["SuccessfulCall(C)"]),
            failed=int(latest["FailedCall(C)"]),
            retransmissions=int(latest["Retransmissions(C)"]),
            unexpected=int(latest["FailedUnexpectedMessage(C)"]),
        )

    def log(self) -> str:
        """Return SIPp's errors, its last screen and the end of its message log."""
        return "\n".join((super().log()[-1500:], self.read("messages.log")[-3000:], self.read("errors.log")[-1500:]))

    def _messages(self, direction: str) -> list[TracedMessage]:
        log = self.read("messages.log")
        heads = list(_TRACE.finditer(log))
        ends = [head.start() for head in heads[1:]] + [len(log)] * bool(heads)
        return [
            TracedMessage(
                text=log[head.end() : end].strip("\n") + "\n\n",
                traced_time=datetime.strptime(head["time"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC),
            )
            for head, end in zip(heads, ends, strict=True)
            if head["direction"] == direction
        ]

    def finish(self, *, within: float = 3.0) -> None:
        """Ask SIPp to write its statistics and end once its calls have ended; then `counts()` is final."""
        self.send_signal(signal.SIGUSR1)
        self.wait_until(lambda: not self.running, "ending", within=within)


def _tcp_port_is_open(port: int) -> bool:
    """Whether any process of this machine listens on that TCP port (state 0A in /proc; no connection is made)."""
    listening = re.compile(rf"^ *\d+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A ", re.MULTILINE)
    return any(listening.search(Path(f"/proc/net/{table}").read_text(encoding="ascii")) for table in ("tcp", "tcp6"))
