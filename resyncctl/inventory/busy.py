"""Who is in a call: the interface that PBXs implement, and its first source, a file that any PBX script can write."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from resyncctl.clock import monotonic, now_us
from resyncctl.inventory.phone import line_key
from resyncctl.rollout.model import Busy

POLL: Final = 0.2
"""Seconds between two looks at a busy file."""
GRACE: Final = 1.0
"""Seconds that a file may be missing while it is replaced before its lines count as unknown."""
_TICK_NS: Final = 50_000_000
MAX_FILE: Final = 16 * 1024 * 1024
"""Bytes; a larger file is a mistake."""


class BusySource(Protocol):
    """Knows which lines are in a call. Lines are keys as `line_key` makes them."""

    @property
    def name(self) -> str:
        """What to call the source in a report."""

    @property
    def version(self) -> int:
        """Grows each time that something changed."""

    @property
    def trouble(self) -> str:
        """Why nothing is known at the moment; '' when all is well."""

    def state(self, lines: Sequence[str], *, now: float) -> Busy:
        """Say whether one of a phone's lines is in a call, or was less than `idle_for` ago."""

    def idle_at(self, lines: Sequence[str], *, now: float) -> float | None:
        """Return when a phone counts as idle if nothing changes; None = not while it is in a call or unknown."""

    async def follow(self) -> None:
        """Keep up with changes until cancelled."""


class BusyFile:
    """A text file with one AOR (or bare user part) a line that is in a call; `emergency` behind it marks an emergency call.

    It is read again when it changes, also by rename. Empty lines and lines beginning with # are skipped. While it is
    missing or unreadable, all lines are unknown (after GRACE, so that replacing the file does not look like that).
    A line that leaves the file is idle `idle_for` seconds later.
    """

    name = "file"

    def __init__(self, path: Path, *, idle_for: float, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._idle_for = idle_for
        self._clock = clock
        self._busy: dict[str, Busy] = {}
        self._left: dict[str, float] = {}
        self._signature: tuple[int, int, int, int] | None = None
        self._missing_since: float | None = None
        self._known = False
        self.version = 0
        self.trouble = ""
        self.refresh()

    def state(self, lines: Sequence[str], *, now: float) -> Busy:
        """See BusySource."""
        found = [self._busy.get(key) for line in lines for key in _keys(line)]
        if Busy.EMERGENCY in found:
            return Busy.EMERGENCY
        if Busy.BUSY in found:
            return Busy.BUSY
        if not self._known:
            return Busy.UNKNOWN
        left = self._last_left(lines)
        return Busy.BUSY if left is not None and now < left + self._idle_for else Busy.IDLE

    def idle_at(self, lines: Sequence[str], *, now: float) -> float | None:
        """See BusySource."""
        if not self._known or any(key in self._busy for line in lines for key in _keys(line)):
            return None
        left = self._last_left(lines)
        return now if left is None else max(now, left + self._idle_for)

    def _last_left(self, lines: Sequence[str]) -> float | None:
        times = [left for line in lines for key in _keys(line) if (left := self._left.get(key)) is not None]
        return max(times, default=None)

    async def follow(self) -> None:
        """Look at the file every POLL seconds until cancelled."""
        while True:
            await asyncio.sleep(POLL)
            self.refresh()

    def refresh(self) -> None:
        """Look at the file once."""
        now = self._clock()
        try:
            found = self._path.stat()
            signature = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_dev)
            if signature == self._signature:
                return
            text = _read(self._path, found)
        except OSError as error:
            self._lose(error.strerror or os.strerror(error.errno or 0), now=now)
            return
        # A file written twice within a tick of the file system's clock looks unchanged: look again until it has aged.
        self._signature = signature if now_us() * 1000 - found.st_mtime_ns > _TICK_NS else None
        self._missing_since = None
        self.trouble = ""
        self._take(_parse(text), now=now)

    def _lose(self, why: str, *, now: float) -> None:
        self._signature = None
        if self._missing_since is None:
            self._missing_since = now
        if self._known and now - self._missing_since < GRACE:
            return
        if self._known or not self.trouble:
            self.trouble = f"{self._path}: {why}"
            self._known = False
            self._left.update(dict.fromkeys(self._busy, now))
            self._busy = {}
            self.version += 1

    def _take(self, busy: dict[str, Busy], *, now: float) -> None:
        gone = self._busy.keys() - busy.keys()
        if not self._known or busy != self._busy:
            self.version += 1
        self._left = {key: left for key, left in self._left.items() if now < left + self._idle_for and key not in busy}
        self._left.update(dict.fromkeys(gone, now))
        self._busy = busy
        self._known = True


def _keys(line: str) -> tuple[str, ...]:
    """Return the keys that a busy entry may have for a line: `user@host` and the bare user; for a bare user any host."""
    user, at, _ = line.partition("@")
    return (line, user) if at else (line, f"{line}@")


def _read(path: Path, found: os.stat_result) -> str:
    """Return the text of a file; raise OSError for one that cannot be a busy file as well."""
    if not stat.S_ISREG(found.st_mode):  # a pipe would block
        raise OSError(0, "not a regular file")
    if found.st_size > MAX_FILE:
        raise OSError(0, f"larger than {MAX_FILE} bytes")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if "\0" in text:  # UTF-16: no line of it would be understood
        raise OSError(0, "holds NUL bytes; write it as UTF-8")
    return text


def _parse(text: str) -> dict[str, Busy]:
    busy: dict[str, Busy] = {}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        emergency = len(words) > 1 and words[1].lower() == "emergency"
        key = line_key(words[0])
        user, at, _ = key.partition("@")
        for name in (key, f"{user}@") if at else (key,):
            if emergency or name not in busy:  # of two calls on a line, the emergency call counts
                busy[name] = Busy.EMERGENCY if emergency else Busy.BUSY
    return busy
