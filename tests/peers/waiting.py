"""Waiting for another process: polls with a deadline, never a fixed sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

POLL_INTERVAL = 0.01
"""Seconds between two looks at a condition."""


class WaitTimeoutError(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(condition: Callable[[], bool], what: str, *, within: float) -> None:
    """Block until `condition()` is true; raise WaitTimeoutError naming `what` after `within` seconds.

    Blocks the thread: use `wait_until_async` where an event loop runs.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise WaitTimeoutError(f"{what}: did not happen within {within:g} s")
        time.sleep(POLL_INTERVAL)


async def wait_until_async(condition: Callable[[], bool], what: str, *, within: float) -> None:
    """The same as `wait_until`, giving way to the event loop between two looks."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise WaitTimeoutError(f"{what}: did not happen within {within:g} s")
        await asyncio.sleep(POLL_INTERVAL)
