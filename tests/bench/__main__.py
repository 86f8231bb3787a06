"""`python -m tests.bench [RUNS]`: print the floors; the product's own rows join them here."""

from __future__ import annotations

import sys

from tests.bench.asterisk import ami_notify_rate
from tests.bench.floors import measure, table


def main(arguments: list[str]) -> None:
    """Measure RUNS times, 3 unless told, and print the table."""
    rows = measure(int(arguments[0]) if arguments else 3)
    asterisk = ami_notify_rate()
    if asterisk is not None:
        rows["Asterisk, AMI PJSIPNotify"] = [asterisk]
    sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
