"""What the DNS holds for SIP, the port through which it is asked, and a memory of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

PATIENCE: Final = 3.0
"""Seconds that a question may take; other phones wait meanwhile."""
FORGET_FAILURE: Final = 5.0
"""Seconds that a failed question is not asked again, so that a dead name server does not see it for every phone."""
_LONGEST: Final = 86_400.0
"""Seconds that an answer is used at most, whatever its TTL says: a week's mistake in a zone must not last a week here."""
_LONGEST_ABSENCE: Final = 60.0
"""Seconds that a record counts as absent at most: RFC 2308 5 allows hours, but one that was just added is waited for."""
_MOST: Final = 20_000
"""Answers that a memory keeps."""


class Kind(StrEnum):
    """A type of record (RFC 1035, 3596, 2782, 3403)."""

    A = "A"
    AAAA = "AAAA"
    SRV = "SRV"
    NAPTR = "NAPTR"


class Srv(NamedTuple):
    """An SRV record (RFC 2782). `target` without its final dot, so that "" is the root: the service is not available."""

    priority: int
    weight: int
    port: int
    target: str


class Naptr(NamedTuple):
    """A NAPTR record (RFC 3403 4.1). `replacement` without its final dot, "" when there is none."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


Record: TypeAlias = str | Srv | Naptr
"""One record; addresses are text."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Answer(NamedTuple, Generic[T_co]):
    """Records in the order of the answer, none when there are none, and the seconds for which that may be used."""

    records: tuple[T_co, ...]
    ttl: float


class Known(NamedTuple, Generic[T_co]):
    """Records, and the time until which they may be used."""

    records: tuple[T_co, ...]
    until: float


NO_ANSWER: Final[Answer[str]] = Answer((), FORGET_FAILURE)
"""There was no answer, or one that says nothing (SERVFAIL, REFUSED)."""

Query: TypeAlias = Callable[[str, Kind], Awaitable[Answer[Record]]]
"""Asks the DNS for the records of a name (without final dot), CNAMEs followed. Takes at most PATIENCE and raises nothing."""


class Memory(Generic[K, T]):
    """Answers for as long as they may be used; one question for a key, however many wait for its answer."""

    def __init__(self, ask: Callable[[K], Awaitable[Answer[T]]], *, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._known: dict[K, Known[T]] = {}
        self._asked: dict[K, asyncio.Task[Known[T]]] = {}

    async def get(self, key: K) -> Known[T]:
        """Return what is known, at once, or ask and wait. Whoever stops waiting leaves the answer to the others."""
        known = self._known.get(key)
        if known is not None and known.until > self._clock():
            return known
        return await asyncio.shield(self._task(key))

    def start(self, key: K) -> None:
        """Ask now, when the answer is not known, for a `get` that may follow."""
        known = self._known.get(key)
        if known is None or known.until <= self._clock():
            self._task(key)

    def _task(self, key: K) -> asyncio.Task[Known[T]]:
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.create_task(self._answer(key))
        return asked

    async def _answer(self, key: K) -> Known[T]:
        try:
            try:
                async with asyncio.timeout(PATIENCE):
                    records, ttl = await self._ask(key)
            except TimeoutError:
                records, ttl = (), FORGET_FAILURE
            known = Known(records, self._clock() + _usable(ttl, present=bool(records)))
            self._make_room()
            self._known[key] = known
            return known
        finally:
            del self._asked[key]

    def _make_room(self) -> None:
        """Forget what is out of date when there is too much, and the older half when that is not enough."""
        if len(self._known) >= _MOST:
            now = self._clock()
            self._known = {key: known for key, known in self._known.items() if known.until > now}
        if len(self._known) >= _MOST:
            for key in list(self._known)[: _MOST // 2]:
                del self._known[key]


def _usable(ttl: float, *, present: bool) -> float:
    """Bound a TTL, in seconds; 0 would be a question for each phone, and each phone waiting for it."""
    return min(max(ttl, 1.0), _LONGEST) if present else min(max(ttl, FORGET_FAILURE), _LONGEST_ABSENCE)
