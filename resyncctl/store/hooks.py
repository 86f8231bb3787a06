"""Hooks of PBXs in Redis: what they are, what they have been told and have not acted on, what they did.

A hook's secret is kept in clear. HMAC needs the secret itself to check a signature, not a hash of it, so whoever can read
Redis can sign for the hook; that one can write rollouts anyway. It is in no listing, no log and no repr.

What a hook has been told stands in these keys (`keys.hook(NAME, …)`), which only the scripts of this folder change:

    pending          hash        the rollout that waits: its number, first call, due time, whether for all phones
    names            set         the phones that it is for
    windows          string      number of the last pending rollout; it outlives the hook, so that no number comes twice
    launching        hash        the pending rollout that a process is making now, whose claim ends when that has died
    launching-names  set         its phones
    sent             sorted set  what was sent to during the cool-down
    last             hash        what came of the last launch
    seen:SIGNATURE   string      a signature that was used, for SEEN seconds

One more, `keys.hook("", "due")`, is a sorted set of hooks by the time when something is to be done for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from resyncctl.clock import rfc3339
from resyncctl.errors import NotFoundError, StateError
from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from resyncctl.store.redis_store import RedisStore

SEEN: Final = 600
"""Seconds that a signature is remembered: from the earliest to the latest moment at which its timestamp is believed."""
MOST_NAMES: Final = 100_000
"""Phones that one pending rollout names; with more it is for all phones of the hook's order."""
_MOST_SENT: Final = 200_000
"""Entries of a hook's cool-down; the oldest are forgotten first."""
_DUE: Final = keys.hook("", "due")
_PARTS: Final = ("pending", "names", "launching", "launching-names", "sent", "last")


class HookAuth(StrEnum):
    """How a call proves that it may: signed with the hook's secret, or by an API token."""

    HMAC = "hmac"
    TOKEN = "token"  # noqa: S105  (the word, not a token)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRecord:
    """A hook. Durations are seconds, `created_us` microseconds since the Unix epoch."""

    name: str
    order: Mapping[str, object]
    """Which phones and how, as `engine.order.read_order` takes it."""
    quiet: float
    max_wait: float
    cool_down: float
    """0 = none."""
    auth: HookAuth
    secret: str = field(repr=False)
    """'' when calls come with a token."""
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HookStatus:
    """What a hook waits for and what it did. Rollouts are '' and times 0 when there is none."""

    pending: str
    """The rollout that will be made."""
    fires_us: int
    phones: int | None
    """Phones that the pending rollout names; None = all of the order."""
    calls: int
    """Calls that the pending rollout answers."""
    launching: str
    last_rollout: str
    last_us: int
    last_note: str
    rollouts: int
    """Rollouts that were made, ever."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What a call became part of; `latest_us` is when that is launched at the latest."""

    rollout: RolloutId
    latest_us: int
    joined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What is to be launched now; `tries` counts how often it was taken."""

    rollout: RolloutId
    tries: int
    calls: int
    source: str
    reason: str
    everything: bool
    """For all phones of the order, not for `names`."""
    names: tuple[str, ...]


def window_id(name: str, number: int) -> RolloutId:
    """Return the ID of a hook's rollout: it depends on nothing else, so that whoever launches it makes the same one."""
    return RolloutId(f"hook-{name}-{number}")


def listed(record: HookRecord, status: HookStatus) -> dict[str, object]:
    """Return a hook as plain values, without its secret."""
    values = asdict(record)
    return {
        **{key: values[key] for key in ("name", "order", "quiet", "max_wait", "cool_down")},
        "auth": record.auth.value,
        "secret": "***" if record.secret else None,
        "created_at": rfc3339(record.created_us),
        "pending": status.pending or None,
        "fires_at": rfc3339(status.fires_us) if status.fires_us else None,
        "phones": status.phones if status.pending else None,
        "calls": status.calls,
        "launching": status.launching or None,
        "last_rollout": status.last_rollout or None,
        "last_at": rfc3339(status.last_us) if status.last_us else None,
        "last_note": status.last_note,
        "rollouts": status.rollouts,
    }


