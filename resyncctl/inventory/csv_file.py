"""Phones from a CSV file: a header row, columns in any order, every bad row reported with its line."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from resyncctl.errors import InputError, PhoneListError
from resyncctl.inventory.phone import FIELDS, Phone, parse_phone
from resyncctl.rollout.device import PARAMETERS

_SHOWN: Final = 20
"""Bad rows that are spelled out; of more only the number is told."""
_MAX_HEADER: Final = 65_536
"""Characters of the header row; a longer one is no header."""
_COLUMNS: Final = {name.lower(): name for name in (*FIELDS, *PARAMETERS)}


class CsvPhones:
    """A phone list in a file. `ignored` are its columns that mean nothing to us, known after the header was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored: tuple[str, ...] = ()

    def rows(self) -> Iterator[tuple[int, dict[str, str], Phone]]:
        """Yield (line, text by column, phone) for every row.

        Raises InputError when the file cannot be read or its header is unusable, and at the end PhoneListError with all
        bad rows: a caller that has not acted before the end has acted on nothing.
        """
        problems: list[str] = []
        bad = 0
        count = 0
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                first = file.readline(_MAX_HEADER)
                delimiter = max(",;\t", key=first.count)
                header = self._header(next(csv.reader([first], delimiter=delimiter), []))
                for line, row in _records(file, delimiter):
                    if isinstance(row, list) and not any(map(str.strip, row)):
                        continue
                    count += 1
                    try:
                        values = self._values(header, row)
                        phone = parse_phone(values)
                    except InputError as error:
                        bad += 1
                        if len(problems) < _SHOWN:
                            problems.append(f"line {line}: {error}")
                        continue
                    if not bad:
                        yield line, values, phone
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror}); give a CSV file of phones") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error
        if bad:
            raise PhoneListError(str(self.path), problems, bad)
        if not count:
            raise InputError(f"{self.path}: no phones behind the header row")

    def _header(self, names: list[str]) -> list[str]:
        columns = []
        ignored = []
        for name in names:
            plain = name.strip()
            known = _COLUMNS.get(plain.lower(), "")
            if not known:
                close = difflib.get_close_matches(plain.lower(), _COLUMNS, n=1, cutoff=0.8)
                if close:
                    raise InputError(
                        f"{self.path}: line 1: unknown column {plain[:60]!r}; did you mean {_COLUMNS[close[0]]}?"
                    )
                ignored.append(plain)
            elif known in columns:
                raise InputError(f"{self.path}: line 1: the column {known} is there twice")
            columns.append(known)
        if "aor" not in columns and "contact" not in columns:
            raise InputError(
                f"{self.path}: line 1: neither a column aor nor a column contact; the first row names the columns, for"
                " example: aor,contact,user_agent,mac,site"
            )
        self.ignored = tuple(name for name in ignored if name)
        return columns

    def _values(self, header: list[str], row: list[str] | csv.Error) -> dict[str, str]:
        if isinstance(row, csv.Error):
            raise InputError(f"not CSV: {row}; check its quotes") from row
        if any(row[len(header) :]):
            raise InputError(f"{len(row)} fields, the header has {len(header)}; quote fields that hold the separator")
        return {name: text.strip() for name, text in zip(header, row, strict=False) if name}


def _records(file: TextIO, delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield the rows behind the header with the line that each begins at; for a row that is not CSV, what is wrong."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 2
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, error
