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

_WIDTHS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
"""Seconds of a column that people read off easily; never below one: a rate is counted over a second."""


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
    """A stored batch of a wave: targets by their index in the columns, in order of their due offsets (microseconds).

    `released` is the number of the pacing batch that each target's due time comes from.
    """

    wave: int
    number: int
    targets: array[int]
    dues: array[int]
    released: array[int]


def schedule(columns: Columns, options: Options, seed: int) -> Iterator[Batch]:
    """Yield the batches of a rollout in order of their due times.

    due = wave_start + batch_number * batch_interval + jitter, then pushed apart so that never more than `rate` sends
    (rounded up when it is fractional) start in any second. There is one wave. A batch of more than MAX_BATCH targets comes
    in several parts. Where a random delay is not shorter than the interval, batches touch each other: there the parts are cut
    by due time, so that whoever executes them need not have many open at once.
    """
    order = interleave(columns.sites)
    dues, batch_of = _dues(columns, options, seed, order)
    by_due = sorted(order, key=dues.__getitem__)  # stable: equal dues stay interleaved over the sites
    _push_apart(by_due, dues, spacing_us(options.rate))
    overlap = max(columns.random_delays, default=0.0) >= options.batch_interval
    start = number = 0
    for end in range(1, len(by_due) + 1):
        if (
            end == len(by_due)
            or end - start == MAX_BATCH
            or (not overlap and batch_of[by_due[end]] != batch_of[by_due[start]])
        ):
            part = by_due[start:end]
            yield Batch(
                0,
                number,
                array("l", part),
                array("q", (dues[index] for index in part)),
                array("l", (batch_of[index] for index in part)),
            )
            start, number = end, number + 1


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


def load_curve(dues: Sequence[int], *, columns: int) -> tuple[int, list[int]]:
    """Count sends (due microseconds after the start): return the seconds of a column and the sends of each."""
    if not dues:
        return 1, []
    seconds = max(dues) // 1_000_000 + 1
    least = -(-seconds // columns)
    width = next((each for each in _WIDTHS if each >= least), least)
    counts = [0] * (-(-seconds // width))
    for due in dues:
        counts[due // (width * 1_000_000)] += 1
    return width, counts
