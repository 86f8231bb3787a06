"""The load curve of a plan: sends per second over time, as numbers and as a drawing in text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from resyncctl.duration import format_duration

_BARS: Final = " ▁▂▃▄▅▆▇█"
_ROWS: Final = 8


def draw(width: float, counts: Sequence[int], *, columns: int = 0) -> str:
    """Draw a load curve of sends in spans of `width` seconds in at most so many columns (0 = one for each span).

    Returns '' when nothing is sent. A column that is not empty always shows.
    """
    if not counts:
        return ""
    together = -(-len(counts) // columns) if columns else 1
    width *= together
    counts = [sum(counts[start : start + together]) for start in range(0, len(counts), together)]
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
