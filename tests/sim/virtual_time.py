"""An event loop whose time jumps to the next timer: minutes of a phone's life take no time, and every instant is exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import TypeVar

_Result = TypeVar("_Result")


class _JumpingSelector(selectors.SelectSelector):
    """Jumps instead of waiting."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time that would have been waited pass at once."""
        if timeout is None:
            raise AssertionError("the loop would wait for ever: nothing is scheduled")
        self._jump(max(0.0, timeout))
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """Return the time that has been jumped."""
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


def run_virtually(main: Coroutine[object, object, _Result]) -> _Result:
    """Run `main` on a loop of its own with virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_now() -> float:
    """Return the running loop's time, the clock to hand to what is tested."""
    return asyncio.get_running_loop().time()
