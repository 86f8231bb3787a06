"""What simulated phones answer: shares of answer codes, digest challenges, and which events they reboot on. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from resyncctl.errors import InputError, SipParseError
from resyncctl.rollout.device import key_of
from resyncctl.rollout.pacing import Jitter
from resyncctl.sim.roster import SimulatedPhone
from resyncctl.sip.digest import Algorithm, Challenge, Qop, challenge_header, parse_authorization, verify
from resyncctl.sip.message import HeaderFields, Request
from resyncctl.vendors import CALL_ID_PLACEHOLDER, FALLBACK_EVENT, Reboots, Trigger, Vendor

SILENT: Final = "silent"
"""How an answer of nothing at all is written."""


Range = tuple[float, float]
"""The least and the most, in seconds; drawn uniformly in between."""


class Share(NamedTuple):
    """A share of the phones, 0 to 1, and the final status that they answer a NOTIFY with; 0 = they are silent."""

    status: int
    share: float


class Verdict(NamedTuple):
    """An answer: status and the headers that it needs."""

    status: int
    headers: HeaderFields = ()


QUIET: Final = Verdict(0)
"""No answer at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the phones of a fleet behave. Raises InputError for shares and times that make no sense.

    `seed` decides which phone answers what and which one is mute, and the luck of delays and losses.
    """

    seed: int = 0

    answers: tuple[Share, ...] = (Share(200, 1.0),)
    """Which share of the phones gives which answer; together 1."""
    delay: Range = (0.0, 0.0)
    """From the request to its final answer."""
    provisional: bool = False
    """Say 100 at once, and the final answer after the delay."""
    loss: float = 0.0
    """Share of datagrams that are lost, of those received and of those sent."""
    challenge: Literal[401, 407] | None = None
    """Ask for digest credentials; a phone without a user name does not."""
    algorithm: Algorithm = Algorithm.MD5
    overloaded: int = 0
    """Requests that each phone refuses with 503 and Retry-After before it answers as it should."""
    retry_after: int = 1
    """Seconds."""
    boot_time: Range = (30.0, 30.0)
    """From the answer to a reboot until the phone hears again (and registers, when there is a registrar)."""
    mute_on_reboot: float = 0.0
    """Share of the phones that reboot without answering first."""

    def __post_init__(self) -> None:
        for name, share in (("loss", self.loss), ("mute_on_reboot", self.mute_on_reboot)):
            if not 0 <= share <= 1:
                raise InputError(f"{name} is {share:g}, it takes a share from 0 to 1")
        for name, (least, most) in (("delay", self.delay), ("boot_time", self.boot_time)):
            if not 0 <= least <= most < float("inf"):
                raise InputError(f"{name} is {least:g} to {most:g} seconds; write the smaller one first, none below 0")
        shares = [share for _, share in self.answers]
        if min(shares, default=0.0) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise InputError("the shares of the answers do not add up to 100 %, or one is below 0")
        if self.overloaded < 0 or self.retry_after < 0:
            raise InputError("overloaded and retry_after take whole numbers from 0 on")


def parse_answers(text: str) -> tuple[Share, ...]:
    """Read `200:90%,404:5%,silent:5%`; one entry may leave its share out and gets the rest. Raises InputError."""
    where = f"answers {text[:80]!r}"
    shares: dict[int, float | None] = {}
    for entry in text.split(",", 32):
        code, colon, number = (part.strip() for part in entry.partition(":"))
        status = _status(code, where)
        if status in shares:
            raise InputError(f"{where}: {code} is there twice; write each answer once")
        shares[status] = _percent(number, where) if colon else None
    given = sum(share for share in shares.values() if share is not None)
    open_ended = sum(1 for share in shares.values() if share is None)
    if open_ended > 1:
        raise InputError(f"{where}: {open_ended} answers have no share, one may; write for example 200:95%,404:5%")
    if given > 100 + 1e-6 or (not open_ended and given < 100 - 1e-6):
        raise InputError(f"{where}: the shares add up to {given:g}%, not 100%; an answer without a share gets the rest")
    return tuple(Share(code, (100 - given if share is None else share) / 100) for code, share in shares.items())


def deal(names: Sequence[str], shares: Sequence[float], *, seed: int) -> list[int]:
    """Deal names into groups whose sizes are the shares to within one; returns the group of each name.

    Who gets where depends on the seed and the names, not on their order.
    """
    jitter = Jitter(seed)
    order = sorted(range(len(names)), key=lambda index: (jitter.share(key_of(names[index])), names[index]))
    groups = [0] * len(names)
    start, total = 0, 0.0
    for group, share in enumerate(shares):
        total += share
        end = round(total * len(names))
        for index in order[start:end]:
            groups[index] = group
        start = end
    return groups


class Guard:
    """The digest server of a fleet. Nonces need no memory: each is a keyed hash of the phone and the Call-ID."""

    def __init__(self, challenge: Literal[401, 407] | None, algorithm: Algorithm) -> None:
        self._status = challenge
        self._algorithm = algorithm
        self._secret = secrets.token_bytes(16)
        self._opaque = self._hash("opaque")

    def check(self, request: Request, phone: SimulatedPhone) -> Verdict | None:
        """Return None for a request that may pass, else what to answer: a challenge, 403, or 400 for malformed credentials."""
        if self._status is None or not phone.username:
            return None
        nonce = self._hash(phone.aor, request.get("Call-ID") or "")
        name = "Proxy-Authorization" if self._status == 407 else "Authorization"
        try:
            answers = [parse_authorization(value) for value in request.all(name)]
            uris = {request.uri, request.to.uri}  # a proxy on the way may have put the contact in the AOR's place
        except SipParseError:
            return Verdict(400)
        answer = next((one for one in answers if one is not None and one.realm == phone.domain), None)
        if answer is None:
            return self._challenge(phone, nonce, stale=False)
        right = (
            answer.username == phone.username
            and answer.algorithm is self._algorithm
            and answer.opaque == self._opaque
            and answer.uri in uris
            and verify(answer, phone.password, method=request.method, body=request.body)
        )
        if not right:
            return Verdict(403)
        if not hmac.compare_digest(answer.nonce.encode("utf-8", "surrogateescape"), nonce.encode()):
            return self._challenge(phone, nonce, stale=True)  # of another Call-ID: right, but too old (RFC 2617 3.2.1)
        return None

    def _challenge(self, phone: SimulatedPhone, nonce: str, *, stale: bool) -> Verdict:
        challenge = Challenge(
            phone.domain,
            nonce,
            algorithm=self._algorithm,
            qop=(Qop.AUTH,),
            opaque=self._opaque,
            stale=stale,
            proxy=self._status == 407,
        )
        return Verdict(407 if challenge.proxy else 401, (challenge_header(challenge),))

    def _hash(self, *parts: str) -> str:
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, key=self._secret, digest_size=16).hexdigest()


def event_kind(event: str) -> str:
    """Return the event type of an Event header, in lower case (phones do not heed its case)."""
    return event.partition(";")[0].strip().lower()


def known_kinds(catalogue: Iterable[Vendor]) -> frozenset[str]:
    """Return every event type that some make knows; to any other a phone says 489."""
    events = {FALLBACK_EVENT}
    for vendor in catalogue:
        events |= {trigger.event for trigger in (vendor.resync, vendor.reboot) if isinstance(trigger, Trigger)}
        events |= {other.event for other in vendor.other if other.event}
    return frozenset(event_kind(event) for event in events)


def reboots(vendor: Vendor | None, event: str, body: str) -> bool:
    """Say whether a phone of that make reboots on an event: asked by name, or the catalogue says that it always does.

    Where the catalogue says that it depends on a setting, the phone does what the event asks for.
    """
    parameters = {part.strip().lower() for part in event.split(";")[1:]}
    if "reboot=true" in parameters or "reboot" in event_kind(event):
        return True
    triggers = () if vendor is None else (vendor.resync, vendor.reboot)
    return any(
        isinstance(trigger, Trigger)
        and trigger.reboots is Reboots.ALWAYS
        and trigger.event.lower() == event.strip().lower()
        and body.startswith((trigger.body or "").partition(CALL_ID_PLACEHOLDER)[0])
        for trigger in triggers
    )


def _status(text: str, where: str) -> int:
    if text.lower() == SILENT:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) == 3 and 200 <= int(text) <= 699):
        raise InputError(f"{where}: {text[:20]!r} is no final answer; write a code from 200 to 699, or {SILENT}")
    if text in {"401", "407"}:
        raise InputError(f"{where}: {text} needs a challenge; ask for digest credentials instead")
    return int(text)


def _percent(text: str, where: str) -> float:
    digits = text.removesuffix("%").strip()
    try:
        share = float(digits) if digits.replace(".", "", 1).isdecimal() else -1.0
    except ValueError:
        share = -1.0
    if not text.endswith("%") or not 0 <= share <= 100:
        raise InputError(f"{where}: {text[:20]!r} is no share; write a percentage from 0% to 100%")
    return share
