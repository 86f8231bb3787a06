"""The results of a rollout, row by row: printed as they come, so that memory stays flat."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from resyncctl.engine.results import Row

_PAGE: Final = 100
"""Rows that decide how wide the columns of a table are."""


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    CSV = "csv"
    NDJSON = "ndjson"


class Printer:
    """Prints rows as they come. A table takes its column widths from its first page."""

    def __init__(self, form: Format, columns: tuple[str, ...]) -> None:
        self._form = form
        self._columns = columns
        self._page: list[tuple[str, ...]] = []
        self._widths: list[int] = []
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        if form is Format.CSV:
            self._writer.writerow(columns)

    def print(self, row: Row) -> None:
        """Print one row, soon."""
        match self._form:
            case Format.NDJSON:
                print(json.dumps(row._asdict()))
            case Format.CSV:
                self._writer.writerow(row)
            case Format.TABLE:
                self._page.append(tuple("" if value == 0 else str(value) for value in row))
                if len(self._page) >= _PAGE:
                    self._flush()

    def finish(self) -> None:
        """Print what is left."""
        if self._form is Format.TABLE:
            self._flush()

    def _flush(self) -> None:
        if not self._widths:
            page = [self._columns, *self._page]
            self._widths = [max(len(row[column]) for row in page) for column in range(len(self._columns))]
            self._line(self._columns)
        for row in self._page:
            self._line(row)
        self._page.clear()

    def _line(self, cells: tuple[str, ...]) -> None:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)).rstrip())
