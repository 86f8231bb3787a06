"""Targets and outcomes survive Redis, whatever text the phones' owners have come up with."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import StoreError
from resyncctl.rollout.model import Outcome, Reason, Target, TargetState
from resyncctl.store.codec import (
    columns_text,
    decode_block,
    decode_text,
    encode_block,
    pack,
    record,
    unpack,
    unpack_batch,
)  # fmt: skip

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n"), max_size=20)
targets = st.builds(
    Target,
    *[words] * 11,
    trigger=st.integers(0, 99),
    skip=st.sampled_from(Reason),
    due_us=st.integers(-1, 2**52),
)
outcomes = st.builds(
    Outcome,
    st.sampled_from(TargetState),
    st.sampled_from(Reason),
    status=st.integers(0, 699),
    attempts=st.integers(0, 255),
    planned_us=st.integers(-(2**62), 2**62),
    sent_us=st.integers(-(2**62), 2**62),
    rtt_us=st.integers(0, 2**32 - 1),
)


@given(outcomes)
def test_outcome_survives(outcome: Outcome) -> None:
    """Times below zero too: a wall clock may have been set back across a crash."""
    packed = pack(outcome)
    assert len(packed) == 25
    assert unpack(packed) == outcome


@given(st.lists(targets, min_size=1, max_size=20))
def test_batch_survives_in_its_order(batch: list[Target]) -> None:
    assert decode_text(columns_text(batch)) == batch
    assert decode_block(encode_block(columns_text(batch))) == batch


@given(st.binary(max_size=60))
def test_any_other_bytes_are_a_store_error(noise: bytes) -> None:
    for value in (noise, zlib.compress(noise)):
        with pytest.raises(StoreError, match="cannot be read"):
            decode_block(value)


@given(st.binary(max_size=40).filter(lambda value: len(value) != 25))
def test_outcome_of_another_length_is_a_store_error(noise: bytes) -> None:
    with pytest.raises(StoreError, match="written by a newer version"):
        unpack(noise)


def test_outcome_of_a_newer_version_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="written by a newer version"):
        unpack(b"\xff" + pack(Outcome(TargetState.ACCEPTED))[1:])


def test_long_round_trip_is_cut() -> None:
    assert unpack(pack(Outcome(TargetState.ACCEPTED, rtt_us=2**40))).rtt_us == 2**32 - 1


def test_entry_of_a_commit_is_place_and_outcome() -> None:
    packed = pack(Outcome(TargetState.ACCEPTED, status=200))
    assert record(511, packed) == b"\x01\xff" + packed
    assert unpack_batch({b"511": packed}) == {511: Outcome(TargetState.ACCEPTED, status=200)}
