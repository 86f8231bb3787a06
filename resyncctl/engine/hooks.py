"""Hooks: many events of a PBX become one rollout.

A call opens a pending rollout or joins the open one. That is launched when there was no call for `quiet` seconds, at the
latest `max_wait` after the first. Any number of processes may take calls and launch: a pending rollout has a number, its ID
is made of it, and `Launcher.launch` makes one rollout of an ID. Who takes one holds a claim; when it ends because its process
died, another takes the same again.

A phone that was sent to less than `cool_down` seconds ago waits until that is over; what a call named is never forgotten.
Phones are told apart by the names that calls give them, so two lines of one device have cool-downs of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from resyncctl import clock
from resyncctl.clock import rfc3339
from resyncctl.engine.app import new_owner
from resyncctl.engine.hook_event import HookEvent, Query, parse_event
from resyncctl.engine.hook_signature import check_signature
from resyncctl.engine.launch import check_agreed
from resyncctl.engine.order import read_order
from resyncctl.engine.rounds import Rounds
from resyncctl.errors import (
    AccessError,
    InputError,
    NotFoundError,
    NothingToDoError,
    ResyncError,
    StateError,
    StoreError,
)
from resyncctl.inventory.phone import line_key
from resyncctl.store.audit import Actor, AuditLog
from resyncctl.store.hooks import HookAuth, HookRecord, HookStore, Taken

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.engine.launch import Launcher
    from resyncctl.store.redis_store import RedisStore

__all__ = ["HookAuth", "HookEvent", "HookRecord", "Hooks", "new_hook", "parse_event"]

LOOK: Final = 0.5
"""Seconds between two looks for what other processes were told."""
CLAIM: Final = 5.0
"""Seconds until what a dead process was launching is taken again; renewed while it is alive."""
TRIES: Final = 5
"""How often a launch is tried that fails for another reason than a freeze or Redis; after 2, 4, 8 … seconds."""
_SLOWEST: Final = 60.0
"""Seconds between two tries, at most."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")
_LONGEST: Final = 30 * 86_400.0


def new_hook(
    name: str,
    order: Mapping[str, object],
    *,
    now_us: int,
    secret: str,
    auth: HookAuth = HookAuth.HMAC,
    quiet: float = 5.0,
    max_wait: float = 60.0,
    cool_down: float = 0.0,
) -> HookRecord:
    """Make a hook; raise InputError for what cannot be. The order names a source or a file; `secret` is not kept for tokens."""
    if not _NAME.match(name):
        raise InputError(
            f"{name[:60]!r} cannot name a hook: use up to 40 letters, digits, dots, hyphens and underscores,"
            " beginning with a letter or digit"
        )
    wanted = read_order(order)
    if wanted.phones or wanted.extensions:
        raise InputError("a hook has a source or a file of phones; which of them, its calls say")
    for what, seconds in (("quiet", quiet), ("max_wait", max_wait), ("cool_down", cool_down)):
        if not 0 <= seconds <= _LONGEST:
            raise InputError(f"{what} is 0 s to 30 days, not {seconds:g} s")
    if quiet > max_wait:
        raise InputError(f"quiet ({quiet:g} s) is longer than max_wait ({max_wait:g} s)")
    if auth is HookAuth.HMAC and len(secret) < 16:
        raise InputError("the secret of a hook has at least 16 characters")
    return HookRecord(
        name=name,
        order=wanted.model_dump(mode="json", by_alias=True, exclude_unset=True),
        quiet=quiet,
        max_wait=max_wait,
        cool_down=cool_down,
        auth=auth,
        secret=secret if auth is HookAuth.HMAC else "",
        created_us=now_us,
    )


