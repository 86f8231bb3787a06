"""Options, states and reasons as values."""

from __future__ import annotations

import json
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from resyncctl.rollout.model import Action, OnBusy, Options, Reason, Target, TargetState

SECONDS = st.floats(0, 1e6)
OPTIONS = st.builds(
    Options,
    action=st.sampled_from(Action),
    batch_size=st.integers(1, 10_000),
    batch_interval=SECONDS,
    random_delay=SECONDS,
    forced_delay=SECONDS,
    rate=SECONDS,
    max_in_flight=st.integers(1, 100_000),
    attempts=st.integers(1, 255),
    retry_delay=SECONDS,
    on_busy=st.sampled_from(OnBusy),
    idle_for=SECONDS,
    event=st.text(),
    all_contacts=st.booleans(),
    outbound_proxy=st.text(),
    from_uri=st.text(),
    timer_t1=SECONDS,
    timeout=SECONDS,
)


@given(OPTIONS)
def test_options_survive_a_round_trip_through_json(options: Options) -> None:
    assert Options.from_dict(json.loads(json.dumps(options.as_dict()))) == options


def test_options_come_back_as_enums() -> None:
    options = Options.from_dict({"action": "reboot", "on_busy": "skip"})
    assert (options.action, options.on_busy) == (Action.REBOOT, OnBusy.SKIP)


def test_an_option_of_a_newer_version_is_ignored() -> None:
    assert Options.from_dict({**Options().as_dict(), "colour": "blue"}) == Options()


def test_the_defaults_are_those_of_the_design() -> None:
    options = Options()
    assert (options.batch_size, options.batch_interval, options.random_delay) == (50, 60.0, 40.0)
    assert (options.forced_delay, options.rate, options.max_in_flight) == (1440.0, 50.0, 1000)
    assert (options.attempts, options.idle_for, options.timer_t1, options.timeout) == (3, 5.0, 0.5, 32.0)


def test_options_are_listed_in_the_order_of_their_fields() -> None:
    assert list(Options().as_dict()) == [field.name for field in fields(Options)]


def test_the_numbers_of_stored_states_never_change() -> None:
    assert [(state.value, state.label) for state in TargetState] == [
        (0, "planned"),
        (1, "deferred"),
        (2, "sending"),
        (3, "accepted"),
        (4, "confirmed"),
        (5, "rejected"),
        (6, "unreachable"),
        (7, "overloaded"),
        (8, "unauthorized"),
        (9, "unconfirmed"),
        (10, "relayed"),
        (11, "skipped"),
        (12, "cancelled"),
        (13, "unknown"),
    ]


def test_every_reason_but_none_and_a_response_has_words() -> None:
    assert [reason.name for reason in Reason if not reason.text] == ["NONE", "RESPONSE"]


def test_a_password_does_not_show_in_a_log() -> None:
    assert "secret" not in repr(Target(aor="sip:1@pbx", auth_username="1", auth_password="secret"))
