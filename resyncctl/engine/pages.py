"""Lists in pages: rollouts, the targets of one, the phones of a source. A page reads no more than it shows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resyncctl.engine.results import Row, order_of, row_of, settled
from resyncctl.errors import InputError
from resyncctl.inventory.csv_file import CsvPhones
from resyncctl.inventory.phone import Selection
from resyncctl.rollout.model import RolloutId, TargetState
from resyncctl.store import keys
from resyncctl.store.codec import decode_block, unpack_batch
from resyncctl.store.records import read_fields
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.rollout.states import RolloutState
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore
    from resyncctl.vendors import Catalogue

MOST: Final = 1000
"""Rows of one page."""
_LOOKED_AT: Final = 64
"""Batches that are looked through for one page; a page of few matches says where to go on."""
_LOOKS: Final = 10
"""The same for pages of rollouts."""
_SECRET: Final = frozenset({"auth_username", "auth_password"})
_CURSOR: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,9})\Z", re.ASCII)
_LINE: Final = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class RolloutPage:
    """Rollouts, newest first; `more` is the cursor of what follows, '' = nothing does."""

    rollouts: tuple[RolloutRecord, ...]
    more: str


@dataclass(frozen=True, slots=True)
class TargetPage:
    """Targets in the order of their batches; `more` as in RolloutPage."""

    rows: tuple[Row, ...]
    more: str


@dataclass(frozen=True, slots=True)
class PhonePage:
    """Phones by column, without credentials and without empty columns; `more` as in RolloutPage."""

    phones: tuple[Mapping[str, str], ...]
    more: str


async def rollouts_page(
    store: RedisStore, states: Collection[RolloutState] = (), *, limit: int, cursor: str = ""
) -> RolloutPage:
    """Return at most `limit` rollouts in one of the states (none given = any). A cursor is the ID of the last one seen.

    Raises InputError for a cursor that is no rollout.
    """
    found: list[RolloutRecord] = []
    names: list[RolloutId] = []
    for _ in range(_LOOKS):
        names = await _names(store, await _place_after(store, cursor), limit + 1)
        more = len(names) > limit
        for name, record in await _records(store, names[:limit]):
            cursor = name
            if not states or record.state in states:
                found.append(record)
            if len(found) == limit:
                return RolloutPage(tuple(found), cursor if more or name != names[-1] else "")
        if not more:
            return RolloutPage(tuple(found), "")
    return RolloutPage(tuple(found), cursor)


async def _records(store: RedisStore, names: list[RolloutId]) -> list[tuple[RolloutId, RolloutRecord]]:
    with store_errors(store.where):
        async with store.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(keys.meta(name))
            fields = await pipe.execute()
    return [(name, read_fields(name, each)) for name, each in zip(names, fields, strict=True) if each]


async def _place_after(store: RedisStore, cursor: str) -> int:
    if not cursor:
        return 0
    with store_errors(store.where):
        place: int | None = await store.client.zrevrank(keys.ROLLOUTS, cursor)
    if place is None:
        raise InputError(f"the cursor {cursor[:80]!r} is none; use the one that came with the page before")
    return place + 1


async def _names(store: RedisStore, start: int, count: int) -> list[RolloutId]:
    with store_errors(store.where):
        found: list[bytes] = await store.client.zrevrange(keys.ROLLOUTS, start, start + count - 1)
    return [RolloutId(name.decode()) for name in found]


async def targets_page(
    store: RedisStore,
    record: RolloutRecord,
    states: Collection[TargetState] = (),
    *,
    limit: int,
    cursor: str = "",
) -> TargetPage:
    """Return at most `limit` targets in one of the states (none given = any). A cursor is BATCH:PLACE of the next one.

    Raises InputError for a cursor that no page of this rollout has given.
    """
    order = order_of(record)
    at, place = _batch_cursor(cursor, order, record)
    rows: list[Row] = []
    last = min(len(order), at + _LOOKED_AT)
    while at < last:
        number = order[at]
        [block], [fields] = await asyncio.gather(store.blocks(record.id, [number]), store.outcomes(record.id, [number]))
        outcomes = unpack_batch(fields)
        targets = decode_block(block)
        for index in range(place, len(targets)):
            if len(rows) == limit:
                return TargetPage(tuple(rows), f"{number}:{index}")
            outcome = settled(targets[index], outcomes.get(index), record)
            if not states or outcome.state in states:
                rows.append(row_of(targets[index], outcome, record))
        at, place = at + 1, 0
    return TargetPage(tuple(rows), f"{order[at]}:0" if at < len(order) else "")


def _batch_cursor(cursor: str, order: list[int], record: RolloutRecord) -> tuple[int, int]:
    """Return the place in the order of batches, and the place in the batch."""
    if not cursor:
        return 0, 0
    found = _CURSOR.match(cursor)
    if found is None or int(found[1]) >= len(order) or int(found[2]) > record.index.sizes[int(found[1])]:
        raise InputError(f"the cursor {cursor[:80]!r} is none; use the one that came with the page before")
    return order.index(int(found[1])), int(found[2])


async def phones_page(path: Path, where: list[str], catalogue: Catalogue, *, limit: int, cursor: str = "") -> PhonePage:
    """Return at most `limit` phones of a source that match. A cursor is the line of the file to go on from.

    Raises InputError for a wrong condition or cursor and for a file that cannot be used. Credentials can neither be seen
    nor asked for.
    """
    if cursor and not _LINE.match(cursor):
        raise InputError(f"the cursor {cursor[:80]!r} is none; use the one that came with the page before")
    for condition in where:
        if condition.partition("=")[0] in _SECRET:
            raise InputError(f"where {condition.partition('=')[0]}: credentials are not shown")
    selection = Selection(where)
    return await asyncio.to_thread(_read, path, selection, catalogue, limit=limit, first=int(cursor or 0))


def _read(path: Path, selection: Selection, catalogue: Catalogue, *, limit: int, first: int) -> PhonePage:
    phones: list[Mapping[str, str]] = []
    for line, values, phone in CsvPhones(path).rows():
        if line < first:
            continue
        if len(phones) == limit:
            return PhonePage(tuple(phones), str(line))
        vendor = catalogue.get(phone.vendor) if phone.vendor else catalogue.match(phone.user_agent)
        shown = {**values, "vendor": vendor.id if vendor else phone.vendor}
        if selection.matches(shown):
            phones.append({name: text for name, text in shown.items() if text and name not in _SECRET})
    return PhonePage(tuple(phones), "")