class Hooks:
    """Takes calls, and launches what is due. Methods raise StoreError when Redis fails."""

    def __init__(
        self,
        store: RedisStore,
        launcher: Launcher,
        log: FilteringBoundLogger,
        *,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self._hooks = HookStore(store)
        self._audit = AuditLog(store)
        self._launcher = launcher
        self._log = log
        self._now_us = now_us
        self._token = new_owner()
        self._rounds = Rounds(store, log, away=LOOK)
        self._working: dict[str, asyncio.Task[None]] = {}

    async def add(self, record: HookRecord, actor: Actor) -> None:
        """Keep a new hook. InputError when its order could not be launched, StateError when the name is taken."""
        order = read_order(record.order)
        with contextlib.suppress(NothingToDoError):  # there may be phones by the time of a call
            check_agreed(await self._launcher.plan(order), order)
        await self._hooks.add(record)
        details = {name: f"{getattr(record, name):g}" for name in ("quiet", "max_wait", "cool_down")}
        phones = order.source or order.phones_file
        await self._audit.record(
            actor, "hook.add", record.name, {"auth": record.auth.value, "phones": phones, **details}
        )

    async def remove(self, name: str, actor: Actor) -> None:
        """Remove a hook and what it waits for; NotFoundError when there is none of that name."""
        await self._hooks.remove(name)
        await self._audit.record(actor, "hook.remove", name)

    async def verify(
        self, record: HookRecord, *, headers: Mapping[str, str], query: Query, body: bytes, now_us: int
    ) -> None:
        """Check that a call is signed with the hook's secret, is of now, and comes for the first time; AccessError if not."""
        if record.auth is not HookAuth.HMAC or not record.secret:
            raise AccessError(f"hook {record.name} takes calls with an API token, not with a signature")
        signature = check_signature(record.secret, headers=headers, query=query, body=body, now_us=now_us)
        if not await self._hooks.first_use(record.name, signature):
            raise AccessError(
                "this signature was used already; sign every call anew, with something in it that differs when two calls"
                " are made in one second"
            )

    async def call(self, name: str, *, event: HookEvent, source: str) -> dict[str, object]:
        """Join or open the pending rollout: its ID, the time at which it is launched at the latest, whether it was open.

        `source` is where the call came from. With a cool-down, phones that were sent to lately may go to a later rollout;
        the time holds for these. NotFoundError when there is no such hook.
        """
        names = tuple(dict.fromkeys(map(line_key, event.extensions)))
        answer = await self._hooks.call(
            name, names, now_us=self._now_us(), source=source[:256], reason=event.reason[:256]
        )
        if not answer.joined:
            self.wake()
        return {"rollout": answer.rollout, "fires_at": rfc3339(answer.latest_us), "joined": answer.joined}

    def wake(self) -> None:
        """Look for what is due at once."""
        self._rounds.wake()

    def stop(self) -> None:
        """Let `run` come back. What is being launched here is taken again by another process."""
        self._rounds.stop()

    async def run(self) -> None:
        """Launch what is due until `stop`; any number of processes may do it. A Redis that is away is waited for."""
        try:
            await self._rounds.run(self._begin)
        finally:
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def fire(self) -> None:
        """Launch what is due now, and come back when that is done."""
        await self._begin()
        await asyncio.gather(*self._working.values())

    async def _begin(self) -> float:
        """Begin to launch what is due; return the seconds until there is more."""
        wait = LOOK
        for name, due_us in await self._hooks.due():
            seconds = (due_us - self._now_us()) / 1_000_000
            if seconds > 0:
                return max(0.005, min(wait, seconds))
            if name not in self._working:
                self._working[name] = asyncio.create_task(self._work(name))
        return wait

    async def _work(self, name: str) -> None:
        try:
            taken = await self._hooks.take(name, now_us=self._now_us(), token=self._token, claim=CLAIM)
            if taken is not None:
                await self._launch_taken(name, taken)
        except StoreError as error:
            self._log.warning("hook_interrupted", hook=name, error=str(error))
        finally:
            del self._working[name]
            self._rounds.wake()

    async def _launch_taken(self, name: str, taken: Taken) -> None:
        record = await self._hooks.find(name)
        if record is None:
            return  # removed just now
        keeping = asyncio.create_task(self._keep(name))
        try:
            await self._launch(record, taken)
        except NothingToDoError as error:
            note = f"nothing to do: {error}"
            await self._done(name, note=note)
            self._log.info("hook_ended_without_rollout", hook=name, note=note)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  (one hook that goes wrong stops no other, and is not tried for ever)
            await self._put_off(name, taken, error)
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError, StoreError):
                await keeping

    async def _launch(self, record: HookRecord, taken: Taken) -> None:
        if not taken.everything and not taken.names:
            raise NothingToDoError("no phone is named")
        order = read_order({**record.order, "extensions": taken.names})
        launched = await self._launcher.launch(order, Actor(f"hook:{record.name}", taken.source), name=taken.rollout)
        await self._done(record.name, rollout=taken.rollout, cool_down=record.cool_down)
        self._log.info(
            "hook_fired", hook=record.name, rollout=taken.rollout, calls=taken.calls, reason=taken.reason,
            targets=launched.record.targets,
        )  # fmt: skip

    async def _done(self, name: str, *, rollout: str = "", cool_down: float = 0.0, note: str = "") -> None:
        await self._hooks.done(
            name, token=self._token, now_us=self._now_us(), cool_down=cool_down, rollout=rollout, note=note
        )

    async def _put_off(self, name: str, taken: Taken, error: Exception) -> None:
        """Try again later. Only a freeze may last: whatever else is wrong, calls shall not pile up behind it."""
        text = str(error) or type(error).__name__
        lasting = isinstance(error, StateError) and not isinstance(error, NotFoundError)
        trace = {} if isinstance(error, ResyncError) else {"exc_info": error}
        if not lasting and taken.tries >= TRIES:
            self._log.error("hook_gave_up", hook=name, rollout=taken.rollout, error=text, **trace)
            await self._done(name, note=f"gave up after {taken.tries} tries: {text}")
            return
        seconds = min(_SLOWEST, 2.0 ** min(taken.tries, 10))
        self._log.warning("hook_put_off", hook=name, rollout=taken.rollout, seconds=seconds, error=text, **trace)
        until = self._now_us() + int(seconds * 1_000_000)
        await self._hooks.renew(name, token=self._token, until_us=until, note=f"waits: {text}")

    async def _keep(self, name: str) -> None:
        """Renew the claim while a launch lasts."""
        while True:
            await asyncio.sleep(CLAIM / 3)
            with contextlib.suppress(StoreError):
                await self._hooks.renew(name, token=self._token, until_us=self._now_us() + int(CLAIM * 1_000_000))
