"""What the store keeps of a rollout as a whole, and the values that go in and out of it."""

from __future__ import annotations

import json
import re
import struct
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from resyncctl.errors import InputError, StoreError
from resyncctl.rollout.model import Action, Options, RolloutId
from resyncctl.rollout.states import RolloutState
from resyncctl.vendors import Reboots, Trigger

MAX_POOLS: Final = 256
"""Pools of one plan, that without a name included."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def rollout_id(text: str) -> RolloutId:
    """Check a rollout's name; raise InputError for one that Redis keys or a shell would trip over."""
    if not _ID.match(text):
        raise InputError(
            f"{text[:80]!r} cannot name a rollout: use up to 64 letters, digits, dots, hyphens and underscores,"
            " beginning with a letter or digit"
        )
    return RolloutId(text)


@dataclass(frozen=True, slots=True)
class BatchIndex:
    """First due offset (microseconds; -1 = its targets are skipped), size and pool of every batch, by batch number."""

    first_dues: array[int]
    sizes: array[int]
    pool_of: array[int]
    """Numbers of pools."""
    pools: tuple[str, ...] = ("",)

    def pool(self, number: int) -> str:
        """Return the pool whose workers reach a batch's phones."""
        return self.pools[self.pool_of[number]]

    def pack(self) -> bytes:
        """Pack for Redis: about 5 bytes a batch."""
        count = len(self.sizes)
        columns = struct.pack(f"<I{count}q{count}H{count}B", count, *self.first_dues, *self.sizes, *self.pool_of)
        return zlib.compress(columns + json.dumps(self.pools).encode())

    @classmethod
    def unpack(cls, packed: bytes) -> BatchIndex:
        """Read what `pack` wrote; raise StoreError when it is damaged."""
        try:
            raw = zlib.decompress(packed)
            (count,) = struct.unpack_from("<I", raw)
            columns = struct.Struct(f"<{count}q{count}H{count}B")
            numbers = columns.unpack_from(raw, 4)
            pools = tuple(json.loads(raw[4 + columns.size :]))
        except (zlib.error, struct.error, ValueError, TypeError) as error:
            raise StoreError(
                "the batch index of the rollout cannot be read; start it again with another --id"
            ) from error
        due, size = numbers[:count], numbers[count : 2 * count]
        return cls(array("q", due), array("H", size), array("B", numbers[2 * count :]), pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord:
    """What is known of a rollout as a whole. Times are microseconds since the Unix epoch, 0 = not yet."""

    id: RolloutId
    state: RolloutState
    pause_reason: str
    plan_hash: str
    options: Options
    seed: int
    targets: int
    skipped: Mapping[str, int]
    """Targets that the plan skips, by reason."""
    notices: tuple[str, ...]
    triggers: tuple[Trigger, ...]
    index: BatchIndex
    created_us: int
    started_us: int
    finished_us: int
    base_us: int
    """When offset zero of the plan is, lost time added; 0 before the start."""
    seen_us: int
    """When the owner last wrote."""
    first_sent_us: int
    owner: str
    report: Mapping[str, object]
    """The last report that an owner wrote; empty before the first."""
    parent: str = ""
    """The rollout whose failed targets this one retries."""
    surroundings: Mapping[str, str] = field(default_factory=dict)
    """What the command was given beside the plan: busy_file, local_address."""

    @property
    def action(self) -> Action:
        """What the rollout wants of the phones."""
        return self.options.action


def new_fields(  # noqa: PLR0913  (one argument for each thing that is kept)
    *,
    plan_hash: str,
    options: Options,
    seed: int,
    targets: int,
    skipped: Mapping[str, int],
    notices: Sequence[str],
    triggers: Sequence[Trigger],
    index: BatchIndex,
    created_us: int,
    parent: str = "",
    surroundings: Mapping[str, str] | None = None,
) -> dict[str, str | int | bytes]:
    """Return the fields of a rollout that has just been planned."""
    header = {
        "options": options.as_dict(),
        "seed": seed,
        "skipped": dict(skipped),
        "notices": list(notices),
        "triggers": [trigger_values(one) for one in triggers],
    }
    return {
        "state": RolloutState.PLANNED.value,
        "plan_hash": plan_hash,
        "targets": targets,
        "header": json.dumps(header, sort_keys=True),
        "index": index.pack(),
        "created_us": created_us,
        "parent": parent,
        "surroundings": json.dumps(dict(surroundings or {})),
    }


def read_fields(name: RolloutId, fields: Mapping[bytes, bytes]) -> RolloutRecord:
    """Read a rollout's fields; raise StoreError when they are not what `new_fields` and the owner wrote."""
    text = {key.decode(): value for key, value in fields.items()}
    try:
        header = json.loads(text["header"])
        report = text.get("report", b"")
        return RolloutRecord(
            id=name,
            state=RolloutState(text["state"].decode()),
            pause_reason=text.get("pause_reason", b"").decode(),
            plan_hash=text["plan_hash"].decode(),
            options=Options.from_dict(header["options"]),
            seed=int(header["seed"]),
            targets=int(text["targets"]),
            skipped=dict(header["skipped"]),
            notices=tuple(header["notices"]),
            triggers=tuple(_trigger(one) for one in header["triggers"]),
            index=BatchIndex.unpack(text["index"]),
            created_us=_number(text, "created_us"),
            started_us=_number(text, "started_us"),
            finished_us=_number(text, "finished_us"),
            base_us=_number(text, "base_us"),
            seen_us=_number(text, "seen_us"),
            first_sent_us=_number(text, "first_sent_us"),
            owner=text.get("owner", b"").decode(),
            report=json.loads(report) if report else {},
            parent=text.get("parent", b"").decode(),
            surroundings=json.loads(text.get("surroundings") or b"{}"),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"what Redis holds of rollout {name} cannot be read ({error}); was it written by a newer version?"
        ) from error


def _number(fields: Mapping[str, bytes], name: str) -> int:
    return int(fields.get(name) or 0)


def trigger_values(trigger: Trigger) -> dict[str, object]:
    """Return what a trigger sends, as plain values."""
    return {
        "event": trigger.event,
        "headers": [list(pair) for pair in trigger.headers],
        "content_type": trigger.content_type,
        "body": trigger.body,
        "reboots": trigger.reboots.value,
        "sourced": trigger.sourced,
        "needs_call_id": trigger.needs_call_id,
        "note": trigger.note,
    }


def _trigger(values: Mapping[str, Any]) -> Trigger:
    return Trigger(
        values["event"],
        headers=tuple((str(name), str(value)) for name, value in values["headers"]),
        content_type=values["content_type"],
        body=values["body"],
        reboots=Reboots(values["reboots"]),
        sourced=bool(values["sourced"]),
        needs_call_id=bool(values["needs_call_id"]),
        note=str(values["note"]),
    )


class Verdict(StrEnum):
    """What a commit says of a batch beside its entries."""

    GOES_ON = ""
    DONE = "done"
    """Every target has its outcome."""
    FREE = "free"
    """Given back: somebody else may have it."""


@dataclass(slots=True)
class Commit:
    """One write of a worker: runs of `codec.record` entries by batch number, outcomes apart from intents."""

    outcomes: dict[int, bytearray] = field(default_factory=dict)
    intents: dict[int, bytearray] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    report: str = ""
    """What this worker has counted by now as JSON; '' = unchanged."""
    base_us: int = 0
    """Where the plan's offset zero should be at least; 0 = as it is."""
    wanted: str = ""
    """When the intended sends want to leave, microseconds from the start, ascending, separated by blanks; '' = no rate."""


@dataclass(frozen=True, slots=True)
class Control:
    """What a worker learns with each commit."""

    state: RolloutState
    """What the operator wants."""
    pause_reason: str = ""
    base_us: int = 0
    """When offset zero of the plan is."""
    workers: int = 0
    """Workers of the rollout that are alive; 0 = not asked."""
    report: str = ""
    """The report of all workers together, as JSON; '' = not asked."""
    slots: Sequence[int] = ()
    """When each of the intended sends may leave, microseconds from the start; empty without a rate."""


class Claimed(StrEnum):
    """Whether a batch could be taken."""

    OK = "ok"
    DONE = "done"
    HELD = "held"
    """By another worker that is alive."""
    IDLE = "idle"
    """The rollout is paused or over."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a worker that wants a batch. Only OK has more than the first field."""

    claimed: Claimed
    state: RolloutState = RolloutState.PLANNED
    base_us: int = 0
    deaths: int = 0
    """How many of its workers have died."""
    block: bytes = b""
    outcomes: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """How a rollout stands, for whoever dispatches it."""

    state: RolloutState
    pause_reason: str
    base_us: int
    done: int
    """Batches that are done."""
    held: int
    """Batches that a worker has which is alive."""
    orphans: tuple[int, ...]
    """Batches whose worker is dead."""
    report: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease that was asked for, and the seconds until it ends by itself."""

    token: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One entry of a rollout's event stream."""

    id: str
    state: RolloutState
    report: Mapping[str, object]
