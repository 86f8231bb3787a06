"""The state tables against the arrows of the design."""

from __future__ import annotations

from itertools import product

import pytest

from resyncctl.errors import StateError
from resyncctl.rollout.model import FAILED, SUCCESS, TERMINAL, TargetState
from resyncctl.rollout.states import ENDED, ROLLOUT, TARGET, Command, RolloutState, move

ARROWS = [
    "planned submit awaiting_approval",
    "planned schedule scheduled",
    "planned abort aborted",
    "awaiting_approval schedule scheduled",
    "awaiting_approval abort aborted",
    "scheduled start running",
    "scheduled abort aborted",
    "running pause paused",
    "running drain draining",
    "running abort aborted",
    "paused resume running",
    "paused abort aborted",
    "draining pause paused",
    "draining finish finished",
    "draining abort aborted",
]


def test_the_rollout_table_is_the_design_arrow_by_arrow() -> None:
    found = [f"{state.value} {command.name.lower()} {then.value}" for (state, command), then in ROLLOUT.items()]
    assert sorted(found) == sorted(ARROWS)


@pytest.mark.parametrize(("state", "command"), list(ROLLOUT))
def test_a_command_that_fits_moves_the_rollout(state: RolloutState, command: Command) -> None:
    assert move(state, command) is ROLLOUT[state, command]


@pytest.mark.parametrize(("state", "command"), [pair for pair in product(RolloutState, Command) if pair not in ROLLOUT])
def test_any_other_command_is_refused_and_names_the_state(state: RolloutState, command: Command) -> None:
    with pytest.raises(StateError, match=f"^cannot {command.name.lower()} a rollout that is {state.value}; "):
        move(state, command)


@pytest.mark.parametrize(
    ("state", "command", "text"),
    [
        ("paused", Command.PAUSE, "cannot pause a rollout that is paused; possible now: abort, resume"),
        ("running", Command.RESUME, "cannot resume a rollout that is running; possible now: abort, pause"),
        ("draining", Command.RESUME, "cannot resume a rollout that is draining; possible now: abort, pause"),
        ("planned", Command.PAUSE, "cannot pause a rollout that is planned; possible now: abort"),
        ("finished", Command.ABORT, "cannot abort a rollout that is finished; nothing can change it any more"),
        ("aborted", Command.RESUME, "cannot resume a rollout that is aborted; nothing can change it any more"),
    ],
)
def test_a_refusal_tells_the_operator_what_is_possible_now(state: str, command: Command, text: str) -> None:
    with pytest.raises(StateError) as caught:
        move(RolloutState(state), command)
    assert str(caught.value) == text
    assert caught.value.exit_status == 2


def test_every_rollout_can_be_aborted_until_it_has_ended() -> None:
    assert {state for state, command in ROLLOUT if command is Command.ABORT} == set(RolloutState) - ENDED


def test_every_rollout_state_can_be_reached() -> None:
    assert set(ROLLOUT.values()) | {RolloutState.PLANNED} == set(RolloutState)


def test_every_target_state_can_be_reached() -> None:
    assert set().union(*TARGET.values()) == set(TargetState)


def test_a_target_leaves_a_terminal_state_only_by_confirmation() -> None:
    for state in TERMINAL & set(TARGET):
        assert TARGET[state] == {TargetState.CONFIRMED, TargetState.UNCONFIRMED}


def test_a_target_is_never_sent_to_again_once_it_has_an_outcome() -> None:
    assert {state for state, following in TARGET.items() if TargetState.SENDING in following} == {
        TargetState.PLANNED,
        TargetState.DEFERRED,
        TargetState.SENDING,
    }


def test_success_and_failure_exclude_each_other_and_leave_out_what_was_never_tried() -> None:
    assert not SUCCESS & FAILED
    assert {TargetState.SKIPPED, TargetState.CANCELLED} == TERMINAL - SUCCESS - FAILED