class HookStore:
    """Every method raises StoreError when Redis fails."""

    def __init__(self, store: RedisStore) -> None:
        self._where = store.where
        self._redis = store.client
        self._call = self._script("hook_cool", "hook_call")
        self._take = self._script("hook_cool", "hook_take")
        self._renew = self._script("hook_renew")
        self._done = self._script("hook_done")

    def _script(self, *names: str) -> Callable[..., Awaitable[Any]]:
        text = "".join(files(__package__).joinpath(f"{name}.lua").read_text() for name in names)
        script: Callable[..., Awaitable[Any]] = self._redis.register_script(text)
        return script

    # What hooks there are

    async def add(self, record: HookRecord) -> None:
        """Keep a new hook; StateError when there is one of that name."""
        with store_errors(self._where):
            if not await self._redis.hsetnx(keys.HOOKS, record.name, json.dumps(asdict(record))):
                raise StateError(f"there is a hook {record.name!r} already; remove it first, or take another name")

    async def find(self, name: str) -> HookRecord | None:
        """Return a hook, or None when there is none of that name."""
        with store_errors(self._where):
            text: bytes | None = await self._redis.hget(keys.HOOKS, name)
        return None if text is None else _read(text)

    async def get(self, name: str) -> HookRecord:
        """Return a hook; NotFoundError when there is none of that name."""
        record = await self.find(name)
        if record is None:
            raise _unknown(name)
        return record

    async def list(self) -> list[HookRecord]:
        """Return all hooks by name."""
        with store_errors(self._where):
            found: dict[bytes, bytes] = await self._redis.hgetall(keys.HOOKS)
        return [_read(text) for _, text in sorted(found.items())]

    async def remove(self, name: str) -> None:
        """Remove a hook and what it waits for; its rollouts stay. NotFoundError when there is none of that name."""
        with store_errors(self._where):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hdel(keys.HOOKS, name)
                pipe.zrem(_DUE, name)
                pipe.delete(*(keys.hook(name, part) for part in _PARTS))
                removed, *_ = await pipe.execute()
        if not removed:
            raise _unknown(name)

    async def status(self, name: str) -> HookStatus:
        """Return what a hook waits for and what it did."""
        with store_errors(self._where):
            async with self._redis.pipeline(transaction=True) as pipe:
                for part in ("pending", "launching", "last"):
                    pipe.hgetall(keys.hook(name, part))
                pipe.scard(keys.hook(name, "names"))
                pending, launching, last, names = await pipe.execute()
        return HookStatus(
            pending=_window(name, pending),
            fires_us=int(pending.get(b"due", 0)),
            phones=None if pending.get(b"all") == b"1" else int(names),
            calls=int(pending.get(b"calls", 0)),
            launching=_window(name, launching),
            last_rollout=last.get(b"rollout", b"").decode(),
            last_us=int(last.get(b"us", 0)),
            last_note=last.get(b"note", b"").decode(),
            rollouts=int(last.get(b"rollouts", 0)),
        )

    # What they are told

    async def call(self, name: str, names: Sequence[str], *, now_us: int, source: str, reason: str) -> Joined:
        """Join or open the pending rollout for phones, or for all when no name is given; NotFoundError for no such hook."""
        parts = ("pending", "names", "windows", "sent")
        with store_errors(self._where):
            answer = await self._call(
                keys=[keys.HOOKS, _DUE, *(keys.hook(name, part) for part in parts)],
                args=[now_us, name, int(not names), MOST_NAMES, source, reason, *names],
            )
        if not answer:
            raise _unknown(name)
        number, latest, joined = answer
        return Joined(window_id(name, number), int(latest), bool(joined))

    async def first_use(self, name: str, signature: str) -> bool:
        """Remember a signature for SEEN seconds; False when it was used before."""
        with store_errors(self._where):
            return bool(await self._redis.set(keys.hook(name, f"seen:{signature[:32]}"), 1, nx=True, ex=SEEN))

    # What they do

    async def due(self) -> Sequence[tuple[str, int]]:
        """Return the hooks for which something is to be done, and when, in that order."""
        with store_errors(self._where):
            found: list[tuple[bytes, float]] = await self._redis.zrange(_DUE, 0, -1, withscores=True)
        return [(name.decode(), int(at)) for name, at in found]

    async def take(self, name: str, *, now_us: int, token: str, claim: float) -> Taken | None:
        """Take what a hook has to launch, for `claim` seconds; None when there is nothing, or somebody else has it."""
        parts = ("pending", "names", "windows", "sent", "launching", "launching-names")
        with store_errors(self._where):
            answer = await self._take(
                keys=[keys.HOOKS, _DUE, *(keys.hook(name, part) for part in parts)],
                args=[now_us, name, token, int(claim * 1_000_000)],
            )
        if not answer:
            return None
        number, tries, every, calls, source, reason, names = answer
        return Taken(
            rollout=window_id(name, int(number)),
            tries=int(tries),
            calls=int(calls),
            source=source.decode(),
            reason=reason.decode(),
            everything=every == b"1",
            names=tuple(sorted(one.decode() for one in names)),
        )

    async def renew(self, name: str, *, token: str, until_us: int, note: str = "") -> bool:
        """Keep what was taken until then, or put the next try off to then; False when it is not ours any more."""
        with store_errors(self._where):
            return bool(
                await self._renew(
                    keys=[_DUE, keys.hook(name, "launching"), keys.hook(name, "last")],
                    args=[name, token, until_us, note],
                )
            )

    async def done(
        self, name: str, *, token: str, now_us: int, cool_down: float, rollout: str = "", note: str = ""
    ) -> bool:
        """End a launch: `rollout` was made, or '' when there was nothing to do; False when it is not ours any more."""
        parts = ("pending", "sent", "launching", "launching-names", "last")
        with store_errors(self._where):
            return bool(
                await self._done(
                    keys=[_DUE, *(keys.hook(name, part) for part in parts)],
                    args=[now_us, name, token, int(cool_down * 1_000_000), rollout, note, _MOST_SENT],
                )
            )


def _read(text: bytes) -> HookRecord:
    values = json.loads(text)
    return HookRecord(**{**values, "auth": HookAuth(values["auth"])})


def _window(name: str, fields: Mapping[bytes, bytes]) -> str:
    number = fields.get(b"number")
    return window_id(name, int(number)) if number else ""


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no hook {name[:64]!r}; `resyncctl hook list` shows which there are")
