"""What the simulated phones meet: our own endpoint as the sender, a bare link, and a tiny registrar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resyncctl.clock import monotonic
from resyncctl.sip.digest import Algorithm, Challenge, Credentials, Qop, challenge_header, parse_authorization, verify
from resyncctl.sip.hop import Hop
from resyncctl.sip.message import HeaderFields, Request, Response, parse
from resyncctl.sip.notify import NotifyTemplate, Sender
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.sip.uas import Address, reply, reply_address
from resyncctl.sip.uri import Uri
from resyncctl.transport.endpoint import Endpoint
from resyncctl.transport.link import Network

SENDER = Sender("sip:resync@127.0.0.1", "sip:resync@127.0.0.1", "test")


def notify(row: Mapping[str, str], event: str, *, branch: str, cseq: int = 1, extra: str = "") -> bytes:
    """Write one NOTIFY to a phone of a fleet's list; requests of one branch have one Call-ID."""
    return NotifyTemplate(SENDER, event).render(
        request_uri=row["contact"],
        to_uri=row["aor"],
        via="SIP/2.0/UDP 127.0.0.1:9",
        token=branch,
        branch=f"z9hG4bK{branch}{cseq}",
        cseq=cseq,
        extra=extra,
    )


def address_of(row: Mapping[str, str]) -> Address:
    """Return where a phone of a fleet's list listens."""
    uri = Uri.parse(row["contact"])
    return uri.address, uri.port or 0


@dataclass(frozen=True)
class Notify:
    """An `Outgoing`."""

    row: Mapping[str, str]
    event: str
    credentials: Credentials | None
    method: str = "NOTIFY"
    body: bytes = b""

    @property
    def request_uri(self) -> str:
        return self.row["contact"]

    @property
    def destination(self) -> Hop:
        return Hop(address_of(self.row))

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        template = NotifyTemplate(SENDER, self.event)
        return template.render(
            request_uri=self.request_uri,
            to_uri=self.row["aor"],
            via="SIP/2.0/UDP 127.0.0.1:9",
            token=token,
            branch=branch,
            cseq=cseq,
            extra=extra,
        )


class Client:
    """Our endpoint, one awaitable for each request."""

    def __init__(self, network: Network, *, timeout: float = 5.0, clock: Callable[[], float] = monotonic) -> None:
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self.endpoint = Endpoint(
            network,
            local=("127.0.0.1", 0),
            timers=Timers(timeout=timeout),
            prepare=lambda *_: None,
            on_result=lambda result: self._waiting.pop(int(str(result.key))).set_result(result),
            clock=clock,
        )
        self._serial = 0

    async def send(self, row: Mapping[str, str], event: str = "check-sync", *, password: str | None = None) -> Result:
        """Send one NOTIFY with the phone's own credentials (or another password) and return what became of it."""
        self._serial += 1
        future = self._waiting[self._serial] = asyncio.get_running_loop().create_future()
        secret = row["auth_password"] if password is None else password
        credentials = Credentials(row["auth_username"], secret) if secret else None
        self.endpoint.send(Notify(row, event, credentials), self._serial)
        result: Result = await future
        return result


class Bare:
    """A link that keeps the answers with their times; it never retransmits."""

    def __init__(self, network: Network, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._arrived = asyncio.Event()
        self.answers: list[tuple[float, Response]] = []
        self.raw: list[bytes] = []
        self.link = network.open(("127.0.0.1", 0), self)

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Keep an answer."""
        del source
        message = parse(data)
        assert isinstance(message, Response)
        self.raw.append(data)
        self.answers.append((round(self._clock(), 6), message))
        self._arrived.set()

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """Say what went wrong."""
        raise AssertionError(f"{quoted[:60]!r} to {destination}: {ending} {detail}")

    async def ask(self, data: bytes, destination: Address) -> Response:
        """Send a request and return the next answer."""
        self._arrived.clear()
        self.link.send(data, destination)
        async with asyncio.timeout(5):
            await self._arrived.wait()
        return self.answers[-1][1]


class TinyRegistrar:
    """Takes REGISTERs, with a digest challenge when it knows passwords; refuses the first `failures` with 500."""

    def __init__(
        self,
        network: Network,
        *,
        passwords: Mapping[str, str] | None = None,
        failures: int = 0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._passwords = passwords
        self._failures = failures
        self._clock = clock
        self.changed = asyncio.Event()
        self.registered: list[tuple[float, Request]] = []
        self.link = network.open(("127.0.0.1", 0), self)

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Answer a REGISTER."""
        request = parse(data)
        assert isinstance(request, Request)
        assert request.method == "REGISTER"
        challenge = Challenge("pbx", "n1", algorithm=Algorithm.SHA_256, qop=(Qop.AUTH,))
        status = 200
        headers: HeaderFields = (("Expires", "3600"),)
        if self._failures:
            self._failures -= 1
            status, headers = 500, ()
        elif self._passwords is not None and not self._proves(request):
            status, headers = 401, (challenge_header(challenge),)
        else:
            self.registered.append((round(self._clock(), 6), request))
            self.changed.set()
        response = reply(request, status, source=source, headers=headers)
        self.link.send(bytes(response), reply_address(response, source=source))

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """A phone that went down."""

    def _proves(self, request: Request) -> bool:
        assert self._passwords is not None
        value = request.get("Authorization")
        answer = parse_authorization(value) if value is not None else None
        return answer is not None and verify(answer, self._passwords[answer.username], method="REGISTER")
