"""Planning: who is sent to when. A pure function of targets, options and seed, on columns so that a million fit."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from resyncctl.rollout.model import Options
from resyncctl.rollout.pacing import Jitter, interleave, spacing_us

MAX_BATCH: Final = 512
"""Targets of one stored batch. Redis keeps a hash of at most 512 small fields in 41 bytes a phone, one of 513 in 88."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The targets of a rollout as columns: what decides when each is due. `random_delays` are seconds."""

    devices: array[int]
    sites: array[int]
    random_delays: array[float]

    def __len__(self) -> int:
        return len(self.devices)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of a wave: targets by their index in the columns, in order of their due offsets (microseconds)."""

    wave: int
    number: int
    targets: array[int]
    dues: array[int]


def schedule(columns: Columns, options: Options, seed: int) -> Iterator[Batch]:
    """Yield the batches of a rollout in order of their first due time.

    due = wave_start + batch_number * batch_interval + jitter, then pushed apart so that never more than `rate` sends
    (rounded up when it is fractional) start in any second. There is one wave. A batch of more than MAX_BATCH targets comes
    in several parts of the same wave.
    """
    count = len(columns)
    order = interleave(columns.sites)
    dues, batch_of = _dues(columns, options, seed, order)
    by_due = sorted(order, key=dues.__getitem__)  # stable: equal dues stay interleaved over the sites
    _push_apart(by_due, dues, spacing_us(options.rate))
    parts: dict[int, tuple[array[int], array[int]]] = {}
    sizes = _sizes(count, options.batch_size)
    left = array("l", sizes)
    finished: list[tuple[int, array[int], array[int]]] = []
    for index in by_due:
        number = batch_of[index]
        part = parts.get(number)
        if part is None:
            part = parts[number] = (array("l"), array("q"))
        part[0].append(index)
        part[1].append(dues[index])
        left[number] -= 1
        if len(part[0]) == MAX_BATCH or not left[number]:
            finished.append((part[1][0], *parts.pop(number)))
    del parts, left, by_due, order
    finished.sort(key=_first_due)
    for number, (_, members, offsets) in enumerate(finished):
        yield Batch(0, number, members, offsets)


def _first_due(part: tuple[int, array[int], array[int]]) -> int:
    return part[0]


def _sizes(count: int, batch_size: int) -> list[int]:
    whole, rest = divmod(count, batch_size)
    return [batch_size] * whole + ([rest] if rest else [])


def _dues(columns: Columns, options: Options, seed: int, order: Sequence[int]) -> tuple[array[int], array[int]]:
    jitter = Jitter(seed)
    dues = array("q", bytes(8 * len(order)))
    batch_of = array("l", bytes(array("l").itemsize * len(order)))
    for position, index in enumerate(order):
        number = position // options.batch_size
        delay = columns.random_delays[index]
        due = round(number * options.batch_interval * 1_000_000)
        if delay:
            due += int(jitter.share(columns.devices[index]) * delay * 1_000_000)  # below the delay, never equal to it
        dues[index] = due
        batch_of[index] = number
    return dues, batch_of


def _push_apart(by_due: Sequence[int], dues: array[int], spacing: int) -> None:
    if not spacing:
        return
    free = dues[by_due[0]] if by_due else 0
    for index in by_due:
        due = dues[index]
        if due < free:
            dues[index] = due = free
        free = due + spacing


def load_curve(dues: Sequence[int], buckets: int) -> tuple[float, list[int]]:
    """Count sends over time: return the width of a bucket in seconds and the sends of each. Offsets need no order."""
    if not dues:
        return 1.0, []
    first, last = min(dues), max(dues)
    width = max(1, -(-(last - first + 1) // buckets))
    counts = [0] * (-(-(last - first + 1) // width))
    for due in dues:
        counts[(due - first) // width] += 1
    return width / 1_000_000, counts
