"""The words of a rollout as types: actions, options, targets, outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum, IntEnum, StrEnum
from typing import Final, NewType

RolloutId = NewType("RolloutId", str)
"""What an operator calls a rollout: letters, digits, dot, hyphen and underscore, at most 64."""


LATENCY: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 32.0)
"""Upper bounds of the buckets of times to an answer, in seconds; the last one is Timer F."""


class Action(StrEnum):
    """What a rollout wants of a phone; the vendor catalogue translates it to an Event value."""

    RESYNC = "resync"
    REBOOT = "reboot"


class OnBusy(StrEnum):
    """What happens to a phone that is still in a call at the forced resync delay."""

    FORCE = "force"
    SKIP = "skip"


class Engine(StrEnum):
    """Which SIP stack sends."""

    ASYNCIO = "asyncio"
    PJSUA2 = "pjsua2"


class Busy(Enum):
    """What is known of a phone's calls. UNKNOWN is never taken for IDLE in a report."""

    IDLE = "idle"
    BUSY = "busy"
    EMERGENCY = "emergency"
    UNKNOWN = "unknown"


class TargetState(IntEnum):
    """States of a target; the number is what is stored, so it never changes its meaning."""

    PLANNED = 0
    DEFERRED = 1
    SENDING = 2
    ACCEPTED = 3
    CONFIRMED = 4
    REJECTED = 5
    UNREACHABLE = 6
    OVERLOADED = 7
    UNAUTHORIZED = 8
    UNCONFIRMED = 9
    RELAYED = 10
    SKIPPED = 11
    CANCELLED = 12
    UNKNOWN = 13

    @property
    def label(self) -> str:
        """The name as people and JSON see it."""
        return self.name.lower()


class Reason(IntEnum):
    """Why a target is in its state; the number is what is stored."""

    NONE = 0
    RESPONSE = 1
    TIMEOUT = 2
    REFUSED = 3
    NO_ROUTE = 4
    NOT_SENT = 5
    NO_ADDRESS = 6
    UNANSWERABLE = 7
    CRASH = 8
    ABORTED = 9
    BUSY = 10
    EMERGENCY = 11
    NOT_SUPPORTED = 12
    IGNORES_CHECK_SYNC = 13
    TRANSPORT = 14
    NO_CALL_ID = 15
    NO_CREDENTIALS = 16
    CREDENTIALS_REFUSED = 17
    POISON = 18
    NO_CONNECTION = 19
    CONNECTION_LOST = 20
    NO_TLS = 21
    NOT_TRUSTED = 22
    EXPIRED = 23
    WRONG_NAME = 24
    WEBSOCKET = 25

    @property
    def text(self) -> str:
        """The words of a report; '' for NONE and RESPONSE, whose status code says it all."""
        return REASON_TEXTS.get(self, "")


REASON_TEXTS = {
    Reason.TIMEOUT: "no answer (Timer F)",
    Reason.REFUSED: "refused: nothing listens at that port",
    Reason.NO_ROUTE: "host unreachable",
    Reason.NOT_SENT: "the system refused to send",
    Reason.NO_ADDRESS: "the host name has no address",
    Reason.UNANSWERABLE: "challenge of a kind that is not spoken",
    Reason.NO_CONNECTION: "no connection in time",
    Reason.NO_TLS: "TLS: the handshake failed",
    Reason.NOT_TRUSTED: "TLS: the certificate is of nobody we trust",
    Reason.EXPIRED: "TLS: the certificate has expired",
    Reason.WRONG_NAME: "TLS: the certificate is for another name",
    Reason.CONNECTION_LOST: "connection lost before the answer",
    Reason.NO_CREDENTIALS: "challenged, no credentials in the list",
    Reason.CREDENTIALS_REFUSED: "credentials refused",
    Reason.CRASH: "ambiguous after a crash",
    Reason.POISON: "given up: its batch cannot be worked on",
    Reason.ABORTED: "rollout aborted",
    Reason.BUSY: "still in a call at the forced delay",
    Reason.EMERGENCY: "emergency call",
    Reason.NOT_SUPPORTED: "vendor takes no NOTIFY for this",
    Reason.IGNORES_CHECK_SYNC: "phone is set to ignore check-sync (DBID_RESYNC_FROM_SIP=2)",
    Reason.TRANSPORT: "transport not spoken (only UDP, TCP and TLS)",
    Reason.WEBSOCKET: "on WebSocket, reached only through its proxy: no path, no outbound proxy",
    Reason.NO_CALL_ID: "needs the Call-ID of the registration (column call_id)",
}


