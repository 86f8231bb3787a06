"""The states of rollouts and targets as tables: one row for each arrow of the design."""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from typing import Final

from resyncctl.errors import StateError
from resyncctl.rollout.model import TargetState


class RolloutState(StrEnum):
    """States of a rollout."""

    PLANNED = "planned"
    AWAITING_APPROVAL = "awaiting_approval"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    FINISHED = "finished"
    ABORTED = "aborted"


class PauseReason(StrEnum):
    """Who or what paused a rollout."""

    OPERATOR = "operator"
    GATE = "gate"
    WINDOW = "window"
    FREEZE = "freeze"
    LOAD = "load"
    MACHINE = "machine"
    """A worker cannot send as the rollout or its own configuration wants; its log says why."""


class Command(Enum):
    """What moves a rollout."""

    SUBMIT = auto()
    """Somebody has to approve it first; SCHEDULE is the approval."""
    SCHEDULE = auto()
    START = auto()
    PAUSE = auto()
    RESUME = auto()
    ABORT = auto()
    DRAIN = auto()
    """Every target has been sent to; answers are awaited."""
    FINISH = auto()


OPERATOR: Final = frozenset({Command.PAUSE, Command.RESUME, Command.ABORT})
"""Commands that people give; the others are steps of the engine."""

_R = RolloutState
ROLLOUT: Final[dict[tuple[RolloutState, Command], RolloutState]] = {
    (_R.PLANNED, Command.SUBMIT): _R.AWAITING_APPROVAL,
    (_R.PLANNED, Command.SCHEDULE): _R.SCHEDULED,
    (_R.PLANNED, Command.ABORT): _R.ABORTED,
    (_R.AWAITING_APPROVAL, Command.SCHEDULE): _R.SCHEDULED,
    (_R.AWAITING_APPROVAL, Command.ABORT): _R.ABORTED,
    (_R.SCHEDULED, Command.START): _R.RUNNING,
    (_R.SCHEDULED, Command.ABORT): _R.ABORTED,
    (_R.RUNNING, Command.PAUSE): _R.PAUSED,
    (_R.RUNNING, Command.DRAIN): _R.DRAINING,
    (_R.RUNNING, Command.ABORT): _R.ABORTED,
    (_R.PAUSED, Command.RESUME): _R.RUNNING,
    (_R.PAUSED, Command.ABORT): _R.ABORTED,
    (_R.DRAINING, Command.FINISH): _R.FINISHED,
    (_R.DRAINING, Command.ABORT): _R.ABORTED,
    (_R.DRAINING, Command.PAUSE): _R.PAUSED,
}
ENDED: Final = frozenset({_R.FINISHED, _R.ABORTED})

_T = TargetState
TARGET: Final[dict[TargetState, frozenset[TargetState]]] = {
    _T.PLANNED: frozenset({_T.DEFERRED, _T.SENDING, _T.SKIPPED, _T.CANCELLED}),
    _T.DEFERRED: frozenset({_T.SENDING, _T.SKIPPED, _T.CANCELLED, _T.DEFERRED}),
    _T.SENDING: frozenset(
        {
            _T.PLANNED,  # another attempt follows, or an intent is taken back unsent
            _T.DEFERRED,  # a call began between intent and due time
            _T.SENDING,  # sent again after a crash (resync only)
            _T.ACCEPTED,
            _T.REJECTED,
            _T.UNREACHABLE,
            _T.OVERLOADED,
            _T.UNAUTHORIZED,
            _T.RELAYED,
            _T.UNKNOWN,
            _T.SKIPPED,
            _T.CANCELLED,
        }
    ),
    _T.ACCEPTED: frozenset({_T.CONFIRMED, _T.UNCONFIRMED}),
    _T.UNKNOWN: frozenset({_T.CONFIRMED, _T.UNCONFIRMED}),
}
"""Where a target may go from each state; a state without a row is final."""


def move(state: RolloutState, command: Command) -> RolloutState:
    """Return the state after a command; raise StateError when the table has no such arrow."""
    try:
        return ROLLOUT[state, command]
    except KeyError:
        possible = sorted(each.name.lower() for source, each in ROLLOUT if source is state and each in OPERATOR)
        hint = f"possible now: {', '.join(possible)}" if possible else "nothing can change it any more"
        raise StateError(f"cannot {command.name.lower()} a rollout that is {state.value}; {hint}") from None
