"""resyncctl as an admin uses it: a CSV file, the installed command in a process of its own, JSON back."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

COMMAND = Path(sys.executable).with_name("resyncctl")
WITHIN = 60.0
"""Seconds that a command may take unless told otherwise."""

PhoneRow = Mapping[str, str]
"""One line of a phone list: text by column name; a column that a line leaves out is empty there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `rollout results --format ndjson`."""

    aor: str
    contact: str
    vendor: str
    state: str
    reason: str
    status: int
    attempts: int
    planned_at: str
    sent_at: str
    answered_at: str
    rtt_ms: float

    @property
    def sent_time(self) -> datetime:
        """When the first datagram of the last attempt left."""
        return datetime.fromisoformat(self.sent_at)

    @property
    def verdict(self) -> tuple[str, int, str]:
        """State, status and reason."""
        return self.state, self.status, self.reason


@dataclass(frozen=True, slots=True)
class Rollout:
    """A `run` or `rollout retry` that has ended: its exit status, its report and its results."""

    exit_status: int
    report: Mapping[str, object]
    rows: tuple[Row, ...]
    told: str
    """What it wrote to standard error."""

    @property
    def id(self) -> str:
        """The rollout's name."""
        return str(self.report["rollout"])

    def counts(self, name: str = "counts") -> dict[str, int]:
        """Return one of the report's tables of numbers: counts, responses, skipped_reasons."""
        return dict(cast("dict[str, int]", self.report[name]))

    def row(self, address: str) -> Row:
        """Return the only row whose AOR or contact is `address`."""
        [found] = [row for row in self.rows if address in {row.aor, row.contact}]
        return found

    def states(self) -> Counter[str]:
        """Return how many rows are in each state."""
        return Counter(row.state for row in self.rows)


class Resyncctl:
    """The command with a directory of its own: embedded Redis there, or another one by `redis_url`."""

    def __init__(self, directory: Path, *, redis_url: str = "") -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RESYNCCTL_")}
        self._environment = {**kept, "RESYNCCTL_DATA_DIR": str(directory / "data"), "COLUMNS": "200"}
        self._front = ["--redis-url", redis_url] if redis_url else []

    def write_phones(self, rows: Sequence[PhoneRow]) -> Path:
        """Write a phone list and return its path."""
        path = self._directory / "phones.csv"
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return path

    def call(self, *arguments: str, within: float = WITHIN) -> subprocess.CompletedProcess[str]:
        """Run one command, without a terminal; raise TimeoutExpired after `within` seconds."""
        return subprocess.run(
            [str(COMMAND), *self._front, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def run(self, phones: Sequence[PhoneRow], *options: str, within: float = WITHIN) -> Rollout:
        """Write the phone list, `resyncctl --json run` it at once (`--now`) and return what became of it."""
        path = self.write_phones(phones)
        return self._rollout(self.call("--json", "run", str(path), "--now", *options, within=within))

    def retry(self, rollout: str, *options: str) -> Rollout:
        """`resyncctl --json rollout retry` a rollout at once."""
        return self._rollout(self.call("--json", "rollout", "retry", rollout, "--now", *options))

    def results(self, rollout: str) -> tuple[Row, ...]:
        """Return `rollout results --format ndjson`."""
        printed = self.call("rollout", "results", rollout, "--format", "ndjson")
        assert printed.returncode == 0, printed.stderr
        return tuple(Row(**json.loads(line)) for line in printed.stdout.splitlines())

    def _rollout(self, ended: subprocess.CompletedProcess[str]) -> Rollout:
        assert ended.returncode in {0, 1}, f"exit status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        report: dict[str, object] = json.loads(ended.stdout)
        return Rollout(ended.returncode, report, self.results(str(report["rollout"])), ended.stderr)
