"""The load curve of a plan: sends per second over time, as numbers and as a drawing in text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from resyncctl.duration import format_duration
from resyncctl.engine.planning import CURVE
from resyncctl.rollout.planner import load_curve

_BARS: Final = " ▁▂▃▄▅▆▇█"
_ROWS: Final = 8


def draw(dues: Sequence[int], *, columns: int = CURVE) -> str:
    """Draw the load curve; '' when nothing is sent. A column that is not empty always shows."""
    width, counts = load_curve(dues, columns=columns)
    if not counts:
        return ""
    peak = max(counts)
    rows = min(_ROWS, peak)
    lines = [f"load: sends per second, one column is {format_duration(width)}"]
    for row in range(rows, 0, -1):
        cells = (max(1, round(count / peak * rows * 8)) if count else 0 for count in counts)
        bars = "".join(_BARS[max(0, min(8, cell - (row - 1) * 8))] for cell in cells)
        lines.append((f"{peak / width:8.3g} ┤" if row == rows else "         │") + bars.rstrip())
    lines.append("       0 ┼" + "─" * len(counts))
    end = format_duration(width * len(counts))
    lines.append("          0" + end.rjust(max(len(end) + 1, len(counts) - 1)))
    return "\n".join(lines)
