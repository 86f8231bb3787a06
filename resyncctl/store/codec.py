"""How targets and outcomes look in Redis: a batch of targets as compressed columns, an outcome as 25 bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from resyncctl.errors import StoreError
from resyncctl.rollout.model import Outcome, Reason, Target, TargetState

_OUTCOME: Final = struct.Struct("<BBHBqqI")
"""state, reason, status, attempts, planned, sent, round trip: 25 bytes of at most 64 (see keys). Times may be below zero:
a wall clock that was set back while nobody executed the rollout puts them before its start."""
_RECORD: Final = struct.Struct(">H25s")
"""A target's place in its batch, then its outcome; a run of these is one argument of a commit."""
_MAX_U32: Final = 2**32 - 1

_TEXT_COLUMNS: Final = (
    "aor", "contact", "path", "vendor", "site", "auth_username", "auth_password", "lines", "call_id", "random_delay",
    "forced_delay", "reboots", "received",
)  # fmt: skip


def pack(outcome: Outcome) -> bytes:
    """Pack an outcome."""
    return pack_fields(
        outcome.state,
        outcome.reason,
        outcome.status,
        outcome.attempts,
        outcome.planned_us,
        outcome.sent_us,
        outcome.rtt_us,
    )


def pack_fields(
    state: int, reason: int, status: int, attempts: int, planned_us: int, sent_us: int, rtt_us: int
) -> bytes:
    """Pack the fields of an Outcome without making one (the hot path). A round trip is cut at 71 minutes."""
    if rtt_us > _MAX_U32:  # noqa: PLR1730  (a call of min costs more)
        rtt_us = _MAX_U32
    return _OUTCOME.pack(state, reason, status, attempts, planned_us, sent_us, rtt_us)


def unpack(value: bytes) -> Outcome:
    """Read what `pack` wrote; raise StoreError for anything else."""
    try:
        state, reason, *rest = _OUTCOME.unpack(value)
        return Outcome(TargetState(state), Reason(reason), *rest)
    except (struct.error, ValueError) as error:
        raise StoreError(
            f"an outcome in Redis cannot be read ({value[:32].hex()}); was it written by a newer version?"
        ) from error


record = _RECORD.pack
"""record(place, packed outcome) -> bytes of one entry of a commit."""


def unpack_batch(fields: Mapping[bytes, bytes]) -> dict[int, Outcome]:
    """Read a batch hash."""
    return {int(place): unpack(value) for place, value in fields.items()}


def columns_text(targets: Sequence[Target]) -> str:
    """Write a batch as text: one line a column, values separated by tabs (phone lists hold neither)."""
    columns = ["\t".join([getattr(target, name) for target in targets]) for name in _TEXT_COLUMNS]
    columns.append("\t".join([str(target.trigger) for target in targets]))
    columns.append("\t".join([str(int(target.skip)) for target in targets]))
    previous = 0
    deltas = []
    for target in targets:
        deltas.append(str(target.due_us - previous))
        previous = target.due_us
    columns.append("\t".join(deltas))
    return "\n".join(columns)


def encode_block(text: str) -> bytes:
    """Compress what columns_text wrote."""
    return zlib.compress(text.encode("utf-8", "surrogateescape"), 6)


def decode_block(block: bytes) -> list[Target]:
    """Read the targets of a batch; raise StoreError when the block is damaged."""
    try:
        return decode_text(zlib.decompress(block).decode("utf-8", "surrogateescape"))
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise StoreError("a batch of the plan in Redis cannot be read; plan and run again with another --id") from error


def decode_text(text: str) -> list[Target]:
    """Read what columns_text wrote; ValueError or TypeError for anything else."""
    columns = [line.split("\t") for line in text.split("\n")]
    deltas = columns.pop()
    targets = []
    due = 0
    for delta, *row, trigger, skip in zip(deltas, *columns, strict=True):
        due += int(delta)
        # mypy takes the starred row for any number of columns.
        targets.append(Target(*row, int(trigger), _REASONS[skip], due))  # type: ignore[call-arg]
    return targets


_REASONS: Final = {str(reason.value): reason for reason in Reason}
