"""Rollout names, the batch index, and a rollout's fields."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import InputError, StoreError
from resyncctl.rollout.model import Options, RolloutId
from resyncctl.rollout.states import RolloutState
from resyncctl.store.records import BatchIndex, new_fields, read_fields, rollout_id

ID = RolloutId("r1")
INDEX = BatchIndex(array("q", [0, 5_000_000, -1]), array("H", [512, 3, 7]), array("B", [0, 1, 0]), ("", "berlin"))


def fields() -> dict[bytes, bytes]:
    made = new_fields(
        plan_hash="abc",
        options=Options(rate=3.5),
        seed=7,
        targets=522,
        skipped={"busy": 7},
        notices=("n",),
        triggers=(),
        index=INDEX,
        created_us=9,
    )
    return {name.encode(): value if isinstance(value, bytes) else str(value).encode() for name, value in made.items()}


@pytest.mark.parametrize("name", ["a", "2026-01-31.night_1", "x" * 64])
def test_plain_names_are_taken(name: str) -> None:
    assert rollout_id(name) == name


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "a{b}", "a*", "ä", "a\n", "x" * 65])
def test_names_that_a_shell_or_redis_trips_over_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot name a rollout"):
        rollout_id(name)


@given(st.lists(st.tuples(st.integers(-1, 2**52), st.integers(0, 512)), max_size=50))
def test_index_survives(rows: list[tuple[int, int]]) -> None:
    columns = array("q", [due for due, _ in rows]), array("H", [size for _, size in rows])
    index = BatchIndex(*columns, array("B", [size % 3 for _, size in rows]), ("", "ä", "b"))
    assert BatchIndex.unpack(index.pack()) == index


@given(st.binary(max_size=50))
def test_damaged_index_is_a_store_error(noise: bytes) -> None:
    with pytest.raises(StoreError, match="batch index"):
        BatchIndex.unpack(noise)


def test_new_rollout_has_not_begun() -> None:
    record = read_fields(ID, fields())
    assert (record.state, record.started_us, record.report, record.owner) == (RolloutState.PLANNED, 0, {}, "")
    assert (record.options, record.index, record.skipped) == (Options(rate=3.5), INDEX, {"busy": 7})


@pytest.mark.parametrize(
    "damage", [{b"state": b"dancing"}, {b"targets": b"many"}, {b"header": b"{}"}, {b"report": b"{"}, {b"state": None}]
)
def test_fields_that_make_no_sense_are_a_store_error(damage: dict[bytes, bytes | None]) -> None:
    damaged = {name: value for name, value in (fields() | damage).items() if value is not None}
    with pytest.raises(StoreError, match="rollout r1 cannot be read"):
        read_fields(ID, damaged)
