"""Freeze and thaw: all rollouts that the service executes stand still, and go on from where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from resyncctl.clock import now_us
from resyncctl.engine.app import check_id, command
from resyncctl.errors import StateError
from resyncctl.rollout.states import ENDED, Command, PauseReason, RolloutState, move
from resyncctl.store.audit import AuditLog
from resyncctl.store.service import Freeze, ServiceStore

if TYPE_CHECKING:
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.audit import Actor
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

_SENDING: Final = frozenset({RolloutState.RUNNING, RolloutState.DRAINING})
_GOES_ON: Final = frozenset(RolloutState) - ENDED - {RolloutState.PAUSED, RolloutState.AWAITING_APPROVAL}
_TRIES: Final = 10


class Freezer:
    """Freezes, thaws and steers. Every change is in the audit log. Methods raise StoreError when Redis fails."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._service = ServiceStore(store)
        self._audit = AuditLog(store)

    async def frozen(self) -> Freeze | None:
        """Return the freeze that is in force."""
        return await self._service.frozen()

    async def freeze(self, actor: Actor, reason: str = "") -> Freeze:
        """Pause every served rollout that sends; nothing is launched or resumed until `thaw`.

        A freeze that is in force already stays as it is and is returned; what began meanwhile is paused.
        """
        wanted = Freeze(actor.name, now_us(), reason)
        freeze = await self._service.freeze(wanted)
        paused = [name for name in await self._service.served() if await self.hold(name)]
        if freeze is wanted or paused:
            details = {"reason": freeze.reason, "paused": ", ".join(paused[:20]), "rollouts": str(len(paused))}
            await self._audit.record(actor, "freeze.set", "all", details)
        return freeze

    async def thaw(self, actor: Actor) -> bool:
        """Lift the freeze and resume what it has paused; False when there was none.

        What a thaw that was cut short has left paused is resumed by the next one.
        """
        lifted = await self._service.thaw()
        resumed = [name for name in await self._service.served() if await self._release(name)]
        if lifted or resumed:
            details = {"resumed": ", ".join(resumed[:20]), "rollouts": str(len(resumed))}
            await self._audit.record(actor, "freeze.lift", "all", details)
        return lifted

    async def hold(self, name: RolloutId) -> bool:
        """Pause a rollout for the freeze, if it sends; say whether it was done."""
        for _ in range(_TRIES):
            record = await self._store.find(name)
            if record is None or record.state not in _SENDING:
                return False
            fields = {"pause_reason": PauseReason.FREEZE.value}
            paused = move(record.state, Command.PAUSE)
            if await self._store.transition(name, record.state, paused, fields) is record.state:
                return True
        return False

    async def _release(self, name: RolloutId) -> bool:
        record = await self._store.find(name)
        if record is None or record.state is not RolloutState.PAUSED:
            return False
        if record.pause_reason != PauseReason.FREEZE.value:
            return False
        running = move(record.state, Command.RESUME)
        return await self._store.transition(name, record.state, running) is record.state

    async def steer(self, rollout: str, wanted: Command, actor: Actor) -> RolloutRecord:
        """Pause, resume or abort a rollout for somebody, and have the service see to it; return it as it is then.

        Raises NotFoundError, and StateError when that does not fit its state, or while there is a freeze.
        """
        record = await self._store.get(check_id(rollout))
        if wanted is Command.RESUME:
            await refuse_while_frozen(self._service)
        begun = {Command.ABORT: {RolloutState.ABORTED}, Command.RESUME: _GOES_ON}.get(wanted, frozenset())
        if record.finished_us or record.state not in begun:  # what is not over may have lost its process half-way
            await command(self._store, record.id, wanted)
        if wanted is not Command.PAUSE:
            # Whose process has died, or was interrupted, is continued or brought to its end by the service.
            await self._service.serve(record.id)
        action = f"rollout.{wanted.name.lower()}"
        await self._audit.record(actor, action, record.id, {"plan_hash": record.plan_hash})
        return await self._store.get(record.id)


async def refuse_while_frozen(service: ServiceStore) -> None:
    """Raise StateError while there is a freeze."""
    freeze = await service.frozen()
    if freeze is not None:
        why = f": {freeze.reason}" if freeze.reason else ""
        raise StateError(f"all rollouts are frozen by {freeze.actor}{why}; lift the freeze first")
