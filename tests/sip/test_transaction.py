"""The non-INVITE client transaction of RFC 3261 figure 6, with time moved by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from resyncctl.sip.transaction import TABLE, ClientTransaction, Effect, Event, State, Timers

TRYING, PROCEEDING, COMPLETED, TERMINATED = State.TRYING, State.PROCEEDING, State.COMPLETED, State.TERMINATED


def in_state(state: State) -> ClientTransaction:
    """A transaction that started at 0 and came to `state` at 0."""
    transaction = ClientTransaction(Timers(), now=0.0)
    if state is PROCEEDING:
        transaction.receive(100, now=0.0)
    elif state is COMPLETED:
        transaction.receive(200, now=0.0)
    elif state is TERMINATED:
        transaction.fail()
    assert transaction.state is state
    return transaction


def schedule(transaction: ClientTransaction) -> list[tuple[float, Effect]]:
    """Advance exactly at every deadline until nothing is pending."""
    found = []
    while transaction.due_at != float("inf"):
        now = transaction.due_at
        found.append((now, transaction.advance(now=now)))
    return found


def stimulate(transaction: ClientTransaction, event: Event) -> Effect:
    match event:
        case Event.TIMER_E:
            return transaction.advance(now=0.5)
        case Event.TIMER_F:
            return transaction.advance(now=32.0)
        case Event.TIMER_K:
            return transaction.advance(now=5.0)
        case Event.PROVISIONAL:
            return transaction.receive(199, now=0.0)
        case Event.FINAL:
            return transaction.receive(200, now=0.0)
        case Event.TRANSPORT_ERROR:
            return transaction.fail()


ROWS = [
    (TRYING, Event.TIMER_E, TRYING, Effect.RETRANSMIT),
    (TRYING, Event.TIMER_F, TERMINATED, Effect.TIMEOUT),
    (TRYING, Event.PROVISIONAL, PROCEEDING, Effect.NONE),
    (TRYING, Event.FINAL, COMPLETED, Effect.ANSWER),
    (TRYING, Event.TRANSPORT_ERROR, TERMINATED, Effect.FAILURE),
    (PROCEEDING, Event.TIMER_E, PROCEEDING, Effect.RETRANSMIT),
    (PROCEEDING, Event.TIMER_F, TERMINATED, Effect.TIMEOUT),
    (PROCEEDING, Event.PROVISIONAL, PROCEEDING, Effect.NONE),
    (PROCEEDING, Event.FINAL, COMPLETED, Effect.ANSWER),
    (PROCEEDING, Event.TRANSPORT_ERROR, TERMINATED, Effect.FAILURE),
    (COMPLETED, Event.PROVISIONAL, COMPLETED, Effect.NONE),
    (COMPLETED, Event.FINAL, COMPLETED, Effect.NONE),
    (COMPLETED, Event.TRANSPORT_ERROR, COMPLETED, Effect.NONE),
    (COMPLETED, Event.TIMER_K, TERMINATED, Effect.NONE),
]
"""Figure 6, written a second time."""


@pytest.mark.parametrize(("state", "event", "after", "effect"), ROWS)
def test_every_row_of_the_table_is_taken(state: State, event: Event, after: State, effect: Effect) -> None:
    transaction = in_state(state)
    assert stimulate(transaction, event) is effect
    assert transaction.state is after


def test_table_is_figure_6() -> None:
    assert {(state, event): (after, effect) for state, event, after, effect in ROWS} == TABLE
    assert len(ROWS) == 14


def test_no_row_is_missing_for_a_pair_that_can_happen() -> None:
    """Every sequence of five happenings, each timer at its own moment; a missing row would be a KeyError."""
    happenings: tuple[Callable[[ClientTransaction], Effect], ...] = (
        lambda one: one.receive(100, now=one.due_at),
        lambda one: one.receive(486, now=one.due_at),
        lambda one: one.fail(),
        lambda one: one.advance(now=one.due_at),
        lambda one: one.advance(now=one.due_at + 100),
    )
    reached = set()
    for sequence in itertools.product(happenings, repeat=5):
        transaction = ClientTransaction(Timers(), now=0.0)
        for happen in sequence:
            if transaction.state is TERMINATED:
                break  # its owner has forgotten it (RFC 3261 17.1.2.2)
            happen(transaction)
            reached.add(transaction.state)
    assert reached == set(State)


def test_request_is_sent_again_at_these_times_and_given_up_at_timer_f() -> None:
    assert schedule(ClientTransaction(Timers(), now=0.0)) == [
        (0.5, Effect.RETRANSMIT),
        (1.5, Effect.RETRANSMIT),
        (3.5, Effect.RETRANSMIT),
        (7.5, Effect.RETRANSMIT),
        (11.5, Effect.RETRANSMIT),
        (15.5, Effect.RETRANSMIT),
        (19.5, Effect.RETRANSMIT),
        (23.5, Effect.RETRANSMIT),
        (27.5, Effect.RETRANSMIT),
        (31.5, Effect.RETRANSMIT),
        (32.0, Effect.TIMEOUT),
    ]


def test_start_moves_the_schedule_as_a_whole() -> None:
    times = [now for now, _ in schedule(ClientTransaction(Timers(), now=1000.0))]
    assert times == [1000.5, 1001.5, 1003.5, 1007.5, 1011.5, 1015.5, 1019.5, 1023.5, 1027.5, 1031.5, 1032.0]


def test_timers_can_be_set() -> None:
    transaction = ClientTransaction(Timers(t1=1.0, t2=2.0, t4=3.0, timeout=6.0), now=0.0)
    assert [now for now, _ in schedule(transaction)] == [1.0, 3.0, 5.0, 6.0]
    short = ClientTransaction(Timers(timeout=0.25), now=0.0)
    assert schedule(short) == [(0.25, Effect.TIMEOUT)]


def test_provisional_response_slows_retransmission_to_t2() -> None:
    """RFC 3261 17.1.2.2: the timer that runs is not touched, the next ones are T2."""
    transaction = ClientTransaction(Timers(), now=0.0)
    assert transaction.receive(100, now=0.1) is Effect.NONE
    assert [now for now, _ in schedule(transaction)] == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5, 32.0]


def test_provisional_response_between_retransmissions_counts_from_the_next_one() -> None:
    transaction = ClientTransaction(Timers(), now=0.0)
    transaction.advance(now=0.5)
    transaction.receive(183, now=1.0)
    transaction.receive(183, now=1.2)
    assert [now for now, _ in schedule(transaction)][:3] == [1.5, 5.5, 9.5]


def test_late_timer_does_not_bunch_retransmissions() -> None:
    transaction = ClientTransaction(Timers(), now=0.0)
    assert transaction.advance(now=3.0) is Effect.RETRANSMIT
    assert transaction.advance(now=3.0) is Effect.NONE
    assert transaction.due_at == 4.0
    assert transaction.advance(now=9.0) is Effect.RETRANSMIT
    assert transaction.due_at == 11.0


def test_timer_f_goes_before_a_timer_e_that_is_later_than_it() -> None:
    transaction = ClientTransaction(Timers(), now=0.0)
    assert transaction.advance(now=40.0) is Effect.TIMEOUT
    assert transaction.due_at == float("inf")


def test_nothing_happens_before_a_timer_is_due() -> None:
    transaction = ClientTransaction(Timers(), now=0.0)
    assert transaction.advance(now=0.499) is Effect.NONE
    assert (transaction.state, transaction.due_at) == (TRYING, 0.5)


def test_final_response_is_absorbed_until_timer_k() -> None:
    transaction = ClientTransaction(Timers(), now=0.0)
    assert transaction.receive(401, now=2.0) is Effect.ANSWER
    assert transaction.due_at == 7.0
    assert transaction.receive(401, now=6.0) is Effect.NONE
    assert transaction.due_at == 7.0
    assert transaction.advance(now=6.9) is Effect.NONE
    assert transaction.state is COMPLETED
    assert schedule(transaction) == [(7.0, Effect.NONE)]
    assert transaction.state is TERMINATED


def test_transport_error_ends_a_request_but_not_an_answered_one() -> None:
    assert in_state(TRYING).fail() is Effect.FAILURE
    assert in_state(COMPLETED).fail() is Effect.NONE


def test_transaction_that_has_ended_wants_nothing_any_more() -> None:
    transaction = in_state(TERMINATED)
    assert transaction.due_at == float("inf")
    assert transaction.advance(now=1e9) is Effect.NONE


def test_over_a_reliable_transport_only_timer_f_runs() -> None:
    transaction = ClientTransaction(Timers(), now=0.0, reliable=True)
    assert transaction.due_at == 32.0
    assert transaction.receive(100, now=1.0) is Effect.NONE
    assert transaction.advance(now=31.9) is Effect.NONE
    assert transaction.advance(now=32.0) is Effect.TIMEOUT
    assert transaction.state is State.TERMINATED


def test_over_a_reliable_transport_timer_k_is_zero() -> None:
    transaction = ClientTransaction(Timers(), now=0.0, reliable=True)
    assert transaction.receive(200, now=1.0) is Effect.ANSWER
    assert transaction.due_at == 1.0
    assert transaction.advance(now=1.0) is Effect.NONE
    assert transaction.state is State.TERMINATED