SUCCESS = frozenset({TargetState.ACCEPTED, TargetState.CONFIRMED, TargetState.RELAYED})
TERMINAL = frozenset(TargetState) - {TargetState.PLANNED, TargetState.DEFERRED, TargetState.SENDING}
FAILED = TERMINAL - SUCCESS - {TargetState.SKIPPED, TargetState.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a rollout is paced and retried. Durations are seconds; `rate` 0 means unlimited."""

    action: Action = Action.RESYNC
    batch_size: int = 50
    batch_interval: float = 60.0
    random_delay: float = 40.0
    """DBID_RANDOM_DELAY of the phones' own provisioning."""
    forced_delay: float = 1440.0
    """DBID_RESYNC_DELAY of the phones' own provisioning."""
    rate: float = 50.0
    max_in_flight: int = 1000
    attempts: int = 3
    retry_delay: float = 5.0
    on_busy: OnBusy = OnBusy.FORCE
    idle_for: float = 5.0
    event: str = ""
    """An Event value that replaces the vendor catalogue's; '' = the catalogue decides."""
    all_contacts: bool = False
    outbound_proxy: str = ""
    from_uri: str = ""
    identity: str = ""
    """URI of a P-Asserted-Identity header (RFC 3325); '' = none."""
    timer_t1: float = 0.5
    timeout: float = 32.0

    @classmethod
    def asked(
        cls, words: object, *, action: Action, now: bool, attempts: int | None, on_busy: OnBusy | None
    ) -> Options:
        """Fill in what people leave out: `words` has the other options as attributes of the same names.

        `now` means no interval and no random delay; attempts and on_busy depend on the action.
        """
        reboot = action is Action.REBOOT
        given = {item.name: getattr(words, item.name) for item in fields(cls)}
        if now:
            given |= {"batch_interval": 0.0, "random_delay": 0.0}
        given["attempts"] = attempts or (1 if reboot else 3)
        given["on_busy"] = on_busy or (OnBusy.SKIP if reboot else OnBusy.FORCE)
        return cls(**given)

    def as_dict(self) -> dict[str, str | int | float | bool]:
        """Return the options as plain values, in a fixed order."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> Options:
        """Read what as_dict wrote."""
        known = {item.name for item in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        kept["action"] = Action(str(kept["action"]))
        kept["on_busy"] = OnBusy(str(kept["on_busy"]))
        return cls(**kept)  # type: ignore[arg-type]


@dataclass(slots=True)
class Target:
    """One phone in a rollout, as the plan keeps it. All text, so that a batch of them is a few columns of text, in this order.

    `lines` are the AORs of the phone's other lines, for the question whether it is in a call. `trigger` is an index into
    the plan's triggers. `due_us` is the offset in the plan; -1 for a phone that the plan skips with `skip`.
    """

    aor: str = ""
    contact: str = ""
    path: str = ""
    vendor: str = ""
    site: str = ""
    auth_username: str = ""
    auth_password: str = field(default="", repr=False)
    lines: str = ""
    call_id: str = ""
    random_delay: str = ""
    forced_delay: str = ""
    reboots: str = ""
    """Whether it reboots although a resync was asked for: `yes`, `maybe` (its own settings decide), '' = no."""
    received: str = ""
    """URI that the registrar has seen the registration come from."""
    trigger: int = 0
    skip: Reason = Reason.NONE
    due_us: int = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is stored of a target. Times are microseconds since the rollout started; 0 = not yet."""

    state: TargetState
    reason: Reason = Reason.NONE
    status: int = 0
    """SIP status code; 0 without a response."""
    attempts: int = 0
    planned_us: int = 0
    sent_us: int = 0
    rtt_us: int = 0
    """From the first datagram of the last attempt to its answer or end."""
