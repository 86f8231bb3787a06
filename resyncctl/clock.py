"""The only place that reads a clock (convention: everywhere else time is an argument)."""

from __future__ import annotations

import time
from datetime import UTC, datetime

monotonic = time.monotonic


def now_us() -> int:
    """Return the wall-clock time as whole microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def from_us(us: int) -> datetime:
    """Turn microseconds since the Unix epoch into an aware UTC datetime."""
    seconds, micros = divmod(us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def rfc3339(us: int) -> str:
    """Format microseconds since the Unix epoch as RFC 3339 UTC with six decimals."""
    return from_us(us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
